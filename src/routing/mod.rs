//! The routing in force: the balancer writes it, calls read it, handles follow it.
//!
//! ```text
//!   balancer ──publish──► board ──► Routing { Picker, … }  ──► calls
//!                              └──► ChannelStatus                 ──► handles
//! ```
//!
//! Three others meet here and know nothing of each other, so this is a room of its own.

mod backends;
mod board;
mod picker;
mod snapshot;
mod standstill;
#[cfg(test)]
mod tests;

pub(crate) use board::{Board, Command, End};
pub(crate) use picker::{Cursor, Pick, Picker};
pub use snapshot::{BackendId, BackendStatus, Backends, ChannelStatus};
