//! The metrics of connections and TLS handshakes (gRFC A94, A118).

use h2::Reason;
use testing::{
    Backend, H2Peer, Peer, PeerScript, balanced, balanced_at, by_hand, dead_addr, until,
    until_that, within,
};
use tonic_health_channel::{
    ConnectivityState::{Ready, TransientFailure},
    metrics::{Metrics, Prometheus},
};

use super::scrape::{build, sum, until_sum};

pub(super) const SUCCEEDED: &str = "grpc_subchannel_connection_attempts_succeeded_total";
const FAILED: &str = "grpc_subchannel_connection_attempts_failed_total";
const DISCONNECTIONS: &str = "grpc_subchannel_disconnections_total";
const OPEN: &str = "grpc_subchannel_open_connections";

/// All of them with all their labels.
pub(super) fn with_connections(metrics: Metrics) -> Metrics {
    metrics
        .enable([
            "grpc.subchannel.connection_attempts_succeeded",
            "grpc.subchannel.connection_attempts_failed",
            "grpc.subchannel.disconnections",
            "grpc.subchannel.open_connections",
            "grpc.client.tls.handshakes",
        ])
        .optional_labels([
            "grpc.disconnect_error",
            "grpc.security_level",
            "grpc.tls.handshake.resumed",
        ])
}

async fn until_lost(meter: &Prometheus, error: &str) {
    until_sum(
        meter,
        DISCONNECTIONS,
        &[("grpc_disconnect_error", error)],
        1.0,
    )
    .await;
    assert_eq!(sum(meter, DISCONNECTIONS, &[]), 1.0, "not {error} alone");
}

// M15
#[tokio::test]
async fn a_connection_that_is_replaced_is_another_attempt_and_a_disconnection() {
    let peer = H2Peer::start().await;
    let (channel, meter) = build(balanced_at([peer.uri()], None), with_connections);
    until(&channel, Ready).await;
    assert_eq!(sum(&meter, SUCCEEDED, &[]), 1.0);
    assert_eq!(sum(&meter, OPEN, &[("grpc_security_level", "none")]), 1.0);
    peer.go_away();
    until_sum(&meter, SUCCEEDED, &[], 2.0).await;
    until_lost(&meter, "GOAWAY NO_ERROR").await;
    assert_eq!(sum(&meter, OPEN, &[]), 1.0);
    assert_eq!(sum(&meter, FAILED, &[]), 0.0);
    channel.close().await;
    let shutdown = [("grpc_disconnect_error", "subchannel shutdown")];
    until_sum(&meter, DISCONNECTIONS, &shutdown, 1.0).await;
    assert_eq!(sum(&meter, OPEN, &[]), 0.0);
}

// M16
#[tokio::test]
async fn the_first_reason_of_a_disconnection_counts() {
    let peer = H2Peer::start().await;
    let (channel, meter) = build(balanced_at([peer.uri()], None), with_connections);
    until(&channel, Ready).await;
    peer.go_away_and_close(Reason::ENHANCE_YOUR_CALM, "calm down");
    until_lost(&meter, "GOAWAY ENHANCE_YOUR_CALM").await;

    let backend = Backend::start().await;
    let (channel, meter) = build(balanced(&[&backend], None), with_connections);
    until(&channel, Ready).await;
    backend.cut_connections();
    until_lost(&meter, "connection reset").await;

    let backend = Backend::start().await;
    let (backends, builder) = by_hand(None);
    let (channel, meter) = build(builder, with_connections);
    backends.insert("there", backend.uri()).await;
    until(&channel, Ready).await;
    backends.remove("there").await;
    until_lost(&meter, "subchannel shutdown").await;
    assert_eq!(sum(&meter, OPEN, &[]), 0.0);
}

// M17
#[tokio::test]
async fn a_dial_that_is_given_up_has_neither_succeeded_nor_failed() {
    let silent = Peer::start(PeerScript::Silent).await;
    let (backends, builder) = by_hand(None);
    let (channel, meter) = build(builder, with_connections);
    backends.insert("silent", silent.uri()).await;
    within("a dial", silent.until_connections(1)).await;
    backends.remove("silent").await;
    until_that(&channel, "no backends", |status| {
        status.backends().is_empty()
    })
    .await;
    within("its end", silent.until_open_connections(0)).await;
    for name in [SUCCEEDED, FAILED, DISCONNECTIONS, OPEN] {
        assert!(!meter.render().contains(name), "{name}");
    }
    backends.insert("dead", dead_addr().uri()).await;
    until(&channel, TransientFailure).await;
    assert!(sum(&meter, FAILED, &[]) >= 1.0);
    assert_eq!(sum(&meter, SUCCEEDED, &[]), 0.0);
}

#[cfg(feature = "tls-ring")]
mod tls {
    use testing::{
        Authority, Backend, Peer, PeerScript, ServerTls, TlsFront, by_hand, endpoint, hello, until,
    };
    use tonic_health_channel::ConnectivityState::{Ready, TransientFailure};

    use super::{OPEN, build, sum, until_sum, with_connections};

    const HANDSHAKES: &str = "grpc_client_tls_handshakes_total";

    // M18, M21
    #[tokio::test]
    async fn a_secured_connection_says_so_and_its_handshake_counts() {
        let (backend, authority) = (Backend::start().await, Authority::new());
        let front = TlsFront::of(&backend, &authority).await;
        let (backends, builder) = by_hand(None);
        let (channel, meter) = build(builder, with_connections);
        backends
            .insert_as("secured", front.endpoint(authority.trusted()))
            .await;
        until(&channel, Ready).await;
        let secured = [("grpc_security_level", "privacy_and_integrity")];
        assert_eq!(sum(&meter, OPEN, &secured), 1.0);
        let full = [
            ("grpc_tls_handshake_result", "SUCCESS"),
            ("grpc_tls_handshake_resumed", "FULL_HANDSHAKE"),
        ];
        assert_eq!(sum(&meter, HANDSHAKES, &full), 1.0);
        hello(&channel)
            .await
            .expect("an answer, and tickets before it");
        backend.cut_connections();
        let resumed = [("grpc_tls_handshake_resumed", "RESUMED_HANDSHAKE")];
        until_sum(&meter, HANDSHAKES, &resumed, 1.0).await;
    }

    // M21
    #[tokio::test]
    async fn a_handshake_that_fails_has_its_reason() {
        let (backend, authority) = (Backend::start().await, Authority::new());
        let tls = ServerTls::new(&authority.server(&["127.0.0.1"]));
        let fronts = [
            (ServerTls::new(&authority.expired()), "CERTIFICATE_EXPIRED"),
            (tls.alpn(&["http/1.1"]), "NO_APPLICATION_PROTOCOL"),
            (
                ServerTls::new(&authority.only("greeter.example")),
                "CERTIFICATE_HOSTNAME_MISMATCH",
            ),
        ];
        for (tls, result) in fronts {
            let front = TlsFront::start(&backend, tls).await;
            let (backends, builder) = by_hand(None);
            let (channel, meter) = build(builder, with_connections);
            backends
                .insert_as("refused", front.endpoint(authority.trusted()))
                .await;
            until(&channel, TransientFailure).await;
            let results = [("grpc_tls_handshake_result", result)];
            assert!(
                sum(&meter, HANDSHAKES, &results) >= 1.0,
                "{}",
                meter.render()
            );
        }
    }

    // M21
    #[tokio::test]
    async fn a_handshake_that_takes_too_long_is_over_with_its_dial() {
        let silent = Peer::start(PeerScript::Silent).await;
        let waiting = endpoint(silent.uri().replace("http:", "https:"))
            .connect_timeout(std::time::Duration::from_millis(50))
            .tls_config(Authority::new().trusted())
            .expect("a config");
        let (backends, builder) = by_hand(None);
        let (channel, meter) = build(builder, with_connections);
        backends.insert_as("silent", waiting).await;
        until(&channel, TransientFailure).await;
        let late = [("grpc_tls_handshake_result", "HANDSHAKE_TIMEOUT")];
        assert_eq!(sum(&meter, HANDSHAKES, &late), 1.0, "{}", meter.render());
    }
}
