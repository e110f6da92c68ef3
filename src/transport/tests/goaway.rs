//! How a connection ends that the peer wants to end, or ends.

use h2::Reason;
use tonic::Code;

use super::{
    ADDRESS, Stage, closes, connected, data, drains, open, read, soon, streaming, unary,
    wire::{
        ACK, DATA, HEADERS, PING, PRIORITY, goaway, trailers, wire_frame, wired, wired_through,
    },
};
use crate::transport::{OutgoingRequest, SendError, exchange::Failed};

#[track_caller]
fn failed<T>(outcome: Result<T, Failed>) -> Failed {
    outcome.map(drop).expect_err("its stream is gone")
}

#[tokio::test(start_paused = true)]
async fn a_goaway_is_noticed_while_a_stream_is_open() {
    let (connection, mut peer) = connected().await;
    let running = open(&connection, unary("")).await;
    let at_peer = peer.next_call().await;
    peer.shut_down_gracefully();

    let text = drains(&connection).await;
    assert!(text.contains("GOAWAY received from the peer"), "{text}");
    assert!(connection.admit().is_none());

    at_peer.answer_whole(b"finished");
    let mut body = soon(running).await.expect("headers").into_body();
    let (answer, _) = read(&mut body).await.expect("a body");
    assert_eq!(answer, "finished");
    drop(body);
    peer.ended().await;
    assert!(connection.admit().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_goaway_is_noticed_while_no_stream_is_open() {
    let (connection, peer) = connected().await;
    peer.shut_down_gracefully();
    let mut stage = connection.stage();
    soon(stage.wait_for(|stage| !matches!(stage, Stage::Open { .. })))
        .await
        .expect("a handle is held");
    assert!(connection.admit().is_none());
    peer.ended().await;
}

#[tokio::test(start_paused = true)]
async fn what_goaway_says_is_in_the_text() {
    let (connection, mut wire) = wired(100).await;
    let _running = open(&connection, unary("")).await;
    let stream = wire.next_request().await;
    wire.goaway(stream, 11, b"too_many_pings").await;
    let text = drains(&connection).await;
    assert!(text.contains("GOAWAY received from the peer"), "{text}");
    assert!(text.contains("too_many_pings"), "{text}");
}

/// It goes into statuses, `backends()` and the log.
#[tokio::test(start_paused = true)]
async fn what_goaway_says_is_told_in_one_line_of_no_great_length() {
    let (connection, mut wire) = wired(100).await;
    let running = open(&connection, unary("")).await;
    let _ = wire.next_request().await;
    let said = "\u{1b}[2J\nERROR ".repeat(1_000);
    wire.goaway(0, 0, said.as_bytes()).await;
    let failed = failed(soon(running).await);
    for text in [closes(&connection).await, failed.error.message().to_owned()] {
        assert!(text.contains("[2J\\nERROR "), "{text}");
        assert!(text.len() < 400, "{} bytes", text.len());
        assert!(!text.contains(char::is_control), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_above_the_last_that_goaway_counts_is_unprocessed() {
    let (connection, mut wire) = wired(100).await;
    let counted = open(&connection, unary("")).await;
    let uncounted = open(&connection, unary("")).await;
    assert_eq!(wire.next_request().await, 1);
    assert_eq!(wire.next_request().await, 3);
    wire.goaway(1, 0, b"").await;

    let failed = failed(soon(uncounted).await);
    assert!(failed.unprocessed);
    assert_eq!(failed.error.code(), Code::Unavailable);
    let text = failed.error.message();
    assert!(text.contains(ADDRESS) && text.contains("GOAWAY"), "{text}");

    wire.answer(1, b"counted").await;
    let mut body = soon(counted).await.expect("headers").into_body();
    assert_eq!(read(&mut body).await.expect("a body").0, "counted");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_goaway_counts_and_the_end_cuts_off_may_be_processed() {
    let (connection, mut wire) = wired(100).await;
    let counted = open(&connection, unary("")).await;
    assert_eq!(wire.next_request().await, 1);
    wire.goaway(1, 0, b"").await;
    drains(&connection).await;
    drop(wire);
    let failed = failed(soon(counted).await);
    assert!(!failed.unprocessed);
    assert_eq!(failed.error.code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_slot_taken_before_goaway_opens_no_stream_after_it() {
    let (connection, mut wire) = wired(100).await;
    let admitted = connection.admit().expect("a slot");
    let _running = open(&connection, unary("")).await;
    assert_eq!(wire.next_request().await, 1);
    wire.goaway(1, 0, b"").await;
    drains(&connection).await;
    let mut request = OutgoingRequest::new(unary("again"));
    request.prefetch().await.expect("a sound body");
    let refused = admitted.open(&mut request).map(drop);
    assert!(matches!(refused, Err(SendError::Unsent)), "{refused:?}");
    assert!(request.is_replayable(), "nothing of it is lost");
    assert_eq!(connection.streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_streaming_request_that_was_not_sent_goes_whole_to_the_next_connection() {
    let (draining, mut wire) = wired(100).await;
    let admitted = draining.admit().expect("a slot");
    let _running = open(&draining, unary("")).await;
    assert_eq!(wire.next_request().await, 1);
    wire.goaway(1, 0, b"").await;
    drains(&draining).await;
    let (frames, request) = streaming();
    frames.send(data(b"begin, ")).expect("a reader");
    let mut request = OutgoingRequest::new(request);
    request.prefetch().await.expect("a sound body");
    let unsent = admitted.open(&mut request).map(drop);
    assert!(matches!(unsent, Err(SendError::Unsent)), "{unsent:?}");

    let (connection, mut peer) = connected().await;
    request.prefetch().await.expect("as for every attempt");
    assert!(!request.is_replayable(), "more of it is to come");
    let admitted = connection.admit().expect("a slot");
    let _exchange = tokio::spawn(admitted.open(&mut request).expect("an open stream"));
    frames.send(data(b"end")).expect("a reader");
    drop(frames);
    let mut at_peer = peer.next_call().await;
    assert_eq!(at_peer.read().await.expect("sound"), "begin, end");
}

/// The number of a GOAWAY that counts out nothing yet.
const NONE_YET: u32 = (1 << 31) - 1;

// D220
/// Who shuts down gracefully takes the answer for the end of the requests.
#[tokio::test(start_paused = true)]
async fn requests_on_their_way_come_before_the_answer_to_the_ping_behind_a_goaway() {
    let (connection, mut wire) = wired(100).await;
    let ping = wire_frame(PING, 0, 0, b"graceful");
    wire.write(&[goaway(NONE_YET, 0, b""), ping].concat()).await;
    // The driver has not run since.
    let _opened = [
        open(&connection, unary("one")).await,
        open(&connection, unary("two")).await,
    ];
    let mut came = Vec::new();
    loop {
        let frame = wire.read().await.expect("an open connection");
        if (frame.kind, frame.flags) == (PING, ACK) {
            assert_eq!(frame.payload, "graceful");
            break;
        }
        came.push((frame.kind, frame.stream));
    }
    for frame in [(HEADERS, 1), (DATA, 1), (HEADERS, 3), (DATA, 3)] {
        assert!(came.contains(&frame), "{came:?}");
    }
}

/// Each would wait for the other.
#[tokio::test(start_paused = true)]
async fn a_peer_that_says_goaway_and_takes_no_more_is_read_all_the_same() {
    let (connection, mut wire) = wired_through(16 << 10, 100).await;
    let running = tokio::spawn(open(&connection, unary(vec![0; 60_000])).await);
    wire.next_request().await;
    let answer = [
        wire_frame(HEADERS, 4, 1, &[0x88]),
        wire_frame(DATA, 0, 1, b"enough"),
        trailers(1),
    ];
    wire.write(&[goaway(NONE_YET, 0, b""), answer.concat().into()].concat())
        .await;
    let response = soon(running).await.expect("no panic").expect("headers");
    let (answer, _) = read(&mut response.into_body()).await.expect("a body");
    assert_eq!(answer, "enough");
}

#[tokio::test(start_paused = true)]
async fn each_reset_code_has_its_status() {
    for (reason, code) in [
        (Reason::NO_ERROR, Code::Internal),
        (Reason::PROTOCOL_ERROR, Code::Internal),
        (Reason::INTERNAL_ERROR, Code::Internal),
        (Reason::FLOW_CONTROL_ERROR, Code::Internal),
        (Reason::SETTINGS_TIMEOUT, Code::Internal),
        (Reason::STREAM_CLOSED, Code::Internal),
        (Reason::FRAME_SIZE_ERROR, Code::Internal),
        (Reason::REFUSED_STREAM, Code::Unavailable),
        (Reason::CANCEL, Code::Cancelled),
        (Reason::COMPRESSION_ERROR, Code::Internal),
        (Reason::CONNECT_ERROR, Code::Internal),
        (Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
        (Reason::INADEQUATE_SECURITY, Code::PermissionDenied),
        (Reason::HTTP_1_1_REQUIRED, Code::Internal),
        (Reason::from(0xff), Code::Internal),
    ] {
        let (connection, mut wire) = wired(100).await;
        let before_headers = open(&connection, unary("")).await;
        let after_headers = open(&connection, unary("")).await;
        assert_eq!(wire.next_request().await, 1);
        assert_eq!(wire.next_request().await, 3);
        let refused = reason == Reason::REFUSED_STREAM;

        wire.reset(1, reason.into()).await;
        let failed = failed(soon(before_headers).await);
        assert_eq!(failed.error.code(), code, "for {reason:?}");
        assert_eq!(failed.unprocessed, refused, "for {reason:?}");
        let text = failed.error.message();
        assert!(text.contains(ADDRESS), "{text}");

        wire.headers(3).await;
        let mut body = soon(after_headers).await.expect("headers").into_body();
        wire.reset(3, reason.into()).await;
        let status = read(&mut body).await.expect_err("a reset");
        assert_eq!(status.code(), code, "for {reason:?}");
        assert!(status.message().contains(ADDRESS), "{status:?}");
        assert_eq!(connection.streams(), 0);
        assert!(
            connection.admit().is_some(),
            "a stream's end is not the connection's"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_fails_its_calls_with_its_address() {
    let (connection, mut peer) = connected().await;
    let before_headers = open(&connection, unary("")).await;
    let _at_peer = peer.next_call().await;
    let after_headers = open(&connection, unary("")).await;
    let _answers = peer.next_call().await.answer();
    let mut body = soon(after_headers).await.expect("headers").into_body();
    drop(peer);

    assert_eq!(
        closes(&connection).await,
        "disconnected: the peer closed the connection (transport is closing)"
    );
    let failed = failed(soon(before_headers).await);
    assert_eq!(failed.error.code(), Code::Unavailable);
    let text =
        format!("stream to {ADDRESS}: the peer closed the connection (transport is closing)");
    assert_eq!(failed.error.message(), text);
    assert!(!failed.unprocessed);
    let status = read(&mut body).await.expect_err("cut off");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, &*text)
    );
    assert!(connection.admit().is_none());
    assert_eq!(connection.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_within_a_frame_says_so() {
    let (connection, mut wire) = wired(100).await;
    let running = open(&connection, unary("")).await;
    wire.next_request().await;
    wire.write(&wire_frame(HEADERS, 4, 1, &[0x88])[..5]).await;
    drop(wire);
    let why = "the peer closed the connection within a frame (transport is closing)";
    assert_eq!(closes(&connection).await, format!("disconnected: {why}"));
    let failed = failed(soon(running).await);
    assert_eq!(failed.error.code(), Code::Unavailable);
    let text = format!("stream to {ADDRESS}: {why}");
    assert_eq!(failed.error.message(), text);
}

#[tokio::test(start_paused = true)]
async fn frames_out_of_place_end_a_stream_or_a_connection_and_panic_nowhere() {
    let scripts: [&[u8]; 8] = [
        // An answer to a request that was never made.
        &wire_frame(HEADERS, 4, 99, &[0x88]),
        &wire_frame(0, 0, 1, b"before headers"),
        &trailers(1),
        &[trailers(1), trailers(1)].concat(),
        &wire_frame(HEADERS, 4, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
        &wire_frame(3, 0, 0, &[0, 0, 0, 8]),
        &wire_frame(8, 0, 0, &[0; 4]),
        &wire_frame(5, 4, 1, &[0, 0, 0, 2, 0x82]),
    ];
    for script in scripts {
        let (connection, mut wire) = wired(100).await;
        let running = open(&connection, unary("")).await;
        wire.next_request().await;
        wire.write(script).await;
        drop(wire);
        closes(&connection).await;
        if let Ok(response) = soon(running).await {
            let _ = read(&mut response.into_body()).await;
        }
        assert_eq!(connection.streams(), 0);
    }
}

/// Both come in one read, and the end must not hide its reason.
#[tokio::test(start_paused = true)]
async fn a_goaway_is_the_reason_for_the_end_that_follows_at_once() {
    for code in [0, 11] {
        let (connection, mut wire) = wired(100).await;
        let running = open(&connection, unary("")).await;
        let stream = wire.next_request().await;
        wire.goaway(stream, code, b"max_age").await;
        drop(wire);
        let text = closes(&connection).await;
        assert!(text.contains("GOAWAY received from the peer"), "{text}");
        assert!(text.contains("max_age"), "{text}");
        let failed = failed(soon(running).await);
        assert_eq!(failed.error.code(), Code::Unavailable);
    }
}

/// We end the connection then, and the calls on it are lost with it; nothing
/// was wrong with them.
#[tokio::test(start_paused = true)]
async fn a_peer_that_breaks_the_protocol_loses_the_connection() {
    let (connection, mut wire) = wired(100).await;
    let running = open(&connection, unary("")).await;
    // DATA on the connection itself.
    wire.write(&wire_frame(0, 0, 0, b"nonsense")).await;
    let text = closes(&connection).await;
    assert!(text.starts_with("disconnected: "), "{text}");
    let failed = failed(soon(running).await);
    assert_eq!(failed.error.code(), Code::Unavailable);
    assert!(failed.error.message().contains(ADDRESS));
    assert!(!failed.unprocessed);
}

/// An error on a stream that was never opened makes `h2` go on from there.
#[tokio::test(start_paused = true)]
async fn a_peer_that_uses_up_the_stream_numbers_is_connected_to_anew() {
    let (connection, mut wire) = wired(100).await;
    let admitted = connection.admit().expect("a free slot");
    let last = (1_u32 << 31) - 1;
    let on_itself = [&last.to_be_bytes()[..], &[0]].concat();
    wire.write(&wire_frame(PRIORITY, 0, last, &on_itself)).await;

    let text = drains(&connection).await;
    assert_eq!(text, "disconnected: all HTTP/2 stream IDs are used");
    let mut request = OutgoingRequest::new(unary(""));
    request.prefetch().await.expect("a sound body");
    let opened = admitted.open(&mut request);
    assert!(
        matches!(opened, Err(SendError::Unsent)),
        "it goes elsewhere"
    );
}

// D274
#[tokio::test(start_paused = true)]
async fn what_a_goaway_over_an_error_counts_out_is_not_to_be_sent_again() {
    let rows = [
        (Reason::NO_ERROR, true),
        (Reason::ENHANCE_YOUR_CALM, true),
        (Reason::COMPRESSION_ERROR, false),
        (Reason::PROTOCOL_ERROR, false),
        (Reason::FRAME_SIZE_ERROR, false),
        (Reason::INTERNAL_ERROR, false),
        (Reason::FLOW_CONTROL_ERROR, false),
    ];
    for (reason, unprocessed) in rows {
        let (connection, mut wire) = wired(100).await;
        let call = open(&connection, unary("")).await;
        wire.next_request().await;
        wire.goaway(0, reason.into(), b"").await;
        let failed = failed(soon(call).await);
        assert_eq!(failed.unprocessed, unprocessed, "after {reason:?}");
    }
}
