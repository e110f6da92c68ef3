//! HTTP/2 on the bytes of one connection, by the `h2` crate.
//!
//! ```text
//!   io ──handshake──► Connection (handle)    Driver (task)
//!                                                │ polls h2 on wire, keeps the peer's limit
//!                                                │ sees GOAWAY first, keepalive
//!                                                └ closes within close_timeout
//! ```

mod close_timeout;
mod driver;
mod handshake;
mod keepalive;
mod limits;
mod liveness;
mod pings;
mod quiet;
mod silence_timer;
mod windows;
mod wire;
mod write_timeout;

pub(super) use handshake::handshake;
#[cfg(fuzzing)]
pub(crate) use wire::check as check_wire;
