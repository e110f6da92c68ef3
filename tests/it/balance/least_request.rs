//! `least_request_experimental`: calls go to backends that have few of them.

use testing::{
    Answer, Backend, Chat, GREETER, H2Peer, balanced, balanced_at, by_hand, outcome, refusal, say,
    spread, start, until, until_backends,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    ServiceConfig,
};

/// With 2 backends, 1 of 1,024 picks misses the one that has fewer calls. With 3 it is 1 of 57.
fn drawing_10(service: Option<&str>) -> ServiceConfig {
    let health = service.map_or("null".to_owned(), |service| {
        format!(r#"{{"serviceName": "{service}"}}"#)
    });
    let json = format!(
        r#"{{"loadBalancingConfig": [{{"least_request_experimental": {{"choiceCount": 10}}}}],
             "healthCheckConfig": {health}}}"#
    );
    json.parse().expect("a valid service config")
}

fn in_flight(channel: &Channel) -> Vec<usize> {
    let backends = channel.backends();
    backends.iter().map(|b| b.calls_in_flight()).collect()
}

/// Calls that stay open.
async fn open(channel: &Channel, calls: usize) -> Vec<Chat> {
    let mut chats = Vec::new();
    for _ in 0..calls {
        chats.push(Chat::start(channel).await);
    }
    chats
}

// L04
#[tokio::test]
async fn a_backend_that_is_new_gets_calls_until_it_has_as_many_as_the_others() {
    let [a, b, c] = Backend::builder().start_each(["A", "B", "C"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.service_config(drawing_10(None)).build();
    backends.insert("A", a.uri()).await;
    backends.insert("B", b.uri()).await;
    until_backends(&channel, &[Ready; 2]).await;
    let mut chats = open(&channel, 50).await;
    let before = in_flight(&channel);
    assert!(before[0].abs_diff(before[1]) <= 4, "{before:?}");

    backends.insert("C", c.uri()).await;
    until_backends(&channel, &[Ready; 3]).await;
    chats.extend(open(&channel, 20).await);
    let after = in_flight(&channel);
    // 1 of 57 picks may miss it: more than 6 of 20 do in 1 of 10,000,000 runs.
    assert!(after[2] >= 14, "{before:?} became {after:?}");
    chats.extend(open(&channel, 20).await);
    let even = in_flight(&channel);
    assert_eq!(even.iter().sum::<usize>(), chats.len());
    assert!(
        even.iter().all(|calls| (26..=34).contains(calls)),
        "{even:?}"
    );
}

// L03
#[tokio::test]
async fn a_call_counts_until_it_ends_however_it_does() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let channel = balanced(&[&a, &b], None);
    let channel = channel.service_config(drawing_10(None)).build();
    until_backends(&channel, &[Ready; 2]).await;
    let kept = open(&channel, 1).await;
    let busy = in_flight(&channel);
    say(&channel, "fail:13").await.expect_err("it is to fail");
    say(&channel, "you").await.expect("an answer");
    drop(open(&channel, 3).await);
    assert_eq!(in_flight(&channel), busy, "these have ended");
    // The other one is missed at 1 of 1,024 picks: more than 3 of 20 are in 1 of 200,000,000.
    let shares = spread(&channel, 20, &[&a, &b]).await;
    let to_busy = busy.iter().zip(&shares).map(|(calls, share)| calls * share);
    assert!(to_busy.sum::<usize>() <= 3, "{busy:?}, {shares:?}");
    for chat in kept {
        chat.end().await;
    }
    assert_eq!(in_flight(&channel), [0, 0]);
}

// L08
#[tokio::test]
async fn calls_fail_while_all_backends_do_and_all_go_to_the_one_that_is_back() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let channel = balanced(&[&a, &b], None);
    let channel = channel.service_config(drawing_10(None)).build();
    until_backends(&channel, &[Ready; 2]).await;
    for backend in [&a, &b] {
        backend.kill().await;
    }
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("connection refused"), "{text}");
    b.restart().await;
    until(&channel, Ready).await;
    assert_eq!(spread(&channel, 10, &[&a, &b]).await, [0, 10]);
}

// L11
#[tokio::test]
async fn no_call_waits_while_a_backend_has_a_free_stream() {
    let (narrow, wide) = (H2Peer::limited_to(1).await, H2Peer::limited_to(9).await);
    let uris = [&narrow, &wide].map(|peer| peer.uri());
    for peer in [&narrow, &wide] {
        peer.answer_calls(Answer::KeepOpen);
    }
    let channel = balanced_at(uris, None);
    let channel = channel.service_config(drawing_10(None)).build();
    until_backends(&channel, &[Ready; 2]).await;
    // From the third call on the one with fewer calls is full, and is drawn first.
    let calls: Vec<_> = (0..10).map(|_| start(&channel, "you")).collect();
    narrow.until_open_calls(1).await;
    wide.until_open_calls(9).await;

    let waiting = start(&channel, "you");
    for peer in [&narrow, &wide] {
        peer.answer_calls(Answer::Ok);
    }
    narrow.end_open_calls(Answer::Ok);
    outcome(waiting)
        .await
        .expect("the first stream that is free");
    assert_eq!([narrow.calls(), wide.calls()], [2, 9]);
    wide.end_open_calls(Answer::Ok);
    for call in calls {
        outcome(call).await.expect("an answer");
    }
}

// L12
#[tokio::test]
async fn an_unhealthy_backend_is_not_drawn_and_its_count_goes_on() {
    let [a, b] = Backend::builder().scripted().start_each(["A", "B"]).await;
    let channel = balanced(&[&a, &b], None);
    let channel = channel.service_config(drawing_10(Some(GREETER))).build();
    until_backends(&channel, &[Ready; 2]).await;
    let (mut on_a, mut on_b) = (Vec::new(), Vec::new());
    for mut chat in open(&channel, 20).await {
        match chat.greet("Ada").await.expect("an answer").backend.as_str() {
            "A" => on_a.push(chat),
            _ => on_b.push(chat),
        }
    }
    assert!(on_a.len() >= 2, "{} of 20", on_a.len());

    a.set_not_serving(GREETER).await;
    until_backends(&channel, &[TransientFailure, Ready]).await;
    assert_eq!(spread(&channel, 20, &[&a, &b]).await, [0, 20]);
    let last = on_a.pop().expect("two and more");
    for chat in on_a.into_iter().chain(on_b) {
        chat.end().await;
    }
    assert_eq!(in_flight(&channel), [1, 0], "streams end, and are counted");

    a.set_serving(GREETER).await;
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!(in_flight(&channel), [1, 0], "as it was");
    let idle = spread(&channel, 20, &[&a, &b]).await;
    assert!(idle[0] <= 3, "{idle:?}: A has a call");
    last.end().await;
    let even = spread(&channel, 40, &[&a, &b]).await;
    // Of 40 throws of a coin, fewer than 5 are heads in 1 of 10,000,000 runs.
    assert!(even[0] >= 5, "{even:?}: A is drawn again");
}
