//! What `watch` tells, line by line.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use testing::{
    Backend, CheckScript, GREETER, HealthKind, NOT_SERVING, Peer, PeerScript, dead_addr,
};

use super::run::{Running, object};

fn start(targets: &[String], more: &[&str]) -> Running {
    let mut arguments = vec!["watch"];
    arguments.extend(targets.iter().map(String::as_str));
    arguments.extend(more);
    Running::start(&arguments)
}

fn at(backend: &Backend) -> String {
    backend.addr().to_string()
}

#[tokio::test]
async fn every_flip_of_every_backend_is_a_line() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let mut watch = start(&[at(&a), at(&b)], &[]);
    let mut up = [
        watch.until_ending("READY SERVING").await,
        watch.until_ending("READY SERVING").await,
    ];
    up.sort_by_key(|line| line.contains(&at(&b)));
    assert!(up[0].contains(&at(&a)) && up[1].contains(&at(&b)), "{up:?}");

    a.set_not_serving("").await;
    let down = watch.until_ending("health check: NOT_SERVING").await;
    let (time, rest) = down.split_once(' ').expect("words");
    let text = "TRANSIENT_FAILURE NOT_SERVING health check: NOT_SERVING";
    assert_eq!(rest, format!("{} {text}", at(&a)));
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");

    a.set_serving("").await;
    let up = watch.line().await;
    assert!(up.ends_with(&format!("{} READY SERVING", at(&a))), "{up}");
}

#[tokio::test]
async fn no_call_is_made_but_those_of_the_health_checks() {
    let backend = Backend::start().await;
    let mut watch = start(&[at(&backend)], &["--service", GREETER]);
    watch.until_ending("READY SERVING").await;
    assert_eq!((backend.hits(), backend.checks()), (0, 0));
    assert_eq!(backend.asked(), [GREETER]);
}

#[tokio::test]
async fn several_services_are_told_apart() {
    let backend = Backend::builder().not_serving("shop").start().await;
    let services = ["--service", "shop", "--service", ""];
    let mut watch = start(&[at(&backend)], &services);
    let mut told = Vec::new();
    while told.len() < 2 {
        let line = watch.line().await;
        let state = line
            .split(' ')
            .skip(2)
            .take(3)
            .collect::<Vec<_>>()
            .join(" ");
        if !state.contains("CONNECTING") {
            told.push(state);
        }
    }
    told.sort();
    let expected = ["\"\" READY SERVING", "shop TRANSIENT_FAILURE NOT_SERVING"];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_event_is_a_json_object_with_the_same_fields_each_time() {
    let backend = Backend::start().await;
    let mut watch = start(&[at(&backend)], &["--output", "json"]);
    let first = watch.line().await;
    let fields = [
        "time",
        "event",
        "target",
        "service",
        "backend",
        "address",
        "state",
        "health",
        "since",
        "flips",
        "error",
        "error_time",
    ];
    let positions = fields.map(|field| first.find(&format!("\"{field}\":")));
    assert!(positions.is_sorted() && positions[0].is_some(), "{first}");
    let first = object(&first);
    assert_eq!(first["event"], "added");
    assert_eq!(first["target"], at(&backend));
    assert_eq!(first["state"], "CONNECTING");
    let is = |state: &'static str| move |event: &Value| event["state"] == state;
    let up = watch.until_object("READY", is("READY")).await;
    assert_eq!(up["event"], "changed");
    assert_eq!(up["backend"], at(&backend));
    assert_eq!(up["health"], "SERVING");
    assert_eq!(
        (&up["flips"], &up["error"]),
        (&Value::from(0), &Value::Null)
    );

    backend.kill().await;
    backend.restart().await;
    // It may be seen while nobody listens, or between two connections.
    let back = watch.until_object("READY again", is("READY")).await;
    assert_eq!(back["flips"], 2);
    assert_eq!(back.as_object().expect("an object").len(), fields.len());
}

#[tokio::test]
async fn backends_of_a_file_appear_and_disappear() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("backends.json");
    let write = |backends: &[&Backend]| {
        let uris: Vec<_> = backends.iter().map(|backend| backend.uri()).collect();
        fs::write(&path, format!("{uris:?}")).expect("the file can be written");
    };
    write(&[&a]);
    let path = path.to_str().expect("a plain name").to_owned();
    let mut watch = start(&[path], &[]);
    watch
        .until_ending(&format!("{} READY SERVING", at(&a)))
        .await;
    write(&[&b]);
    let mut told = Vec::new();
    while told.len() < 2 {
        let line = watch.line().await;
        let ends = ["removed", "READY SERVING"];
        if let Some(end) = ends.into_iter().find(|end| line.ends_with(end)) {
            assert_eq!(line.contains(&at(&a)), end == "removed", "{line}");
            told.push(end);
        }
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_told_once_and_its_backends_when_it_comes() {
    let backend = Backend::start().await;
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("backends.json");
    let target = format!("file://{}", path.display());
    let mut watch = start(std::slice::from_ref(&target), &["--output", "json"]);
    let missing = object(&watch.line().await);
    assert_eq!(
        (&missing["event"], &missing["backend"]),
        (&"source".into(), &Value::Null)
    );
    assert_eq!(missing["target"], target);
    let why = missing["error"].as_str().expect("a reason");
    assert!(
        why.contains("No such file") && !why.contains("next attempt in"),
        "{why}"
    );
    fs::write(&path, format!("[{:?}]", backend.uri())).expect("the file can be written");
    let over = object(&watch.line().await);
    assert_eq!(
        (&over["event"], &over["error"]),
        (&"source".into(), &Value::Null)
    );
    let is_up = |event: &Value| event["state"] == "READY";
    let up = watch.until_object("the backend", is_up).await;
    assert_eq!(up["backend"], at(&backend));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told() {
    let mut watch = start(&["dns:///no-such-host.invalid:1".to_owned()], &[]);
    let line = watch.line().await;
    let expected = "dns:///no-such-host.invalid:1 TRANSIENT_FAILURE - name resolver error: ";
    assert!(line.contains(expected), "{line}");
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_told_with_the_reason() {
    let dead = dead_addr();
    let http1 = Peer::start(PeerScript::SpeaksHttp1).await;
    for (address, why) in [
        (dead.addr(), "connect: connection refused"),
        (http1.addr(), "HTTP/1"),
    ] {
        let mut watch = start(&[address.to_string()], &[]);
        loop {
            let line = watch.line().await;
            if line.contains("TRANSIENT_FAILURE - connect: ") {
                assert!(line.contains(why), "{line}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_server_without_health_service_is_told_and_used() {
    let backend = Backend::builder().health(HealthKind::None).start().await;
    let mut watch = start(&[at(&backend)], &[]);
    watch.until_ending("READY unimplemented").await;
}

#[tokio::test]
async fn a_server_without_watch_is_asked_by_check() {
    let backend = Backend::builder()
        .health(HealthKind::CheckOnly)
        .start()
        .await;
    let mut watch = start(&[at(&backend)], &[]);
    watch.until_ending("READY SERVING").await;
    backend.script_check(CheckScript::Status(NOT_SERVING));
    watch.until_ending("health check: Check: NOT_SERVING").await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_a_target() {
    let backend = Backend::start().await;
    let door = testing::UnixDoor::to(backend.addr());
    let mut watch = start(&[format!("unix://{}", door.path())], &[]);
    watch.until_ending("READY SERVING").await;
}

#[tokio::test]
async fn tls_is_spoken_where_it_is_asked_for() {
    use testing::{Authority, TlsFront};
    let backend = Backend::start().await;
    let authority = Authority::new();
    let front = TlsFront::of(&backend, &authority).await;
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("ca.pem");
    fs::write(&path, authority.pem()).expect("the file can be written");
    let ca = path.to_str().expect("a plain name");
    let trusted = ["--tls", "--tls-ca-cert", ca];
    let mut watch = start(&[front.addr().to_string()], &trusted);
    watch.until_ending("READY SERVING").await;
    // The system does not trust a certificate that this test has made.
    let mut watch = start(&[format!("https://{}", front.addr())], &[]);
    loop {
        let line = watch.line().await;
        if line.contains("TRANSIENT_FAILURE") {
            assert!(line.contains("connect: "), "{line}");
            break;
        }
    }
}
