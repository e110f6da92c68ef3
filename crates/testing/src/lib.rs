//! A test kit for programs that call gRPC backends through
//! [`tonic-health-channel`](tonic_health_channel).
//!
//! A [`Backend`] is a gRPC server in the process of the test. It serves the services of the test,
//! over a real socket or in memory. The test sets its health, flips it, kills it, slows it down,
//! and reads what has reached it. It works with any other client of gRPC, too.
//!
//! It does not replace a server in a test of the server: HTTP/2 is hyper's, without tonic's
//! `Server`.
//!
//! # A service that goes on when a backend flips
//!
//! ```
//! use tonic_health_channel::Channel;
//! use tonic_health_channel_testing::{
//!     Backend, Network, ServingStatus::Serving, until_ready_backends,
//! };
//! # use testing::{
//! #     GreeterService as Greeter,
//! #     greeter::{HelloRequest, greeter_client::GreeterClient, greeter_server::GreeterServer},
//! # };
//! # const GREETER: &str = "demo.v1.Greeter";
//!
//! # struct MyService(GreeterClient<Channel>);
//! # impl MyService {
//! #     fn new(channel: Channel) -> Self { Self(GreeterClient::new(channel)) }
//! #     async fn greet(&mut self) -> Result<(), tonic::Status> {
//! #         self.0.say_hello(HelloRequest::default()).await.map(drop)
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // #[tokio::test(start_paused = true)]
//! let network = Network::new();
//! let start = |name| {
//!     Backend::builder(GreeterServer::new(Greeter::new(name)))
//!         .in_network(&network, name)
//!         .health(GREETER, Serving)
//!         .start()
//! };
//! let [a, b] = ["a", "b"].map(start);
//! let channel = Channel::list([a.endpoint(), b.endpoint()])?.health_check(GREETER).build();
//! let mut my_service = MyService::new(channel.clone()); // the code under test
//!
//! until_ready_backends(&channel, 2).await;
//! a.flip_health(GREETER);
//! until_ready_backends(&channel, 1).await;
//! for _ in 0..10 {
//!     my_service.greet().await?; // it keeps working
//! }
//! assert_eq!((a.calls().get(), b.calls().get()), (0, 10));
//! # Ok(())
//! # }
//! ```
//!
//! # The methods of a test
//!
//! | to | see |
//! |---|---|
//! | set its health, flip it, play a script | [`set_health`](Backend::set_health), [`flip_health`](Backend::flip_health), [`play_health`](Backend::play_health) |
//! | leave its health out, or let it never answer | [`without_health`](BackendBuilder::without_health), [`silent_health`](BackendBuilder::silent_health) |
//! | crash it, stop it as in a rolling restart, start it again | [`kill`](Backend::kill), [`stop`](Backend::stop), [`restart`](Backend::restart) |
//! | break its connections | [`reset_connections`](Backend::reset_connections) |
//! | keep calls in flight, or slow them down | [`hold`](Backend::hold), [`release`](Backend::release), [`set_delay`](Backend::set_delay) |
//! | begin with it down | [`reserve`](BackendBuilder::reserve) |
//!
//! A test never sleeps to wait. [`Backend::calls`] and the other counters can be awaited, as can
//! [`until_ready_backends`]. [`within`] bounds anything else. Each gives up after 10 s of tokio's
//! time, with a sentence that says what did not happen.
//!
//! # Sockets or memory
//!
//! | | sockets, by default | memory, [`in_network`](BackendBuilder::in_network) |
//! |---|---|---|
//! | the client takes | any URI, in any process | an endpoint with a connector |
//! | time | is real | may be paused: backoffs and timeouts take no time |
//! | a run | depends on the kernel | is the same each time, on one thread and with the same seed |
//!
//! With real sockets a test must not pause tokio's time, because it jumps to the next timer while
//! the test waits for a socket.
//!
//! The seed is that of the channel's jitter: `fastrand::seed` on the thread of the test.

#![allow(
    clippy::new_without_default,
    reason = "what is new here has a name or a number of its own"
)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod backend;
mod builder;
mod channel;
mod connections;
mod counter;
mod deadline;
mod front;
mod health;
mod life;
mod network;
mod port;
mod serve;
mod socket;
mod wait;

pub use backend::Backend;
pub use builder::BackendBuilder;
pub use channel::until_ready_backends;
pub use counter::{Counter, Entered};
#[doc(no_inline)]
pub use grpc_health_service::ServingStatus;
pub use network::{Connector, MemoryStream, Network};
pub use wait::{PATIENCE, within};
