//! Responses that nothing reads, beside those that are read.

use std::sync::Arc;

use futures_util::FutureExt;
use testing::{
    Backend, RawConnection, assert_growth, by_hand, endpoint, greeter,
    greeter::{HelloReply, HelloRequest},
    hello,
    http2::{self, INITIAL_WINDOW_SIZE},
    request, until_that, within,
};
use tokio::sync::Notify;
use tonic::{Code, Status, Streaming};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    Endpoint,
};

use super::Stage;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A response of `mebibytes`, in messages of 64 KiB.
async fn unread(channel: &Channel, mebibytes: usize) -> Streaming<HelloReply> {
    let request = HelloRequest {
        name: "x".repeat(64 * KIB),
        count: (16 * mebibytes).try_into().expect("a small number"),
    };
    let mut client = greeter(channel);
    let replies = client.say_hello_many(request);
    let replies = within("headers", replies).await.expect("headers");
    replies.into_inner()
}

/// Bytes that can be read at once.
fn read_what_waits(replies: &mut Streaming<HelloReply>) -> usize {
    let mut read = 0;
    while let Some(Ok(Some(reply))) = replies.message().now_or_never() {
        read += reply.message.len();
    }
    read
}

async fn calls_go_on_beside(
    responses: usize,
    window: usize,
    options: impl FnOnce(Endpoint) -> Endpoint,
) {
    let backend = Backend::builder().name("only").serving("").start().await;
    let (backends, channel) = by_hand(Some(""));
    let channel = channel.build();
    let only = options(endpoint(backend.uri()));
    backends.insert_as("only", only).await;
    let mut replies = Vec::new();
    for _ in 0..responses {
        replies.push(unread(&channel, 3 * window / MIB).await);
    }
    let mut waited = 0;
    // Until all are at a standstill: each window is full.
    while waited < responses * window * 7 / 8 {
        for _ in 0..100 {
            let reply = within("a call beside them", hello(&channel)).await;
            reply.expect("it is answered");
        }
        waited = replies.iter_mut().map(read_what_waits).sum();
    }
    for _ in 0..100 {
        hello(&channel).await.expect("it is answered");
    }
    backend.set_not_serving("").await;
    until_that(&channel, "NOT_SERVING", |status| {
        status.backends()[0].state() == TransientFailure
    })
    .await;
    backend.set_serving("").await;
    until_that(&channel, "SERVING", |status| {
        status.backends()[0].state() == Ready
    })
    .await;
    assert_eq!(backend.connections(), 1);
}

// D275
#[tokio::test]
async fn calls_go_on_beside_three_responses_that_are_not_read() {
    calls_go_on_beside(3, 2 * MIB, |endpoint| endpoint).await;
}

// D275
#[tokio::test]
async fn calls_go_on_beside_one_response_with_a_large_window() {
    let options = |endpoint: Endpoint| endpoint.initial_stream_window_size(8 << 20);
    calls_go_on_beside(1, 8 * MIB, options).await;
}

// D275
#[tokio::test]
async fn calls_go_on_beside_one_response_with_an_adaptive_window() {
    let options = |endpoint: Endpoint| endpoint.http2_adaptive_window(true);
    calls_go_on_beside(1, 16 * MIB, options).await;
}

/// Headers, then so many bytes of messages.
fn some(stream: u32, bytes: usize) -> Vec<u8> {
    let hostile = [(":status", "200"), ("x-hostile", "yes")];
    let headers = http2::headers(stream, 0, &hostile);
    // A `HelloReply` whose message fills a frame.
    let text = [&[0x0a, 0xf8, 0x7f][..], &[b'm'; 16_376]].concat();
    [headers, http2::message(stream, &text).repeat(bytes >> 14)].concat()
}

/// A stage whose hostile backend plays `script`, and what it says its turns by.
async fn staged<F>(
    options: impl FnOnce(Endpoint) -> Endpoint,
    script: impl Fn(RawConnection, Arc<Notify>) -> F + Send + 'static,
) -> (Stage, Arc<Notify>)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let turn = Arc::new(Notify::new());
    let script = {
        let turn = Arc::clone(&turn);
        move |wire| script(wire, Arc::clone(&turn))
    };
    (Stage::set(None, options, script).await, turn)
}

/// The window that the peer is told next, before it acknowledges.
async fn next_window(wire: &mut RawConnection) -> std::io::Result<u32> {
    let settings = wire.next(http2::SETTINGS).await?;
    let [0, 4, window @ ..] = settings.payload.as_ref() else {
        panic!("something else: {settings:?}");
    };
    assert_eq!(INITIAL_WINDOW_SIZE, 4);
    Ok(u32::from_be_bytes(window.try_into().expect("one setting")))
}

/// Acknowledges a small window, and the large one that follows.
async fn window_grows_again(mut wire: RawConnection, turn: &Notify) -> std::io::Result<()> {
    wire.write(&http2::settings_ack()).await?;
    turn.notify_one();
    assert_eq!(next_window(&mut wire).await?, 1 << 20);
    wire.write(&http2::settings_ack()).await?;
    turn.notify_one();
    wire.behave().await
}

/// The end of a response that took too much.
async fn exhausted(replies: &mut Streaming<HelloReply>) -> Status {
    let status = within("its end", replies.message()).await;
    let status = status.expect_err("it was ended");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    status
}

// D276
#[tokio::test]
async fn at_its_cap_a_connection_has_small_windows_and_at_twice_the_cap_the_largest_is_ended() {
    let script = |mut wire: RawConnection, turn: Arc<Notify>| async move {
        wire.open().await?;
        let first = wire.whole_request().await?;
        wire.write(&some(first, MIB / 2)).await?;
        let second = wire.whole_request().await?;
        wire.write(&some(second, MIB / 2 + MIB / 8)).await?;
        assert_eq!(next_window(&mut wire).await?, 65_535);
        // Not acknowledged yet: the third has the window of before.
        let third = wire.whole_request().await?;
        wire.write(&some(third, MIB)).await?;
        let reset = wire.next(http2::RST_STREAM).await?;
        assert_eq!(reset.stream, third, "the largest");
        window_grows_again(wire, &turn).await
    };
    let options = |endpoint: Endpoint| endpoint.initial_connection_window_size(1 << 20);
    let (stage, turn) = staged(options, script).await;
    let mut first = stage.stream_of_hostile().await;
    let second = stage.stream_of_hostile().await;
    let mut third = stage.stream_of_hostile().await;
    within("the largest to be ended", turn.notified()).await;
    let status = exhausted(&mut third).await;
    let address = stage.hostile.addr();
    let text = status.message();
    let (start, end) = (
        format!("the response of {address} was cancelled: 1"),
        "of its bytes were unread; a connection allows 2097152 bytes, 2 times its \
         initial_connection_window_size",
    );
    assert!(text.starts_with(&start) && text.ends_with(end), "{text}");
    assert_eq!(read_what_waits(&mut first), MIB / 2 / 16_384 * 16_376);
    drop(second);
    within("the windows to be large again", turn.notified()).await;
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 1);
    drop(first);
    stage.close().await;
}

/// All fill their windows as far as the cap allows, and then one after the other the rest.
// D276
#[tokio::test]
async fn a_peer_that_fills_every_window_takes_no_more_than_twice_the_cap() {
    const STREAMS: usize = 64;
    const FULL: usize = 16;
    let test = async {
        let script = |mut wire: RawConnection, sent: Arc<Notify>| async move {
            wire.open().await?;
            let mut streams = Vec::new();
            for _ in 0..STREAMS {
                let stream = wire.whole_request().await?;
                wire.write(&some(stream, 0)).await?;
                streams.push(stream);
            }
            let more = |stream, mebibytes: usize| {
                let headers = some(stream, 0).len();
                some(stream, mebibytes * MIB).split_off(headers)
            };
            for stream in &streams {
                wire.write(&more(*stream, 2)).await?;
            }
            let first = wire.next(http2::RST_STREAM).await?.stream;
            streams.retain(|stream| *stream != first);
            let last = streams.split_off(STREAMS / 2);
            for (full, other) in streams.into_iter().zip(last).take(FULL) {
                // As much as is freed then.
                wire.write(&more(other, 2)).await?;
                wire.write(&more(full, 6)).await?;
                while wire.next(http2::RST_STREAM).await?.stream != full {}
            }
            sent.notify_one();
            wire.behave().await
        };
        let options = |endpoint: Endpoint| endpoint.initial_stream_window_size(8 << 20);
        let (stage, sent) = staged(options, script).await;
        let mut all = Vec::new();
        for _ in 0..STREAMS {
            all.push(stage.stream_of_hostile().await);
        }
        within("all to be sent", sent.notified()).await;
        drop(all);
        stage.close().await;
    };
    let name = "hostile::unread::a_peer_that_fills_every_window_takes_no_more_than_twice_the_cap";
    assert_growth(name, 192 << 20, test).await;
}

/// A frame takes memory besides its bytes.
// D276
#[tokio::test]
async fn frames_count_as_the_memory_that_they_take() {
    let script = |mut wire: RawConnection, ended: Arc<Notify>| async move {
        wire.open().await?;
        let stream = wire.whole_request().await?;
        let tiny = http2::frame(http2::DATA, 0, stream, &[0]);
        let frames = [some(stream, 0), tiny.repeat(9_000)].concat();
        wire.write(&frames).await?;
        let reset = wire.next(http2::RST_STREAM).await?;
        assert_eq!(reset.stream, stream);
        ended.notify_one();
        wire.behave().await
    };
    let options = |endpoint: Endpoint| endpoint.initial_connection_window_size(1 << 20);
    let (stage, ended) = staged(options, script).await;
    let mut replies = stage.stream_of_hostile().await;
    within("the stream to be ended", ended.notified()).await;
    exhausted(&mut replies).await;
    stage.success().await;
    stage.close().await;
}

/// Calls that are not polled after their requests are sent cannot be ended, and count.
// D276
#[tokio::test]
async fn answers_to_calls_that_are_not_polled_make_windows_small() {
    let script = |mut wire: RawConnection, turn: Arc<Notify>| async move {
        wire.open().await?;
        let stream = wire.whole_request().await?;
        wire.write(&some(stream, MIB)).await?;
        assert_eq!(next_window(&mut wire).await?, 65_535);
        window_grows_again(wire, &turn).await
    };
    let options = |endpoint: Endpoint| endpoint.initial_connection_window_size(1 << 20);
    let (stage, turn) = staged(options, script).await;
    stage.until_connected().await;
    let mut calls: Vec<_> = (0..2)
        .map(|_| {
            let mut client = greeter(&stage.channel);
            Box::pin(async move { client.say_hello_many(request("you")).await })
        })
        .collect();
    for call in &mut calls {
        assert!(call.now_or_never().is_none(), "one look sends the request");
    }
    within("small windows", turn.notified()).await;
    drop(calls);
    within("large windows", turn.notified()).await;
    stage.success().await;
    stage.close().await;
}
