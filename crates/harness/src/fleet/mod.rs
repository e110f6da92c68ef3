//! A fleet of backends under load, and everything that can happen to it. What a backend
//! is, is left open: a process of its own (`tests/chaos`), or a server in memory
//! (`tests/it/simulation`).
//!
//! ```text
//!   plan     seed ─► rounds of trouble, between which all is well
//!   storm    performs the rounds on the hosts, and looks for what is left after each
//!   host     what a backend is to those who trouble it
//!   link     the line to each host, and its weather
//!   load     calls with numbers; each is judged by what was going on
//!   service  answers them, and notes their numbers
//!   ledger   what hosts have noted, against what callers have seen
//! ```
//!
//! What has to hold:
//!
//! - every call ends, by its deadline and a little more; one that fails says why, with
//!   UNAVAILABLE or that its time was up;
//! - a call that was answered was processed once, one that failed at most once;
//! - no call fails at a backend that has no trouble, nor while the channel knows of all
//!   that are in trouble and of one that is not;
//! - so a rolling restart, a slow line or flapping health cost no call at all;
//! - a backend that is well again is READY within the bound of the backoff;
//! - tasks come back to what they were.

mod host;
mod ledger;
mod link;
mod load;
mod plan;
mod service;
mod storm;

pub use host::Host;
pub use link::{Weather, join};
pub use load::{Load, Notes};
pub use plan::{Fault, Round, Trouble, round};
pub use service::{Numbered, SERVICE};
pub use storm::Fleet;

use super::greeter;

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;
