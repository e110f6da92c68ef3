//! `check --every`: round after round.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use testing::Backend;

use super::run::Running;

#[tokio::test]
async fn after_the_first_round_only_what_changed_is_told() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let [at_a, at_b] = [&a, &b].map(|backend| backend.addr().to_string());
    let mut check = Running::start(&["check", &at_a, &at_b, "--every", "100ms"]);
    for at in [&at_a, &at_b] {
        let line = check.line().await;
        assert!(line.ends_with(&format!("Z {at} SERVING")), "{line}");
    }
    b.until_checks(3).await;
    b.set_not_serving("").await;
    let line = check.line().await;
    assert!(line.ends_with(&format!("Z {at_b} NOT_SERVING")), "{line}");
    a.kill().await;
    let line = check.line().await;
    assert!(line.contains(&format!("Z {at_a} unreachable ")), "{line}");
    a.restart().await;
    check.until_ending(&format!("Z {at_a} SERVING")).await;
}

#[tokio::test]
async fn backends_that_a_file_no_longer_names_are_told() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("backends.json");
    let write = |backend: &Backend| {
        fs::write(&path, format!("[{:?}]", backend.uri())).expect("the file can be written");
    };
    write(&a);
    let target = path.to_str().expect("a plain name");
    let arguments = ["check", target, "--every", "100ms", "--output", "json"];
    let mut check = Running::start(&arguments);
    let is_up = |event: &Value| event["status"] == "SERVING";
    let first = check.until_object("the first backend", is_up).await;
    assert_eq!(first["address"], a.addr().to_string());
    write(&b);
    // The other may be named, and asked, before this one goes.
    let mut told = Vec::new();
    while told.len() < 2 {
        let line = super::run::object(&check.line().await);
        let event = line["event"].as_str().expect("an event").to_owned();
        told.push((event, line["address"].clone()));
    }
    told.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [("checked", &b), ("removed", &a)];
    let expected = expected
        .map(|(event, backend)| (event.to_owned(), Value::from(backend.addr().to_string())));
    assert_eq!(told, expected);
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_ends_it() {
    let backend = Backend::start().await;
    let at = backend.addr().to_string();
    let mut check = Running::start(&["check", &at, "--every", "100ms"]);
    check.until_ending("SERVING").await;
    check.signal(nix::sys::signal::Signal::SIGINT);
    let ended = check.ended().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (130, ""), "{ended:?}");
}

#[tokio::test]
async fn when_nobody_reads_any_more_it_ends_without_a_word() {
    let backend = Backend::start().await;
    let at = backend.addr().to_string();
    let mut check = Running::start(&["check", &at, "--every", "100ms"]);
    check.until_ending("SERVING").await;
    let unread = check.unread();
    backend.set_not_serving("").await;
    let ended = unread.await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
}
