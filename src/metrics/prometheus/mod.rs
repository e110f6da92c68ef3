//! A meter that Prometheus scrapes, without other crates.

mod registry;
mod series;
mod service;
mod text;

pub use registry::Prometheus;
