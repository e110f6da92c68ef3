//! HTTP/2 connections, made and driven directly on the `h2` crate.
//!
//! ```text
//!   Endpoint ──dial──► io ──handshake──► Connection (handle)    Driver (task)
//!                                            │ admit                │ polls h2
//!                                            ▼                      │ keeps the limit
//!                                        CallSlot ──open──► Exchange│ sees GOAWAY first
//!                                            │                 │    ▼
//!                                            └── slot held by ─┴► ResponseBody
//! ```
//!
//! `dial` stands on six layers, each of which uses only those below it:
//!
//! ```text
//!   dial          from an endpoint to a connection, by the `addresses` of its name
//!   h2            handshake and driver
//!   exchange      a request going out, a response coming in
//!   connection    the handle, its slots, its queue and its limits
//!   endpoint      what a user says about a backend
//!   io            sockets, proxies, connectors, TLS
//!   words         what an error is called
//! ```
//!
//! The part on `h2` promises three things that neither `h2` nor hyper does:
//! a connection is handed out only after the peer's SETTINGS ([`h2`](self::h2)); no call
//! enters `h2` without a free stream, so none queues there ([`connection`]); and a
//! GOAWAY is noticed when it arrives, even while streams are open.

mod addresses;
mod connection;
mod dial;
mod endpoint;
mod exchange;
mod h2;
mod io;
#[cfg(test)]
pub(crate) mod tests;
mod words;

pub use connection::{AnsweredBy, CallCounts, RequestInfo, Silence};
pub(crate) use connection::{
    BackendCalls, BackendContext, CallCredentials, CallLimits, CallSlot, Connection,
    ConnectionGroup, KeepaliveThrottle, LoadRules, NoWeight, Outcomes, Queue, Recorded,
    Reservation, Reserved, SilenceRule, Stage, Ticket, WeakConnection, WeightPeriods,
};
pub(crate) use dial::dial;
pub use endpoint::Endpoint;
pub(crate) use endpoint::{BoxTask, Executor, USERINFO, hide_userinfo};
pub(crate) use exchange::{
    Deadline, Failed, Held, Limit, MessageBytes, OutgoingRequest, ReplayBudget, ResponseBody,
    SendError, limit_after, sooner, timeout_header,
};
#[cfg(fuzzing)]
pub(crate) use h2::check_wire;
#[cfg(feature = "_tls-any")]
pub use io::{Certificate, ClientTlsConfig, Identity, TlsReload};
