//! The record of a backend's calls: how many there are, and how they ended.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Instant,
};

use http::HeaderMap;
use tonic::Code;

use super::{
    backend_load::BackendLoad,
    load_report::Unreadable,
    load_weight::{LoadRules, NoWeight, WeightPeriods},
};

/// Counts the calls of one backend, over all its connections. A `Watch` does not count.
///
/// Clones count together, and are equal. Each number is of the moment in which it is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackendCalls(Arc<Record>);

/// In this order: each call reads the first 2, which are in one cache line then.
#[derive(Debug, Default)]
#[repr(C)]
struct Record {
    /// Calls from their slot to the end of their stream.
    in_flight: AtomicUsize,
    /// Which of the other numbers are asked for.
    recorded: AtomicU8,
    started: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Those of the failed that are the server's fault by their code.
    server_failed: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
    load: BackendLoad,
}

/// The set of all that is recorded of a backend's calls besides their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded(u8);

/// How attempts ended that say something of their backend, since it is known: not those that
/// their caller dropped, nor those that the backend refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// Those of the failed that are the server's fault by their code.
    pub(crate) server_failed: u64,
}

/// How an attempt of a call ended. There is exactly one for each stream that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// The attempt has a status: the server's, or that of what ended it here.
    Status(Code),
    /// The caller dropped the call before its status was known.
    Cancelled,
    /// The peer guarantees that it has not looked at the request.
    Refused,
}

/// How the attempts of calls on one backend ended, since the channel has known it.
///
/// An attempt begins with a stream to the backend. A call that is sent again is another
/// attempt; health checks do not count.
///
/// `started` is the sum of the others and of the attempts that are under way. Of channelz'
/// numbers, `calls_failed` is [`failed`](Self::failed) and [`cancelled`](Self::cancelled).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CallCounts {
    /// Attempts that were sent.
    pub started: u64,
    /// Attempts that ended with OK.
    pub succeeded: u64,
    /// Attempts that ended with another status: the server's, or that of a deadline, a
    /// connection that broke, an HTTP error.
    pub failed: u64,
    /// Attempts that the caller dropped before their status was read. A stream whose rest is
    /// not wanted is one of them.
    pub cancelled: u64,
    /// Attempts that the server guarantees not to have looked at. The channel sends such a
    /// call again once (gRFC A6, "Transparent Retries").
    pub refused: u64,
}

/// The consequences of the end of an attempt: [`OPEN`](Self::OPEN) or
/// [`REPORTING`](Self::REPORTING), and perhaps [`PROBE`](Self::PROBE). In 1 byte, so that an
/// attempt from which nothing follows costs a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempt(u8);

impl Attempt {
    /// Nothing: no stream is open, its outcome is recorded already, or nothing asks for it.
    pub(super) const NONE: Self = Self(0);
    /// Its outcome is recorded as soon as it is known, and its load.
    pub(super) const OPEN: Self = Self(1);
    /// Its load alone is recorded.
    pub(super) const REPORTING: Self = Self(2);
    /// It is the probe of a silent connection.
    pub(super) const PROBE: Self = Self(4);

    /// This follows, too.
    #[inline]
    pub(super) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether any of this follows.
    #[inline]
    pub(super) const fn has_any_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether its outcome or its load is recorded.
    #[inline]
    pub(super) const fn is_recorded(self) -> bool {
        self.has_any_of(Self(Self::OPEN.0 | Self::REPORTING.0))
    }
}

impl Recorded {
    /// Nothing.
    pub(crate) const NONE: Self = Self(0);
    /// Outcomes, for the application.
    pub(crate) const COUNTS: Self = Self(1);
    /// Outcomes, for outlier detection.
    pub(crate) const OUTLIERS: Self = Self(2);
    /// The load that the backend reports.
    const LOAD: Self = Self(4);

    const OUTCOMES: Self = Self::COUNTS.and(Self::OUTLIERS);

    /// This and that.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This if it is asked for, else nothing.
    pub(crate) const fn when(self, is_asked: bool) -> Self {
        match is_asked {
            true => self,
            false => Self::NONE,
        }
    }

    const fn has_any_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BackendCalls {
    /// Records this from the first call on.
    pub(crate) fn new(recorded: Recorded) -> Self {
        let calls = Self::default();
        calls.set_recorded(recorded);
        calls
    }

    /// Records this of each stream that is opened from now on, and load as before.
    pub(crate) fn set_recorded(&self, recorded: Recorded) {
        let load = Recorded::LOAD.when(self.recorded().has_any_of(Recorded::LOAD));
        self.0.recorded.store(recorded.and(load).0, Relaxed);
    }

    /// Weighs the load that the backend reports by these rules, from the streams on that are
    /// opened from now on. Without rules no report is looked for, and none is known.
    pub(crate) fn set_load_rules(&self, rules: Option<Arc<LoadRules>>) {
        match rules {
            Some(_) => self.0.recorded.fetch_or(Recorded::LOAD.0, Relaxed),
            None => self.0.recorded.fetch_and(!Recorded::LOAD.0, Relaxed),
        };
        self.0.load.set_rules(rules);
    }

    fn recorded(&self) -> Recorded {
        Recorded(self.0.recorded.load(Relaxed))
    }

    /// A call has a slot.
    pub(crate) fn enter(&self) {
        self.0.in_flight.fetch_add(1, Relaxed);
    }

    /// Once for each [`enter`](Self::enter), for several of them at a time.
    pub(crate) fn leave(&self, calls: usize) {
        self.0.in_flight.fetch_sub(calls, Relaxed);
    }

    /// How many calls are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.0.in_flight.load(Relaxed)
    }

    /// A stream is open.
    pub(super) fn start(&self) -> Attempt {
        let recorded = self.recorded();
        if recorded == Recorded::NONE {
            return Attempt::NONE;
        }
        if !recorded.has_any_of(Recorded::OUTCOMES) {
            return Attempt::REPORTING;
        }
        self.0.started.fetch_add(1, Relaxed);
        Attempt::OPEN
    }

    /// Once for each attempt that is [open](Attempt::OPEN).
    #[cold]
    pub(super) fn record(&self, outcome: CallOutcome) {
        let count = match outcome {
            CallOutcome::Status(Code::Ok) => &self.0.succeeded,
            CallOutcome::Status(_) => &self.0.failed,
            CallOutcome::Cancelled => &self.0.cancelled,
            CallOutcome::Refused => &self.0.refused,
        };
        count.fetch_add(1, Release);
        if let CallOutcome::Status(code) = outcome
            && is_fault_of_server(code)
        {
            self.0.server_failed.fetch_add(1, Release);
        }
    }

    /// Takes the report of load in the last frame of a response, if that is asked for.
    ///
    /// # Errors
    ///
    /// There is one that cannot be read, for the first time.
    #[cold]
    pub(super) fn record_load(&self, now: Instant, last: &HeaderMap) -> Result<(), Unreadable> {
        match self.recorded().has_any_of(Recorded::LOAD) {
            true => self.0.load.record(now, last),
            false => Ok(()),
        }
    }

    /// The backend was not READY, and is now.
    pub(crate) fn on_ready(&self) {
        self.0.load.on_ready();
    }

    /// The weight of the backend by the load that it reports.
    pub(crate) fn weight_at(&self, now: Instant, periods: WeightPeriods) -> Result<f64, NoWeight> {
        self.0.load.weight_at(now, periods)
    }

    /// How attempts ended, if the application asks for that.
    pub(crate) fn counts(&self) -> Option<CallCounts> {
        let record = &self.0;
        self.recorded().has_any_of(Recorded::COUNTS).then(|| {
            let [succeeded, failed, cancelled, refused] = [
                &record.succeeded,
                &record.failed,
                &record.cancelled,
                &record.refused,
            ]
            .map(|count| count.load(Acquire));
            CallCounts {
                // Last, so that it is not less than its parts.
                started: record.started.load(Relaxed),
                succeeded,
                failed,
                cancelled,
                refused,
            }
        })
    }

    /// How attempts ended so far, of those that were [recorded](Self::set_recorded).
    pub(crate) fn outcomes(&self) -> Outcomes {
        let record = &self.0;
        // First, so that it is not more than the whole.
        let server_failed = record.server_failed.load(Acquire);
        Outcomes {
            server_failed,
            failed: record.failed.load(Acquire),
            succeeded: record.succeeded.load(Acquire),
        }
    }

    /// Counts attempts that never were.
    #[cfg(test)]
    pub(crate) fn add_outcomes(&self, succeeded: u64, failed: u64) {
        self.0.succeeded.fetch_add(succeeded, Release);
        self.0.failed.fetch_add(failed, Release);
    }

    /// The backend reports its load with a call.
    #[cfg(test)]
    pub(crate) fn report_load(&self, now: Instant, rate: f64, utilization: f64) {
        let last = super::load_report::of_load(rate, utilization);
        let is_read = self.record_load(now, &last);
        debug_assert!(is_read.is_ok(), "a report that can be read");
    }

    /// Whether anything asks for outcomes.
    #[cfg(test)]
    pub(crate) fn records_outcomes(&self) -> bool {
        self.recorded().has_any_of(Recorded::OUTCOMES)
    }

    /// Whether no clone of it can count any more.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl CallOutcome {
    /// The status in the last frame of a response.
    pub(in crate::transport) fn of_last(headers: &HeaderMap) -> Self {
        // There are few headers, and the status is mostly the first. To hash its name costs more.
        let status = headers
            .iter()
            .find(|(name, _)| name.as_str() == "grpc-status");
        let code = status.map(|(_, code)| Code::from_bytes(code.as_bytes()));
        Self::Status(code.unwrap_or(Code::Unknown))
    }
}

/// Any other code is an answer to this one request.
fn is_fault_of_server(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::DataLoss
    )
}

impl PartialEq for BackendCalls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for BackendCalls {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tonic::Code;

    use super::{Attempt, BackendCalls, CallCounts, CallOutcome, LoadRules, Outcomes, Recorded};

    #[test]
    fn clones_count_together() {
        let one = BackendCalls::default();
        let same = one.clone();
        one.enter();
        same.enter();
        assert_eq!((one.in_flight(), same.in_flight()), (2, 2));
        one.leave(1);
        assert_eq!(same.in_flight(), 1);
        assert!(!one.is_last());
        drop(same);
        assert!(one.is_last());
    }

    #[test]
    fn only_clones_are_equal() {
        let one = BackendCalls::default();
        assert!(one == one.clone());
        assert!(one != BackendCalls::default(), "though both count nothing");
    }

    #[test]
    fn outcomes_that_are_not_asked_for_are_not_counted() {
        let calls = BackendCalls::default();
        assert_eq!(calls.start(), Attempt::NONE);
        assert_eq!(calls.counts(), None);
    }

    #[test]
    fn what_is_recorded_is_said_at_run_time() {
        let calls = BackendCalls::default();
        assert_eq!(calls.start(), Attempt::NONE);
        calls.set_recorded(Recorded::OUTLIERS);
        assert_eq!(calls.start(), Attempt::OPEN);
        assert_eq!(calls.counts(), None, "the application did not ask");
        calls.set_recorded(Recorded::NONE);
        assert_eq!(calls.start(), Attempt::NONE);
    }

    #[test]
    fn load_is_asked_for_by_its_rules_whatever_else_is() {
        let calls = BackendCalls::default();
        calls.set_load_rules(Some(Arc::new(LoadRules::new(1.0, [].into_iter()))));
        assert_eq!(calls.start(), Attempt::REPORTING);
        calls.set_recorded(Recorded::COUNTS);
        assert_eq!(calls.start(), Attempt::OPEN);
        calls.set_recorded(Recorded::NONE);
        assert_eq!(calls.start(), Attempt::REPORTING);
        calls.set_load_rules(None);
        assert_eq!(calls.start(), Attempt::NONE);
        calls.set_recorded(Recorded::COUNTS);
        assert_eq!(calls.counts().expect("asked for").started, 1);
    }

    #[test]
    fn several_may_ask() {
        let set = |counts, outliers| {
            Recorded::COUNTS
                .when(counts)
                .and(Recorded::OUTLIERS.when(outliers))
        };
        assert_eq!(set(false, false), Recorded::NONE);
        assert_eq!(set(true, false), Recorded::COUNTS);
        assert_eq!(set(false, true), Recorded::OUTLIERS);
        assert!(set(true, true).has_any_of(Recorded::COUNTS));
    }

    #[test]
    fn each_outcome_has_its_number() {
        let calls = BackendCalls::new(Recorded::COUNTS);
        for outcome in [
            CallOutcome::Status(Code::Ok),
            CallOutcome::Status(Code::NotFound),
            CallOutcome::Status(Code::Cancelled),
            CallOutcome::Cancelled,
            CallOutcome::Refused,
        ] {
            assert_eq!(calls.start(), Attempt::OPEN);
            calls.record(outcome);
        }
        let expected = CallCounts {
            started: 5,
            succeeded: 1,
            failed: 2,
            cancelled: 1,
            refused: 1,
        };
        assert_eq!(calls.counts(), Some(expected));
    }

    // O29
    #[test]
    fn what_says_nothing_of_the_backend_is_no_outcome() {
        let calls = BackendCalls::new(Recorded::OUTLIERS);
        for outcome in [CallOutcome::Cancelled, CallOutcome::Refused] {
            assert_eq!(calls.start(), Attempt::OPEN);
            calls.record(outcome);
        }
        assert_eq!(calls.outcomes(), Outcomes::default());
    }

    #[test]
    fn six_codes_are_the_servers_fault() {
        let faults = (0..=16).map(Code::from).filter(|code| {
            let calls = BackendCalls::new(Recorded::OUTLIERS);
            calls.record(CallOutcome::Status(*code));
            let outcomes = calls.outcomes();
            assert_eq!(outcomes.succeeded + outcomes.failed, 1, "{code:?}");
            outcomes.server_failed == 1
        });
        let expected = [
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::ResourceExhausted,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
        ];
        assert_eq!(faults.collect::<Vec<_>>(), expected);
    }
}
