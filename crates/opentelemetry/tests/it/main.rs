//! The exports of OpenTelemetry's SDK, in memory, of channels with real backends.

mod exported;
mod metrics;
mod traced;
mod traces;
