//! The rules of one connection's health (gRFC A17), without any IO.
//!
//! ```text
//! start ─► Asking ──── message ────► Listening         UNIMPLEMENTED, by option
//!           ▲  │                      │  ▲  │           ┌──────┴──────┐
//!           │  └─ ended, no answer ─┐ │  └──┘ message   ▼             ▼
//!           └──────── Retrying ◄────┴─┘ ended        Checking ──────► Off
//!                                                     │    ▲   UNIMPLEMENTED
//!                                                     ▼    │
//! renew, from anywhere ─► Asking                     Pausing
//! ```
//!
//! What is done ([`Phase`]) and what is reported ([`Verdict`]) are apart: the
//! state changes only with news from the backend, so a backend that is being
//! asked again, or about another service, keeps the state that its last answer or
//! failure gave it.
//!
//! An RPC that was cancelled may not be heard of again: the driver drops it
//! before it starts another, and the machine ignores what does not fit its phase.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    connectivity::ConnectivityState,
    error::{Cause, CauseKind},
    health::{
        action::{Action, Notice, Rpc},
        flood::{Flood, MAX_MESSAGES, MessageVerdict},
        options::{HealthOptions, OnNotFound, OnUnimplemented},
        status::HealthStatus,
        verdict::Verdict,
    },
    util::backoff::{Backoff, MIN_INTERVAL, next_start},
};

/// The health of one connection. It begins and ends with it, so what an earlier
/// connection learned cannot leak into this one.
#[derive(Debug)]
pub(crate) struct Watch {
    verdict: Verdict,
    phase: Phase,
    backoff: Backoff,
    /// Questions without an answer since the last answer.
    failures: u32,
    flood: Flood,
    options: Arc<HealthOptions>,
}

/// What is done. A `deadline` of `None` is never.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// A `Watch` runs; it has not answered.
    Asking {
        started: Instant,
        deadline: Option<Instant>,
    },
    /// A `Watch` runs; it has answered.
    Listening { started: Instant },
    /// Nothing runs; the next `Watch` starts then.
    Retrying { at: Instant },
    /// A `Check` runs.
    Checking {
        started: Instant,
        deadline: Option<Instant>,
        polling: Polling,
    },
    /// Nothing runs; the next `Check` starts then.
    Pausing { at: Instant, polling: Polling },
    /// Nothing will run again on this connection.
    Off,
}

/// [`OnUnimplemented::PollCheck`]. The floor of the interval is [`next_start`]'s,
/// that of the timeout is applied here.
#[derive(Clone, Copy, Debug)]
struct Polling {
    interval: Duration,
    timeout: Duration,
}

/// How an RPC ended, or why it could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) kind: EndKind,
    /// The gRPC code and message, for people.
    pub(crate) text: String,
    /// As metrics call it.
    pub(crate) reason: &'static str,
}

/// The ends that differ for the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndKind {
    Unimplemented,
    NotFound,
    /// Everything else, OK included: a `Watch` is not supposed to end.
    Other,
}

/// The state of a backend whose connection is in state `raw` and, while that is
/// READY and health is checked, whose health is `health`. The only place where
/// the two meet (gRFC A61).
pub(crate) fn effective(raw: ConnectivityState, health: Option<&Watch>) -> ConnectivityState {
    match (raw, health) {
        (ConnectivityState::Ready, Some(watch)) => watch.state(),
        (
            ConnectivityState::Idle
            | ConnectivityState::Connecting
            | ConnectivityState::Ready
            | ConnectivityState::TransientFailure
            | ConnectivityState::Shutdown,
            _,
        ) => raw,
    }
}

impl Watch {
    /// On a connection that just came up: the first `Watch` starts at once.
    pub(crate) fn start(now: Instant, options: Arc<HealthOptions>, seed: u64) -> (Self, Action) {
        let mut watch = Self {
            verdict: Verdict::Pending,
            phase: Phase::Off,
            backoff: Backoff::new(options.backoff.clone(), seed),
            failures: 0,
            flood: Flood::default(),
            options,
        };
        let action = watch.begin_watch(now);
        (watch, action)
    }

    /// On a connection that was READY without health: it stays so until there is
    /// news of it.
    pub(crate) fn start_on_ready(
        now: Instant,
        options: Arc<HealthOptions>,
        seed: u64,
    ) -> (Self, Action) {
        let (watch, action) = Self::start(now, options, seed);
        let verdict = Verdict::Inherited { failing: None };
        (Self { verdict, ..watch }, action)
    }

    /// Another service is asked about from now on, beginning at once: how often
    /// is up to whoever changes it. What was learned is of the old service, but
    /// the state stays until there is news of the new one.
    pub(crate) fn renew(&mut self, now: Instant) -> Action {
        let stop = self.phase.runs();
        self.verdict = mem::replace(&mut self.verdict, Verdict::Pending).inherited();
        self.backoff.reset();
        self.failures = 0;
        self.flood = Flood::default();
        Action {
            stop,
            ..self.begin_watch(now)
        }
    }

    /// The running `Watch` received a message with this status.
    ///
    /// Any answer, good or bad, proves that the health service works, so it
    /// resets the backoff; the stream and the connection stay as they are. Unless
    /// there are too many: then the stream is ended, and another follows after a
    /// pause.
    pub(crate) fn on_response(&mut self, now: Instant, status: i32) -> Action {
        match self.phase {
            Phase::Asking { started, .. } | Phase::Listening { started } => {
                match self.flood.on_message(now, started) {
                    MessageVerdict::Good => self.backoff.reset(),
                    MessageVerdict::Suspected => {}
                    MessageVerdict::TooMuch => return self.end_flood(now),
                }
                self.phase = Phase::Listening { started };
                self.failures = 0;
                self.verdict = Verdict::of_answer("", status);
            }
            Phase::Retrying { .. }
            | Phase::Checking { .. }
            | Phase::Pausing { .. }
            | Phase::Off => {}
        }
        Action::default()
    }

    /// The running `Watch` ended, or could not be started.
    pub(crate) fn on_ended(&mut self, now: Instant, ended: Ended) -> Action {
        let (started, answered) = match self.phase {
            Phase::Asking { started, .. } => (started, false),
            Phase::Listening { started } => (started, true),
            Phase::Retrying { .. }
            | Phase::Checking { .. }
            | Phase::Pausing { .. }
            | Phase::Off => return Action::default(),
        };
        if ended.kind == EndKind::Unimplemented {
            return self.do_without_watch(now, &ended.text);
        }
        self.fail(format!("Watch ended: {}", ended.text));
        let at = self.retry_at(now, started, ended.kind, answered);
        self.retry_watch(now, at)
    }

    /// The running `Check` answered with this status, or failed.
    pub(crate) fn on_checked(&mut self, now: Instant, result: Result<i32, Ended>) -> Action {
        let (started, polling) = match self.phase {
            Phase::Checking {
                started, polling, ..
            } => (started, polling),
            Phase::Asking { .. }
            | Phase::Listening { .. }
            | Phase::Retrying { .. }
            | Phase::Pausing { .. }
            | Phase::Off => return Action::default(),
        };
        match result {
            Ok(status) => {
                self.failures = 0;
                self.verdict = Verdict::of_answer("Check: ", status);
            }
            Err(ended) => match ended.kind {
                EndKind::Unimplemented => return self.assume_healthy(),
                EndKind::NotFound | EndKind::Other => self.fail_check(&ended.text),
            },
        }
        self.pause(now, started, polling)
    }

    /// When [`on_deadline`](Self::on_deadline) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Asking { deadline, .. } | Phase::Checking { deadline, .. } => deadline,
            Phase::Retrying { at } | Phase::Pausing { at, .. } => Some(at),
            Phase::Listening { .. } | Phase::Off => None,
        }
    }

    /// When the backend has to have answered what it is asked.
    pub(crate) fn answer_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Asking { deadline, .. } | Phase::Checking { deadline, .. } => deadline,
            Phase::Listening { .. }
            | Phase::Retrying { .. }
            | Phase::Pausing { .. }
            | Phase::Off => None,
        }
    }

    /// Time has passed. Before the deadline, or without one, nothing happens.
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Action {
        match self.phase {
            Phase::Asking {
                started,
                deadline: Some(at),
            } if at <= now => self.give_up_watch(now, started, at - started),
            Phase::Checking {
                started,
                deadline: Some(at),
                polling,
            } if at <= now => self.give_up_check(now, started, polling),
            Phase::Retrying { at } if at <= now => self.begin_watch(now),
            Phase::Pausing { at, polling } if at <= now => self.begin_check(now, polling),
            Phase::Asking { .. }
            | Phase::Listening { .. }
            | Phase::Retrying { .. }
            | Phase::Checking { .. }
            | Phase::Pausing { .. }
            | Phase::Off => Action::default(),
        }
    }

    /// The connection is gone and its health with it, or nobody asks any more.
    pub(crate) fn end(self) -> Action {
        Action {
            stop: self.phase.runs(),
            ..Action::default()
        }
    }

    /// The state of a backend whose connection is READY.
    pub(crate) fn state(&self) -> ConnectivityState {
        self.verdict.state(&self.options)
    }

    pub(crate) fn status(&self) -> HealthStatus {
        self.verdict.status()
    }

    /// Why, in TRANSIENT_FAILURE.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.verdict.cause()
    }

    /// How many questions in a row got no answer.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next question is asked, while none is open.
    pub(crate) fn next_attempt(&self) -> Option<Instant> {
        match self.phase {
            Phase::Retrying { at } | Phase::Pausing { at, .. } => Some(at),
            Phase::Asking { .. }
            | Phase::Listening { .. }
            | Phase::Checking { .. }
            | Phase::Off => None,
        }
    }

    fn begin_watch(&mut self, now: Instant) -> Action {
        let timeout = self.options.first_response_timeout;
        self.phase = Phase::Asking {
            started: now,
            deadline: timeout.and_then(|timeout| now.checked_add(timeout)),
        };
        Action::start(Rpc::Watch)
    }

    fn begin_check(&mut self, now: Instant, polling: Polling) -> Action {
        self.phase = Phase::Checking {
            started: now,
            deadline: now.checked_add(polling.timeout),
            polling,
        };
        Action::start(Rpc::Check)
    }

    /// gRFC A17 leaves a silent server in CONNECTING for ever. Calls would wait
    /// there; so silence is a failure like any other, unless the user says so.
    fn give_up_watch(&mut self, now: Instant, started: Instant, timeout: Duration) -> Action {
        self.fail(format!("no answer in {timeout:?}"));
        let at = self.retry_at(now, started, EndKind::Other, false);
        Action {
            stop: true,
            ..self.retry_watch(now, at)
        }
    }

    /// The pause counts from now: the `Watch` may have run for long.
    fn end_flood(&mut self, now: Instant) -> Action {
        self.fail(format!("more than {MAX_MESSAGES} messages in 1 s"));
        let at = self.retry_at(now, now, EndKind::Other, false);
        Action {
            stop: true,
            ..self.retry_watch(now, at)
        }
    }

    fn give_up_check(&mut self, now: Instant, started: Instant, polling: Polling) -> Action {
        self.fail_check(&format!("no answer in {:?}", polling.timeout));
        Action {
            stop: true,
            ..self.pause(now, started, polling)
        }
    }

    /// gRFC A17, "Client Behavior": after a stream that had said something the
    /// next one starts at once, after a silent one there is a backoff.
    fn retry_at(
        &mut self,
        now: Instant,
        started: Instant,
        kind: EndKind,
        answered: bool,
    ) -> Instant {
        if answered {
            return next_start(now, started, Duration::ZERO);
        }
        self.failures = self.failures.saturating_add(1);
        match (kind, &self.options.on_not_found) {
            (EndKind::NotFound, OnNotFound::RetryEvery(interval)) => {
                next_start(now, started, *interval)
            }
            (EndKind::NotFound, OnNotFound::Backoff)
            | (EndKind::Other | EndKind::Unimplemented, _) => self.backoff.next_start(now, started),
        }
    }

    fn retry_watch(&mut self, now: Instant, at: Instant) -> Action {
        if at <= now {
            return self.begin_watch(now);
        }
        self.phase = Phase::Retrying { at };
        Action::default()
    }

    fn pause(&mut self, now: Instant, started: Instant, polling: Polling) -> Action {
        let at = next_start(now, started, polling.interval);
        if at <= now {
            return self.begin_check(now, polling);
        }
        self.phase = Phase::Pausing { at, polling };
        Action::default()
    }

    /// `Watch` is UNIMPLEMENTED, whether or not it had said something before.
    fn do_without_watch(&mut self, now: Instant, text: &str) -> Action {
        self.failures = 0;
        match self.options.on_unimplemented {
            OnUnimplemented::AssumeHealthy => self.assume_healthy(),
            OnUnimplemented::PollCheck { interval, timeout } => Action {
                notice: Some(Notice::PollingCheck),
                ..self.begin_check(now, Polling::new(interval, timeout))
            },
            OnUnimplemented::Unhealthy => {
                self.fail(format!("no health service: {text}"));
                self.phase = Phase::Off;
                Action::notice(Notice::UnhealthyWithoutService)
            }
        }
    }

    /// gRFC A17, "Client Behavior": a server without the health service counts
    /// as healthy, which must be logged as an error and not be tried again
    /// before the next connection.
    fn assume_healthy(&mut self) -> Action {
        self.failures = 0;
        self.verdict = Verdict::Unimplemented;
        self.phase = Phase::Off;
        Action::notice(Notice::AssumedHealthy)
    }

    fn fail_check(&mut self, text: &str) {
        self.failures = self.failures.saturating_add(1);
        self.fail(format!("Check: {text}"));
    }

    fn fail(&mut self, text: String) {
        self.verdict = Verdict::Failing {
            status: HealthStatus::Failed,
            cause: Cause::new(CauseKind::Health, text),
        };
    }
}

impl Phase {
    /// Whether there is an RPC to cancel.
    fn runs(self) -> bool {
        match self {
            Self::Asking { .. } | Self::Listening { .. } | Self::Checking { .. } => true,
            Self::Retrying { .. } | Self::Pausing { .. } | Self::Off => false,
        }
    }
}

impl Polling {
    fn new(interval: Duration, timeout: Duration) -> Self {
        Self {
            interval,
            timeout: timeout.max(MIN_INTERVAL),
        }
    }
}
