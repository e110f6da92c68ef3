//! Peers that withhold: bytes, ends, attention. None of them has done anything that
//! HTTP/2 forbids.

mod avoided;
mod crowds;
mod half_open;
mod slow;
mod unread;

use std::time::Duration;

use testing::{WITHHOLD, call, greeter::HelloRequest, request_within};
use tokio::time::Instant;
use tonic::{Code, Request};
use tonic_health_channel::Channel;

/// A time that runs out, but not before a server that is up has answered.
const DEADLINE: Duration = Duration::from_millis(500);

/// What a machine that is busy with other tests may add.
const LATE: Duration = Duration::from_secs(3);

/// A call that asks the backend to withhold part of its answer.
fn withholding(what: &'static str) -> Request<HelloRequest> {
    let mut request = request_within("you", DEADLINE);
    let what = tonic::metadata::MetadataValue::from_static(what);
    request.metadata_mut().insert(WITHHOLD, what);
    request
}

/// A call with `DEADLINE` whose time runs out, and not a moment sooner or much later:
/// what it says.
async fn run_out(channel: &Channel, request: Request<HelloRequest>) -> String {
    let started = Instant::now();
    let status = call(channel, request).await;
    let status = status.expect_err("its answer never comes, or never ends");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    on_time(started);
    status.message().to_owned()
}

#[track_caller]
fn on_time(started: Instant) {
    let took = started.elapsed();
    assert!(
        took >= DEADLINE && took < DEADLINE + LATE,
        "took {took:?} to run out of {DEADLINE:?}"
    );
}
