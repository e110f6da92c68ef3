//! A connection that is up: who may open a stream on it, and when.
//!
//! ```text
//!   call ──admit──► ConnectionGroup ──► Connection ──► Slots, CallLimits ──► a slot
//!     └─ all full ──► Queue ◄──────────── serve_queue ─┘
//! ```
//!
//! [`connection`] and [`call_limits`] need each other, and no other two files of this crate do:
//! limits are part of admission to a connection, and serve the queue from those they admit to.

mod after_poll;
mod answered_by;
mod backend_calls;
mod backend_load;
mod call_limits;
mod connection;
mod credentials;
mod deadlines;
mod group;
mod held_body;
mod keepalive_throttle;
mod last_use;
mod load_report;
mod load_weight;
mod offers;
mod queue;
mod reservation;
mod silence;
mod slots;
mod stage;
mod streams;
#[cfg(test)]
mod streams_tests;
mod unread;

pub use answered_by::AnsweredBy;
pub use backend_calls::CallCounts;
pub(crate) use backend_calls::{BackendCalls, CallOutcome, Outcomes, Recorded};
pub(crate) use call_limits::CallLimits;
pub(crate) use connection::{BackendContext, CallSlot, Connection, Reserved, WeakConnection};
pub(crate) use credentials::CallCredentials;
pub use credentials::RequestInfo;
pub(super) use deadlines::DeadlineKey;
pub(crate) use group::ConnectionGroup;
pub(super) use held_body::{HeldBody, Progress};
pub(crate) use keepalive_throttle::KeepaliveThrottle;
pub(crate) use load_weight::{LoadRules, NoWeight, WeightPeriods};
pub(super) use offers::Offers;
pub(crate) use queue::{Queue, Ticket};
pub(crate) use reservation::Reservation;
pub use silence::Silence;
pub(crate) use silence::SilenceRule;
pub(crate) use stage::Stage;
#[cfg(any(test, fuzzing))]
pub(super) use streams::Left;
pub(super) use streams::{MAX_CANCELLED, StreamTable, Streams};
pub(super) use unread::{A_WHILE, Came, UnreadCap};
