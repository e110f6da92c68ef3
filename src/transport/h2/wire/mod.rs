//! The wire under `h2`: what went over it, and what `h2` is shown of it.
//!
//! `h2` says neither when its frames were written nor when a stream is over at the peer. So the
//! IO below it reads the heads of all frames, of both directions, for the connection's life.
//!
//! ```text
//!   h2 ◄── WireIo ◄──────── bytes of the peer
//!            │ frames       heads: kind, flags, stream
//!            │ machine      what each means: for the streams, and for h2
//!            └────────────► connection::StreamTable
//! ```

mod frames;
#[cfg(any(test, fuzzing))]
mod fuzzed;
mod io;
mod machine;
mod rates;

#[cfg(fuzzing)]
pub(crate) use fuzzed::check;
pub(super) use io::{Http2Connection, WireIo};
