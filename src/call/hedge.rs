//! A call with a hedging policy: attempts beside each other (gRFC A6).
//!
//! ```text
//!   attempt 1 ──────────────────────────────► lost: reset
//!        delay ► attempt 2 ────► headers: the response
//!                  delay ► attempt 3 ───────► lost: reset
//! ```
//!
//! All of them are polled in the caller's task. The decisions are in
//! [`attempts`](super::attempts).

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use http::Response;
use tokio::select;
use tonic::body::Body;

use super::{
    admission::{Admission, Frames, Preference, try_admit},
    attempts::{Hedges, Stop},
    driving::let_driver_read,
    record::{CallRecord, HedgeRecords},
    recorded::{Recorded, record_end},
    retry::{FailedResponse, OVER, admit_untried, has_failed, probe_first, throttled},
    run::Call,
};
use crate::{
    error::{CallAttempts, Error},
    routing::{Board, Candidates, Probes, RetryThrottle},
    service_config::HedgingPolicy,
    transport::{CallSlot, ConnectionGroup, Held},
    util::{clock::now, lock::lock},
};

/// One attempt that is under way.
type Running<'a> = Pin<Box<dyn Future<Output = Ended> + Send + 'a>>;

/// One attempt that has come to headers, or has failed.
struct Ended {
    number: u32,
    call: Call,
    backend: Option<u64>,
    outcome: Result<Response<Body>, Error>,
}

/// A hedging call waits for one of these.
enum Event {
    Ended(Box<Ended>),
    /// Another attempt is due, or the time is up.
    Due,
    /// The call is committed to one attempt, as its request is too large to be kept.
    Overflown,
}

impl Call {
    pub(super) async fn hedge(
        &mut self,
        board: &Board,
        policy: Arc<HedgingPolicy>,
        throttle: Option<Arc<RetryThrottle>>,
        mut record: Option<&mut CallRecord>,
    ) -> Result<Response<Body>, Error> {
        let settings = board.retries();
        let mut hedges = Hedges::new(&policy, settings.max_attempts, now());
        let mut attempts = CallAttempts::default();
        let tried = Tried::new(throttle.clone());
        let throttle = throttle.as_ref();
        let tokens = throttle.map(|throttle| &**throttle);
        self.request.set_previous_attempts(0);
        // An error of the request itself is that of every attempt.
        self.look_ahead(record.as_deref_mut()).await?;
        let records = record.and_then(CallRecord::hedges);
        let records = records.as_ref();
        let mut held = Held::none(board.replay_budget());
        if !self.request.keep(board.replay_budget(), &mut held) {
            hedges.on_not_kept();
        }
        let mut overflown = pin!(self.request.overflown().fuse());
        let mut running = FuturesUnordered::new();
        let mut last: Option<FailedResponse> = None;
        loop {
            while hedges.due().is_some_and(|due| due <= now()) && hedges.is_allowed(tokens) {
                let number = attempts.made() + 1;
                match self.start(board, &tried, number, running.is_empty(), records) {
                    Some(attempt) => {
                        attempts.begin();
                        hedges.on_started(now());
                        running.push(attempt);
                    }
                    None => hedges.on_skipped(now()),
                }
            }
            if running.is_empty() {
                match (hedges.due(), hedges.stopped(), last.take()) {
                    (None, Some(stop), Some(failed)) => return failed.result(attempts, stop),
                    (due, _, failed) => {
                        last = failed;
                        let pause = due.map(|due| due.saturating_duration_since(now()));
                        let next = attempts.made() + 1;
                        let paused = self.pause(board, pause.unwrap_or_default(), next);
                        if let Err(error) = paused.await {
                            return Err(error.naming_attempts(attempts, OVER));
                        }
                    }
                }
                continue;
            }
            let event = self.next_event(board, &hedges, &mut running, overflown.as_mut());
            let mut ended = match event.await {
                Event::Ended(ended) => ended,
                Event::Due => continue,
                Event::Overflown => {
                    hedges.on_not_kept();
                    continue;
                }
            };
            let committed = self.request.committed();
            // Its body was cut off when that became too large to be kept for all.
            if committed.is_some_and(|number| number != ended.number) {
                continue;
            }
            let failed = match ended.outcome {
                Ok(mut response) if !has_failed(&response) => {
                    ended
                        .call
                        .commit_to(&mut response, attempts, board, throttle);
                    return Ok(response);
                }
                outcome => FailedResponse::of(outcome),
            };
            ended.call.request.end_attempt();
            attempts.push(failed.describe(ended.number, ended.backend, board));
            if self.is_over(&failed.error) {
                return Err(failed.error.after_attempts(attempts, OVER));
            }
            if committed.is_some() {
                return failed.result(attempts, Stop::NotKept);
            }
            let is_listed = policy.non_fatal_status_codes().contains(&failed.code());
            let failure = failed.failure(is_listed);
            if let Err(stop) = hedges.on_failure(failure, tokens, now()) {
                return failed.result(attempts, stop);
            }
            last = Some(failed);
        }
    }

    /// The next attempt. Beside others it needs a free stream at once; none if there is none.
    fn start<'a>(
        &mut self,
        board: &'a Board,
        tried: &Tried,
        number: u32,
        is_alone: bool,
        records: Option<&HedgeRecords>,
    ) -> Option<Running<'a>> {
        let mut tried = tried.clone();
        let slot = match is_alone {
            true => None,
            // A patient call is not failed, so nothing is lost by asking.
            false => match try_admit(board, true, true, &mut self.request, &&mut tried) {
                Ok(Admission::Now(slot)) => Some(slot),
                Ok(Admission::Later { .. } | Admission::Failing) | Err(_) => return None,
            },
        };
        let mut call = self.fork(number);
        call.request.set_previous_attempts(number - 1);
        let mut record = records.map(HedgeRecords::fork);
        Some(Box::pin(async move {
            let preference = Recorded::new(&mut tried, record.as_mut());
            let outcome = match slot {
                None => call.attempt(board, preference).await,
                Some(slot) => call.attempt_on(slot, board, preference).await,
            };
            record_end(record.as_mut(), &outcome);
            Ended {
                number,
                backend: tried.last,
                call,
                outcome,
            }
        }))
    }

    /// One attempt that has its slot already.
    async fn attempt_on(
        &mut self,
        slot: CallSlot,
        board: &Board,
        mut preference: Recorded<'_, &mut Tried>,
    ) -> Result<Response<Body>, Error> {
        preference.begin(&mut self.request, false);
        if slot.connection().has_rested() {
            let_driver_read().await;
        }
        match self.send_on(slot, &mut preference).await {
            Ok(response) => Ok(response),
            Err(error) => {
                preference.on_failed(&error);
                self.is_repeated(board, error)?;
                self.attempt(board, preference.again()).await
            }
        }
    }

    async fn next_event(
        &mut self,
        board: &Board,
        hedges: &Hedges,
        running: &mut FuturesUnordered<Running<'_>>,
        overflown: Pin<&mut impl Future<Output = ()>>,
    ) -> Event {
        let until_due = hedges.due().map(|due| due.saturating_duration_since(now()));
        let limit = match until_due {
            Some(pause) => Some(self.deadline.limit_within(pause)),
            None => self.deadline.limit(),
        };
        let event = async {
            select! {
                biased;
                () = overflown => Event::Overflown,
                Some(ended) = running.next() => Event::Ended(Box::new(ended)),
                else => std::future::pending().await,
            }
        };
        let waited = self
            .deadline
            .wait(|| limit, || board.runtime(), event)
            .await;
        waited.unwrap_or(Event::Due)
    }
}

/// Backends that have had an attempt of this call, under way or over, come after all others.
#[derive(Clone)]
struct Tried {
    all: Arc<Mutex<Vec<u64>>>,
    /// That of this attempt.
    last: Option<u64>,
    throttle: Option<Arc<RetryThrottle>>,
}

impl Tried {
    fn new(throttle: Option<Arc<RetryThrottle>>) -> Self {
        Self {
            all: Arc::default(),
            last: None,
            throttle,
        }
    }
}

impl Preference for &mut Tried {
    fn admit(&self, candidates: Candidates<'_, ConnectionGroup>) -> Option<CallSlot> {
        admit_untried(&lock(&self.all), candidates)
    }

    fn probe(&self, probes: Probes<'_, ConnectionGroup>) -> Option<CallSlot> {
        probe_first(&lock(&self.all), probes)
    }

    fn on_slot(&mut self, slot: CallSlot) -> CallSlot {
        let backend = slot.connection().backend();
        self.last = Some(backend);
        lock(&self.all).push(backend);
        slot
    }

    fn wrap<B: Frames>(&mut self) -> impl FnOnce(B) -> Body + Send {
        let throttle = self.throttle.as_ref();
        move |body| throttled(body, throttle)
    }
}
