//! `grpc-health watch`: many backends, live.
//!
//! ```text
//!   target × service ──► Channel ──► StatusWatch ──┐
//!   target × service ──► Channel ──► StatusWatch ──┴─► Table ──► Screen, or lines
//! ```
//!
//! What is shown is what the library's own channels know: the health service's `Watch`
//! on a connection to each backend. No call is made but those of the health checks.

mod follow;
mod lines;
mod screen;
mod table;
#[cfg(test)]
mod tests;
mod until;

pub(crate) use follow::{WatchArgs, run};
