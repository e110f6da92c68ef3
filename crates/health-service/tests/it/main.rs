//! The health service in a real server, and its streams in memory.

#![allow(
    clippy::disallowed_methods,
    reason = "real sockets have real time, and paused time is paused on purpose"
)]

mod calls;
mod check;
mod drain;
mod guide;
mod http_probes;
mod in_memory;
mod limits;
mod log;
mod protocol;
mod reflection;
mod server;
