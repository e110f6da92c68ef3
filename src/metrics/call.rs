//! The record of one call: each attempt is recorded at its end, and so is the call.
//!
//! ```text
//!   Channel::call ──► MetricsRecord ── begin_attempt ──► end_attempt ──► … ──► end
//!                         └── moves into the body of the response ──► end, or dropped: CANCELLED
//! ```

use std::{
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::Extensions;
use tonic::Code;

use super::methods::{CallMeters, MethodMeter, WaitOutcome};
use crate::{
    error::{Error, ErrorKind},
    util::{clock::now, lock::lock},
};

/// The record of a call that is under way. Empty once it has ended, or has moved into the body
/// of the response. If it is dropped before, the call was cancelled.
#[derive(Default)]
pub(crate) struct MetricsRecord(Option<OngoingCall>);

struct OngoingCall {
    meter: Arc<MethodMeter>,
    started: Instant,
    /// The config was not there at once.
    has_waited: bool,
    attempt: Option<OngoingAttempt>,
    scope: Scope,
}

/// The part of a call that a record is about.
enum Scope {
    /// A call and its attempts, of which 1 at a time is under way.
    Call(Tally),
    /// A call without its attempts, which are beside each other.
    Hedged(Arc<Mutex<Tally>>),
    /// One of these.
    Hedge(Arc<Mutex<Tally>>),
}

/// The attempts of a call so far.
#[derive(Clone, Copy, Default)]
struct Tally {
    /// But for transparent retries.
    begun: u32,
    transparent_retries: u32,
    under_way: u32,
    /// When the last one has ended, if none is under way.
    idle_since: Option<Instant>,
    retry_delay: Duration,
}

struct OngoingAttempt {
    started: Instant,
    /// It has a slot, so what it sends goes out.
    has_slot: bool,
    sent: SentBytes,
    received: u64,
}

/// The bytes of messages that an attempt sends.
#[derive(Clone, Debug)]
pub(crate) enum SentBytes {
    /// The request is whole.
    Whole(u64),
    /// So far.
    Counted(Arc<AtomicU64>),
}

/// The record of a call whose attempts are beside each other, as it is for one of these.
#[derive(Clone)]
pub(crate) struct HedgeMetrics {
    meter: Arc<MethodMeter>,
    tally: Arc<Mutex<Tally>>,
}

impl MetricsRecord {
    /// A call begins, with this path and these extensions of its request.
    pub(crate) fn begin(meters: &CallMeters, path: &str, extensions: &Extensions) -> Self {
        let scope = Scope::Call(Tally::default());
        Self(Some(OngoingCall::new(meters.of(path, extensions), scope)))
    }

    /// Whether the call is over, or recorded elsewhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The same record in another place.
    pub(crate) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// The call waits from now on.
    pub(crate) fn begin_wait(&self) -> Option<WaitRecord> {
        self.0.as_ref().map(|call| WaitRecord::begin(&call.meter))
    }

    /// It has waited for a service config, so its first attempt begins later than the call.
    pub(crate) fn on_waited(&mut self) {
        if let Some(call) = &mut self.0 {
            call.has_waited = true;
        }
    }

    /// The first attempt begins, or another one by a policy. Or the request is sent again, because
    /// no backend has looked at it.
    pub(crate) fn begin_attempt(&mut self, sent: SentBytes, is_transparent: bool) {
        if let Some(call) = &mut self.0 {
            call.begin_attempt(sent, is_transparent);
        }
    }

    /// The attempt under way has a slot.
    pub(crate) fn on_slot(&mut self) {
        if let Some(attempt) = self.attempt() {
            attempt.has_slot = true;
        }
    }

    /// So many bytes of messages have come in all.
    pub(crate) fn set_received(&mut self, bytes: u64) {
        if let Some(attempt) = self.attempt() {
            attempt.received = bytes;
        }
    }

    /// The attempt under way ends. Nothing was sent, unless it had a stream.
    pub(crate) fn end_attempt(&mut self, status: Code, had_stream: bool) {
        if let Some(attempt) = self.attempt() {
            attempt.has_slot &= had_stream;
        }
        if let Some(call) = &mut self.0 {
            call.end_attempt(now(), status);
        }
    }

    /// The call ends, and with it the attempt under way.
    pub(crate) fn end(&mut self, status: Code) {
        if let Some(mut call) = self.0.take() {
            call.end(status);
        }
    }

    /// Its attempts are beside each other from now on. None if there is nothing to record.
    pub(crate) fn hedges(&mut self) -> Option<HedgeMetrics> {
        let call = self.0.as_mut()?;
        let tally = Arc::<Mutex<Tally>>::default();
        call.scope = Scope::Hedged(Arc::clone(&tally));
        let meter = Arc::clone(&call.meter);
        Some(HedgeMetrics { meter, tally })
    }

    fn attempt(&mut self) -> Option<&mut OngoingAttempt> {
        self.0.as_mut()?.attempt.as_mut()
    }
}

/// The future or the body was dropped before the end.
impl Drop for MetricsRecord {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

impl HedgeMetrics {
    /// Of one attempt, which begins now.
    pub(crate) fn fork(&self) -> MetricsRecord {
        let scope = Scope::Hedge(Arc::clone(&self.tally));
        MetricsRecord(Some(OngoingCall::new(Arc::clone(&self.meter), scope)))
    }
}

impl OngoingCall {
    fn new(meter: Arc<MethodMeter>, scope: Scope) -> Self {
        Self {
            meter,
            started: now(),
            has_waited: false,
            attempt: None,
            scope,
        }
    }

    fn begin_attempt(&mut self, sent: SentBytes, is_transparent: bool) {
        let (began, has_waited) = (self.started, self.has_waited);
        let started = self.scope.tally(|tally| {
            let at = match tally.idle_since {
                // It follows the one before at once.
                Some(last) if is_transparent => last,
                // A call that goes on at once reads the clock only once.
                None if tally.begun == 0 && !has_waited => began,
                _ => now(),
            };
            tally.on_begin(at, is_transparent);
            at
        });
        self.attempt = Some(OngoingAttempt {
            started,
            has_slot: false,
            sent,
            received: 0,
        });
        self.meter.started();
    }

    fn end_attempt(&mut self, at: Instant, status: Code) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        self.scope.tally(|tally| tally.on_end(at));
        let series = self.meter.attempts(status);
        series.duration.record(seconds(attempt.started, at));
        series.sent.record(attempt.sent() as f64);
        series.received.record(attempt.received as f64);
    }

    fn end(&mut self, status: Code) {
        let at = now();
        self.end_attempt(at, status);
        let (tally, is_hedged) = match &self.scope {
            Scope::Call(tally) => (*tally, false),
            Scope::Hedged(tally) => (*lock(tally), true),
            Scope::Hedge(_) => return,
        };
        self.meter.calls(status).record(seconds(self.started, at));
        if tally.is_more_than_one() {
            self.record_policy(tally, is_hedged);
        }
    }

    /// A value of 0 is not recorded (gRFC A96).
    #[cold]
    fn record_policy(&self, tally: Tally, is_hedged: bool) {
        let series = self.meter.policy();
        let others = match is_hedged {
            true => &series.hedges,
            false => &series.retries,
        };
        let values = [
            (others, f64::from(tally.begun.saturating_sub(1))),
            (
                &series.transparent_retries,
                f64::from(tally.transparent_retries),
            ),
            (&series.retry_delay, tally.retry_delay.as_secs_f64()),
        ];
        for (series, value) in values.into_iter().filter(|(_, value)| *value > 0.0) {
            series.record(value);
        }
    }
}

impl Scope {
    fn tally<T>(&mut self, then: impl FnOnce(&mut Tally) -> T) -> T {
        match self {
            Self::Call(tally) => then(tally),
            Self::Hedged(tally) | Self::Hedge(tally) => then(&mut lock(tally)),
        }
    }
}

impl Tally {
    fn on_begin(&mut self, at: Instant, is_transparent: bool) {
        match is_transparent {
            true => self.transparent_retries += 1,
            false => self.begun += 1,
        }
        if let Some(idle_since) = mem::take(&mut self.idle_since) {
            self.retry_delay += at.saturating_duration_since(idle_since);
        }
        self.under_way += 1;
    }

    fn on_end(&mut self, at: Instant) {
        self.under_way -= 1;
        if self.under_way == 0 {
            self.idle_since = Some(at);
        }
    }

    fn is_more_than_one(&self) -> bool {
        self.begun > 1 || self.transparent_retries > 0
    }
}

impl OngoingAttempt {
    fn sent(&self) -> u64 {
        match &self.sent {
            _ if !self.has_slot => 0,
            SentBytes::Whole(bytes) => *bytes,
            SentBytes::Counted(bytes) => bytes.load(Relaxed),
        }
    }
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}

/// A call that waits for a backend. If it is dropped, the call was cancelled.
pub(crate) struct WaitRecord {
    meter: Arc<MethodMeter>,
    began: Instant,
    outcome: WaitOutcome,
}

impl WaitRecord {
    fn begin(meter: &Arc<MethodMeter>) -> Self {
        meter.waits.waiting.add(1);
        Self {
            meter: Arc::clone(meter),
            began: now(),
            outcome: WaitOutcome::Cancelled,
        }
    }

    /// The wait is over with this result.
    pub(crate) fn end_with<T>(mut self, result: &Result<T, Error>) {
        self.outcome = match result {
            Ok(_) => WaitOutcome::Sent,
            Err(error) if error.kind() == ErrorKind::DeadlineExceeded => WaitOutcome::Expired,
            Err(_) => WaitOutcome::Failed,
        };
    }
}

impl Drop for WaitRecord {
    fn drop(&mut self) {
        let waits = &self.meter.waits;
        waits.waiting.add(-1);
        let series = waits.duration(self.outcome);
        series.record(seconds(self.began, now()));
    }
}
