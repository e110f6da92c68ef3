//! Metrics of a channel: of its calls, its connections and the health of its backends.
//!
//! A channel records nothing by default. [`ChannelBuilder::metrics`](crate::ChannelBuilder::metrics)
//! takes [`Metrics`], which say what is recorded, and a [`Meter`], which is where it goes.
//! [`Prometheus`] is one that needs no other crate:
//!
//! ```no_run
//! use tonic_health_channel::{
//!     Channel,
//!     metrics::{Metrics, Prometheus},
//! };
//!
//! # async fn example() -> Result<(), tonic_health_channel::Error> {
//! let prometheus = Prometheus::new();
//! let channel = Channel::target("dns:///shop.example:50051")?
//!     .metrics(Metrics::new(prometheus.clone()))?
//!     .build();
//! // A service that answers each GET with `prometheus.render()`: for axum,
//! // `Router::new().route_service("/metrics", prometheus)`.
//! # Ok(())
//! # }
//! ```
//!
//! [`Instrument::all`] lists what there is. Instruments with the prefix `grpc.` are as gRFC A66,
//! A78, A89, A91, A94, A96, A108 and A118 define them. So a dashboard for gRPC in Go, Java or C++
//! serves this crate, too. Health checks do not count as calls.
//! `docs/observing.md` has the list, and what each costs.
//!
//! ```text
//!   Channel::call ──► MetricsRecord ──► MethodMeter ──► handles of the Meter   for each call
//!   reports, effects, dials ──────► BackendMeter, HealthMeter ──► handles   for each event
//! ```

mod backend;
mod call;
mod events;
mod health;
mod instrument;
mod instruments;
mod meter;
mod methods;
mod names;
mod outages;
mod prometheus;
mod recorder;
mod settings;

pub(crate) use backend::BackendMeter;
#[cfg(feature = "_tls-any")]
pub(crate) use backend::HandshakeRecord;
pub(crate) use call::{HedgeMetrics, MetricsRecord, SentBytes, WaitRecord};
pub(crate) use events::EventMeter;
pub(crate) use health::{BackendView, HealthMeter};
pub use instrument::{Instrument, InstrumentKind};
pub use meter::{Counter, Histogram, Label, Meter, Observed, UpDown};
pub(crate) use methods::CallMeters;
pub use prometheus::Prometheus;
pub(crate) use recorder::Recorder;
pub use settings::{CustomLabel, Metrics};
