//! The generated client of `grpc.health.v1`.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]

tonic::include_proto!("grpc.health.v1");
