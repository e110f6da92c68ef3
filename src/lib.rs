//! A gRPC client channel for tonic that watches every backend's health and
//! balances calls over the healthy ones.

mod backoff;
mod balancer;
mod board;
mod builder;
mod call;
pub mod channel;
mod connectivity;
pub mod discover;
mod error;
mod health;
mod pb;
mod picker;
mod service_config;
mod snapshot;
mod subchannel;
mod transport;

pub use backoff::BackoffConfig;
pub use builder::ChannelBuilder;
pub use channel::{Change, Channel, ResponseFuture, StatusWatch};
pub use connectivity::ConnectivityState;
pub use error::{Cause, CauseKind, Error, ErrorKind};
pub use health::{HealthOptions, HealthStatus, OnNotFound, OnUnimplemented};
pub use http::Uri;
pub use service_config::{
    HedgingPolicy, LoadBalancingPolicy, MethodConfig, RetryPolicy, RetryThrottling, ServiceConfig,
};
pub use snapshot::{BackendId, BackendStatus, Status};
pub use transport::Endpoint;
