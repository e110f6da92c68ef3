//! gRPC's JSON service config.
