//! One call's life: wait for a backend, open a stream on it, see it through to
//! its response headers.
//!
//! ```text
//!   ┌─► pick ── Send ──► slot ──► open ──► exchange ──► response
//!   │    │                │         │         └─ refused by the peer, once ─┐
//!   │    │                └ all full└─ not sent ────────────────────────────┤
//!   │    ├─ Wait ──► wait           │                                       │
//!   │    ├─ Connect ─► wake, wait   │                                       │
//!   │    └─ Fail ──► UNAVAILABLE,   ▼                                       │
//!   │                or wait: wait-for-ready                                │
//!   └────────────────────────────────◄──────────────────────────────────────┘
//! ```
//!
//! Between slot and stream it is given its credentials, if the channel has any.
//!
//! All of it happens in the caller's task, inside the call's deadline. A call
//! never waits for the balancer's worker, only for what it publishes. It lets the
//! worker run before it fails fast, which [`driving`] is about.

mod admission;
#[cfg(test)]
mod attempt_tests;
mod attempts;
mod driving;
mod final_status;
mod hedge;
#[cfg(test)]
mod outcome_tests;
mod record;
mod recorded;
mod retry;
mod rules;
mod run;
#[cfg(test)]
mod tests;

pub use rules::WaitForReady;
pub(crate) use {
    admission::wait_within,
    record::{CallRecord, CallRecorder},
    rules::Defaults,
    run::Call,
};
