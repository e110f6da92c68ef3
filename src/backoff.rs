//! gRPC's connection backoff.
