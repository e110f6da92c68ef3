//! The generated client of `grpc.health.v1`, and the load report of `xds.data.orca.v3`. They are
//! checked in, so that a user's build generates nothing.
//!
//! `tests/generated.rs` compares it with what `build.rs` makes of `proto/`, and renews it.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]

include!("pb/grpc.health.v1.rs");

/// The load that servers report (gRFC A51).
pub(crate) mod orca {
    include!("pb/xds.data.orca.v3.rs");
}
