//! Streams that are free are used, whatever futures a program leaves unpolled.

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt, StreamExt, future::join_all, stream};
use testing::{
    Backend, GREETER, balanced, balanced_at,
    greeter::{HelloReply, greeter_client::GreeterClient},
    hello, request, within,
};
use tokio::task::yield_now;
use tonic::{Request, Response, Status, Streaming};

use super::side::{AnyChannel, Side};

async fn greeted(client: &GreeterClient<AnyChannel>) -> bool {
    client.clone().say_hello(request("you")).await.is_ok()
}

/// `n` calls are buffered, and the loop that takes their answers makes a call for each: the
/// buffered ones are not polled meanwhile, those that have their answer included.
async fn buffered(client: GreeterClient<AnyChannel>, n: usize, calls: usize) -> usize {
    let mut answers = stream::iter(0..calls)
        .map(|_| greeted(&client))
        .buffer_unordered(n);
    let mut both = 0;
    while let Some(first) = answers.next().await {
        both += usize::from(first && greeted(&client).await);
    }
    both
}

async fn limited(streams: u32) -> Backend {
    let backend = Backend::builder()
        .serving(GREETER)
        .max_concurrent_streams(streams);
    backend.start().await
}

// D260
#[tokio::test]
async fn buffered_calls_and_a_call_in_their_loop_all_come_through() {
    // Streams that the peer allows, calls buffered, calls in all. tonic's channel loses calls
    // where there is one stream.
    for (streams, n, calls, sides) in [
        (4, 4, 15, &Side::BOTH[..]),
        (1, 2, 8, &[Side::Ours]),
        (128, 300, 400, &Side::BOTH),
    ] {
        for side in sides.iter().copied() {
            let backend = limited(streams).await;
            let done = buffered(side.client(&backend), n, calls);
            let what = format!("{calls} buffered calls on {side} with {streams} streams");
            assert_eq!(within(&what, done).await, calls, "{what}");
        }
    }
}

/// How many messages came back.
async fn messages(replies: Result<Response<Streaming<HelloReply>>, Status>) -> usize {
    let mut replies = replies.expect("headers").into_inner();
    let mut came = 0;
    while replies.message().await.expect("a message").is_some() {
        came += 1;
    }
    came
}

/// Unary calls and streams of three messages, one way and both ways, in turn.
async fn joined(mut client: GreeterClient<AnyChannel>, at: usize) -> usize {
    match at % 8 {
        0 => {
            let mut request = request("you");
            request.count = 3;
            messages(client.say_hello_many(request).await).await
        }
        1 => {
            let requests = stream::iter([(); 3]).then(async |()| {
                yield_now().await;
                request("you")
            });
            messages(client.chat(requests).await).await
        }
        _ => {
            let answer = client.say_hello(request("you")).await;
            answer.map(|_| 1).expect("an answer")
        }
    }
}

// D260
#[tokio::test]
async fn calls_joined_in_one_task_all_come_through() {
    const CALLS: usize = 88;
    for side in Side::BOTH {
        let backend = limited(4).await;
        let client = side.client(&backend);
        if side == Side::Tonic {
            // Before it has the peer's SETTINGS it opens streams that are refused.
            assert!(within("an answer", greeted(&client)).await);
        }
        let calls = (0..CALLS).map(|at| joined(client.clone(), at));
        let came = within(&format!("calls on {side}"), join_all(calls)).await;
        let expected = (0..CALLS).map(|at| if at % 8 < 2 { 3 } else { 1 });
        assert!(came.iter().copied().eq(expected), "{side}: {came:?}");
    }
}

// D260
#[tokio::test]
async fn buffered_calls_come_through_where_health_is_checked() {
    for n in [1, 2] {
        let backends = join_all((0..n).map(|_| limited(4))).await;
        let uris = backends.iter().map(|backend| backend.uri());
        let channel = balanced_at(uris, Some(GREETER)).build();
        within("a backend", channel.wait_until_ready())
            .await
            .expect("READY");
        let any = tower::util::BoxCloneService::new(tower::ServiceExt::map_err(
            channel,
            tower::BoxError::from,
        ));
        let done = buffered(GreeterClient::new(any), 4 * n, 30);
        assert_eq!(within("30 buffered calls", done).await, 30, "{n} backends");
    }
}

// D260
#[tokio::test]
async fn a_call_that_is_never_polled_again_holds_no_other_up() {
    let backend = limited(1).await;
    let channel = balanced(&[&backend], None).build();
    within("a backend", channel.wait_until_ready())
        .await
        .expect("READY");
    let mut one = GreeterClient::new(channel.clone());
    let mut two = GreeterClient::new(channel.clone());
    let held = tokio::spawn(async move { one.say_hello(request("hold")).await });
    backend.until_held(1).await;
    let mut left = pin!(two.say_hello(request("b")));
    assert!(
        left.as_mut().now_or_never().is_none(),
        "there is one stream"
    );
    let third = channel.clone();
    let third = tokio::spawn(async move { hello(&third).await });
    backend.release();
    within("the call that had the stream", held)
        .await
        .expect("no panic")
        .expect("an answer");
    within("the call behind the one that is not polled", third)
        .await
        .expect("no panic")
        .expect("an answer");
    within("the one that was left", left)
        .await
        .expect("an answer");
}

// D261
#[tokio::test]
async fn answers_that_are_not_read_hold_no_stream() {
    for side in Side::BOTH {
        let backend = limited(4).await;
        let mut client = side.client(&backend);
        let mut unread: Vec<Response<Streaming<_>>> = Vec::new();
        for _ in 0..4 {
            let mut request = request("you");
            request.count = 1;
            let answer = client.say_hello_many(request);
            unread.push(within("headers", answer).await.expect("headers"));
        }
        let fifth = within("the fifth call", client.say_hello(request("you"))).await;
        assert!(fifth.is_ok(), "{side}: {fifth:?}");
        for answer in unread {
            let messages = answer.into_inner().collect::<Vec<_>>();
            let messages = within("what was not read", messages).await;
            assert_eq!(messages.len(), 1, "{side}");
            assert!(messages[0].is_ok(), "{side}: {messages:?}");
        }
    }
}

// D260
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_callers_that_call_again_at_once_none_starves() {
    const CALLERS: usize = 64;
    const CALLS: usize = 40;
    let backend = limited(4).await;
    let channel = balanced(&[&backend], None).build();
    let callers = (0..CALLERS).map(|_| {
        let channel = channel.clone();
        tokio::spawn(async move {
            for _ in 0..CALLS {
                let mut request = Request::new(request("you"));
                request.set_timeout(Duration::from_secs(5));
                let mut client = GreeterClient::new(channel.clone());
                client.say_hello(request).await.expect("an answer in time");
            }
        })
    });
    for caller in within("all callers", join_all(callers)).await {
        caller.expect("no panic");
    }
    assert_eq!(backend.hits(), CALLERS * CALLS);
}
