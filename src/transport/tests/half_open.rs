//! A peer that is gone without a word, as a channel sees it that sends PINGs.

use std::time::Duration;

use http::Request;
use tokio::{io::DuplexStream, sync::mpsc, time::Instant};
use tonic::{Code, body::Body};

use super::{
    dialled_endpoint, soon,
    wire::{SETTINGS, Wire},
};
use crate::{
    Channel,
    ConnectivityState::{Connecting, Ready},
    channel::Change,
    discover,
};

const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the next dial.
async fn accept(dials: &mut mpsc::UnboundedReceiver<DuplexStream>) -> Wire {
    let mut wire = Wire(soon(dials.recv()).await.expect("a dial"));
    wire.settings(&[]).await;
    wire.read_preface().await;
    wire.read_until(SETTINGS).await;
    wire
}

async fn until(channel: &Channel, states: &[crate::ConnectivityState]) {
    let mut watch = channel.watch_status();
    let reached = watch.wait_for(|status| {
        let now = status.backends().iter().map(|backend| backend.state());
        now.eq(states.iter().copied())
    });
    soon(reached).await;
}

fn call(channel: &Channel) -> crate::channel::ResponseFuture {
    let request = Request::post("/demo.Greeter/Hello").body(Body::empty());
    let mut channel = channel.clone();
    tower_service::Service::call(&mut channel, request.expect("a request"))
}

/// The next call, which `wire` has to answer.
async fn answered_by(channel: &Channel, wire: &mut Wire) {
    let answering = async {
        let stream = wire.next_request().await;
        wire.answer(stream, b"").await;
    };
    let (response, ()) = soon(async { tokio::join!(call(channel), answering) }).await;
    response.expect("an answer");
}

// D195
#[tokio::test(start_paused = true)]
async fn a_half_open_backend_is_found_by_pings_and_connected_to_again() {
    let (silent, mut dials) = dialled_endpoint();
    let (other, mut other_dials) = dialled_endpoint();
    let silent = silent
        .http2_keep_alive_interval(INTERVAL)
        .keep_alive_timeout(TIMEOUT);
    let (changes, source) = discover::push(2);
    let channel = Channel::balance(source).build();
    let sent = changes.send(Change::Insert("silent", silent)).await;
    sent.expect("a channel that listens");
    let _unread = accept(&mut dials).await;
    until(&channel, &[Ready]).await;
    let in_flight = tokio::spawn(call(&channel));
    let began = Instant::now();
    let sent = changes.send(Change::Insert("other", other)).await;
    sent.expect("a channel that listens");
    let mut other = accept(&mut other_dials).await;
    until(&channel, &[Ready, Ready]).await;

    let error = soon(in_flight).await.expect("no panic");
    let error = error.expect_err("nobody answers");
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(
        error.message(),
        "stream to backend.test:50051: keepalive ping failed to receive ACK within timeout: the \
         peer sent no bytes within 10s"
    );
    let took = began.elapsed();
    assert!(
        took >= INTERVAL + TIMEOUT && took < INTERVAL + TIMEOUT * 2,
        "after {took:?}"
    );
    until(&channel, &[Connecting, Ready]).await;
    for _ in 0..3 {
        answered_by(&channel, &mut other).await;
    }
    let mut again = accept(&mut dials).await;
    until(&channel, &[Ready, Ready]).await;
    channel.backends().iter().for_each(|backend| {
        assert_eq!(backend.calls_in_flight(), 0);
    });
    // In turn, whoever is first.
    let in_turn = async {
        tokio::join!(call(&channel), call(&channel), async {
            for wire in [&mut again, &mut other] {
                let stream = wire.next_request().await;
                wire.answer(stream, b"").await;
            }
        })
    };
    let (one, two, ()) = soon(in_turn).await;
    one.and(two).expect("both are in use");
}
