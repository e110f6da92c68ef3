//! The crate seen from outside: real sockets, real servers, real time.
//!
//! One binary holds every integration test, because linking tonic once per file
//! costs more than running them all. `support` is what the tests are written
//! with; `harness` tests `support` itself with tonic's own channel as the client,
//! so that a red test elsewhere is about the library.

#![allow(
    clippy::disallowed_methods,
    reason = "real sockets have real time, and nothing here pauses it"
)]

mod backends;
mod bad_input;
mod balance;
mod calls;
mod churn;
#[cfg(feature = "cli")]
mod cli;
mod config;
mod connectivity;
mod discover;
mod drop_in;
mod endpoints;
mod harness;
mod health;
mod hostile;
mod lost;
mod ready_backends;
mod shutdown;
mod silence;
mod simulation;
mod support;
#[cfg(feature = "tls-ring")]
mod tls;
