//! SETTINGS and windows that move under calls.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use h2::Reason;
use testing::{
    RawConnection, call, greeter,
    greeter::{HelloReply, HelloRequest},
    hello,
    http2::{self, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS},
    request, request_within, within,
};
use tokio::sync::Notify;
use tonic::{Code, Request, Response, Status};

use super::Stage;

/// The window of a connection, and of a stream if nothing else is said.
const WINDOW: usize = (1 << 16) - 1;

impl Stage {
    /// The same call on each backend. How it ended on the hostile one.
    async fn on_each(
        &self,
        request: impl Fn() -> Request<HelloRequest>,
    ) -> Result<HelloReply, Status> {
        self.until_connected().await;
        let both = [(); 2].map(|()| call(&self.channel, request()));
        let outcomes = join_all(both).await.into_iter();
        let replies = outcomes.map(|outcome| outcome.map(Response::into_inner));
        let (good, mut others): (Vec<_>, Vec<_>) = replies.partition(|outcome| {
            let reply = outcome.as_ref();
            reply.is_ok_and(|reply| reply.backend == self.good.name())
        });
        assert_eq!(good.len(), 1, "the backends take turns");
        others.remove(0)
    }
}

/// The bytes of DATA on any stream that come before the next frame of a kind.
async fn data_until(wire: &mut RawConnection, kind: u8) -> std::io::Result<usize> {
    let mut bytes = 0;
    loop {
        let frame = wire.read().await?;
        match frame.kind {
            http2::DATA => bytes += frame.payload.len(),
            other if other == kind => return Ok(bytes),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_limit_of_streams_that_flutters_fails_no_call() {
    const LIMITS: [u32; 6] = [0, 1, u32::MAX, 2, 0, 100];
    let flutter: Vec<u8> = LIMITS
        .iter()
        .flat_map(|limit| http2::settings_of(&[(MAX_CONCURRENT_STREAMS, *limit)]))
        .collect();
    let stage = Stage::with(move |mut wire| {
        let flutter = flutter.clone();
        async move {
            wire.open().await?;
            // More than 100 SETTINGS would end the connection.
            for time in 0.. {
                let stream = wire.whole_request().await?;
                if time < 15 {
                    wire.write(&flutter).await?;
                }
                wire.write(&http2::answer(stream, b"")).await?;
            }
            Ok(())
        }
    })
    .await;
    stage.until_connected().await;
    let calls = (0..60).map(|_| hello(&stage.channel));
    let mut of_hostile = 0;
    for outcome in join_all(calls).await {
        let reply = outcome.expect("there is always a stream somewhere, in the end");
        of_hostile += usize::from(reply.backend != stage.good.name());
    }
    assert!(of_hostile > 0, "all went to the good one");
    assert_eq!(stage.hostile.connections(), 1);
    stage.close().await;
}

/// RFC 9113 §6.9.2. What was sent already counts against the new window.
#[tokio::test]
async fn a_window_that_turns_negative_holds_the_request_back_and_loses_none_of_it() {
    const NAME: usize = 300_000;
    let window = |size: usize| {
        let size = u32::try_from(size).expect("a small window");
        http2::settings_of(&[(INITIAL_WINDOW_SIZE, size)])
    };
    let script = move |mut wire: RawConnection| async move {
        wire.open().await?;
        let stream = wire.request().await?;
        let mut sent = 0;
        while sent < WINDOW {
            sent += wire.next(http2::DATA).await?.payload.len();
        }
        let wide = 1 << 20;
        wire.write(&http2::window_update(0, wide)).await?;
        // Below zero, then to zero: not a byte.
        wire.write(&window(0)).await?;
        wire.write(&http2::window_update(stream, WINDOW as u32))
            .await?;
        wire.write(&http2::ping(b"anything")).await?;
        assert_eq!(data_until(&mut wire, http2::PING).await?, 0);
        wire.write(&http2::window_update(stream, 10)).await?;
        assert_eq!(wire.next(http2::DATA).await?.payload.len(), 10);
        sent += 10;
        wire.write(&window(wide as usize)).await?;
        loop {
            let frame = wire.next(http2::DATA).await?;
            sent += frame.payload.len();
            if frame.ends_stream() {
                break;
            }
        }
        assert!(sent > NAME, "{sent} bytes came");
        wire.write(&http2::answer(stream, b"")).await?;
        wire.behave().await
    };
    let stage = Stage::with(script).await;
    let name = "n".repeat(NAME);
    let outcome = stage.on_each(|| Request::new(request(&name))).await;
    outcome.expect("it is answered");
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 1);
    stage.close().await;
}

#[tokio::test]
async fn a_window_that_never_opens_costs_a_call_its_deadline() {
    let stage = Stage::with(|mut wire| async move {
        let closed = http2::settings_of(&[(INITIAL_WINDOW_SIZE, 0)]);
        wire.open_with(&closed).await?;
        wire.next(http2::RST_STREAM).await?;
        let opened = http2::settings_of(&[(INITIAL_WINDOW_SIZE, 100)]);
        wire.write(&opened).await?;
        wire.behave().await
    })
    .await;
    let deadline = Duration::from_millis(300);
    let outcome = stage.on_each(|| request_within("you", deadline)).await;
    let status = outcome.expect_err("the peer has not seen the request");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let address = stage.hostile.addr().to_string();
    assert!(status.message().contains(&address), "{status}");
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 1);
    stage.close().await;
}

#[tokio::test]
async fn a_window_of_a_stream_that_overflows_fails_its_call_alone() {
    let script = |mut wire: RawConnection| async move {
        wire.open().await?;
        let stream = wire.request().await?;
        let too_much = http2::window_update(stream, u32::MAX >> 1).repeat(2);
        wire.write(&too_much).await?;
        let reset = wire.next(http2::RST_STREAM).await?;
        let reason = u32::from(Reason::FLOW_CONTROL_ERROR).to_be_bytes();
        assert_eq!((reset.stream, &*reset.payload), (stream, &reason[..]));
        // What was sent on the stream is not missing from the connection.
        wire.write(&http2::window_update(0, 1 << 20)).await?;
        wire.behave().await
    };
    let stage = Stage::with(script).await;
    let name = "n".repeat(300_000);
    let outcome = stage.on_each(|| Request::new(request(&name))).await;
    let status = outcome.expect_err("its stream is reset");
    let text = stage.stream_failed(&status, Code::Internal);
    assert_eq!(
        text,
        "stream error detected: flow-control protocol violated"
    );
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 1);
    stage.close().await;
}

/// What a stream may send ahead of its reader is 2 MiB.
#[tokio::test]
async fn messages_beyond_the_window_of_who_does_not_read_fail_the_call_alone() {
    // A `HelloReply` whose message fills a frame.
    let text = [&[0x0a, 0xf8, 0x7f][..], &[b'm'; 16_376]].concat();
    let reset = Arc::new(Notify::new());
    let script = {
        let reset = Arc::clone(&reset);
        move |mut wire: RawConnection| {
            let (reset, text) = (Arc::clone(&reset), text.clone());
            async move {
                wire.open().await?;
                let stream = wire.whole_request().await?;
                let hostile = [(":status", "200"), ("x-hostile", "yes")];
                wire.write(&http2::headers(stream, 0, &hostile)).await?;
                let too_much = http2::message(stream, &text).repeat(129);
                wire.write(&too_much).await?;
                wire.next(http2::RST_STREAM).await?;
                reset.notify_one();
                wire.behave().await
            }
        }
    };
    let stage = Stage::with(script).await;
    let mut replies = stage.stream_of_hostile().await;
    within("the stream to be reset", reset.notified()).await;
    let mut read = 0;
    let status = loop {
        match within("a message", replies.message()).await {
            Ok(reply) => read += usize::from(reply.is_some()),
            Err(status) => break status,
        }
    };
    let text = stage.stream_failed(&status, Code::Internal);
    assert_eq!(
        text,
        "stream error detected: flow-control protocol violated"
    );
    assert_eq!(read, 128, "what fits the window is there");
    drop(replies);
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 1);
    stage.close().await;
}

/// What a peer takes is known before a request goes out: it would end the connection, with
/// everything that is on it, and so would the next.
#[tokio::test]
async fn headers_above_what_the_peer_takes_cost_their_call_alone() {
    let stage = Stage::with(|mut wire| async move {
        const MAX_HEADER_LIST_SIZE: u16 = 6;
        let settings = http2::settings_of(&[(MAX_HEADER_LIST_SIZE, 16 << 10)]);
        wire.open_with(&settings).await?;
        loop {
            let request = wire.next(http2::HEADERS).await?;
            assert!(request.payload.len() < 16 << 10, "it was not sent");
            wire.write(&http2::answer(request.stream, b"")).await?;
        }
    })
    .await;
    stage.until_connected().await;
    let mut refused = 0;
    for _ in 0..4 {
        let mut client = greeter(&stage.channel);
        let mut request = Request::new(request("you"));
        let large = "x".repeat(40_000).parse().expect("text");
        request.metadata_mut().insert("large", large);
        // The good one is of tonic, and takes 16 KiB too.
        let status = client.say_hello(request).await.expect_err("too large");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let sizes = status.message();
        assert!(
            sizes.contains("to send (4") && sizes.contains("maximum size (16384 bytes)"),
            "{sizes}"
        );
        refused += usize::from(sizes.contains(&stage.hostile.addr().to_string()));
    }
    assert_eq!(refused, 2, "the backends take turns");
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 1);
    stage.close().await;
}
