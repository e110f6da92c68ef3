//! A connection that is lost.

use h2::Reason;
use testing::{
    Answer, Backend, H2Peer, balanced, balanced_at, health_checked, outcome, say, start, until,
    within,
};
use tonic::Code;
use tonic_health_channel::ConnectivityState::{Connecting, Ready};

/// The `Watch` ends with its connection, and may be heard first. If that counted
/// as an answer about health, the backend would fail its calls while it is only
/// being connected to again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_connection_is_no_word_about_health() {
    const TIMES: usize = 20;
    // Whoever they wake is work for the other thread, and one of them the Watch.
    const IN_FLIGHT: usize = 8;
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    for time in 1..=TIMES {
        until(&channel, Ready).await;
        let calls: Vec<_> = (0..IN_FLIGHT)
            .map(|_| {
                let channel = channel.clone();
                tokio::spawn(async move { say(&channel, "hold").await })
            })
            .collect();
        backend.until_held(IN_FLIGHT).await;
        let mut watch = channel.watch_status();
        let ready_since = watch.status().backends()[0].since();
        backend.cut_connections();
        // A backend that is quickly back may be READY again before this is polled.
        let left = watch.wait_for(|status| status.backends()[0].since() != ready_since);
        let status = within("the backend to leave READY", left).await;
        let told = format!("{}, time {time} of {TIMES}", status.backends()[0]);
        assert!(matches!(status.state(), Connecting | Ready), "{told}");
        for call in calls {
            let outcome = call.await.expect("a call does not panic");
            let code = outcome.map_err(|status| status.code());
            assert_eq!(code, Err(Code::Unavailable));
        }
    }
}

// P11
#[tokio::test]
async fn a_call_that_loses_its_connection_says_which_and_how() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, Ready).await;
    let call = start(&channel, "hold");
    backend.until_held(1).await;

    backend.cut_connections();
    let status = outcome(call).await.expect_err("its connection is gone");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let expected = format!("stream to {}: connection reset", backend.addr());
    assert_eq!(status.message(), expected);
}

// X05
#[tokio::test]
async fn a_call_that_is_cut_off_after_goaway_says_what_goaway_said() {
    for (reason, told) in [
        (Reason::NO_ERROR, "max_age"),
        (Reason::ENHANCE_YOUR_CALM, "too_many_pings"),
    ] {
        let peer = H2Peer::start().await;
        peer.answer_calls(Answer::KeepOpen);
        let channel = balanced_at([peer.uri()], None).build();
        let call = start(&channel, "you");
        peer.until_open_calls(1).await;

        peer.go_away_and_close(reason, told);
        let status = outcome(call).await.expect_err("it was not answered");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let text = status.message();
        let from = format!("stream to {}: GOAWAY received from the peer: ", peer.addr());
        assert!(text.starts_with(&from), "{text}");
        assert!(text.contains(reason.description()), "{text}");
        assert!(text.contains(told), "{text}");
        assert_eq!(peer.calls(), 1, "it may have been processed");
    }
}
