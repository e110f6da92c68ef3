//! The crate seen from outside: real sockets, real servers, real time.
//!
//! One binary holds every integration test, because linking tonic once per file
//! costs more than running them all. The tests are written with `crates/harness`.

#![allow(
    clippy::disallowed_methods,
    reason = "real sockets have real time, and nothing here pauses it"
)]

mod backends;
mod bad_input;
mod balance;
mod callers;
mod calls;
mod churn;
mod config;
mod connectivity;
mod discover;
mod drop_in;
mod endpoints;
mod error_chains;
mod forwarded;
mod health;
mod hostile;
mod lost;
mod metrics;
mod outliers;
mod ready_backends;
mod shutdown;
mod silence;
mod simulation;
#[cfg(feature = "tls-ring")]
mod tls;
mod traces;
