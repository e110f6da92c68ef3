//! A tracer provider whose exporter is in memory, and the spans that came to it.

use std::{collections::BTreeMap, sync::Arc};

use opentelemetry::{
    KeyValue,
    trace::{SpanId, SpanKind, Status, TraceId},
};
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData, SpanEvents,
};
use tonic_health_channel::{Channel, ChannelBuilder};
use tonic_health_channel_opentelemetry::OtelTracer;

use testing::{Backend, within};

/// A provider and its exporter.
pub(crate) struct Traced {
    exporter: InMemorySpanExporter,
    pub(crate) provider: SdkTracerProvider,
}

/// A span that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) trace: TraceId,
    pub(crate) id: SpanId,
    pub(crate) parent: SpanId,
    pub(crate) scope: (String, String),
    pub(crate) attributes: BTreeMap<String, String>,
    /// Each with its attributes.
    pub(crate) events: Vec<String>,
    pub(crate) status: Status,
}

impl Traced {
    pub(crate) fn new(sampler: Sampler) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .with_sampler(sampler)
            .build();
        Self { exporter, provider }
    }

    /// A channel with the name `shop` that is traced here.
    pub(crate) fn channel(
        &self,
        builder: ChannelBuilder,
        options: impl FnOnce(OtelTracer) -> OtelTracer,
    ) -> Channel {
        let tracer = options(OtelTracer::new(&self.provider));
        builder.name("shop").call_tracer(Arc::new(tracer)).build()
    }

    /// All spans that have ended since the last time, the first to end first.
    pub(crate) fn take(&self) -> Vec<Ended> {
        let spans = self.exporter.get_finished_spans().expect("they are there");
        self.exporter.reset();
        spans.into_iter().map(Ended::of).collect()
    }

    /// A call of 1 attempt that has ended: the attempt, and the call.
    pub(crate) fn take_both(&self) -> [Ended; 2] {
        let both = <[Ended; 2]>::try_from(self.take());
        both.expect("a call with 1 attempt")
    }

    /// Awaits that so many spans have ended.
    pub(crate) async fn until_ended(&self, n: usize) {
        let reached = async {
            while self
                .exporter
                .get_finished_spans()
                .expect("they are there")
                .len()
                < n
            {
                tokio::task::yield_now().await;
            }
        };
        within(&format!("{n} spans to end"), reached).await;
    }
}

impl Ended {
    fn of(span: SpanData) -> Self {
        let scope = span.instrumentation_scope;
        let version = scope.version().unwrap_or_default();
        Self {
            name: span.name.into_owned(),
            kind: span.span_kind,
            trace: span.span_context.trace_id(),
            id: span.span_context.span_id(),
            parent: span.parent_span_id,
            scope: (scope.name().to_owned(), version.to_owned()),
            attributes: span.attributes.iter().map(pair).collect(),
            events: events(&span.events),
            status: span.status,
        }
    }
}

fn pair(pair: &KeyValue) -> (String, String) {
    (pair.key.to_string(), pair.value.to_string())
}

fn events(events: &SpanEvents) -> Vec<String> {
    let text = |event: &opentelemetry::trace::Event| {
        let pairs = event.attributes.iter().map(pair);
        let pairs = pairs.map(|(key, value)| format!(" {key}={value}"));
        [event.name.to_string(), pairs.collect()].concat()
    };
    events.iter().map(text).collect()
}

/// The values of a header that the backend has seen last.
pub(crate) fn seen(backend: &Backend, header: &str) -> Vec<String> {
    let metadata = backend.last_metadata().expect("there was a call");
    let values = metadata.get_all(header).iter();
    let values = values.map(|value| value.to_str().expect("text").to_owned());
    values.collect()
}
