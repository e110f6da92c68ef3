//! Channels that are made from one string.

use std::{env, fs};

use testing::{Backend, hello, spread, until, until_ready, until_that};
use tonic_health_channel::{Channel, ConnectivityState::Ready, Endpoint};

fn channel(target: &str) -> Channel {
    Channel::target(target).expect("a target").build()
}

#[tokio::test]
async fn a_name_is_looked_up() {
    let a = Backend::start().await;
    let port = a.addr().port();
    for target in [
        format!("localhost:{port}"),
        format!("dns:localhost:{port}"),
        format!("dns:///localhost:{port}"),
    ] {
        let channel = channel(&target);
        until(&channel, Ready).await;
        hello(&channel).await.expect("A is there");
        assert_eq!(a.last_authority(), Some(format!("localhost:{port}")));
    }
}

#[tokio::test]
async fn addresses_are_backends() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let labels = [&a, &b].map(|backend| backend.addr().to_string());
    let channel = channel(&format!("ipv4:{},{}", labels[0], labels[1]));
    until_ready(&channel, &[&labels[0], &labels[1]]).await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [2, 2]);
    assert_eq!(a.last_authority(), Some(labels[0].clone()));
}

#[tokio::test]
async fn a_file_names_backends() {
    let a = Backend::start().await;
    let path = env::temp_dir().join(format!("target-{}.json", a.addr().port()));
    fs::write(&path, format!("[{:?}]", a.uri())).expect("a file");
    let channel = channel(&format!("file://{}", path.display()));
    until(&channel, Ready).await;
    hello(&channel).await.expect("A is there");
    fs::remove_file(path).expect("it is ours");
}

#[tokio::test]
async fn a_uri_is_one_backend_with_the_options_of_the_template() {
    let a = Backend::start().await;
    let template = Endpoint::from_static("http://template")
        .user_agent("shop/1")
        .expect("a header value");
    let channel = Channel::target_with(&a.uri(), template)
        .expect("a target")
        .build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("A is there");
    let metadata = a.last_metadata().expect("just called");
    let agent = metadata.get("user-agent").expect("it is sent");
    assert!(agent.to_str().expect("text").starts_with("shop/1 "));
}

// D295
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_zone_of_an_address_is_kept() {
    for target in [
        "ipv6:[fe80::1%25lo]:1",
        "ipv6:[fe80::1%lo]:1,[fe80::1%1]:1",
        "ipv6:[fe80::1%1]:1",
        "dns:[fe80::1%25lo]:1",
        "dns:///[fe80::1%lo]:1",
        "[fe80::1%1]:1",
    ] {
        let channel = channel(target);
        let status = until_that(&channel, "the backend", |status| {
            !status.backends().is_empty()
        });
        let status = status.await;
        let labels: Vec<_> = status
            .backends()
            .iter()
            .map(|b| b.label().to_owned())
            .collect();
        assert_eq!(labels, ["[fe80::1%1]:1"], "{target}");
    }
}
