//! A service config in a file that changes.

use std::{fs, path::Path};

use tempfile::TempDir;
use testing::{
    Backend, GREETER, LogLine, Logs, balanced, hello, outcome, refusal, start, until, until_that,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    ErrorKind,
};

const SERVICE_CONFIG: &str = "tonic_health_channel::service_config";

fn checking(service: &str) -> String {
    format!(r#"{{"healthCheckConfig": {{"serviceName": "{service}"}}}}"#)
}

fn channel(backend: &Backend, path: &Path) -> Channel {
    let builder = balanced(&[backend], None).service_config_file(path);
    builder.expect("a path to a file").build()
}

// D312
#[tokio::test]
async fn a_config_of_a_file_is_in_force_as_it_changes() {
    let logs = Logs::capture_from(SERVICE_CONFIG);
    let backend = Backend::builder().scripted();
    let backend = backend.serving("a").not_serving("b").start().await;
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("config.json");
    fs::write(&path, checking("a")).expect("written");
    let channel = channel(&backend, &path);
    until(&channel, Ready).await;
    assert_eq!(backend.asked(), ["a"]);

    fs::write(&path, "{\"healthCheckConfig\":").expect("written");
    let warned = |line: &LogLine| line.text.contains("config.json: ");
    logs.until("a warning that names the file", warned).await;
    hello(&channel).await.expect("the last good one stays");
    assert_eq!(channel.state(), Ready);

    fs::write(&path, format!("\u{feff}{}", checking("b"))).expect("written");
    until(&channel, TransientFailure).await;
    fs::remove_file(&path).expect("removed");
    let gone = |line: &LogLine| line.text.contains("No such file");
    logs.until("a warning that it is gone", gone).await;
    fs::write(&path, checking("a")).expect("written");
    until(&channel, Ready).await;
}

/// As Kubernetes replaces a ConfigMap.
// D312
#[cfg(unix)]
#[tokio::test]
async fn a_link_that_is_replaced_is_a_change() {
    use std::os::unix::fs::symlink;
    let backend = Backend::builder().serving(GREETER).start().await;
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for (version, config) in [("one", "{}".to_owned()), ("two", checking(GREETER))] {
        fs::create_dir(at(version)).expect("a folder");
        fs::write(at(version).join("config.json"), config).expect("written");
    }
    symlink("one", at("..data")).expect("a link");
    symlink("..data/config.json", at("config.json")).expect("a link");
    let channel = channel(&backend, &at("config.json"));
    until(&channel, Ready).await;
    assert_eq!(backend.watches(), 0);
    symlink("two", at("..new")).expect("a link");
    fs::rename(at("..new"), at("..data")).expect("replaced");
    backend.until_watches(1).await;
    assert_eq!(backend.asked(), [GREETER]);
}

// D312
#[tokio::test]
async fn a_file_that_is_not_there_fails_calls_until_it_is() {
    let backend = Backend::start().await;
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("config.json");
    let channel = channel(&backend, &path);
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("service config error: "), "{text}");
    assert!(text.contains("config.json: "), "{text}");
    assert_eq!(backend.connections(), 0);
    fs::write(&path, "{}").expect("written");
    until(&channel, Ready).await;

    // One to fall back on is in force from the start.
    let missing = folder.path().join("none.json");
    let builder = balanced(&[&backend], Some("")).service_config_file(&missing);
    let checked = builder.expect("a path").build();
    until_that(&checked, "a config in force", |status| {
        !status.backends().is_empty()
    })
    .await;
    outcome(start(&checked, "you"))
        .await
        .expect("the other counts");
    let error = balanced(&[&backend], None).service_config_file("/").err();
    assert_eq!(
        error.map(|error| error.kind()),
        Some(ErrorKind::InvalidOption)
    );
}
