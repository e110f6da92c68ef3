//! A tracer that counts, and a meter beside it: each call and each attempt has 1 end, and both
//! count the same.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use http::{HeaderName, HeaderValue};
use tonic_health_channel::{
    ChannelBuilder,
    metrics::{Metrics, Prometheus},
    trace::{
        AttemptHeaders, AttemptInfo, AttemptTrace, CallInfo, CallTrace, CallTracer, MessageInfo,
        TraceStatus,
    },
};

/// Counts the calls of one channel.
#[derive(Clone, Default)]
pub(super) struct Ledger {
    counts: Arc<Counts>,
    meter: Prometheus,
}

#[derive(Default)]
struct Counts {
    calls: AtomicUsize,
    ended: AtomicUsize,
    attempts: AtomicUsize,
    attempts_ended: AtomicUsize,
    /// Told in an order that is not allowed.
    wrong: AtomicUsize,
}

impl Ledger {
    pub(super) fn attach(&self, builder: ChannelBuilder) -> ChannelBuilder {
        let metrics = Metrics::new(self.meter.clone()).enable(["grpc.subchannel.open_connections"]);
        let builder = builder.metrics(metrics).expect("a known name");
        builder.call_tracer(Arc::new(self.clone()))
    }

    /// How much is wrong with it, once the channel has ended.
    pub(super) fn complaints(&self) -> Vec<String> {
        let Counts {
            calls,
            ended,
            attempts,
            attempts_ended,
            wrong,
        } = &*self.counts;
        let of = |count: &AtomicUsize| count.load(SeqCst);
        let text = self.meter.render();
        let sum = |name: &str| {
            let lines = text
                .lines()
                .filter(|line| line.split('{').next() == Some(name));
            let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
            values.sum::<f64>() as i64 as usize
        };
        let expected = [
            ("ends of calls", of(ended), of(calls)),
            ("ends of attempts", of(attempts_ended), of(attempts)),
            ("wrong turns of traces", of(wrong), 0),
            (
                "calls that were measured",
                sum("grpc_client_call_duration_seconds_count"),
                of(calls),
            ),
            (
                "attempts that were counted",
                sum("grpc_client_attempt_started_total"),
                of(attempts),
            ),
            (
                "attempts that were measured",
                sum("grpc_client_attempt_duration_seconds_count"),
                of(attempts),
            ),
            (
                "calls that wait",
                sum("tonic_health_channel_calls_waiting"),
                0,
            ),
            (
                "open connections",
                sum("grpc_subchannel_open_connections"),
                0,
            ),
            ("backends", sum("tonic_health_channel_backends"), 0),
        ];
        let wrong = expected
            .into_iter()
            .filter(|(_, seen, expected)| seen != expected);
        wrong
            .map(|(what, seen, expected)| format!("{what}: {seen}, not {expected}"))
            .collect()
    }

    /// How many attempts there were.
    pub(super) fn attempts(&self) -> usize {
        self.counts.attempts.load(SeqCst)
    }
}

impl Counts {
    fn check(&self, is_right: bool) {
        self.wrong.fetch_add(usize::from(!is_right), SeqCst);
    }
}

struct Call {
    counts: Arc<Counts>,
    has_ended: AtomicBool,
    under_way: AtomicUsize,
}

struct Attempt {
    call: Arc<Call>,
    has_ended: AtomicBool,
    sent: AtomicUsize,
    received: AtomicUsize,
}

impl CallTracer for Ledger {
    fn start(&self, _: &CallInfo<'_>) -> Option<Arc<dyn CallTrace>> {
        self.counts.calls.fetch_add(1, SeqCst);
        Some(Arc::new(Call {
            counts: Arc::clone(&self.counts),
            has_ended: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
        }))
    }
}

impl CallTrace for Call {
    fn attempt(self: Arc<Self>, _: AttemptInfo) -> Arc<dyn AttemptTrace> {
        self.counts.attempts.fetch_add(1, SeqCst);
        self.counts.check(!self.has_ended.load(SeqCst));
        self.under_way.fetch_add(1, SeqCst);
        Arc::new(Attempt {
            call: self,
            has_ended: AtomicBool::new(false),
            sent: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
        })
    }

    fn ended(&self, _: &TraceStatus<'_>) {
        self.counts.ended.fetch_add(1, SeqCst);
        let has_ended = self.has_ended.swap(true, SeqCst);
        self.counts
            .check(!has_ended && self.under_way.load(SeqCst) == 0);
    }
}

impl AttemptTrace for Attempt {
    fn sending(&self, _: &str, headers: &mut AttemptHeaders<'_>) {
        let name = HeaderName::from_static("x-trace");
        let is_set = headers.insert(name, HeaderValue::from_static("1"));
        self.call
            .counts
            .check(is_set && !self.has_ended.load(SeqCst));
    }

    fn wants_messages(&self) -> bool {
        true
    }

    fn sent(&self, message: MessageInfo) {
        let number = self.sent.fetch_add(1, SeqCst);
        self.call.counts.check(message.number() == number as u64);
    }

    fn received(&self, message: MessageInfo) {
        let number = self.received.fetch_add(1, SeqCst);
        self.call.counts.check(message.number() == number as u64);
    }

    fn ended(&self, _: &TraceStatus<'_>) {
        let counts = &self.call.counts;
        counts.attempts_ended.fetch_add(1, SeqCst);
        counts.check(!self.has_ended.swap(true, SeqCst));
        self.call.under_way.fetch_sub(1, SeqCst);
    }
}
