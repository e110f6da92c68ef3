//! OpenTelemetry for [`tonic-health-channel`](tonic_health_channel).
//!
//! [`OtelMeter`] hands the metrics of a channel to a meter provider of the application, and
//! [`OtelTracer`] its traces to a tracer provider. The SDK, its processors and its exporters are the
//! application's: this crate needs the interface alone. It takes neither the global providers nor
//! the global propagator, as gRFC A66 asks for.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use opentelemetry_sdk::{
//!     metrics::SdkMeterProvider, propagation::TraceContextPropagator, trace::SdkTracerProvider,
//! };
//! use tonic_health_channel::{Channel, metrics::Metrics};
//! use tonic_health_channel_opentelemetry::{OtelMeter, OtelTracer};
//!
//! # async fn example() -> Result<(), tonic_health_channel::Error> {
//! let meters = SdkMeterProvider::builder().build(); // with a reader and an exporter
//! let tracers = SdkTracerProvider::builder().build(); // with a processor and an exporter
//! let tracer = OtelTracer::new(&tracers).with_propagator(TraceContextPropagator::new());
//! let channel = Channel::target("dns:///shop.example:50051")?
//!     .metrics(Metrics::new(OtelMeter::new(&meters)))?
//!     .call_tracer(Arc::new(tracer))
//!     .build();
//! # Ok(())
//! # }
//! ```
//!
//! # Versions
//!
//! A version of this crate is for one minor version of `opentelemetry`, because these differ in
//! their types: 0.1 is for 0.33.
//!
//! # Features
//!
//! - `bound` has `OtelMeter::bound`, which adds to a series without a look-up for each value.
//! - `tracing` takes the current span of the crate `tracing` for the parent of a call, by
//!   `tracing-opentelemetry`. Its layers make that the current context by default, so the feature is
//!   for those that have `with_context_activation(false)`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod handles;
mod meter;
mod observed;
mod spans;
mod tracer;

pub use meter::OtelMeter;
pub use tracer::OtelTracer;

/// The name of the instrumentation scope.
const NAME: &str = "tonic-health-channel";
