//! Connections that end too early, or should and do not.

use h2::Reason;
use testing::{RawConnection, http2, outcome, start};
use tonic::Code;
use tonic_health_channel::status::CauseKind;

use super::Stage;

#[tokio::test]
async fn a_peer_that_closes_after_its_settings_is_not_dialled_in_a_hurry() {
    let stage = Stage::with(|mut wire| async move { wire.open().await }).await;
    stage.hostile.until_connections(5).await;
    // It depends on how much comes at once whether that is a failure to connect.
    stage
        .until_blamed(
            None,
            "the peer closed the connection (transport is closing)",
        )
        .await;
    stage.close().await;
}

#[tokio::test]
async fn a_peer_that_resets_after_its_settings_is_not_dialled_in_a_hurry() {
    let script = |mut wire: RawConnection| async move {
        wire.reset_on_close();
        wire.open().await
    };
    let stage = Stage::with(script).await;
    stage.hostile.until_connections(5).await;
    // It depends on how much comes at once whether that is a failure to connect.
    stage.until_blamed(None, "connection reset").await;
    stage.close().await;
}

/// Asserts that a call fails whose connection is closed behind what `bytes` makes of
/// its stream.
async fn check_cut_behind(
    end: &str,
    bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static,
) {
    let stage = Stage::with(move |mut wire| {
        let bytes = bytes.clone();
        async move {
            wire.open().await?;
            let stream = wire.whole_request().await?;
            wire.write(&bytes(stream)).await
        }
    })
    .await;
    let status = stage.failure().await;
    let text = stage.stream_failed(&status, Code::Unavailable);
    assert_eq!(text, end);
    stage.until_blamed(CauseKind::Disconnected, end).await;
    stage.close().await;
}

#[tokio::test]
async fn a_connection_that_ends_behind_the_headers() {
    check_cut_behind(
        "the peer closed the connection (transport is closing)",
        http2::response,
    )
    .await;
}

#[tokio::test]
async fn a_connection_that_ends_within_a_frame_of_headers() {
    check_cut_behind(
        "the peer closed the connection within a frame (transport is closing)",
        |stream| http2::response(stream)[..12].to_vec(),
    )
    .await;
}

#[tokio::test]
async fn a_connection_that_ends_within_a_message() {
    check_cut_behind(
        "the peer closed the connection (transport is closing)",
        |stream| {
            let begun = http2::frame(http2::DATA, 0, stream, &[0, 0, 0, 0, 9, 1, 2]);
            [http2::response(stream), begun].concat()
        },
    )
    .await;
}

#[tokio::test]
async fn a_connection_that_ends_between_a_message_and_its_status() {
    check_cut_behind(
        "the peer closed the connection (transport is closing)",
        |stream| [http2::response(stream), http2::message(stream, b"")].concat(),
    )
    .await;
}

#[tokio::test]
async fn a_goaway_that_no_close_follows_ends_with_the_last_call() {
    let script = |mut wire: RawConnection| async move {
        wire.open().await?;
        if wire.before > 0 {
            return wire.behave().await;
        }
        let stream = wire.whole_request().await?;
        let goaway = http2::go_away(stream, Reason::NO_ERROR, "max_age");
        let answer = http2::answer(stream, b"");
        wire.write(&[goaway, answer].concat()).await?;
        wire.listen().await
    };
    let stage = Stage::with(script).await;
    stage.success().await;
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 2);
    stage.hostile.until_open_connections(1).await;
    stage.close().await;
}

#[tokio::test]
async fn a_goaway_that_counts_nobody_and_no_close_follows_fails_nobody() {
    let script = |mut wire: RawConnection| async move {
        wire.open().await?;
        if wire.before > 0 {
            return wire.behave().await;
        }
        wire.whole_request().await?;
        wire.whole_request().await?;
        wire.write(&http2::go_away(0, Reason::NO_ERROR, "")).await?;
        wire.listen().await
    };
    let stage = Stage::with(script).await;
    stage.until_connected().await;
    let calls: Vec<_> = (0..4).map(|_| start(&stage.channel, "you")).collect();
    for call in calls {
        outcome(call)
            .await
            .expect("the peer looked at none of them");
    }
    stage.success().await;
    stage.hostile.until_open_connections(1).await;
    stage.close().await;
}

/// The first call is counted by both, the second by neither.
#[tokio::test]
async fn a_goaway_that_takes_back_another_ends_the_connection() {
    let stage = Stage::with_frames(|_| {
        let first = http2::go_away(1, Reason::NO_ERROR, "");
        [first, http2::go_away(7, Reason::NO_ERROR, "")].concat()
    })
    .await;
    stage.until_connected().await;
    let calls: Vec<_> = (0..4).map(|_| start(&stage.channel, "you")).collect();
    let mut failed = Vec::new();
    for call in calls {
        failed.extend(outcome(call).await.err());
    }
    assert_eq!(failed.len(), 1, "{failed:?}");
    let text = stage.stream_failed(&failed[0], Code::Unavailable);
    assert!(text.contains("the peer violates HTTP/2"), "{text}");
    // The first is what it was left for; it may be gone when the second is read.
    stage
        .until_blamed(CauseKind::Disconnected, "GOAWAY received from the peer")
        .await;
    stage.success().await;
    stage.close().await;
}
