//! Clients as `build_transport(false)` generates them.

#![allow(dead_code, reason = "users generate more than they use")]

include!("../../../crates/harness/src/pb/demo.v1.rs");
include!("../../../src/pb/grpc.health.v1.rs");
