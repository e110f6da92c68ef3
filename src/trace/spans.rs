//! Spans of the crate `tracing`.

use std::{fmt, sync::Arc};

use tonic::Code;
use tracing::{
    Level, Span, debug, debug_span, enabled,
    field::{Empty, display},
    trace,
};

use super::{
    AttemptHeaders, AttemptTrace, CallTrace, CallTracer,
    info::{AttemptInfo, CallInfo, MessageInfo, TraceStatus},
};

/// The target of the spans and events; see the crate's documentation.
const CALL: &str = "tonic_health_channel::call";

/// Makes spans of the crate `tracing`, as gRFC A72 names them.
///
/// They have the target `tonic_health_channel::call` and the level DEBUG. A call has a span
/// `Sent.pkg.Service.Method` within the current one, and in it a span `Attempt.pkg.Service.Method`
/// for each attempt. The names are in the field `otel.name`, where `tracing-opentelemetry` looks.
/// `otel.kind`, `otel.status_code` and `otel.status_description` are set, too. With the level
/// TRACE there is an event for each message.
///
/// It sends no trace context: that takes an interceptor, or the tracer of
/// `tonic-health-channel-opentelemetry`. Where a subscriber does not want the target, a call costs 1
/// look at that. A span that is exported by `tracing-opentelemetry` costs several times as much as
/// one of that tracer.
pub fn tracing_spans() -> Arc<dyn CallTracer> {
    Arc::new(Spans)
}

struct Spans;

struct CallSpan {
    span: Span,
    method: Box<str>,
}

struct AttemptSpan(Span);

impl CallTracer for Spans {
    fn start(&self, call: &CallInfo<'_>) -> Option<Arc<dyn CallTrace>> {
        if !enabled!(target: CALL, Level::DEBUG) {
            return None;
        }
        let method = call.method();
        let span = debug_span!(
            target: CALL,
            "call",
            otel.name = format_args!("Sent.{}", Dotted(method)),
            otel.kind = "client",
            otel.status_code = Empty,
            otel.status_description = Empty,
            target = call.target(),
        );
        if span.is_disabled() {
            return None;
        }
        let method = method.into();
        Some(Arc::new(CallSpan { span, method }))
    }
}

impl CallTrace for CallSpan {
    fn resolution_delayed(&self) {
        debug!(target: CALL, parent: &self.span, "Delayed name resolution complete");
    }

    fn attempt(self: Arc<Self>, attempt: AttemptInfo) -> Arc<dyn AttemptTrace> {
        Arc::new(AttemptSpan(debug_span!(
            target: CALL,
            parent: &self.span,
            "attempt",
            otel.name = format_args!("Attempt.{}", Dotted(&self.method)),
            otel.status_code = Empty,
            otel.status_description = Empty,
            "previous-rpc-attempts" = attempt.previous_attempts(),
            "transparent-retry" = attempt.is_transparent_retry(),
            backend = Empty,
        )))
    }

    fn ended(&self, status: &TraceStatus<'_>) {
        record(&self.span, status);
    }
}

impl AttemptTrace for AttemptSpan {
    fn pick_delayed(&self) {
        debug!(target: CALL, parent: &self.0, "Delayed LB pick complete");
    }

    fn sending(&self, backend: &str, _headers: &mut AttemptHeaders<'_>) {
        self.0.record("backend", backend);
    }

    fn wants_messages(&self) -> bool {
        enabled!(target: CALL, Level::TRACE)
    }

    fn sent(&self, message: MessageInfo) {
        tell(&self.0, message, "Outbound message");
    }

    fn received(&self, message: MessageInfo) {
        tell(&self.0, message, "Inbound message");
    }

    fn ended(&self, status: &TraceStatus<'_>) {
        record(&self.0, status);
    }
}

/// The size that is known is that on the wire.
fn tell(span: &Span, message: MessageInfo, what: &str) {
    let (number, size) = (message.number(), message.size());
    match message.is_compressed() {
        false => trace!(
            target: CALL,
            parent: span,
            { "sequence-number" = number, "message-size" = size },
            "{what}"
        ),
        true => trace!(
            target: CALL,
            parent: span,
            { "sequence-number" = number, "message-size-compressed" = size },
            "{what}"
        ),
    }
}

/// As gRFC A72 has it: no description with OK, else the code and the text.
fn record(span: &Span, status: &TraceStatus<'_>) {
    if status.code() == Code::Ok {
        span.record("otel.status_code", "OK");
        return;
    }
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", display(status));
}

/// `pkg.Service/Method` with a dot for the slash.
struct Dotted<'a>(&'a str);

impl fmt::Display for Dotted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once('/') {
            Some((service, method)) => write!(f, "{service}.{method}"),
            None => f.write_str(self.0),
        }
    }
}
