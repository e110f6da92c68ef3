//! What comes in the place of SETTINGS: the backend is never READY, and says why.

use std::{future::Future, io, time::Duration};

use testing::{RawConnection, http2};
use tonic_health_channel::status::CauseKind;

use super::Stage;

/// Asserts that a peer with this script cannot be connected to, for a reason with
/// this text, and is tried again.
async fn check<S, F>(reason: &str, script: S)
where
    S: Fn(RawConnection) -> F + Send + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let impatient = Duration::from_millis(200);
    let stage = Stage::set(None, |endpoint| endpoint.connect_timeout(impatient), script).await;
    stage.until_blamed(CauseKind::Connect, reason).await;
    stage.hostile.until_connections(2).await;
    stage.until_blamed(CauseKind::Connect, reason).await;
    stage.close().await;
}

#[tokio::test]
async fn garbage_without_end() {
    check("the peer does not speak HTTP/2", |mut wire| async move {
        wire.flood(10_000, |_| vec![0xaa; 1_000]).await
    })
    .await;
}

#[tokio::test]
async fn a_frame_longer_than_any() {
    check("the peer does not speak HTTP/2", |mut wire| async move {
        wire.write(&[0xff, 0xff, 0xff, http2::SETTINGS, 0, 0, 0, 0, 0])
            .await?;
        wire.listen().await
    })
    .await;
}

#[tokio::test]
async fn settings_that_are_out_of_range() {
    check("the peer does not speak HTTP/2", |mut wire| async move {
        let settings = http2::settings_of(&[(http2::MAX_FRAME_SIZE, 0)]);
        wire.open_with(&settings).await?;
        wire.listen().await
    })
    .await;
}

#[tokio::test]
async fn other_frames_only() {
    let reason = "no connection within 200ms: waiting for the peer's HTTP/2 SETTINGS";
    check(reason, |mut wire| async move {
        wire.read_preface().await?;
        // More than 10,000 would end the connection for another reason.
        wire.flood(9_000, |_| http2::ping(b"not yet.")).await?;
        wire.listen().await
    })
    .await;
}

#[tokio::test]
async fn settings_that_do_not_end() {
    let reason = "no connection within 200ms: waiting for the peer's HTTP/2 SETTINGS";
    check(reason, |mut wire| async move {
        wire.read_preface().await?;
        let settings = http2::settings(Some(1));
        wire.write(&settings[..settings.len() - 1]).await?;
        wire.listen().await
    })
    .await;
}

#[tokio::test]
async fn an_answer_to_a_request_that_nobody_made() {
    check("the peer does not speak HTTP/2", |mut wire| async move {
        wire.read_preface().await?;
        wire.write(&http2::answer(1, b"")).await?;
        wire.listen().await
    })
    .await;
}
