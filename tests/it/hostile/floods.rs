//! Too much of anything, each in a process of its own whose memory is bounded.
//!
//! Where the peer reads while it writes, what it gets to read is discarded; where it
//! does not, what it would have to read must not pile up here.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use h2::Reason;
use testing::{
    assert_growth,
    http2::{self, END_HEADERS, PADDED, field, frame, headers},
};
use tonic::Code;
use tonic_health_channel::{Endpoint, status::CauseKind};

use super::Stage;

/// What a test may take, of which its process with both peers is a third.
const MOST: u64 = 32 << 20;

/// What `h2` says when one of its own guards ends a connection.
const TOO_MANY_FRAMES: &str = "the peer violates HTTP/2: headers in too many frames";
const TOO_MUCH: &str = "detected excessive load generating behavior";

trait Flood: Fn(u32, u32) -> Vec<u8> + Clone + Send + Sync + 'static {}

impl<F: Fn(u32, u32) -> Vec<u8> + Clone + Send + Sync + 'static> Flood for F {}

/// Asserts that a call is answered behind `times` times what `bytes` makes of its
/// stream and of the number of the time.
async fn check_harmless(name: &str, times: u32, bytes: impl Flood) {
    let test = async {
        let stage = Stage::with(move |mut wire| {
            let bytes = bytes.clone();
            async move {
                wire.open().await?;
                let stream = wire.whole_request().await?;
                wire.flood(times, |time| bytes(stream, time)).await?;
                wire.write(&http2::answer(stream, b"")).await?;
                wire.behave().await
            }
        })
        .await;
        stage.success().await;
        stage.success().await;
        assert_eq!(stage.hostile.connections(), 1);
        stage.close().await;
    };
    assert_growth(&format!("hostile::floods::{name}"), MOST, test).await;
}

/// Asserts that the connection ends for a reason with this text.
async fn check_ends(name: &str, reason: &str, times: u32, bytes: impl Flood) {
    let test = async {
        let stage = Stage::with(move |mut wire| {
            let bytes = bytes.clone();
            async move {
                wire.open().await?;
                if wire.before == 0 {
                    let stream = wire.whole_request().await?;
                    wire.flood(times, |time| bytes(stream, time)).await?;
                    return wire.listen().await;
                }
                wire.behave().await
            }
        })
        .await;
        let status = stage.failure().await;
        let text = stage.stream_failed(&status, Code::Unavailable);
        assert!(text.contains(reason), "{text}");
        stage.until_blamed(CauseKind::Disconnected, reason).await;
        stage.success().await;
        stage.close().await;
    };
    assert_growth(&format!("hostile::floods::{name}"), MOST, test).await;
}

/// Asserts that a peer which does not read is not read either, before it has written
/// all of `times`.
async fn check_deaf(name: &str, times: u32, bytes: impl Flood) {
    let test = async {
        let (written, all) = (Arc::new(AtomicUsize::new(0)), bytes(1, 0).len());
        let script = {
            let written = Arc::clone(&written);
            move |mut wire: testing::RawConnection| {
                let (bytes, written) = (bytes.clone(), Arc::clone(&written));
                async move {
                    wire.open().await?;
                    if wire.before == 0 {
                        let stream = wire.whole_request().await?;
                        let flood = wire.flood_deaf(times, |time| bytes(stream, time));
                        written.store(flood.await?, Relaxed);
                        return Ok(());
                    }
                    wire.behave().await
                }
            }
        };
        let stage = Stage::with(script).await;
        let status = stage.failure().await;
        stage.stream_failed(&status, Code::Unavailable);
        let (written, all) = (written.load(Relaxed), all * times as usize);
        assert!(written < all, "all of {all} bytes were read");
        stage.success().await;
        stage.close().await;
    };
    assert_growth(&format!("hostile::floods::{name}"), MOST, test).await;
}

#[tokio::test]
async fn pings() {
    check_harmless("pings", 9, |_, _| http2::ping(b"how now?").repeat(1_000)).await;
}

#[tokio::test]
async fn too_many_pings() {
    let reason = "more than 10000 PING frames in 10s";
    check_ends("too_many_pings", reason, 1_000, |_, _| {
        http2::ping(b"how now?").repeat(1_000)
    })
    .await;
}

#[tokio::test]
async fn pings_whose_answers_are_not_read() {
    let name = "pings_whose_answers_are_not_read";
    check_deaf(name, 1_500, |_, _| http2::ping(b"how now?").repeat(1_000)).await;
}

#[tokio::test]
async fn settings() {
    check_harmless("settings", 90, |_, time| {
        http2::settings(Some(100 + time % 2))
    })
    .await;
}

/// Each walks all streams of the connection, those that are remembered too.
#[tokio::test]
async fn too_many_settings() {
    let reason = "more than 100 SETTINGS frames in 10s";
    check_ends("too_many_settings", reason, 100, |_, time| {
        let window = |size| http2::settings_of(&[(http2::INITIAL_WINDOW_SIZE, size)]);
        [window(1 << 16), window(time)].concat().repeat(100)
    })
    .await;
}

#[tokio::test]
async fn settings_whose_acknowledgements_are_not_read() {
    let name = "settings_whose_acknowledgements_are_not_read";
    check_deaf(name, 2_000, |_, time| {
        http2::settings(Some(100 + time % 2)).repeat(1_000)
    })
    .await;
}

#[tokio::test]
async fn window_updates() {
    check_harmless("window_updates", 40, updates).await;
}

#[tokio::test]
async fn too_many_window_updates() {
    let reason = "more than 100000 frames that change nothing in 10s";
    check_ends("too_many_window_updates", reason, 1_000, updates).await;
}

fn updates(stream: u32, _: u32) -> Vec<u8> {
    let both = [http2::window_update(0, 1), http2::window_update(stream, 1)];
    both.concat().repeat(1_000)
}

#[tokio::test]
async fn resets_of_closed_streams() {
    let name = "resets_of_closed_streams";
    let test = async {
        let stage = Stage::with(|mut wire| async move {
            wire.open().await?;
            loop {
                let stream = wire.whole_request().await?;
                wire.write(&http2::answer(stream, b"")).await?;
                let resets = http2::reset(stream, Reason::CANCEL).repeat(1_000);
                wire.flood(30, |_| resets.clone()).await?;
            }
        })
        .await;
        stage.success().await;
        stage.success().await;
        assert_eq!(stage.hostile.connections(), 1);
        stage.close().await;
    };
    assert_growth(&format!("hostile::floods::{name}"), MOST, test).await;
}

/// The first is the end of the call, and the others are of a stream that is closed.
#[tokio::test]
async fn resets_of_an_open_stream() {
    let name = "resets_of_an_open_stream";
    let test = async {
        let stage = Stage::with(|mut wire| async move {
            wire.open().await?;
            if wire.before == 0 {
                let stream = wire.whole_request().await?;
                let resets = http2::reset(stream, Reason::CANCEL).repeat(1_000);
                wire.flood(50, |_| resets.clone()).await?;
            }
            wire.behave().await
        })
        .await;
        let status = stage.failure().await;
        let text = stage.stream_failed(&status, Code::Cancelled);
        assert!(
            text.starts_with("stream terminated by RST_STREAM with error code: CANCEL"),
            "{text}"
        );
        stage.success().await;
        assert_eq!(stage.hostile.connections(), 1);
        stage.close().await;
    };
    assert_growth(&format!("hostile::floods::{name}"), MOST, test).await;
}

#[tokio::test]
async fn resets_of_idle_streams() {
    let name = "resets_of_idle_streams";
    check_ends(name, "unspecific protocol error", 10, |_, time| {
        http2::reset(4711 + 2 * time, Reason::CANCEL).repeat(1_000)
    })
    .await;
}

#[tokio::test]
async fn frames_of_an_unknown_kind() {
    check_harmless("frames_of_an_unknown_kind", 600, |stream, _| {
        frame(0x63, 0, stream, &[b'?'; 16 << 10]).repeat(10)
    })
    .await;
}

#[tokio::test]
async fn priorities() {
    check_harmless("priorities", 90, |_, time| {
        frame(http2::PRIORITY, 0, 2 * time + 1, &[0, 0, 0, 0, 9]).repeat(1_000)
    })
    .await;
}

/// Each a stream error, and a reset that has to be told to somebody who does not
/// read. `h2` keeps what it is to tell: without a bound on such errors, 28 MB of
/// them took 950 MB.
#[tokio::test]
async fn errors_on_streams_that_were_never_opened() {
    let name = "errors_on_streams_that_were_never_opened";
    let test = async {
        let stage = Stage::with(|mut wire| async move {
            wire.open().await?;
            if wire.before == 0 {
                wire.whole_request().await?;
                // Until the client has closed.
                for thousand in 0..10_000 {
                    wire.write(&made_up_streams(1_000 * thousand)).await?;
                }
            }
            wire.behave().await
        })
        .await;
        let status = stage.failure().await;
        let text = stage.stream_failed(&status, Code::Unavailable);
        assert!(text.contains(TOO_MUCH), "{text}");
        stage.until_blamed(CauseKind::Disconnected, TOO_MUCH).await;
        stage.success().await;
        stage.close().await;
    };
    assert_growth(&format!("hostile::floods::{name}"), 2 * MOST, test).await;
}

/// A thousand priorities of streams that depend on themselves.
fn made_up_streams(first: u32) -> Vec<u8> {
    let on_itself = |number: u32| {
        let stream = 2 * (number + 1);
        let payload = [&stream.to_be_bytes()[..], &[0]].concat();
        frame(http2::PRIORITY, 0, stream, &payload)
    };
    (first..first + 1_000).flat_map(on_itself).collect()
}

#[tokio::test]
async fn informational_responses() {
    check_harmless("informational_responses", 99, early_hints).await;
}

/// The call is not asked for its answer meanwhile. `h2` keeps them all for it: 28 MB were
/// 1.4 GB here.
#[tokio::test]
async fn too_many_informational_responses() {
    let reason = "more than 100 header blocks on one stream";
    check_ends(
        "too_many_informational_responses",
        reason,
        50_000,
        early_hints,
    )
    .await;
}

fn early_hints(stream: u32, _: u32) -> Vec<u8> {
    let long = "y".repeat(1_000);
    headers(stream, 0, &[(":status", "103"), ("x", &long)])
}

/// Whoever has headers without end makes somebody wait who reads them to the end.
#[tokio::test]
async fn headers_that_go_on_and_on() {
    let name = "headers_that_go_on_and_on";
    check_ends(name, TOO_MANY_FRAMES, 10_000, |stream, time| match time {
        0 => frame(http2::HEADERS, 0, stream, &[0x88]),
        _ => frame(
            http2::CONTINUATION,
            0,
            stream,
            &field(b"x", &[b'y'; 16_000]),
        ),
    })
    .await;
}

#[tokio::test]
async fn headers_that_go_on_with_nothing() {
    let name = "headers_that_go_on_with_nothing";
    check_ends(name, TOO_MANY_FRAMES, 10_000, |stream, time| match time {
        0 => frame(http2::HEADERS, 0, stream, &[0x88]),
        _ => frame(http2::CONTINUATION, 0, stream, &[]),
    })
    .await;
}

/// One byte for a field of the dynamic table, over and over.
#[tokio::test]
async fn headers_that_unfold_to_much_more() {
    let name = "headers_that_unfold_to_much_more";
    let reason = "headers larger than 4 times `http2_max_header_list_size`";
    check_ends(name, reason, 10, |stream, _| {
        let kept = [&[0x40][..], &field(b"x", &[b'y'; 3_000])[1..]].concat();
        let block = [&[0x88][..], &kept, &[0x80 | 62; 12_000]].concat();
        frame(http2::HEADERS, END_HEADERS, stream, &block)
    })
    .await;
}

/// `h2` takes 100 empty frames in the life of a connection, and is not shown them.
#[tokio::test]
async fn empty_data() {
    check_harmless("empty_data", 90, nothing).await;
}

#[tokio::test]
async fn too_much_empty_data() {
    let reason = "more than 10000 empty DATA frames in 10s";
    check_ends("too_much_empty_data", reason, 1_000, nothing).await;
}

fn nothing(stream: u32, _: u32) -> Vec<u8> {
    frame(http2::DATA, 0, stream, &[]).repeat(100)
}

#[tokio::test]
async fn padding_around_nothing_ends_the_connection_in_h2() {
    let name = "padding_around_nothing_ends_the_connection_in_h2";
    check_ends(name, TOO_MUCH, 100, |stream, time| match time {
        0 => http2::response(stream),
        _ => frame(
            http2::DATA,
            PADDED,
            stream,
            &[&[255][..], &[0; 255]].concat(),
        )
        .repeat(100),
    })
    .await;
}

/// Calls that were counted go on, and no new ones come.
#[tokio::test]
async fn goaways() {
    let name = "goaways";
    let test = async {
        let stage = Stage::with(|mut wire| async move {
            wire.open().await?;
            if wire.before == 0 {
                let stream = wire.whole_request().await?;
                let debug = "d".repeat(1_000);
                let goaway = http2::go_away(stream, Reason::NO_ERROR, &debug).repeat(10);
                wire.flood(2_000, |_| goaway.clone()).await?;
                wire.write(&http2::answer(stream, b"")).await?;
                return wire.listen().await;
            }
            wire.behave().await
        })
        .await;
        stage.success().await;
        stage.success().await;
        assert_eq!(stage.hostile.connections(), 2);
        stage.hostile.until_open_connections(1).await;
        stage.close().await;
    };
    assert_growth(&format!("hostile::floods::{name}"), MOST, test).await;
}

/// A frame that waits for its reader takes a quarter of a kilobyte, however little is
/// in it. The windows bound how many there are; these are as HTTP/2 begins.
#[tokio::test]
async fn frames_of_one_byte_that_nobody_reads() {
    let name = "frames_of_one_byte_that_nobody_reads";
    let test = async {
        let narrow = |endpoint: Endpoint| endpoint.initial_stream_window_size((1 << 16) - 1);
        let stage = Stage::set(None, narrow, |mut wire| async move {
            wire.open().await?;
            let stream = wire.whole_request().await?;
            let hostile = [(":status", "200"), ("x-hostile", "yes")];
            wire.write(&http2::headers(stream, 0, &hostile)).await?;
            let bytes = frame(http2::DATA, 0, stream, &[0]).repeat(1_000);
            wire.flood(200, |_| bytes.clone()).await?;
            wire.behave().await
        })
        .await;
        stage.until_connected().await;
        let unread = stage.stream_of_hostile().await;
        stage.success().await;
        drop(unread);
        assert_eq!(stage.hostile.connections(), 1);
        stage.close().await;
    };
    assert_growth(&format!("hostile::floods::{name}"), 2 * MOST, test).await;
}
