//! A call with a retry policy: one attempt after another (gRFC A6).
//!
//! The decisions are in [`attempts`](super::attempts). This file acts: it pauses, picks again, and
//! records what became of each attempt.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Response};
use http_body::{Body as _, Frame};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};

use super::{
    admission::{AnyBackend, Frames, Preference},
    attempts::{Failure, Pushback, Retries, Stop},
    final_status::status_of,
    record::CallRecord,
    recorded::{Recorded, record_end},
    rules::AttemptRules,
    run::Call,
};
use crate::{
    error::{CallAttempts, Error, ErrorKind, FailedAttempt, sanitize_peer_text},
    routing::{BackendId, Board, Candidates, Pick, Probes, RetryThrottle},
    service_config::{AttemptPolicy, RetryPolicy},
    transport::{CallSlot, ConnectionGroup, Held},
};

/// In how many milliseconds a server wants the next attempt.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// A call by its policy, on its way.
pub(super) type Run<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send + 'a>>;

/// Why there is no other attempt, where the policy is not asked.
pub(super) const OVER: &str = "the call is over";

impl Call {
    /// Sends the request by its policy, if it has one, and tells the throttle how it ends.
    ///
    /// In a box, for calls without rules for attempts have no use for it.
    pub(super) fn run_attempts<'a>(
        &'a mut self,
        board: &'a Board,
        rules: AttemptRules,
        record: Option<&'a mut CallRecord>,
    ) -> Run<'a> {
        let AttemptRules { policy, throttle } = rules;
        match policy {
            None => Box::pin(self.attempt_once(board, throttle, record)),
            Some(AttemptPolicy::Retry(policy)) => {
                Box::pin(self.retry(board, policy, throttle, record))
            }
            Some(AttemptPolicy::Hedging(policy)) => {
                Box::pin(self.hedge(board, policy, throttle, record))
            }
        }
    }

    async fn attempt_once(
        &mut self,
        board: &Board,
        throttle: Option<Arc<RetryThrottle>>,
        mut record: Option<&mut CallRecord>,
    ) -> Result<Response<Body>, Error> {
        if record.is_some() {
            self.look_ahead(record.as_deref_mut()).await?;
        }
        let throttled = Throttled(throttle.as_ref());
        let response = self
            .attempt(board, Recorded::new(throttled, record))
            .await?;
        tell_headers(&response, throttle.as_ref());
        Ok(response)
    }

    async fn retry(
        &mut self,
        board: &Board,
        policy: Arc<RetryPolicy>,
        throttle: Option<Arc<RetryThrottle>>,
        mut record: Option<&mut CallRecord>,
    ) -> Result<Response<Body>, Error> {
        self.request.set_previous_attempts(0);
        // A fault of the request is one of every attempt.
        self.look_ahead(record.as_deref_mut()).await?;
        let mut held = Held::none(board.replay_budget());
        let is_kept = self.request.keep(board.replay_budget(), &mut held);
        let mut attempts = CallAttempts::default();
        let mut tried = Tried::new(throttle.as_ref());
        attempts.begin();
        let preference = Recorded::new(&mut tried, record.as_deref_mut());
        let mut outcome = self.attempt(board, preference).await;
        record_end(record.as_deref_mut(), &outcome);
        // In its place: to move a response costs as much as to look at it.
        if let Ok(response) = &mut outcome
            && !has_failed(response)
        {
            self.commit_to(response, attempts, board, throttle.as_ref());
            return outcome;
        }
        let cap = board.retries().max_attempts;
        let retries = Retries::new(&policy, cap, fastrand::u64(..));
        let retrying = Retrying {
            is_kept,
            policy: &policy,
            retries,
            attempts,
            tried,
            record,
        };
        // Boxed, for most calls have one attempt.
        Box::pin(self.retry_after(board, FailedResponse::of(outcome), retrying)).await
    }

    /// The first attempt has failed.
    async fn retry_after(
        &mut self,
        board: &Board,
        mut failed: FailedResponse,
        mut retrying: Retrying<'_>,
    ) -> Result<Response<Body>, Error> {
        loop {
            let Retrying {
                attempts, tried, ..
            } = &mut retrying;
            let number = attempts.made();
            attempts.push(failed.describe(number, tried.end(), board));
            if self.is_over(&failed.error) {
                return Err(failed.error.after_attempts(retrying.attempts, OVER));
            }
            retrying.is_kept &= self.request.is_replayable();
            let pause = match retrying.next(&failed) {
                Ok(pause) => pause,
                Err(stop) => return failed.result(retrying.attempts, stop),
            };
            self.refused = true;
            self.request.end_attempt();
            self.request.set_previous_attempts(number);
            if let Err(error) = self.pause(board, pause, number + 1).await {
                return Err(error.naming_attempts(retrying.attempts, OVER));
            }
            retrying.attempts.begin();
            let Retrying { tried, record, .. } = &mut retrying;
            let preference = Recorded::new(tried, record.as_deref_mut());
            let mut outcome = self.attempt(board, preference).await;
            record_end(record.as_deref_mut(), &outcome);
            if let Ok(response) = &mut outcome
                && !has_failed(response)
            {
                let Retrying {
                    attempts, tried, ..
                } = retrying;
                self.commit_to(response, attempts, board, tried.throttle);
                return outcome;
            }
            failed = FailedResponse::of(outcome);
        }
    }

    /// This attempt is the call. Its response is told of those before it, where that is asked for.
    #[inline(always)]
    pub(super) fn commit_to(
        &self,
        response: &mut Response<Body>,
        attempts: CallAttempts,
        board: &Board,
        throttle: Option<&Arc<RetryThrottle>>,
    ) {
        self.request.commit();
        tell_headers(response, throttle);
        if board.retries().tells_attempts {
            response.extensions_mut().insert(attempts);
        }
    }

    /// Waits before the next attempt, within the deadline and the life of the channel.
    pub(super) async fn pause(
        &mut self,
        board: &Board,
        pause: Duration,
        next: u32,
    ) -> Result<(), Error> {
        let limit = self.deadline.limit_within(pause);
        let closed = async {
            let mut routing_changed = board.routing_changed();
            while !matches!(board.routing().picker.peek(), Pick::Closed) {
                // The board outlives this borrow, and with it the sender.
                let _ = routing_changed.changed().await;
            }
        };
        match self
            .deadline
            .wait(|| Some(limit), || board.runtime(), closed)
            .await
        {
            Ok(()) => Err(board.closed()),
            Err(limit) if self.is_out_of_time() => {
                Err(limit.expired(&format!("for attempt {next}")))
            }
            Err(_) => Ok(()),
        }
    }

    /// Whether its own deadline has passed.
    pub(super) fn is_out_of_time(&self) -> bool {
        let limit = self.deadline.limit();
        limit.is_some_and(|limit| limit.at <= Instant::now())
    }

    /// Whether no other attempt could end better than with this error.
    pub(super) fn is_over(&self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::DeadlineExceeded => self.is_out_of_time(),
            ErrorKind::Unavailable | ErrorKind::Credentials | ErrorKind::CallFailed => {
                self.request.body_has_failed()
            }
            ErrorKind::InvalidEndpoint
            | ErrorKind::InvalidServiceConfig
            | ErrorKind::InvalidOption
            | ErrorKind::TooManyWaiting
            | ErrorKind::Closed
            | ErrorKind::InvalidRequest
            | ErrorKind::MessageTooLarge => true,
        }
    }
}

/// Tells the throttle if headers say that the call has ended with OK, and are all there is.
#[inline(always)]
fn tell_headers(response: &Response<Body>, throttle: Option<&Arc<RetryThrottle>>) {
    if let Some(throttle) = throttle
        && response.body().is_end_stream()
        && status_of(response.headers()) == Code::Ok
    {
        throttle.on_success();
    }
}

/// Whether headers say that the attempt failed, and are all there is.
pub(super) fn has_failed(response: &Response<Body>) -> bool {
    response.body().is_end_stream() && status_of(response.headers()) != Code::Ok
}

/// A call whose first attempt has failed.
struct Retrying<'a> {
    /// Whether its request is there for another attempt.
    is_kept: bool,
    policy: &'a RetryPolicy,
    retries: Retries,
    attempts: CallAttempts,
    tried: Tried<'a>,
    record: Option<&'a mut CallRecord>,
}

impl Retrying<'_> {
    /// How long to wait before the next attempt.
    fn next(&mut self, failed: &FailedResponse) -> Result<Duration, Stop> {
        if !self.is_kept {
            return Err(Stop::NotKept);
        }
        let codes = self.policy.retryable_status_codes();
        let failure = failed.failure(codes.contains(&failed.code()));
        let throttle = self.tried.throttle.map(|throttle| &**throttle);
        self.retries.on_failure(failure, throttle)
    }
}

/// How an attempt failed that nothing has committed.
pub(super) struct FailedResponse {
    pub(super) error: Error,
    /// The server's own word, in headers that are all there is.
    response: Option<Response<Body>>,
    pushback: Pushback,
}

impl FailedResponse {
    /// Of an attempt that has no response, or one that [has failed](has_failed).
    pub(super) fn of(outcome: Result<Response<Body>, Error>) -> Self {
        let response = match outcome {
            Ok(response) => response,
            Err(error) => {
                return Self {
                    error,
                    response: None,
                    pushback: Pushback::Unsaid,
                };
            }
        };
        let headers = response.headers();
        let status = Status::from_header_map(headers);
        let status = status.unwrap_or_else(|| Status::unknown("a response without a status"));
        let pushback = headers.get_all(PUSHBACK).iter();
        Self {
            error: Error::with_status(ErrorKind::CallFailed, status).after_sending(false),
            pushback: Pushback::of(pushback.map(|value| value.as_bytes())),
            response: Some(response),
        }
    }

    pub(super) fn code(&self) -> Code {
        self.error.code()
    }

    pub(super) fn failure(&self, is_listed: bool) -> Failure {
        Failure {
            is_listed,
            pushback: self.pushback,
        }
    }

    /// The record of it, with the backend it had.
    pub(super) fn describe(
        &self,
        number: u32,
        backend: Option<u64>,
        board: &Board,
    ) -> FailedAttempt {
        let backend = backend.and_then(|id| {
            let status = &board.routing().status;
            let mut backends = status.backends().iter();
            let backend = backends.find(|backend| backend.id() == BackendId(id))?;
            Some(Arc::from(backend.label()))
        });
        let error = &self.error;
        let message = sanitize_peer_text(error.message()).into_owned();
        FailedAttempt::new(
            number,
            backend,
            error.code(),
            message,
            error.may_have_been_sent(),
        )
    }

    /// The result of a call whose last attempt this was. A single one is handed on as it is.
    pub(super) fn result(
        self,
        attempts: CallAttempts,
        stop: Stop,
    ) -> Result<Response<Body>, Error> {
        match self.response {
            Some(response) if attempts.made() == 1 => Ok(response),
            _ => Err(self.error.after_attempts(attempts, stop.text())),
        }
    }
}

impl Stop {
    /// Why there is no other attempt, in the text of a call that failed.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Unlisted => "the policy does not list the last code",
            Self::Pushback => "the server wants no more",
            Self::Throttled => "more are throttled",
            Self::Exhausted => "no more are allowed",
            Self::NotKept => "the request is too large to be kept for more",
        }
    }
}

/// A slot on a backend that is none of `tried`, if there is one now, and on one of these otherwise.
pub(super) fn admit_untried(
    tried: &[u64],
    candidates: Candidates<'_, ConnectionGroup>,
) -> Option<CallSlot> {
    let round = candidates.round();
    let is_new = |group: &&ConnectionGroup| !tried.contains(&group.first().backend());
    let (new, old): (Vec<_>, Vec<_>) = candidates.partition(is_new);
    let mut all = new.into_iter().chain(old);
    all.find_map(|group| group.admit(round))
}

/// A slot of a probe. An attempt that follows another is one only where no backend is READY, and
/// of a silent backend that is none of `tried`.
pub(super) fn probe_first(
    tried: &[u64],
    mut probes: Probes<'_, ConnectionGroup>,
) -> Option<CallSlot> {
    if !tried.is_empty() && !probes.are_all() {
        return None;
    }
    let is_new = |group: &&ConnectionGroup| !tried.contains(&group.first().backend());
    probes.find_map(|group| is_new(&group).then(|| group.admit(0))?)
}

/// Backends that have had an attempt of this call come after all others.
struct Tried<'a> {
    before: Vec<u64>,
    /// That of this attempt.
    last: Option<u64>,
    throttle: Option<&'a Arc<RetryThrottle>>,
}

impl<'a> Tried<'a> {
    fn new(throttle: Option<&'a Arc<RetryThrottle>>) -> Self {
        Self {
            before: Vec::new(),
            last: None,
            throttle,
        }
    }

    /// The attempt has failed. The backend that it was sent to last.
    fn end(&mut self) -> Option<u64> {
        let last = self.last.take();
        self.before.extend(last);
        last
    }
}

impl Preference for &mut Tried<'_> {
    #[inline(always)]
    fn admit(&self, candidates: Candidates<'_, ConnectionGroup>) -> Option<CallSlot> {
        match self.before.is_empty() {
            true => AnyBackend.admit(candidates),
            false => admit_untried(&self.before, candidates),
        }
    }

    fn probe(&self, probes: Probes<'_, ConnectionGroup>) -> Option<CallSlot> {
        probe_first(&self.before, probes)
    }

    fn on_slot(&mut self, slot: CallSlot) -> CallSlot {
        // An attempt that no backend has looked at goes elsewhere, too.
        self.end();
        self.last = Some(slot.connection().backend());
        slot
    }

    fn wrap<B: Frames>(&mut self) -> impl FnOnce(B) -> Body + Send {
        let throttle = self.throttle;
        move |body| throttled(body, throttle)
    }
}

/// Any backend, in a call without a policy whose end the throttle is told.
struct Throttled<'a>(Option<&'a Arc<RetryThrottle>>);

impl Preference for Throttled<'_> {
    fn admit(&self, candidates: Candidates<'_, ConnectionGroup>) -> Option<CallSlot> {
        AnyBackend.admit(candidates)
    }

    fn probe(&self, probes: Probes<'_, ConnectionGroup>) -> Option<CallSlot> {
        AnyBackend.probe(probes)
    }

    fn on_slot(&mut self, slot: CallSlot) -> CallSlot {
        slot
    }

    fn wrap<B: Frames>(&mut self) -> impl FnOnce(B) -> Body + Send {
        let throttle = self.0;
        move |body| throttled(body, throttle)
    }
}

/// The body, which tells the throttle of its end if there is one.
#[inline(always)]
pub(super) fn throttled<B: Frames>(body: B, throttle: Option<&Arc<RetryThrottle>>) -> Body {
    match throttle {
        None => Body::new(body),
        Some(throttle) => Body::new(ThrottledBody {
            body,
            throttle: Arc::clone(throttle),
        }),
    }
}

/// Tells the throttle when a response ends with OK.
struct ThrottledBody<B> {
    body: B,
    throttle: Arc<RetryThrottle>,
}

impl<B: Frames> http_body::Body for ThrottledBody<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
            // Nearly always, so the status is not looked for.
            && !self.throttle.is_full()
            && status_of(trailers) == Code::Ok
        {
            self.throttle.on_success();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
