//! Traces of a channel's calls, and of each of their attempts (gRFC A66, A72).
//!
//! A channel traces nothing by default. [`ChannelBuilder::call_tracer`] takes a [`CallTracer`].
//! [`tracing_spans`] is one that makes spans of the crate `tracing`:
//!
//! ```no_run
//! use tonic_health_channel::{Channel, trace::tracing_spans};
//!
//! # async fn example() -> Result<(), tonic_health_channel::Error> {
//! let channel = Channel::target("dns:///shop.example:50051")?
//!     .call_tracer(tracing_spans())
//!     .build();
//! # Ok(())
//! # }
//! ```
//!
//! The crate `tonic-health-channel-opentelemetry` has one that makes spans of OpenTelemetry.
//!
//! ```text
//!   Channel::call ──► CallTracer::start ──► CallTrace ── attempt ──► AttemptTrace ──► ended
//!                                              │  └── attempt ──► … a retry, or a hedge
//!                                              └──► ended
//! ```
//!
//! Health checks are not traced. No trace lives longer than its call.
//!
//! [`ChannelBuilder::call_tracer`]: crate::ChannelBuilder::call_tracer

mod headers;
mod info;
mod record;
mod spans;
mod tracer;

pub use headers::AttemptHeaders;
pub use info::{AttemptInfo, CallInfo, MessageInfo, TraceStatus};
pub(crate) use record::{AttemptWitness, HedgeTraces, TraceRecord};
pub use spans::tracing_spans;
pub use tracer::{AttemptTrace, CallTrace, CallTracer};
