//! The load balancing policies that a service config can name, and what it says of each.
//!
//! ```text
//! JSON ──read──► LoadBalancingPolicy ──write──► JSON
//! ```
//!
//! A policy that a program puts together is written as JSON, and then read. One set of rules
//! holds for both, with the same errors.

mod json;
mod least_request;
mod outlier_detection;
mod policy;
mod ring_hash;
#[cfg(test)]
mod tests;
mod weighted_round_robin;
mod write;

pub(super) use json::{is_known, listed, named, written};
pub use least_request::LeastRequest;
pub use outlier_detection::{FailurePercentageEjection, OutlierDetection, SuccessRateEjection};
pub use policy::LoadBalancingPolicy;
pub(crate) use policy::{LeafPolicy, PolicyParts};
pub use ring_hash::RingHash;
pub use weighted_round_robin::WeightedRoundRobin;
