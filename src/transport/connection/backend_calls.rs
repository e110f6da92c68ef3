//! The record of a backend's calls: how many there are, and how they ended.

use std::sync::{
    Arc,
    atomic::{
        AtomicU8, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use http::HeaderMap;
use tonic::Code;

/// Counts the calls of one backend, over all its connections. A `Watch` does not count.
///
/// Clones count together, and are equal. Each number is of the moment in which it is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackendCalls(Arc<Record>);

#[derive(Debug, Default)]
struct Record {
    /// Calls from their slot to the end of their stream.
    in_flight: AtomicUsize,
    /// What of the rest is asked for.
    recorded: AtomicU8,
    started: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
}

/// What is recorded of a backend's calls besides their number: a set, as several may ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded(u8);

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

/// Whether the outcome of an attempt is to be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Attempt {
    /// No: no stream is open, its outcome is recorded already, or nothing asks for it.
    #[default]
    Silent,
    /// Yes, as soon as it is known.
    Open,
}

impl Recorded {
    /// Nothing.
    pub(crate) const NONE: Self = Self(0);
    /// Outcomes, for the application.
    pub(crate) const COUNTS: Self = Self(1);
    /// Outcomes, for outlier detection.
    pub(crate) const OUTLIERS: Self = Self(2);

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

    /// Records this of each stream that is opened from now on.
    pub(crate) fn set_recorded(&self, recorded: Recorded) {
        self.0.recorded.store(recorded.0, Relaxed);
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
        if !self.recorded().has_any_of(Recorded::OUTCOMES) {
            return Attempt::Silent;
        }
        self.0.started.fetch_add(1, Relaxed);
        Attempt::Open
    }

    /// Once for each attempt that is [open](Attempt::Open).
    #[cold]
    pub(super) fn record(&self, outcome: CallOutcome) {
        let count = match outcome {
            CallOutcome::Status(Code::Ok) => &self.0.succeeded,
            CallOutcome::Status(_) => &self.0.failed,
            CallOutcome::Cancelled => &self.0.cancelled,
            CallOutcome::Refused => &self.0.refused,
        };
        count.fetch_add(1, Release);
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

    /// Whether no clone of it can count any more.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl CallOutcome {
    /// The status in the last frame of a response.
    pub(in crate::transport) fn of_last(headers: &HeaderMap) -> Self {
        let status = headers.get("grpc-status");
        Self::Status(status.map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes())))
    }
}

impl PartialEq for BackendCalls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for BackendCalls {}

#[cfg(test)]
mod tests {
    use super::{Attempt, BackendCalls, CallCounts, CallOutcome, Recorded};
    use tonic::Code;

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
        assert_eq!(calls.start(), Attempt::Silent);
        assert_eq!(calls.counts(), None);
    }

    #[test]
    fn what_is_recorded_is_said_at_run_time() {
        let calls = BackendCalls::default();
        assert_eq!(calls.start(), Attempt::Silent);
        calls.set_recorded(Recorded::OUTLIERS);
        assert_eq!(calls.start(), Attempt::Open);
        assert_eq!(calls.counts(), None, "the application did not ask");
        calls.set_recorded(Recorded::NONE);
        assert_eq!(calls.start(), Attempt::Silent);
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
            assert_eq!(calls.start(), Attempt::Open);
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
}
