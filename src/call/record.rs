//! The record of a call: its metrics, its trace, or both.

use std::sync::Arc;

use http::Extensions;

use super::final_status::FinalStatus;
use crate::{
    error::Error,
    metrics::{CallMeters, HedgeMetrics, MetricsRecord, SentBytes, WaitRecord},
    trace::{AttemptWitness, CallInfo, CallTracer, HedgeTraces, MessageInfo, TraceRecord},
    transport::OutgoingRequest,
    util::contained::Contained,
};

/// By what the calls of a channel are recorded.
pub(crate) struct CallRecorder {
    meters: Option<Arc<CallMeters>>,
    tracer: Option<Contained<Arc<dyn CallTracer>>>,
    target: String,
}

impl CallRecorder {
    /// None if nothing is recorded.
    pub(crate) fn new(
        meters: Option<Arc<CallMeters>>,
        tracer: Option<Arc<dyn CallTracer>>,
        target: String,
    ) -> Option<Arc<Self>> {
        (meters.is_some() || tracer.is_some()).then(|| {
            Arc::new(Self {
                meters,
                tracer: tracer.map(Contained::new),
                target,
            })
        })
    }

    /// A call begins, with this path and these extensions of its request.
    pub(crate) fn begin(&self, path: &str, extensions: &Extensions) -> CallRecord {
        let metrics = self.meters.as_ref();
        let metrics = metrics.map(|meters| MetricsRecord::begin(meters, path, extensions));
        let trace = self.tracer.as_ref().map(|tracer| {
            let call = CallInfo::new(path, &self.target, extensions);
            TraceRecord::begin(&***tracer, &call)
        });
        CallRecord {
            metrics: metrics.unwrap_or_default(),
            trace: trace.unwrap_or_default(),
        }
    }
}

/// The record of a call that is under way. Empty once it has ended, or has moved into the body of
/// the response. If it is dropped before, the call was cancelled.
#[derive(Default)]
pub(crate) struct CallRecord {
    metrics: MetricsRecord,
    trace: TraceRecord,
}

/// The record of a call whose attempts are beside each other, as it is for one of these.
pub(super) struct HedgeRecords {
    metrics: Option<HedgeMetrics>,
    trace: Option<HedgeTraces>,
}

/// A call that waits.
pub(super) struct Wait {
    metrics: Option<WaitRecord>,
    attempt: Option<AttemptWitness>,
}

impl CallRecord {
    /// Whether the call is over, or recorded elsewhere, or not at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.metrics.is_empty() && self.trace.is_empty()
    }

    /// The same record in another place.
    pub(super) fn take(&mut self) -> Self {
        Self {
            metrics: self.metrics.take(),
            trace: self.trace.take(),
        }
    }

    /// The call waits for a service config from now on.
    pub(super) fn begin_resolution(&self) -> Option<WaitRecord> {
        self.metrics.begin_wait()
    }

    /// That wait is over. So its first attempt begins later than the call.
    pub(super) fn on_resolved<T>(&mut self, wait: Option<WaitRecord>, outcome: &Result<T, Error>) {
        if let Some(wait) = wait {
            wait.end_with(outcome);
        }
        self.metrics.on_waited();
        if outcome.is_ok() {
            self.trace.on_resolved();
        }
    }

    /// The call waits for a backend from now on.
    pub(super) fn begin_wait(&self) -> Option<Wait> {
        let wait = Wait {
            metrics: self.metrics.begin_wait(),
            attempt: self.trace.attempt().cloned(),
        };
        (wait.metrics.is_some() || wait.attempt.is_some()).then_some(wait)
    }

    /// An attempt begins, or a transparent retry. The bytes of its messages are counted as those
    /// of the one before were.
    pub(super) fn begin_attempt(
        &mut self,
        request: &mut OutgoingRequest,
        sent: &mut Option<SentBytes>,
        is_transparent: bool,
    ) {
        if !self.metrics.is_empty() {
            let counted = request.count_sent(sent.take());
            *sent = Some(counted.clone());
            self.metrics.begin_attempt(counted, is_transparent);
        }
        self.trace.begin_attempt(is_transparent);
        request.set_witness(self.trace.attempt().cloned());
    }

    /// There is an attempt, which ends before it has sent anything.
    pub(super) fn begin_failed_attempt(&mut self) {
        self.metrics.begin_attempt(SentBytes::Whole(0), false);
        self.trace.begin_attempt(false);
    }

    /// The attempt under way has a slot.
    pub(super) fn on_slot(&mut self) {
        self.metrics.on_slot();
    }

    /// Whether each message is told.
    pub(super) fn wants_messages(&self) -> bool {
        let attempt = self.trace.attempt();
        attempt.is_some_and(AttemptWitness::wants_messages)
    }

    /// A message has begun to come.
    pub(super) fn on_message(&self, message: MessageInfo) {
        if let Some(attempt) = self.trace.attempt() {
            attempt.on_received(message);
        }
    }

    /// So many bytes of messages have come in all.
    pub(super) fn set_received(&mut self, bytes: u64) {
        self.metrics.set_received(bytes);
    }

    /// The attempt under way ends. Nothing was sent, unless it had a stream.
    pub(super) fn end_attempt(&mut self, status: FinalStatus<'_>, had_stream: bool) {
        self.metrics.end_attempt(status.code(), had_stream);
        self.trace.end_attempt(|| status.traced());
    }

    /// The call ends, and with it the attempt under way.
    pub(super) fn end(&mut self, status: FinalStatus<'_>) {
        self.metrics.end(status.code());
        self.trace.end(|| status.traced());
    }

    /// Its attempts are beside each other from now on. None if there is nothing to record.
    pub(super) fn hedges(&mut self) -> Option<HedgeRecords> {
        let records = HedgeRecords {
            metrics: self.metrics.hedges(),
            trace: self.trace.hedges(),
        };
        (records.metrics.is_some() || records.trace.is_some()).then_some(records)
    }
}

impl HedgeRecords {
    /// Of one attempt, which begins now.
    pub(super) fn fork(&self) -> CallRecord {
        let trace = self.trace.as_ref().map(HedgeTraces::fork);
        let metrics = self.metrics.as_ref().map(HedgeMetrics::fork);
        CallRecord {
            metrics: metrics.unwrap_or_default(),
            trace: trace.unwrap_or_default(),
        }
    }
}

impl Wait {
    /// The wait is over with this result.
    pub(super) fn end_with<T>(self, outcome: &Result<T, Error>) {
        if let Some(metrics) = self.metrics {
            metrics.end_with(outcome);
        }
        if let (Some(attempt), Ok(_)) = (self.attempt, outcome) {
            attempt.on_delayed_pick();
        }
    }
}
