//! The harness that the tests of this workspace share: servers, what stands before them, and
//! a channel with short backoffs.
//!
//! # Which test double to take
//!
//! The first that can do what the test needs: further down, a double knows less and a test
//! has to say more.
//!
//! | double | what it is | take it when |
//! |---|---|---|
//! | [`Backend`] | the backend of the kit for users (`crates/testing`) with a greeter and a health service, on a port of its own. Its health changes, it stops, is killed and comes back, and it counts what reaches it | the server keeps to gRPC |
//! | [`Backend`] with [`Builder::scripted`] | the same; [`WatchScript`] and [`CheckScript`] say how its health service answers | only the answers about health are wrong, late or missing |
//! | [`H2Peer`] | HTTP/2 by hand; an [`Answer`] for each call, GOAWAY and SETTINGS at any time | streams, limits, PINGs or GOAWAY matter |
//! | [`RawPeer`] | a script of frames, or of any other bytes; [`http2`] builds the frames | HTTP/2 itself is broken |
//! | [`Peer`] | a port that speaks HTTP/1, TLS or garbage, or says nothing | there is no gRPC server |
//! | [`dead_addr`] | a reserved port where connections are refused | there is no server |
//!
//! These stand before a [`Backend`], or before any other server:
//!
//! | double | what it is | take it when |
//! |---|---|---|
//! | [`Valve`] | a relay that holds bytes back, or loses them, each way | the network is silent, slow or open one way only |
//! | `Made` (feature `tls-ring`) | a certificate from a file: self-signed, X.509 v1, P-521, RSA-1024 | `rcgen` cannot make it |
//! | `TlsFront` (feature `tls-ring`) | TLS, with the certificates of an `Authority` | the connection is secured |
//! | [`HttpProxy`] | a proxy that takes CONNECT | the endpoint has a proxy |
//! | `UnixDoor`, `relay_unix` (Unix) | a Unix socket | the address is one |
//! | `NameServer` (feature `hickory`) | DNS with the names that a test gives it | name servers are asked |
//! | [`fleet`] | many backends of any kind, seeded rounds of trouble, and calls that are judged by it | everything happens at once |
//!
//! # How a test looks
//!
//! - [`balanced`], [`by_hand`] and [`health_checked`] build the channel under test with short
//!   backoffs. [`hello`], [`start`], [`spread`] and [`Chat`] call on it.
//! - [`within`] and the `until_*` methods await a state. A test never sleeps to wait for one.
//!   Each gives up after ten seconds with a sentence.
//! - [`Logs`] has what the current thread logged.
//! - [`assert_growth`] bounds the memory that a test takes.
//!
//! The feature `gzip` lets backends take compressed requests.

#![allow(
    clippy::disallowed_methods,
    reason = "real sockets have real time, and nothing here pauses it"
)]
#![allow(
    clippy::new_without_default,
    reason = "what is new here has a port, a key or a number of its own"
)]
#![allow(missing_docs, reason = "the names of helpers say what they do")]

mod backend;
#[cfg(feature = "tls-ring")]
mod certificates;
mod client;
mod configs;
pub mod fleet;
mod front;
mod greeter_service;
mod h2_peer;
mod health_service;
pub mod http2;
mod listening;
mod logs;
mod memory;
#[cfg(feature = "hickory")]
mod name_server;
mod pb;
mod peers;
mod port;
mod raw_peer;
mod relay;
mod scripts;
mod tapped;
#[cfg(feature = "tls-ring")]
mod tls;
mod valve;
mod wire;

pub use backend::{Backend, Builder, HealthKind};
#[cfg(feature = "tls-ring")]
pub use certificates::{Made, Signed};
pub use client::*;
pub use configs::{Configs, of_all_methods};
pub use front::WITHHOLD;
pub use greeter_service::{GREETER, GreeterService};
pub use h2_peer::{Answer, H2Peer};
pub use health_service::{NOT_SERVING, SERVICE_UNKNOWN, SERVING, UNKNOWN};
pub use logs::{LogLine, Logs, keep_a_second_dispatcher};
pub use memory::assert_growth;
#[cfg(feature = "hickory")]
pub use name_server::{Mood, NameServer};
pub use pb::{channelz, greeter, health, orca};
pub use peers::{Peer, PeerScript};
pub use port::dead_addr;
pub use raw_peer::{RawConnection, RawPeer};
pub use relay::HttpProxy;
#[cfg(unix)]
pub use relay::{UnixDoor, relay_unix};
pub use scripts::{CheckScript, WatchScript};
pub use tapped::{Tap, Tapped};
#[cfg(feature = "tls-ring")]
pub use tls::{Authority, ByName, Hello, ServerTls, TlsFront};
pub use tonic_health_channel_testing::{self as kit, Counter, PATIENCE, within};
pub use valve::{Flow, Valve};
