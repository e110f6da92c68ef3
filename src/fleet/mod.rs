//! Many clients and many backends, by simulation.
//!
//! ```text
//!   World ── events in the order of their time ──► Client: the machines of this crate
//!                        ▲                            │ dials, health RPCs, lookups, calls
//!                        └──────────── Net ◄──────────┘
//!                                       └─ Backend, NameServer: models
//! ```
//!
//! A [`client`] has the real rules: balancer, subchannels, health, backoff, subset, picker and
//! lookups. Its tasks are models, and so are the network, the backends and the name server. Time
//! is made and chance has a seed, so a plan has the same run each time.
//!
//! `tests` holds 100 clients of 100 backends to bounds. [`study`] writes the figures of
//! `docs/scale.md`.

mod backend;
mod calls;
mod client;
mod event;
mod lookups;
mod net;
mod plan;
mod report;
mod study;
mod tests;
mod world;
