//! Client-side health checking (gRFC A17).

mod machine;

pub use machine::HealthStatus;
