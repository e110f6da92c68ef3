//! gRPC's JSON service config: text in, a typed [`ServiceConfig`] out.
//!
//! ```text
//! &str ──value.rs──▶ JSON tree, no key twice ──json.rs──▶ ServiceConfig
//!            └──────────────── Err: path, rule, value ────────┘
//! ```
//!
//! A config is taken whole or not at all (gRFC A21): whoever holds a
//! [`ServiceConfig`] holds a valid one. What is read here is JSON's mapping of
//! the message `grpc.service_config.ServiceConfig`:
//!
//! - Field names are the lowerCamelCase ones, in any case of letters as in Go. Other names are
//!   ignored at every level, so that a config may be newer than its reader (A21); those that are
//!   nearly right are named (`hints.rs`).
//! - `null` means that the field is absent.
//! - Numbers may be written as strings, as the JSON mapping of protobuf allows.
//! - A key twice in one object is an error, wherever it stands: no reader could
//!   tell which one its author meant.

pub(crate) mod config;
mod hints;
mod json;
mod method;
mod policy;
mod read;
#[cfg(test)]
mod tests;
mod value;

pub use config::RetryThrottling;
pub(crate) use config::ServiceConfig;
pub(crate) use method::AttemptPolicy;
pub use method::{HedgingPolicy, MethodConfig, RetryPolicy};
pub use policy::{
    FailurePercentageEjection, LeastRequest, LoadBalancingPolicy, OutlierDetection, RingHash,
    SuccessRateEjection, WeightedRoundRobin,
};
pub(crate) use policy::{LeafPolicy, PolicyParts};
