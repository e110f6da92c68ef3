//! The spans of one call and of its attempts.

use std::sync::Arc;

use opentelemetry::{
    Context, KeyValue,
    propagation::{Injector, TextMapPropagator},
    trace::{Span, SpanBuilder, Status, TraceContextExt, Tracer},
};
use tonic::{
    Code,
    codegen::http::{HeaderName, HeaderValue},
};
use tonic_health_channel::trace::{
    AttemptHeaders, AttemptInfo, AttemptTrace, CallTrace, MessageInfo, TraceStatus,
};

pub(crate) type Propagator = Arc<dyn TextMapPropagator + Send + Sync>;

/// A tracer of any provider.
pub(crate) trait Spans: Send + Sync {
    /// A span within `parent`, if it records, or if it `is_wanted` in any case.
    fn start_if(&self, span: SpanBuilder, parent: &Context, is_wanted: bool) -> Option<Started>;
}

/// A context with a span that has begun.
pub(crate) struct Started {
    pub(crate) context: Context,
    pub(crate) is_recording: bool,
}

impl<T> Spans for T
where
    T: Tracer<Span: Span + Send + Sync + 'static> + Send + Sync,
{
    fn start_if(&self, span: SpanBuilder, parent: &Context, is_wanted: bool) -> Option<Started> {
        let span = self.build_with_context(span, parent);
        let is_recording = span.is_recording();
        let context = match is_recording {
            true => parent.with_span(span),
            // Without the span, which nothing is told of.
            false if is_wanted => parent.with_remote_span_context(span.span_context().clone()),
            false => return None,
        };
        Some(Started {
            context,
            is_recording,
        })
    }
}

/// A call whose span records.
pub(crate) struct CallSpan {
    pub(crate) context: Context,
    /// The name of its attempts.
    pub(crate) attempts: Box<str>,
    pub(crate) spans: Arc<dyn Spans>,
    pub(crate) propagator: Option<Propagator>,
    pub(crate) message_events: bool,
}

impl CallTrace for CallSpan {
    fn resolution_delayed(&self) {
        let span = self.context.span();
        span.add_event("Delayed name resolution complete", Vec::new());
    }

    fn attempt(self: Arc<Self>, attempt: AttemptInfo) -> Arc<dyn AttemptTrace> {
        let previous = i64::from(attempt.previous_attempts());
        let is_again = attempt.is_transparent_retry();
        // Room for the backend, too.
        let mut attributes = Vec::with_capacity(3);
        attributes.push(KeyValue::new("previous-rpc-attempts", previous));
        attributes.push(KeyValue::new("transparent-retry", is_again));
        let name = String::from(&*self.attempts);
        let builder = SpanBuilder::from_name(name).with_attributes(attributes);
        let started = self.spans.start_if(builder, &self.context, true);
        let (context, is_recording) = match started {
            Some(started) => (started.context, started.is_recording),
            None => (self.context.clone(), false),
        };
        Arc::new(AttemptSpan {
            context,
            propagator: self.propagator.clone(),
            message_events: self.message_events && is_recording,
        })
    }

    fn ended(&self, status: &TraceStatus<'_>) {
        end(&self.context, status);
    }
}

/// One attempt of a call whose span records.
struct AttemptSpan {
    context: Context,
    propagator: Option<Propagator>,
    message_events: bool,
}

impl AttemptTrace for AttemptSpan {
    fn pick_delayed(&self) {
        let span = self.context.span();
        span.add_event("Delayed LB pick complete", Vec::new());
    }

    fn sending(&self, backend: &str, headers: &mut AttemptHeaders<'_>) {
        let backend = KeyValue::new("backend", backend.to_owned());
        self.context.span().set_attribute(backend);
        if let Some(propagator) = &self.propagator {
            propagator.inject_context(&self.context, &mut Headers(headers));
        }
    }

    fn wants_messages(&self) -> bool {
        self.message_events
    }

    fn sent(&self, message: MessageInfo) {
        tell(&self.context, "Outbound message", message);
    }

    fn received(&self, message: MessageInfo) {
        tell(&self.context, "Inbound message", message);
    }

    fn ended(&self, status: &TraceStatus<'_>) {
        end(&self.context, status);
    }
}

/// A call whose span does not record, and all its attempts. Servers learn its trace, and that it is
/// not sampled.
pub(crate) struct Dropped {
    context: Context,
    propagator: Propagator,
}

impl Dropped {
    pub(crate) fn new(context: Context, propagator: Propagator) -> Self {
        Self {
            context,
            propagator,
        }
    }
}

impl CallTrace for Dropped {
    fn attempt(self: Arc<Self>, _attempt: AttemptInfo) -> Arc<dyn AttemptTrace> {
        self
    }

    fn ended(&self, _status: &TraceStatus<'_>) {}
}

impl AttemptTrace for Dropped {
    fn sending(&self, _backend: &str, headers: &mut AttemptHeaders<'_>) {
        let headers = &mut Headers(headers);
        self.propagator.inject_context(&self.context, headers);
    }

    fn ended(&self, _status: &TraceStatus<'_>) {}
}

/// The size that is known is that on the wire.
fn tell(context: &Context, name: &'static str, message: MessageInfo) {
    let size = match message.is_compressed() {
        false => "message-size",
        true => "message-size-compressed",
    };
    let number = i64::try_from(message.number()).unwrap_or(i64::MAX);
    let attributes = vec![
        KeyValue::new("sequence-number", number),
        KeyValue::new(size, i64::from(message.size())),
    ];
    context.span().add_event(name, attributes);
}

/// As gRFC A72 has it: no description with OK, else the code and the text.
fn end(context: &Context, status: &TraceStatus<'_>) {
    let span = context.span();
    span.set_status(match status.code() {
        Code::Ok => Status::Ok,
        _ => Status::error(status.to_string()),
    });
    span.end();
}

/// The headers of an attempt, for a propagator.
struct Headers<'h, 'a>(&'h mut AttemptHeaders<'a>);

impl Injector for Headers<'_, '_> {
    /// A name or a value that HTTP/2 does not know is left out. So is an empty value, unless it takes
    /// the place of another trace's: `tracestate`.
    fn set(&mut self, key: &str, value: String) {
        let Ok(name) = HeaderName::try_from(key) else {
            return;
        };
        if value.is_empty() && self.0.get(&name).is_none() {
            return;
        }
        if let Ok(value) = HeaderValue::try_from(value) {
            self.0.insert(name, value);
        }
    }
}
