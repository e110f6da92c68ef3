//! How the calls on each backend ended, where that is counted.

use h2::Reason;
use testing::{
    Answer, Backend, Chat, GREETER, H2Peer, balanced, balanced_at, hello, outcome, say, start,
};
use tonic_health_channel::{Channel, status::CallCounts};

use super::first;

/// The numbers of the first backend: started, succeeded, failed, cancelled, refused.
fn counts(channel: &Channel) -> [u64; 5] {
    let CallCounts {
        started,
        succeeded,
        failed,
        cancelled,
        refused,
        ..
    } = first(channel).calls().expect("they are counted");
    [started, succeeded, failed, cancelled, refused]
}

// D320
#[tokio::test]
async fn each_backend_counts_how_its_calls_end() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], Some(GREETER))
        .count_calls(true)
        .build();
    hello(&channel).await.expect("an answer");
    assert_eq!(counts(&channel), [1, 1, 0, 0, 0], "and no Watch");
    say(&channel, "fail:13").await.expect_err("it is to fail");
    assert_eq!(counts(&channel), [2, 1, 1, 0, 0]);

    let given_up = start(&channel, "hold");
    backend.until_held(1).await;
    assert_eq!(counts(&channel), [3, 1, 1, 0, 0], "one is under way");
    given_up.abort();
    given_up.await.expect_err("it was given up");
    assert_eq!(counts(&channel), [3, 1, 1, 1, 0]);

    let mut chat = Chat::start(&channel).await;
    chat.greet("Ada").await.expect("an answer");
    chat.end().await;
    assert_eq!(counts(&channel), [4, 2, 1, 1, 0]);

    let lost = start(&channel, "hold");
    backend.until_held(1).await;
    backend.cut_connections();
    outcome(lost).await.expect_err("its connection is gone");
    assert_eq!(counts(&channel), [5, 2, 2, 1, 0]);
}

// D320
#[tokio::test]
async fn what_the_server_did_not_look_at_is_refused_and_its_next_attempt_another_call() {
    let peer = H2Peer::start().await;
    peer.answer_calls(Answer::Reset(Reason::REFUSED_STREAM));
    let channel = balanced_at([peer.uri()], None).count_calls(true).build();
    hello(&channel).await.expect_err("refused twice");
    assert_eq!(counts(&channel), [2, 0, 0, 0, 2]);
}

// D320
#[tokio::test]
async fn nothing_is_counted_where_nothing_asks_for_it() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    hello(&channel).await.expect("an answer");
    assert_eq!(first(&channel).calls(), None);
}
