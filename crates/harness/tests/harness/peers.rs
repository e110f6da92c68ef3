//! The peers that are no gRPC servers, the logs and the waits.

use std::{net::SocketAddr, time::Duration};

use h2::Reason;
use testing::{
    Answer, H2Peer, Logs, Peer, PeerScript, SERVING, dead_addr,
    greeter::{HelloReply, HelloRequest, greeter_client::GreeterClient},
    health::{HealthCheckRequest, health_client::HealthClient},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tracing::Level;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn channel(uri: String) -> Channel {
    Endpoint::from_shared(uri)
        .expect("a peer's URI is one")
        .connect_lazy()
}

async fn hello(channel: Channel) -> Result<HelloReply, Status> {
    let mut client = GreeterClient::new(channel);
    within("SayHello to end", client.say_hello(HelloRequest::default()))
        .await
        .map(tonic::Response::into_inner)
}

fn spawn_hello(channel: &Channel) -> JoinHandle<Result<HelloReply, Status>> {
    tokio::spawn(hello(channel.clone()))
}

async fn code(call: JoinHandle<Result<HelloReply, Status>>) -> Code {
    match call.await.expect("the call does not panic") {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

/// What a peer says to the preface of HTTP/2 before it closes.
async fn answer_to_preface(addr: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.expect("the peer accepts");
    // A peer that closes at once may be gone before either gets through.
    let _ = stream.write_all(PREFACE).await;
    let mut answer = Vec::new();
    let _ = within("the peer to close", stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn a_peer_says_what_its_script_says() {
    for (script, answer) in [
        (PeerScript::SpeaksHttp1, &b"HTTP/1.1 400 "[..]),
        (PeerScript::SpeaksTls, &[0x15, 0x03, 0x01]),
        (PeerScript::ClosesAtOnce, &[]),
        (PeerScript::ClosesAfterPreface, &[]),
    ] {
        let peer = Peer::start(script).await;
        let heard = answer_to_preface(peer.addr()).await;
        assert!(heard.starts_with(answer), "{script:?} said {heard:?}");
        assert_eq!(heard.is_empty(), answer.is_empty(), "{script:?}");
        assert_eq!(peer.connections(), 1);
        peer.until_open_connections(0).await;
    }
}

#[tokio::test]
async fn no_peer_takes_a_call() {
    for script in [
        PeerScript::SpeaksHttp1,
        PeerScript::SpeaksTls,
        PeerScript::ClosesAtOnce,
        PeerScript::ClosesAfterPreface,
        PeerScript::SendsGarbage,
    ] {
        let peer = Peer::start(script).await;
        let reply = hello(channel(peer.uri())).await;
        assert!(reply.is_err(), "{script:?} does not speak gRPC: {reply:?}");
    }
}

#[tokio::test]
async fn a_silent_peer_keeps_the_connection() {
    let peer = Peer::start(PeerScript::Silent).await;
    let call = spawn_hello(&channel(peer.uri()));
    peer.until_open_connections(1).await;
    call.abort();
    peer.until_open_connections(0).await;
}

#[tokio::test]
async fn a_dead_address_refuses() {
    let dead = dead_addr();
    let refused = TcpStream::connect(dead.addr()).await;
    assert_eq!(
        refused.expect_err("nobody listens").kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    assert!(dead.uri().starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn an_h2_peer_answers_calls_and_tells_watches_from_them() {
    let peer = H2Peer::start().await;
    let channel = channel(peer.uri());
    // The second time, HPACK abbreviates what it can.
    for calls in 1..=2 {
        assert_eq!(code(spawn_hello(&channel)).await, Code::Ok);
        let mut client = HealthClient::new(channel.clone());
        let watch = client.watch(HealthCheckRequest::default()).await;
        let mut watch = watch.expect("a stream").into_inner();
        let first = watch.message().await.expect("open").expect("a message");
        assert_eq!(first.status, SERVING);
        assert_eq!((peer.calls(), peer.watches()), (calls, calls));
        assert_eq!((peer.open_calls(), peer.open_watches()), (0, 1));

        peer.end_open_watches(Answer::Status(Code::Aborted));
        let end = within("the end of Watch", watch.message()).await;
        assert_eq!(end.expect_err("ended").code(), Code::Aborted);
        assert_eq!(peer.open_watches(), 0);
    }
    drop(channel);
    peer.until_client_goaway().await;
    peer.until_open_connections(0).await;
}

#[tokio::test]
async fn an_h2_peer_refuses_fails_and_keeps_calls() {
    let peer = H2Peer::start().await;
    let channel = channel(peer.uri());
    peer.answer_next_calls(1, Answer::Reset(Reason::REFUSED_STREAM));
    assert_eq!(code(spawn_hello(&channel)).await, Code::Unavailable);
    peer.answer_next_calls(1, Answer::Status(Code::DataLoss));
    assert_eq!(code(spawn_hello(&channel)).await, Code::DataLoss);

    peer.answer_next_calls(2, Answer::KeepOpen);
    let (kept, cancelled) = (spawn_hello(&channel), spawn_hello(&channel));
    peer.until_open_calls(2).await;
    cancelled.abort();
    peer.until_client_resets(1).await;
    peer.until_open_calls(1).await;
    peer.end_open_calls(Answer::Ok);
    assert_eq!(code(kept).await, Code::Ok);
}

#[tokio::test]
async fn an_h2_peer_changes_its_limit_while_connected() {
    let peer = H2Peer::limited_to(1).await;
    let channel = channel(peer.uri());
    assert_eq!(code(spawn_hello(&channel)).await, Code::Ok);
    peer.until_settings_acks(1).await;

    peer.answer_calls(Answer::KeepOpen);
    let calls = [spawn_hello(&channel), spawn_hello(&channel)];
    peer.until_calls(2).await;
    peer.set_max_concurrent_streams(2);
    peer.until_open_calls(2).await;
    assert_eq!(peer.most_open_streams(), 2);
    peer.end_open_calls(Answer::Ok);
    for call in calls {
        assert_eq!(code(call).await, Code::Ok);
    }

    peer.set_max_concurrent_streams(0);
    peer.until_settings_acks(3).await;
    let waiting = spawn_hello(&channel);
    peer.answer_calls(Answer::Ok);
    peer.set_max_concurrent_streams(1);
    assert_eq!(code(waiting).await, Code::Ok);
}

#[tokio::test]
async fn an_h2_peer_says_goaway_in_both_ways() {
    let peer = H2Peer::start().await;
    let channel = channel(peer.uri());
    peer.answer_next_calls(1, Answer::KeepOpen);
    let kept = spawn_hello(&channel);
    peer.until_open_calls(1).await;
    peer.go_away();
    peer.end_open_calls(Answer::Ok);
    assert_eq!(code(kept).await, Code::Ok, "a covered call goes on");
    peer.until_open_connections(0).await;

    peer.answer_next_calls(1, Answer::KeepOpen);
    let lost = spawn_hello(&channel);
    peer.until_open_calls(1).await;
    peer.go_away_from_all(Reason::ENHANCE_YOUR_CALM);
    assert_ne!(
        code(lost).await,
        Code::Ok,
        "a call that is not covered fails"
    );
    peer.until_open_connections(0).await;
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn an_h2_peer_that_ignores_pings_loses_the_client() {
    let peer = H2Peer::start().await;
    peer.ignore_pings();
    peer.answer_calls(Answer::KeepOpen);
    let endpoint = Endpoint::from_shared(peer.uri())
        .expect("a peer's URI is one")
        .http2_keep_alive_interval(Duration::from_millis(20))
        .keep_alive_timeout(Duration::from_millis(20));
    let call = spawn_hello(&endpoint.connect_lazy());
    peer.until_pings(1).await;
    assert_ne!(code(call).await, Code::Ok);
    peer.until_open_connections(0).await;
}

#[tokio::test]
async fn logs_have_the_level_the_target_and_the_text() {
    let logs = Logs::capture();
    let later = tokio::spawn(async {
        tracing::error!(target: "some::place", code = 12, why = "no", "it broke");
        tracing::warn!(target: "some::place", "it may break");
    });
    let line = logs
        .until("the warning to be logged", |line| line.level == Level::WARN)
        .await;
    assert_eq!(line.text, "it may break");
    assert_eq!(
        logs.at(Level::ERROR, "some"),
        ["it broke code=12 why=no"],
        "exactly one error: {:?}",
        logs.all()
    );
    later.await.expect("the task does not panic");
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "waited 10s for a miracle, in vain (at crates/harness/tests/harness/peers.rs"
)]
async fn a_wait_in_vain_says_what_did_not_happen() {
    within("a miracle", std::future::pending::<()>()).await;
}
