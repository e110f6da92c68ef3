//! `grpc-health probe`: one question to one server, with the flags and exit codes of
//! `grpc-health-probe`.
//!
//! ```text
//!   flags ──► Probe ──► connect, again while there is time ──► Check ──► Exit
//! ```

mod address;
mod ask;
mod flags;

pub(crate) use ask::run;
pub(crate) use flags::ProbeArgs;
