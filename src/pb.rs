//! The generated client of `grpc.health.v1`, checked in so that a user's build generates
//! nothing.
//!
//! `tests/generated.rs` compares it with what `build.rs` makes of `proto/`, and renews it.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]

include!("pb/grpc.health.v1.rs");
