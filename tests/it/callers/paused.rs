//! Tests of applications pause tokio's clock and talk to real servers. While all tasks wait for
//! a socket, such a clock jumps to the next timer, and most of those are ours.
//!
//! The one place where sockets and paused time meet. Nothing here has a timeout by tokio's
//! clock, as that would jump too.

use std::{
    future::Future,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use testing::{
    Backend, HealthKind, PATIENCE, checking, greeter::greeter_client::GreeterClient, request,
};
use tokio::runtime::{Builder, Runtime};
use tonic::transport;
use tonic_health_channel::{
    Channel, ConnectivityState, Endpoint, HealthOptions, discover, health::OnUnimplemented,
};

/// As often as it has to go well.
const ROUNDS: usize = 50;

/// Runs `test` in paused time, round by round, each with a server on the same runtime or on
/// another.
fn rounds<F>(what: &'static str, test: impl Fn(Backend) -> F + Send + Clone + 'static)
where
    F: Future<Output = Result<(), String>>,
{
    rounds_with(what, Backend::builder, test);
}

/// The same with a server of another kind.
fn rounds_with<F>(
    what: &'static str,
    server: fn() -> testing::Builder,
    test: impl Fn(Backend) -> F + Send + Clone + 'static,
) where
    F: Future<Output = Result<(), String>>,
{
    for round in 0..ROUNDS {
        let test = test.clone();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let runtime = paused();
            let outcome = match round % 2 {
                0 => runtime.block_on(async { test(server().start().await).await }),
                _ => {
                    let servers = Builder::new_multi_thread().enable_all().build();
                    let servers = servers.expect("a runtime");
                    let backend = servers.block_on(server().start());
                    let outcome = runtime.block_on(test(backend));
                    servers.shutdown_background();
                    outcome
                }
            };
            let _ = tell.send(outcome);
        });
        let outcome = told.recv_timeout(PATIENCE * 3);
        let outcome = outcome.unwrap_or_else(|_| Err("it has not ended".to_owned()));
        assert_eq!(outcome, Ok(()), "{what}, round {round}");
    }
}

fn paused() -> Runtime {
    let mut builder = Builder::new_current_thread();
    let builder = builder.enable_all().start_paused(true);
    builder.build().expect("a runtime")
}

async fn call(channel: Channel, name: &str) -> Result<(), String> {
    let answer = GreeterClient::new(channel).say_hello(request(name)).await;
    answer.map(drop).map_err(|status| status.to_string())
}

// D232
#[test]
fn a_connection_is_made_in_paused_time() {
    rounds("tonic's connect", async |backend: Backend| {
        let endpoint = transport::Endpoint::from_shared(backend.uri()).expect("a URI");
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| error.to_string())?;
        let mut client = GreeterClient::new(channel);
        let answer = client.say_hello(request("you")).await;
        answer.map(drop).map_err(|status| status.to_string())
    });
    rounds("connect", async |backend: Backend| {
        let endpoint = Endpoint::from_shared(backend.uri()).expect("a URI");
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| error.to_string())?;
        call(channel, "you").await
    });
    rounds("a name, lazily", async |backend: Backend| {
        let uri = backend.uri().replace("127.0.0.1", "localhost");
        let endpoint = Endpoint::from_shared(uri).expect("a URI");
        call(endpoint.connect_lazy(), "you").await
    });
}

/// Lets time pass, by tokio's clock.
async fn pass(time: Duration) {
    let passed = tokio::time::timeout(time, std::future::pending::<()>());
    assert!(passed.await.is_err());
}

/// READY, and by the first attempt.
async fn becomes_ready(channel: &Channel) -> Result<(), String> {
    let settled = |state: ConnectivityState| match state {
        ConnectivityState::Ready | ConnectivityState::TransientFailure => Some(state),
        _ => None,
    };
    let mut watch = channel.watch_status();
    let status = watch
        .wait_for(|status| settled(status.state()).is_some())
        .await;
    match status.state() {
        ConnectivityState::Ready => Ok(()),
        _ => Err(format!("{status:?}")),
    }
}

// D232
#[test]
fn health_is_checked_in_paused_time() {
    rounds("a Watch", async |backend: Backend| {
        let list = discover::list([backend.uri()]).expect("a list of one");
        let channel = Channel::balance(list).service_config(checking("")).build();
        becomes_ready(&channel).await?;
        call(channel, "you").await
    });
}

// D232
#[test]
fn a_check_is_answered_in_paused_time() {
    let check_only = || Backend::builder().health(HealthKind::CheckOnly);
    rounds_with("a Check", check_only, async |backend: Backend| {
        let list = discover::list([backend.uri()]).expect("a list of one");
        let polling = HealthOptions::default().on_unimplemented(OnUnimplemented::PollCheck {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
        });
        let builder = Channel::balance(list).service_config(checking(""));
        let channel = builder.health_options(polling).build();
        becomes_ready(&channel).await?;
        pass(Duration::from_secs(35)).await;
        match (channel.state(), backend.checks()) {
            (ConnectivityState::Ready, 3..) => Ok(()),
            (_, checks) => Err(format!("{:?} after {checks}", channel.status())),
        }
    });
}

// D232
#[test]
fn pings_are_answered_in_paused_time() {
    rounds("a PING", async |backend: Backend| {
        let endpoint = Endpoint::from_shared(backend.uri()).expect("a URI");
        let endpoint = endpoint.http2_keep_alive_interval(Duration::from_secs(10));
        let endpoint = endpoint.keep_alive_timeout(Duration::from_secs(1));
        let channel = endpoint.keep_alive_while_idle(true).connect_lazy();
        call(channel.clone(), "you").await?;
        pass(Duration::from_secs(35)).await;
        call(channel, "you").await?;
        match backend.connections() {
            1 => Ok(()),
            n => Err(format!("{n} connections")),
        }
    });
}

#[cfg(feature = "tls-ring")]
// D232
#[test]
fn a_tls_handshake_is_made_in_paused_time() {
    use testing::{Authority, TlsFront};

    rounds("TLS", async |backend: Backend| {
        let authority = Authority::new();
        let front = TlsFront::of(&backend, &authority).await;
        let patient = authority.trusted().timeout(Duration::from_secs(5));
        let channel = front.endpoint(patient).connect().await;
        call(channel.map_err(|error| error.to_string())?, "you").await
    });
}

// D233
/// What time the peer is given, it is given for real.
#[test]
fn a_silent_server_is_given_up_in_paused_time_after_as_much_real_time() {
    let limit = Duration::from_millis(300);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let uri = format!("http://{address}");
    let before = Instant::now();
    let failed = paused().block_on(async {
        let endpoint = Endpoint::from_shared(uri).expect("a URI");
        endpoint.connect_timeout(limit).connect().await.map(drop)
    });
    let text = failed.expect_err("no word of it").to_string();
    assert!(text.contains("no connection within 300ms"), "{text}");
    assert!(before.elapsed() >= limit - Duration::from_millis(50));
}
