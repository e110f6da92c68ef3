//! `probe`: what `grpc-health-probe` does.

use std::process::Stdio;

use http::HeaderMap;
#[cfg(unix)]
use testing::UnixDoor;
use testing::{Backend, CheckScript, GREETER, HealthKind, UNKNOWN, dead_addr, within};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::run::{Ended, command, probe, run, run_command};

/// What the backend was last asked with.
fn headers(backend: &Backend) -> HeaderMap {
    let seen = backend.last_check().expect("it was asked");
    seen.metadata.into_headers()
}

#[tokio::test]
async fn a_server_that_serves() {
    let backend = Backend::start().await;
    let ran = probe(backend.addr(), "").await;
    ran.is_serving();
    assert_eq!(ran.stderr, "");
}

#[tokio::test]
async fn a_server_that_does_not_serve() {
    let backend = Backend::builder().scripted().start().await;
    backend.set_not_serving("").await;
    probe(backend.addr(), "")
        .await
        .fails(4, "error: the server is NOT_SERVING\n");
    backend.set_status("", UNKNOWN).await;
    probe(backend.addr(), "")
        .await
        .fails(4, "error: the server is UNKNOWN\n");
    backend.set_status("", 17).await;
    probe(backend.addr(), "")
        .await
        .fails(4, "error: the server is status 17\n");
}

#[tokio::test]
async fn a_service_is_asked_about_by_name() {
    let backend = Backend::builder().not_serving("").start().await;
    probe(backend.addr(), &format!("-service={GREETER}"))
        .await
        .is_serving();
    backend.set_not_serving(GREETER).await;
    probe(backend.addr(), &format!("-service {GREETER}"))
        .await
        .fails(4, "error: the service `demo.v1.Greeter` is NOT_SERVING\n");
}

#[tokio::test]
async fn a_service_that_the_server_does_not_know() {
    let backend = Backend::start().await;
    probe(backend.addr(), "-service nobody.v1.Nothing")
        .await
        .fails(
            3,
            "error: the server does not know the service `nobody.v1.Nothing`",
        );
}

#[tokio::test]
async fn a_server_without_a_health_service() {
    let backend = Backend::builder().health(HealthKind::None).start().await;
    probe(backend.addr(), "")
        .await
        .fails(3, "error: the server has no health service");
}

#[tokio::test]
async fn an_answer_that_does_not_come() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_check(CheckScript::NeverAnswer);
    probe(backend.addr(), "-rpc-timeout 100ms")
        .await
        .fails(3, "error: no answer about the server within 100ms\n");
}

#[tokio::test]
async fn flags_are_written_with_one_dash_or_two() {
    let backend = Backend::start().await;
    let addr = backend.addr();
    for line in [
        format!("-addr={addr}"),
        format!("--addr={addr}"),
        format!("--addr {addr}"),
        format!("-addr {addr} -tls=false -v=false -gzip=0 -tls-no-verify=F"),
        format!("-service=x -addr {addr} -connect-timeout 1m30s -rpc-timeout=1.5s -service="),
        format!("-addr=nowhere --addr {addr} -tls-ca-cert= -tls-server-name="),
        format!("-alts=false -spiffe=false -addr {addr}"),
    ] {
        let ran = run(["probe"].into_iter().chain(line.split(' '))).await;
        ran.is_serving();
        assert_eq!(ran.stderr, "", "{line}");
    }
}

#[tokio::test]
async fn the_server_is_told_who_asks_and_what_else() {
    let backend = Backend::start().await;
    let addr = backend.addr().to_string();
    let ran = run([
        "probe",
        "-addr",
        &addr,
        "-rpc-timeout=7s",
        "-rpc-header",
        "X-Token: a: b",
        "-rpc-header=x-token:c",
        "-rpc-header",
        "x-raw-bin: three",
    ])
    .await;
    ran.is_serving();
    let seen = headers(&backend);
    let agent = seen["user-agent"].to_str().expect("ASCII");
    assert!(
        agent.starts_with("grpc_health_probe tonic-health-channel/"),
        "{agent}"
    );
    assert_eq!(seen["grpc-timeout"], "7000000u");
    let tokens: Vec<_> = seen.get_all("x-token").iter().collect();
    assert_eq!(tokens, ["a: b", "c"]);
    assert_eq!(seen["x-raw-bin"], "dGhyZWU");

    probe(backend.addr(), "-user-agent me").await.is_serving();
    let seen = headers(&backend);
    assert!(
        seen["user-agent"]
            .to_str()
            .expect("ASCII")
            .starts_with("me ")
    );
}

#[tokio::test]
async fn the_request_is_compressed_where_that_is_asked_for() {
    let backend = Backend::builder().scripted().start().await;
    probe(backend.addr(), "-gzip").await.is_serving();
    let seen = headers(&backend);
    assert_eq!(seen["grpc-encoding"], "gzip");
    assert_eq!(seen["grpc-accept-encoding"], "gzip,identity");

    probe(backend.addr(), "").await.is_serving();
    let seen = headers(&backend);
    assert!(seen.get("grpc-encoding").is_none());

    // tonic's own health service has no compression.
    let backend = Backend::start().await;
    probe(backend.addr(), "-gzip")
        .await
        .fails(3, "or does not accept gzip: Content is compressed");
}

#[tokio::test]
async fn a_port_alone_is_of_this_host() {
    let backend = Backend::start().await;
    let port = format!(":{}", backend.addr().port());
    run(["probe", "-addr", &port]).await.is_serving();
    let seen = backend.last_check().expect("it was asked");
    assert_eq!(seen.authority, Some(format!("localhost{port}")));

    let name = format!("dns:///localhost{port}");
    run(["probe", "-addr", &name]).await.is_serving();
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_at_a_unix_socket() {
    let backend = Backend::start().await;
    let door = UnixDoor::to(backend.addr());
    for addr in [
        format!("unix:{}", door.path()),
        format!("unix://{}", door.path()),
    ] {
        run(["probe", "-addr", &addr]).await.is_serving();
    }
    assert_eq!(backend.checks(), 2);
}

#[cfg(unix)]
#[tokio::test]
async fn it_goes_by_the_names_of_the_original() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["grpc_health_probe", "grpc-health-probe"] {
        let link = folder.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_grpc-health"), &link).expect("a link");
        let mut by_name = tokio::process::Command::new(&link);
        by_name.arg(format!("-addr={}", backend.addr()));
        run_command(by_name).await.is_serving();

        let mut version = tokio::process::Command::new(&link);
        version.arg("-version");
        let Ended { code, stdout, .. } = run_command(version).await;
        let expected = format!("grpc-health-probe {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!((code, stdout), (0, expected));
    }
}

#[tokio::test]
async fn it_says_what_it_does_where_that_is_asked_for() {
    let backend = Backend::start().await;
    let ran = probe(backend.addr(), "-v").await;
    ran.is_serving();
    let lines: Vec<_> = ran.stderr.lines().collect();
    let [first, timeouts, connected, answered] = lines[..] else {
        panic!("not four lines: {ran:?}");
    };
    assert_eq!(first, format!("address {}, TLS: false", backend.addr()));
    assert_eq!(timeouts, "timeouts: 1s to connect, 1s for the answer");
    assert!(connected.starts_with("connected in "), "{connected}");
    assert!(answered.starts_with("answered in "), "{answered}");
}

#[tokio::test]
async fn it_connects_again_while_there_is_time() {
    let backend = Backend::builder().reserve().await;
    let addr = format!("-addr={}", backend.addr());
    let mut child = command(["probe", &addr, "-connect-timeout=9s", "-v"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    within("the first attempt to fail", async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line == "no connection yet: connection refused" {
                return;
            }
        }
        panic!("it gave up at once");
    })
    .await;
    backend.restart().await;
    let output = within("the command to end", child.wait_with_output()).await;
    let output = output.expect("the command ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"status: SERVING\n");
}

#[tokio::test]
async fn by_default_there_is_one_attempt() {
    let dead = dead_addr();
    let ran = probe(dead.addr(), "-v").await;
    ran.fails(2, "no connection to");
    assert!(!ran.stderr.contains("no connection yet"), "{ran:?}");
}

#[tokio::test]
async fn nobody_has_to_listen() {
    let backend = Backend::start().await;
    let addr = format!("-addr={}", backend.addr());
    for (args, code) in [
        (vec!["probe", &addr, "-v"], 0),
        (vec!["probe", &addr, "-service=nobody"], 3),
        (vec!["man"], 0),
        (vec!["completions", "zsh"], 0),
        (vec!["--help"], 0),
    ] {
        let closed = || {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            Stdio::from(writer)
        };
        let mut unheard = command(&args);
        unheard.stdout(closed()).stderr(closed());
        let status = within("the command to end", unheard.status()).await;
        assert_eq!(status.expect("it runs").code(), Some(code), "{args:?}");
    }
}
