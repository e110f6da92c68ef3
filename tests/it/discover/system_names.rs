//! Backends by name, from the resolver of the system.
//!
//! A hosts file that a test may change is one in a mount namespace of its own. This
//! binary starts itself again in such a one, to run a single test. Where that is not
//! permitted, as it takes root, the test says so and does nothing.

use std::{env, fs, path::Path, process::Command, time::Duration};

use testing::{
    Backend,
    PeerScript::{ClosesAfterPreface, ClosesAtOnce, Silent, SpeaksHttp1, SpeaksTls},
    endpoint, hello, quick_backoff, refusal, spread, until, until_ready, until_that,
};
#[cfg(feature = "hickory")]
use testing::{Mood, NameServer};
use tonic_health_channel::{Channel, ConnectivityState::TransientFailure, Endpoint, discover};

/// The folder of the files in a child; not set in anybody else.
const FILES: &str = "SYSTEM_NAMES";

/// What the child sees below `/etc`: names are in the hosts file, or nowhere.
const ETC: [(&str, &str); 3] = [
    ("hosts", "127.0.0.1 localhost\n"),
    ("nsswitch.conf", "hosts: files\n"),
    ("host.conf", "multi on\n"),
];

/// Runs the test `name` again in a namespace of its own, and says whether this is it.
fn inside(name: &str) -> bool {
    if env::var_os(FILES).is_some() {
        return true;
    }
    let files = env::temp_dir().join(format!("system-names-{}-{name}", std::process::id()));
    fs::create_dir_all(&files).expect("a folder");
    let mut script = String::from("set -e\n");
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for (file, text) in ETC.into_iter().chain([("resolv.conf", &*resolv)]) {
        fs::write(files.join(file), text).expect("a file");
        let from = files.join(file);
        script += &format!(
            "[ ! -e /etc/{file} ] || mount --bind {} /etc/{file}\n",
            from.display()
        );
    }
    script += "exec \"$@\"";
    let unshare = ["-m", "--propagation", "private", "sh", "-c", &script, "sh"];

    let permitted = Command::new("unshare").args(unshare).arg("true").output();
    if permitted.is_ok_and(|output| output.status.success()) {
        let this = env::current_exe().expect("it runs");
        let test = format!(
            "{}::{name}",
            module_path!().split_once("::").expect("a path").1
        );
        let child = Command::new("unshare")
            .args(unshare)
            .arg(this)
            .args(["--exact", &test, "--nocapture"])
            .env(FILES, &files)
            .output()
            .expect("as before");
        let said = [child.stdout, child.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.contains("1 passed") && child.status.success(),
            "{said}"
        );
    } else {
        println!("skipped: {name}: a mount namespace is not permitted (it takes root)");
    }
    let _ = fs::remove_dir_all(files);
    false
}

/// From now on these are the addresses of `shop.test`.
fn addresses<const N: usize>(addresses: [&str; N]) {
    let files = env::var_os(FILES).expect("this is the child");
    let lines = addresses.map(|address| format!("{address} shop.test\n"));
    fs::write(Path::new(&files).join("hosts"), lines.concat()).expect("a file of ours");
}

#[tokio::test]
async fn the_system_is_asked_and_its_answers_are_followed() {
    if !inside("the_system_is_asked_and_its_answers_are_followed") {
        return;
    }
    let [a, b] = Backend::builder().start_side_by_side(["A", "B"]).await;
    let [at_a, at_b] = [&a, &b].map(|backend| backend.addr().to_string());
    let target = format!("shop.test:{}", a.addr().port());
    let template = Endpoint::from_static("http://template");
    let dns = discover::dns(&target, template)
        .expect("a target")
        .min_interval(Duration::ZERO);
    let refresh = dns.refresh_handle();
    let channel = Channel::dns(dns).connect_backoff(quick_backoff()).build();
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    let expected = format!("name resolver error: name `{target}` does not resolve: ");
    assert!(text.contains(&expected), "{text}");

    addresses(["127.0.0.1", "127.0.0.2"]);
    until_ready(&channel, &[&at_a, &at_b]).await;
    assert_eq!(spread(&channel, 10, &[&a, &b]).await, [5, 5]);
    assert_eq!(a.last_authority(), Some(target));

    addresses(["127.0.0.2"]);
    refresh.request();
    until_ready(&channel, &[&at_b]).await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [0, 4]);

    addresses([]);
    refresh.request();
    until_that(&channel, "an error", |status| status.cause().is_some()).await;
    hello(&channel).await.expect("what works is kept");

    // A backend in trouble has the name looked up, and nobody else.
    addresses(["127.0.0.1"]);
    until_ready(&channel, &[&at_a]).await;
    addresses(["127.0.0.2"]);
    a.kill().await;
    until_ready(&channel, &[&at_b]).await;
}

/// A name server of the system's that listens where only root may.
#[cfg(feature = "hickory")]
const NAME_SERVER: &str = "127.0.0.9";

/// From now on the system asks name servers: this one.
#[cfg(feature = "hickory")]
async fn system_server() -> NameServer {
    let server = NameServer::start_at(&format!("{NAME_SERVER}:53")).await;
    fs::write("/etc/nsswitch.conf", "hosts: dns\n").expect("a file of ours");
    let options = "options timeout:1 attempts:1";
    let resolv = format!("nameserver {NAME_SERVER}\n{options}\n");
    fs::write("/etc/resolv.conf", resolv).expect("a file of ours");
    server
}

/// Awaits that these are all backends, by their labels.
#[cfg(feature = "hickory")]
async fn until_named<const N: usize>(channel: &Channel, names: [&str; N]) {
    until_that(channel, &format!("{names:?}"), |status| {
        let mut labels: Vec<_> = status.backends().iter().map(|b| b.label()).collect();
        labels.sort_unstable();
        labels == names
    })
    .await;
}

// D318
#[cfg(feature = "hickory")]
#[tokio::test]
async fn the_system_keeps_a_family_that_cannot_be_looked_up() {
    if !inside("the_system_keeps_a_family_that_cannot_be_looked_up") {
        return;
    }
    let server = system_server().await;
    let (v4, v6) = ("127.0.0.1:1", "[::1]:1");
    server.addresses("shop.test", 60, ["127.0.0.1", "::1"]);
    let dns = discover::dns("shop.test:1", Endpoint::from_static("http://template"));
    let dns = dns.expect("a target").min_interval(Duration::ZERO);
    let refresh = dns.refresh_handle();
    let channel = Channel::dns(dns).build();
    until_named(&channel, [v4, v6]).await;
    for (mood, address, names) in [
        (Mood::FailsV4, "::2", [v4, "[::2]:1"]),
        (Mood::RefusesV4, "::3", [v4, "[::3]:1"]),
        (Mood::IgnoresV4, "::4", [v4, "[::4]:1"]),
    ] {
        server.mood(mood);
        server.addresses("shop.test", 60, ["127.0.0.1", address]);
        refresh.request();
        until_named(&channel, names).await;
    }
    server.mood(Mood::Answers);
    server.addresses("shop.test", 60, ["::5"]);
    refresh.request();
    until_named(&channel, ["[::5]:1"]).await;
}

// D305
#[tokio::test]
async fn an_address_that_does_not_speak_hides_no_other() {
    if !inside("an_address_that_does_not_speak_hides_no_other") {
        return;
    }
    for script in [
        Silent,
        ClosesAtOnce,
        ClosesAfterPreface,
        SpeaksHttp1,
        SpeaksTls,
    ] {
        let (peer, backend) = Backend::builder().start_beside(script).await;
        let port = peer.addr().port();
        for order in [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]] {
            addresses(order);
            let endpoint = endpoint(format!("http://shop.test:{port}"))
                .connect_timeout(Duration::from_secs(5));
            let channel = endpoint.connect().await;
            let channel = channel.unwrap_or_else(|error| panic!("{script:?}, {order:?}: {error}"));
            hello(&channel).await.expect("a reply");
        }
        peer.until_open_connections(0).await;
        drop(backend);
    }
}

#[cfg(feature = "hickory")]
#[tokio::test]
async fn the_hosts_file_stands_before_name_servers() {
    if !inside("the_hosts_file_stands_before_name_servers") {
        return;
    }
    // Both families, or a name server would be asked for the other.
    addresses(["127.0.0.1", "::1"]);
    let dns = discover::dns("shop.test:1", Endpoint::from_static("http://template"))
        .expect("a target")
        .min_interval(Duration::ZERO)
        .hickory();
    let refresh = dns.refresh_handle();
    let channel = Channel::dns(dns).build();
    for (first, expected) in [("127.0.0.1", "127.0.0.1:1"), ("127.0.0.2", "127.0.0.2:1")] {
        addresses([first, "::1"]);
        refresh.request();
        until_that(&channel, expected, |status| {
            let mut labels: Vec<_> = status.backends().iter().map(|b| b.label()).collect();
            labels.sort_unstable();
            labels == [expected, "[::1]:1"]
        })
        .await;
    }
}
