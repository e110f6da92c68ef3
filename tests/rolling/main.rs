//! Rolling restarts under load, while callers call without a pause.
//!
//! 20 tonic servers with `grpc-health-service` are stopped and started again, one after another
//! on their ports. A watcher on tonic's own channel also watches each server.
//!
//! ```text
//!   callers  on a channel of this crate
//!   go       on a channel of grpc-go, in a process of its own
//!   server   a tonic server that lives and ends as a process does
//!   arrivals the requests in the bytes that reach its sockets
//!   ledger   the requests that arrived and were processed, by their numbers
//!   roll     one restart after another, and what it came to
//! ```
//!
//! Each call has a number. A request that is sent again arrives twice, whether HTTP/2 hands it
//! to the server or refuses it.
//!
//! ```sh
//! cargo test --test rolling                      # 1 round on each way to stop
//! ROLLING_ROUNDS=10 cargo test --test rolling -- --nocapture --test-threads 1
//! ```
//!
//! `--nocapture` prints the rows of the table in `docs/reliability.md`. `tests/interop/run`
//! plays the tests of grpc-go.

#![allow(
    clippy::disallowed_methods,
    reason = "real sockets have real time, and nothing here pauses it"
)]

mod arrivals;
mod callers;
mod go;
mod ledger;
mod roll;
mod server;

use std::time::Duration;

use callers::Callers;
use roll::{Fleet, Outcome};
use server::Stop;

/// A drain that takes longer has waited for a watcher in vain
/// (`DrainOptions::watchers_timeout`).
const BOUND: Duration = Duration::from_secs(5);

async fn of_this_crate(stop: Stop) -> Outcome {
    let mut fleet = Fleet::start(stop);
    let callers = Callers::start(fleet.addresses());
    let stops = fleet.roll().await;
    let calls = callers.end_when_all_ready().await;
    fleet.outcome("this crate", calls, stops).await
}

fn assert_perfect(outcome: &Outcome) {
    assert_eq!(outcome.lost, Vec::<String>::new(), "{outcome}");
    assert_eq!(outcome.sent_again, 0, "{outcome}");
    assert!(outcome.slowest_stop() < BOUND, "{outcome}");
}

/// The open `Watch` of tonic's client holds up each stop. On a machine that is busy enough, calls
/// may still be open when the grace is over, so the lost ones are only printed.
fn assert_held_up(outcome: &Outcome) {
    assert!(outcome.quickest_stop() >= server::GRACE, "{outcome}");
}

/// Otherwise a 0 above would show nothing.
fn assert_lossy(outcome: &Outcome) {
    assert!(!outcome.lost.is_empty(), "{outcome}");
}

// D370
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_servers_that_drain_loses_no_call_and_sends_none_again() {
    assert_perfect(&of_this_crate(Stop::Drain).await);
}

// D371
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_drain_a_watch_holds_up_each_stop() {
    assert_held_up(&of_this_crate(Stop::Graceful).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_killed_lose_calls() {
    assert_lossy(&of_this_crate(Stop::Kill).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_go_loses_no_call_to_a_drain_and_sends_none_again() {
    let outcome = go::of_grpc_go(Stop::Drain).await;
    outcome.iter().for_each(assert_perfect);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_drain_a_watch_holds_up_each_stop_under_grpc_go() {
    let outcome = go::of_grpc_go(Stop::Graceful).await;
    outcome.iter().for_each(assert_held_up);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_go_loses_calls_of_servers_that_are_killed() {
    let outcome = go::of_grpc_go(Stop::Kill).await;
    outcome.iter().for_each(assert_lossy);
}
