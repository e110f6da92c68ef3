//! What a call does before it has a stream: it waits, moves on, or fails.

use std::{future::poll_fn, pin::pin, time::Duration};

use testing::{
    Answer, Backend, H2Peer, Peer, PeerScript, WatchScript, balanced, by_hand, call, dead_addr,
    endpoint, health_checked, hello, outcome, refusal, request_within, start, until,
    until_backends, within,
};
use tonic::Code;
use tonic_health_channel::{
    ConnectivityState::{Connecting, Idle, Ready, TransientFailure},
    channel::BackoffConfig,
};

// P01
#[tokio::test]
async fn a_call_that_waits_for_a_connection_ends_with_its_deadline() {
    let silent = Peer::start(PeerScript::Silent).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("silent", silent.uri()).await;
    silent.until_connections(1).await;

    let hurried = request_within("you", Duration::from_millis(100));
    let status = call(&channel, hurried).await.expect_err("no connection");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let text = status.message();
    assert!(text.contains("waiting for a backend"), "{text}");
    let whom = format!("silent ({}) CONNECTING", silent.addr());
    assert!(text.contains(&whom), "{text}");
}

// P02, R15
#[tokio::test]
async fn all_calls_that_wait_go_when_the_first_backend_is_ready() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let channel = health_checked(&[&backend]);
    let waiting: Vec<_> = (0..20).map(|_| start(&channel, "you")).collect();
    backend.until_open_watches(1).await;
    assert_eq!((channel.state(), backend.hits()), (Connecting, 0));

    backend.release_watches();
    for call in waiting {
        outcome(call).await.expect("the backend is READY");
    }
    assert_eq!(backend.hits(), 20, "each was sent once");
}

// P03
#[tokio::test]
async fn a_call_that_finds_all_backends_full_goes_to_the_next_that_comes() {
    let full = H2Peer::limited_to(1).await;
    full.answer_calls(Answer::KeepOpen);
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("full", full.uri()).await;
    let first = start(&channel, "you");
    full.until_open_calls(1).await;
    let second = start(&channel, "you");

    let free = Backend::start().await;
    backends.insert("free", free.uri()).await;
    let reply = outcome(second).await.expect("there is room elsewhere");
    assert_eq!(reply.backend, free.name());
    assert_eq!(full.calls(), 1, "nothing was queued on the full one");

    full.end_open_calls(Answer::Ok);
    outcome(first).await.expect("it was in nobody's way");
}

// P05
#[tokio::test]
async fn a_call_that_waits_for_a_reconnect_does_not_spin() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, Ready).await;
    backend.script_watch(WatchScript::HoldFirst);
    backend.cut_connections();
    until(&channel, Connecting).await;

    let mut call = pin!(hello(&channel));
    let mut polls = 0;
    let mut counted = pin!(poll_fn(|cx| {
        polls += 1;
        call.as_mut().poll(cx)
    }));
    let ready_again = async {
        backend.until_connections(2).await;
        backend.until_open_watches(1).await;
        backend.release_watches();
    };
    let (answer, ()) = within("the call to be answered", async {
        tokio::join!(counted.as_mut(), ready_again)
    })
    .await;
    answer.expect("the backend is back");
    assert!(polls < 20, "the call was polled {polls} times to wait once");
}

// P05
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_leaving_is_passed_over() {
    let (a, b) = (H2Peer::start().await, H2Peer::start().await);
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", a.uri()).await;
    backends.insert("B", b.uri()).await;

    for round in 0..10 {
        until_backends(&channel, &[Ready; 2]).await;
        for call in 0..20 {
            if call == 10 {
                a.go_away();
            }
            if let Err(status) = hello(&channel).await {
                panic!("call {call} around GOAWAY {round} failed: {status}");
            }
        }
    }
    assert_eq!(b.connections(), 1, "B said no GOAWAY");
    assert_eq!(a.calls() + b.calls(), 200, "each call was processed once");
    assert!(a.calls() >= 5, "A has its share until it leaves");
}

// P08, P11
#[tokio::test]
async fn a_dead_server_fails_calls_at_once_and_says_why() {
    let nobody = dead_addr();
    let (backends, builder) = by_hand(None);
    let slowly = BackoffConfig::default();
    let channel = builder.connect_backoff(slowly).build();
    backends.insert("nobody", nobody.uri()).await;
    until(&channel, TransientFailure).await;

    let patient = request_within("you", Duration::from_secs(60));
    let status = call(&channel, patient).await.expect_err("nobody listens");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let expected = format!(
        "no healthy backend: nobody ({}) connect: connection refused (attempt 1, next in ",
        nobody.addr()
    );
    assert!(status.message().starts_with(&expected), "{status}");
}

// R22, R23
#[tokio::test]
async fn calls_keep_failing_at_once_while_a_failed_backend_is_dialled_again() {
    let backend = Backend::builder().reserve().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, TransientFailure).await;
    let mut states = channel.watch_status();
    for attempt in 2..5 {
        let reached = states.wait_for(|status| {
            let backend = &status.backends()[0];
            assert_eq!(backend.state(), TransientFailure, "it sticks until READY");
            backend.failed_attempts() >= attempt
        });
        within("another attempt to fail", reached).await;
        refusal(&channel).await;
    }

    backend.restart().await;
    until(&channel, Ready).await;
    hello(&channel).await.expect("it came up");
}

// T12, T13
#[tokio::test]
async fn a_lazy_channel_is_idle_until_somebody_calls_or_waits() {
    let backend = Backend::start().await;
    let called = endpoint(backend.uri()).connect_lazy();
    let waited_for = endpoint(backend.uri()).connect_lazy();
    for channel in [&called, &waited_for] {
        until_backends(channel, &[Idle]).await;
        assert_eq!(channel.state(), Idle);
    }
    assert_eq!(backend.connections(), 0, "looking does not connect");

    hello(&called)
        .await
        .expect("the call connects and goes out");
    assert_eq!((called.state(), waited_for.state()), (Ready, Idle));
    let ready = within("the other to connect", waited_for.wait_until_ready()).await;
    ready.expect("the backend is up");
    assert_eq!(backend.connections(), 2);
}
