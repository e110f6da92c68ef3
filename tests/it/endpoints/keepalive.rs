//! HTTP/2 PINGs, as far as they show in the time of a test.

use std::time::Duration;

use h2::Reason;
use testing::{Answer, H2Peer, Logs, endpoint, hello, start, until};
use tonic_health_channel::ConnectivityState::Ready;

#[tokio::test]
async fn a_server_that_minds_pings_is_one_warning() {
    let logs = Logs::capture();
    let peer = H2Peer::start().await;
    let channel = endpoint(peer.uri())
        .http2_keep_alive_interval(Duration::from_secs(60))
        .connect_lazy();
    hello(&channel).await.expect("a reply");
    peer.answer_calls(Answer::KeepOpen);
    let _open = start(&channel, "you");
    peer.until_calls(2).await;
    peer.go_away_and_close(Reason::ENHANCE_YOUR_CALM, "too_many_pings");
    logs.until("a warning", |line| {
        line.text
            .contains("closed the connection for too_many_pings")
    })
    .await;
    until(&channel, Ready).await;
    let warned = logs.at(tracing::Level::WARN, "tonic_health_channel::backend");
    assert_eq!(warned.len(), 1, "{warned:?}");
}
