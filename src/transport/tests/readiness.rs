//! A connection is one when the peer's SETTINGS have come, and not before.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};

use super::{
    PIPE, Stage, alone, dial, drains, endpoint_over, soon,
    wire::{self, MAX_CONCURRENT_STREAMS, SETTINGS, WINDOW_UPDATE, Wire, wire_frame},
};
use crate::{
    error::{Cause, CauseKind},
    transport::{Connection, Endpoint, io::Connector},
};

/// Dialled over `settings`, a connection comes with them, with `limit`.
async fn check_ready(settings: &[(u16, u32)], limit: usize) {
    let (ours, theirs) = duplex(PIPE);
    let mut wire = Wire(theirs);
    let mut dialling = pin!(dial(endpoint_over(ours), alone()));
    let all_but_settings = async {
        wire.read_preface().await;
        wire.read_until(SETTINGS).await;
    };
    tokio::select! {
        biased;
        _ = &mut dialling => panic!("ready before SETTINGS"),
        () = all_but_settings => {}
    }
    assert!(dialling.as_mut().now_or_never().is_none());

    let before = Instant::now();
    wire.settings(settings).await;
    let connection = soon(dialling).await.expect("connects");
    assert_eq!(before.elapsed(), Duration::ZERO, "nothing else is needed");
    assert_eq!(*connection.stage().borrow(), Stage::Open { limit });
}

/// The text of a failure to connect to a peer that does as `peer` says.
async fn check_refused<F: Future>(peer: impl FnOnce(DuplexStream) -> F, text: &str) {
    let (ours, theirs) = duplex(PIPE);
    let dialling = dial(endpoint_over(ours), alone());
    let (outcome, _keep_open) = soon(async { tokio::join!(dialling, peer(theirs)) }).await;
    assert_refused(outcome, text);
}

#[track_caller]
fn assert_refused(outcome: Result<Connection, Cause>, text: &str) {
    let cause = outcome.expect_err("the peer does not speak HTTP/2");
    assert_eq!(cause.kind(), CauseKind::Connect);
    assert_eq!(cause.text(), text);
}

async fn says(mut io: DuplexStream, bytes: &[u8]) -> DuplexStream {
    io.write_all(bytes).await.expect("a reader");
    io
}

#[tokio::test(start_paused = true)]
async fn settings_make_a_connection_ready_whatever_they_say() {
    check_ready(&[], usize::MAX).await;
    check_ready(&[(MAX_CONCURRENT_STREAMS, 0)], 0).await;
    check_ready(&[(MAX_CONCURRENT_STREAMS, 1)], 1).await;
    check_ready(&[(MAX_CONCURRENT_STREAMS, 100)], 100).await;
    check_ready(&[(MAX_CONCURRENT_STREAMS, u32::MAX)], u32::MAX as usize).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_something_else_is_named() {
    let http1 = "the peer speaks HTTP/1, not HTTP/2";
    check_refused(|io| says(io, b"HTTP/1.1 400 Bad Request\r\n\r\n"), http1).await;
    let garbage = "the peer does not speak HTTP/2: \
                   connection error detected: frame with invalid size";
    check_refused(|io| says(io, b"SSH-2.0-OpenSSH_9.6\r\n"), garbage).await;
}

#[tokio::test(start_paused = true)]
async fn a_tls_alert_is_named() {
    let alert = |mut io: DuplexStream| async move {
        io.write_all(&[0x15, 3, 1, 0, 2, 2, 0x28])
            .await
            .expect("a reader");
        io.shutdown().await.expect("a pipe");
        io
    };
    let text = "the peer speaks TLS, and this endpoint is plaintext";
    check_refused(alert, text).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_up_has_closed_without_settings() {
    let text = "connection closed before server preface received (no SETTINGS)";
    check_refused(|io| async move { drop(io) }, text).await;
    let after_preface = |io| async move { Wire(io).read_preface().await };
    check_refused(after_preface, text).await;
    let within_a_frame = |io| async move { drop(says(io, &[0, 0, 6, 4]).await) };
    let text = "connection closed before server preface received (no SETTINGS): the peer closed \
                the connection within a frame (transport is closing)";
    check_refused(within_a_frame, text).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_costs_the_connect_timeout() {
    let dial_silence = |timeout: Option<Duration>| async move {
        let (ours, _theirs) = duplex(PIPE);
        let endpoint = match timeout {
            Some(timeout) => endpoint_over(ours).connect_timeout(timeout),
            None => endpoint_over(ours),
        };
        let before = Instant::now();
        let outcome = soon(dial(endpoint, alone())).await;
        (before.elapsed(), outcome)
    };

    let (took, outcome) = dial_silence(None).await;
    assert_eq!(took, Duration::from_secs(20));
    let text = "no connection within 20s: waiting for the peer's HTTP/2 SETTINGS";
    assert_refused(outcome, text);

    let (took, outcome) = dial_silence(Some(Duration::from_millis(1500))).await;
    assert_eq!(took, Duration::from_millis(1500));
    let text = "no connection within 1.5s: waiting for the peer's HTTP/2 SETTINGS";
    assert_refused(outcome, text);
}

#[tokio::test(start_paused = true)]
async fn the_connect_timeout_covers_what_comes_before_settings() {
    let never = Connector::new(|_, _| Box::pin(std::future::pending()));
    let endpoint = Endpoint::from_static("http://backend.test:50051").with_connector(never);
    let before = Instant::now();
    let outcome = soon(dial(endpoint, alone())).await;
    assert_eq!(before.elapsed(), Duration::from_secs(20));
    assert_refused(outcome, "no connection within 20s: starting");
}

/// The application may ask for any number.
#[tokio::test(start_paused = true)]
async fn windows_that_http2_cannot_have_are_brought_within_bounds() {
    const LARGEST: u32 = i32::MAX as u32;
    for (asked, stream) in [
        (Some(0), 0),
        (Some(100_000), 100_000),
        (Some(u32::MAX), LARGEST),
        (None, 2 << 20),
    ] {
        let (ours, theirs) = duplex(PIPE);
        let endpoint = endpoint_over(ours)
            .initial_stream_window_size(asked)
            .initial_connection_window_size(asked);
        let mut wire = Wire(theirs);
        wire.settings(&[]).await;
        let _connection = soon(dial(endpoint, alone())).await.expect("connects");
        wire.read_preface().await;
        let settings = wire.read_until(SETTINGS).await.payload;
        let initial_window = [&[0, 4][..], &u32::to_be_bytes(stream)].concat();
        assert!(settings.chunks(6).any(|setting| setting == initial_window));
        let update = wire.read_until(WINDOW_UPDATE).await;
        assert_eq!(update.stream, 0);
        assert_eq!(*update.payload, u32::to_be_bytes((1 << 30) - 65_535));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_named_however_its_bytes_are_cut() {
    let (ours, theirs) = duplex(1);
    let (mut reads, mut writes) = tokio::io::split(theirs);
    tokio::spawn(async move { tokio::io::copy(&mut reads, &mut tokio::io::sink()).await });
    tokio::spawn(async move {
        let _ = writes.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        std::future::pending::<()>().await;
    });
    let outcome = soon(dial(endpoint_over(ours), alone())).await;
    assert_refused(outcome, "the peer speaks HTTP/1, not HTTP/2");
}

/// A server that is full says so before it hangs up.
#[tokio::test(start_paused = true)]
async fn a_goaway_in_the_place_of_a_welcome_is_the_reason() {
    let settings = wire_frame(SETTINGS, 0, 0, &[]);
    for code in [0, 11] {
        let goaway = wire::goaway(0, code, b"full");
        for farewell in [goaway.clone(), [settings.clone(), goaway].concat().into()] {
            let (ours, theirs) = duplex(PIPE);
            let hangs_up = async {
                let mut wire = Wire(theirs);
                wire.read_preface().await;
                wire.write(&farewell).await;
            };
            let dialling = dial(endpoint_over(ours), alone());
            let (outcome, ()) = soon(async { tokio::join!(dialling, hangs_up) }).await;
            let text = match outcome {
                Ok(connection) => drains(&connection).await,
                Err(cause) => cause.text().to_owned(),
            };
            assert!(text.contains("GOAWAY received from the peer"), "{text}");
            assert!(text.contains("full"), "{text}");
        }
    }
}
