//! The tracer that makes spans of OpenTelemetry.

use std::{fmt, sync::Arc};

use opentelemetry::{
    Context, InstrumentationScope,
    propagation::TextMapPropagator,
    trace::{Span, SpanBuilder, SpanKind, Tracer, TracerProvider},
};
use tonic::GrpcMethod;
use tonic_health_channel::trace::{CallInfo, CallTrace, CallTracer};

use crate::{
    NAME,
    spans::{CallSpan, Dropped, Propagator, Spans},
};

/// Whether a path may be in the name of a span.
type MethodFilter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A tracer of calls that makes spans of OpenTelemetry, as gRFC A72 names them.
///
/// | span | kind | attributes | events |
/// |---|---|---|---|
/// | `Sent.pkg.Service.Method`, of a call | client | | `Delayed name resolution complete`: it waited for the first service config |
/// | `Attempt.pkg.Service.Method`, its child | internal | `previous-rpc-attempts`, `transparent-retry`, `backend` | `Delayed LB pick complete`: it waited for a backend or a stream |
///
/// Retries, hedges and transparent retries are attempts. The status of a span is Ok, or an error
/// that is described by its code and its text: `UNAVAILABLE, …`. A call that is dropped is
/// `CANCELLED`. `backend` is the address that the attempt goes to, and this crate's own.
///
/// The parent is the current [`Context`] where the call is made. With the feature `tracing` it is
/// the current span of the crate `tracing`, where a layer of `tracing-opentelemetry` knows it.
///
/// A call whose span does not record has no other spans. Without a propagator it costs no more
/// than the question.
///
/// ```
/// use std::sync::Arc;
///
/// use opentelemetry_sdk::{
///     propagation::TraceContextPropagator,
///     trace::{InMemorySpanExporter, SdkTracerProvider},
/// };
/// use tonic_health_channel::Channel;
/// use tonic_health_channel_opentelemetry::OtelTracer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = SdkTracerProvider::builder()
///     .with_simple_exporter(InMemorySpanExporter::default()) // OTLP in a program
///     .build();
/// let tracer = OtelTracer::new(&provider).with_propagator(TraceContextPropagator::new());
/// let channel = Channel::target("dns:///shop.example:50051")?
///     .call_tracer(Arc::new(tracer))
///     .build();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a tracer does nothing until a channel has it"]
pub struct OtelTracer {
    spans: Arc<dyn Spans>,
    propagator: Option<Propagator>,
    message_events: bool,
    method_filter: Option<MethodFilter>,
}

impl OtelTracer {
    /// A tracer whose spans are of `provider`, with the scope `tonic-health-channel` and the version
    /// of this crate. By default it sends no trace context, and has no events for messages.
    pub fn new<P>(provider: &P) -> Self
    where
        P: TracerProvider + ?Sized,
        P::Tracer: Tracer<Span: Span + Send + Sync + 'static> + Send + Sync + 'static,
    {
        let scope = InstrumentationScope::builder(NAME).with_version(env!("CARGO_PKG_VERSION"));
        Self {
            spans: Arc::new(provider.tracer_with_scope(scope.build())),
            propagator: None,
            message_events: false,
            method_filter: None,
        }
    }

    /// Sends the trace context of each attempt in its headers, such as `traceparent` by
    /// `TraceContextPropagator`. So the server's span is a child of the attempt.
    ///
    /// It takes the place of a header with the same name that the caller has set. Names that begin
    /// with `grpc-` are not sent, because they are gRPC's. Neither is what HTTP/2 does not allow in
    /// a header. The global propagator is not used.
    pub fn with_propagator(
        mut self,
        propagator: impl TextMapPropagator + Send + Sync + 'static,
    ) -> Self {
        self.propagator = Some(Arc::new(propagator));
        self
    }

    /// Whether an attempt has an event for each message: `Outbound message` and `Inbound message`.
    ///
    /// They have a `sequence-number` from 0 in each direction, and `message-size` in bytes. Of a
    /// message that is compressed only `message-size-compressed` is known. By default false, as a
    /// stream may have many.
    pub fn message_events(mut self, has_events: bool) -> Self {
        self.message_events = has_events;
        self
    }

    /// Names the spans of other calls by their path, if `filter` says so.
    ///
    /// The calls of tonic's generated clients need no filter. All others are `Sent.other` and
    /// `Attempt.other`, as with metrics (gRFC A66). So a proxy has no name of a span for each path
    /// that a client makes up. A panic of `filter` leaves the call without a trace.
    pub fn method_filter(mut self, filter: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.method_filter = Some(Arc::new(filter));
        self
    }

    /// `pkg.Service/Method`, or `other`.
    fn method<'c>(&self, call: &CallInfo<'c>) -> &'c str {
        match &self.method_filter {
            Some(filter)
                if call.extensions().get::<GrpcMethod<'static>>().is_none()
                    && filter(call.path()) =>
            {
                call.path().trim_start_matches('/')
            }
            _ => call.method(),
        }
    }
}

impl CallTracer for OtelTracer {
    fn start(&self, call: &CallInfo<'_>) -> Option<Arc<dyn CallTrace>> {
        let method = self.method(call);
        let name = named("Sent.", method);
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Client);
        let sends = self.propagator.is_some();
        let context = with_parent(|parent| self.spans.start_if(builder, parent, sends))?;
        let propagator = self.propagator.clone();
        if !context.is_recording {
            // Without a propagator there is none.
            let (context, propagator) = (context.context, propagator?);
            return Some(Arc::new(Dropped::new(context, propagator)));
        }
        Some(Arc::new(CallSpan {
            context: context.context,
            attempts: named("Attempt.", method).into(),
            spans: Arc::clone(&self.spans),
            propagator,
            message_events: self.message_events,
        }))
    }
}

/// The name of a span: `Sent.pkg.Service.Method`.
fn named(prefix: &str, method: &str) -> String {
    let (service, rest) = method.split_once('/').unwrap_or((method, ""));
    let dot = if rest.is_empty() { "" } else { "." };
    [prefix, service, dot, rest].concat()
}

/// The context in which the call is made.
#[cfg(not(feature = "tracing"))]
fn with_parent<T>(start: impl FnOnce(&Context) -> T) -> T {
    start(&Context::current())
}

/// That of the current span of the crate `tracing`, where there is one.
#[cfg(feature = "tracing")]
fn with_parent<T>(start: impl FnOnce(&Context) -> T) -> T {
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let context = tracing::Span::current().context();
    match context.has_active_span() {
        true => start(&context),
        false => start(&Context::current()),
    }
}

impl fmt::Debug for OtelTracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtelTracer")
            .field("propagator", &self.propagator)
            .field("message_events", &self.message_events)
            .finish_non_exhaustive()
    }
}
