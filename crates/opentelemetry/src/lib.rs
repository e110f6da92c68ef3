//! OpenTelemetry for [`tonic-health-channel`](tonic_health_channel).
//!
//! [`OtelMeter`] hands the metrics of a channel to a meter provider of the application. The SDK,
//! its readers and its exporters are the application's, and so is their version's choice: this
//! crate needs the interface alone. It never takes the global provider, as gRFC A66 asks for.
//!
//! ```no_run
//! use opentelemetry_sdk::metrics::SdkMeterProvider;
//! use tonic_health_channel::{Channel, metrics::Metrics};
//! use tonic_health_channel_opentelemetry::OtelMeter;
//!
//! # async fn example() -> Result<(), tonic_health_channel::Error> {
//! let provider = SdkMeterProvider::builder().build(); // with a reader and an exporter
//! let channel = Channel::target("dns:///shop.example:50051")?
//!     .metrics(Metrics::new(OtelMeter::new(&provider)))?
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
//! `bound` has `OtelMeter::bound`, which adds to a series without a look-up for each value.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod handles;
mod meter;
mod observed;

pub use meter::OtelMeter;
