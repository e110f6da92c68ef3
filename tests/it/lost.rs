//! A connection that is lost.

use tonic::Code;
use tonic_health_channel::ConnectivityState::{Connecting, Ready};

use crate::support::{Backend, health_checked, say, until, within};

/// The `Watch` ends with its connection, and may be heard first. If that counted
/// as an answer about health, the backend would fail its calls while it is only
/// being connected to again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_connection_is_no_word_about_health() {
    const TIMES: usize = 20;
    // Whoever they wake is work for the other thread, and one of them the Watch.
    const IN_FLIGHT: usize = 8;
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    for time in 1..=TIMES {
        until(&channel, Ready).await;
        let calls: Vec<_> = (0..IN_FLIGHT)
            .map(|_| {
                let channel = channel.clone();
                tokio::spawn(async move { say(&channel, "hold").await })
            })
            .collect();
        backend.until_held(IN_FLIGHT).await;
        let mut watch = channel.watch_status();
        backend.cut_connections();
        let left = watch.wait_for(|status| status.state() != Ready);
        let status = within("the backend to leave READY", left).await;
        let told = format!("{}, time {time} of {TIMES}", status.backends()[0]);
        assert_eq!(status.state(), Connecting, "{told}");
        for call in calls {
            let outcome = call.await.expect("a call does not panic");
            let code = outcome.map_err(|status| status.code());
            assert_eq!(code, Err(Code::Unavailable));
        }
    }
}
