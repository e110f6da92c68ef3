//! A gRPC client channel for tonic that watches every backend's health and
//! balances calls over the healthy ones.

mod backoff;
mod balancer;
mod connectivity;
mod error;
mod health;
mod picker;
mod service_config;
mod snapshot;
mod subchannel;
mod transport;

pub use backoff::BackoffConfig;
pub use connectivity::ConnectivityState;
pub use error::{Cause, CauseKind, Error, ErrorKind};
pub use health::{HealthOptions, HealthStatus, OnNotFound, OnUnimplemented};
pub use service_config::{
    HedgingPolicy, LoadBalancingPolicy, MethodConfig, RetryPolicy, RetryThrottling, ServiceConfig,
};
pub use snapshot::{BackendId, BackendStatus, Status};
pub use transport::Endpoint;
