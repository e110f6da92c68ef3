//! Sinks of metrics and traces, whose cost for a call is measured beside a channel without any.
//!
//! Collections and exports are not measured: the reader comes once in a minute, and its exporter
//! drops all. So does the processor of spans.

use std::{sync::Arc, time::Duration};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        PeriodicReader, SdkMeterProvider, Temporality, data::ResourceMetrics,
        exporter::PushMetricExporter,
    },
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use tonic_health_channel::{
    Channel, ChannelBuilder,
    metrics::{Meter, Metrics, Prometheus},
};
use tonic_health_channel_opentelemetry::{OtelMeter, OtelTracer};

use crate::common::{Result, channels::connect_ours_as};

/// Where metrics or traces go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// Nowhere: the channel that the others are compared with.
    Nothing,
    /// `metrics::Prometheus`.
    Own,
    /// `OtelMeter::new`.
    Otel,
    /// `OtelMeter::bound`.
    Bound,
    /// `OtelTracer`, and each call is sampled.
    Spans,
    /// `OtelTracer`, and no call is sampled.
    Unsampled,
}

impl Sink {
    pub(crate) const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Own,
        Self::Otel,
        Self::Bound,
        Self::Spans,
        Self::Unsampled,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Own => "own",
            Self::Otel => "otel",
            Self::Bound => "bound",
            Self::Spans => "spans",
            Self::Unsampled => "unsampled",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sink| sink.name() == name)
    }

    /// This crate's channel with it, over these backends.
    pub(crate) async fn connect(self, uris: &[String], connections: usize) -> Result<Sinking> {
        let (meters, tracers) = (meters(), tracers(self));
        let with = |builder: ChannelBuilder| match self {
            Self::Nothing => Ok(builder),
            Self::Own => metered(builder, Prometheus::new()),
            Self::Otel => metered(builder, OtelMeter::new(&meters)),
            Self::Bound => metered(builder, OtelMeter::bound(&meters)),
            Self::Spans | Self::Unsampled => {
                Ok(builder.call_tracer(Arc::new(OtelTracer::new(&tracers))))
            }
        };
        let channel = connect_ours_as("", uris, connections, |endpoint| endpoint, with).await?;
        Ok(Sinking {
            channel,
            _meters: meters,
            _tracers: tracers,
        })
    }
}

/// A channel and the providers of its sink.
pub(crate) struct Sinking {
    pub(crate) channel: Channel,
    _meters: SdkMeterProvider,
    _tracers: SdkTracerProvider,
}

fn metered(
    builder: ChannelBuilder,
    meter: impl Meter,
) -> std::result::Result<ChannelBuilder, tonic_health_channel::Error> {
    builder.metrics(Metrics::new(meter))
}

fn meters() -> SdkMeterProvider {
    let reader = PeriodicReader::builder(Nowhere).build();
    SdkMeterProvider::builder().with_reader(reader).build()
}

fn tracers(sink: Sink) -> SdkTracerProvider {
    let sampler = match sink {
        Sink::Unsampled => Sampler::AlwaysOff,
        _ => Sampler::AlwaysOn,
    };
    let provider = SdkTracerProvider::builder().with_span_processor(Nowhere);
    provider.with_sampler(sampler).build()
}

/// Drops all that comes.
#[derive(Debug)]
struct Nowhere;

impl PushMetricExporter for Nowhere {
    async fn export(&self, _: &ResourceMetrics) -> OTelSdkResult {
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

impl SpanProcessor for Nowhere {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
