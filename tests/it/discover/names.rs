//! Backends by name, from a name server that the test is.

use std::time::Duration;

use futures_util::StreamExt;
use hickory_resolver::proto::rr::RecordType;
use testing::{
    Backend, GREETER, Mood, NameServer, hello, quick_backoff, refusal, spread, until, until_ready,
    until_that, within,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    Endpoint,
    channel::Change,
    discover::{self, Dns, RefreshHandle},
};

const HOUR: Duration = Duration::from_secs(3600);

/// A source that asks `server`, and looks again when it is asked to, without delay.
fn asking(server: &NameServer, target: &str) -> Dns {
    discover::dns(target, Endpoint::from_static("http://template"))
        .expect("a target")
        .name_server(server.addr())
        .min_interval(Duration::ZERO)
        .refresh_interval(HOUR)
        .lookup_timeout(Duration::from_secs(1))
}

fn channel(dns: Dns) -> (Channel, RefreshHandle) {
    let refresh = dns.refresh_handle();
    let channel = Channel::dns(dns).connect_backoff(quick_backoff()).build();
    (channel, refresh)
}

fn port(backend: &Backend) -> u16 {
    backend.addr().port()
}

fn label(backend: &Backend) -> String {
    backend.addr().to_string()
}

// R16
#[cfg(target_os = "linux")]
#[tokio::test]
async fn calls_go_to_every_address_of_the_name_and_follow_its_changes() {
    let [a, b] = Backend::builder().start_side_by_side(["A", "B"]).await;
    let names = NameServer::start().await;
    names.addresses("shop.test", 60, ["127.0.0.1"]);
    let target = format!("shop.test:{}", port(&a));
    let (channel, refresh) = channel(asking(&names, &target));
    until_ready(&channel, &[&label(&a)]).await;
    hello(&channel).await.expect("A is there");
    assert_eq!(a.last_authority(), Some(target), "the server's name");

    names.addresses("shop.test", 60, ["127.0.0.1", "127.0.0.2"]);
    refresh.request();
    until_ready(&channel, &[&label(&a), &label(&b)]).await;
    assert_eq!(spread(&channel, 10, &[&a, &b]).await, [5, 5]);

    names.addresses("shop.test", 60, ["127.0.0.2"]);
    refresh.request();
    until_ready(&channel, &[&label(&b)]).await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [0, 4]);
    a.until_open_connections(0).await;
    assert_eq!(b.connections(), 1, "it was there all the time");
}

/// What a source says next, in short.
async fn next(source: &mut Dns) -> String {
    let said = within("word of the name", source.next()).await;
    match said.expect("a name has no end") {
        Ok(Change::Insert(address, _)) => format!("+{address}"),
        Ok(Change::Remove(address)) => format!("-{address}"),
        Err(error) => error.message().to_owned(),
    }
}

// D296
#[tokio::test]
async fn a_family_stays_while_it_cannot_be_looked_up() {
    let names = NameServer::start().await;
    names.addresses("shop.test", 60, ["127.0.0.1", "::1"]);
    let mut source = asking(&names, "shop.test:1");
    let refresh = source.refresh_handle();
    assert_eq!(next(&mut source).await, "+127.0.0.1:1");
    assert_eq!(next(&mut source).await, "+[::1]:1");
    for mood in [Mood::FailsV4, Mood::RefusesV4, Mood::IgnoresV4] {
        names.mood(mood);
        names.addresses("shop.test", 60, ["127.0.0.2", "::2"]);
        refresh.request();
        assert_eq!(next(&mut source).await, "+[::2]:1", "{mood:?}");
        assert_eq!(next(&mut source).await, "-[::1]:1", "{mood:?}");
        names.addresses("shop.test", 60, ["127.0.0.1", "::1"]);
        refresh.request();
        assert_eq!(next(&mut source).await, "+[::1]:1", "{mood:?}");
        assert_eq!(next(&mut source).await, "-[::2]:1", "{mood:?}");
    }
    names.mood(Mood::Answers);
    names.addresses("shop.test", 60, ["::1"]);
    refresh.request();
    assert_eq!(next(&mut source).await, "-127.0.0.1:1", "there is none");
}

// D296
#[tokio::test]
async fn a_family_of_a_service_stays_while_it_cannot_be_looked_up() {
    let names = NameServer::start().await;
    names.addresses("one.test", 60, ["127.0.0.1", "::1"]);
    names.services("_grpc._tcp.shop.test", [(1, 1, "one.test")]);
    let mut source = asking(&names, "_grpc._tcp.shop.test");
    let refresh = source.refresh_handle();
    assert_eq!(next(&mut source).await, "+127.0.0.1:1");
    assert_eq!(next(&mut source).await, "+[::1]:1");
    names.mood(Mood::FailsV4);
    names.addresses("one.test", 60, ["::2"]);
    refresh.request();
    assert_eq!(next(&mut source).await, "+[::2]:1");
    assert_eq!(next(&mut source).await, "-[::1]:1");
    names.mood(Mood::Answers);
    refresh.request();
    assert_eq!(next(&mut source).await, "-127.0.0.1:1");
}

#[tokio::test]
async fn both_families_are_asked_for() {
    let a = Backend::start().await;
    let names = NameServer::start().await;
    names.addresses("shop.test", 60, ["127.0.0.1", "::1"]);
    let target = format!("shop.test:{}", port(&a));
    let (channel, _) = channel(asking(&names, &target));
    until_that(&channel, "two backends", |status| {
        status.backends().len() == 2
    })
    .await;
    let labels: Vec<_> = channel
        .backends()
        .iter()
        .map(|b| b.label().to_owned())
        .collect();
    assert_eq!(labels, [label(&a), format!("[::1]:{}", port(&a))]);
}

#[tokio::test]
async fn an_answer_is_asked_for_again_when_it_is_no_longer_valid() {
    let a = Backend::start().await;
    let names = NameServer::start().await;
    names.addresses("shop.test", 1, ["127.0.0.1"]);
    let target = format!("shop.test:{}", port(&a));
    let (channel, _) = channel(asking(&names, &target));
    until(&channel, Ready).await;
    let asked = names.queries();
    names.until_queries(asked + 1).await;
    hello(&channel).await.expect("nothing has changed");
    assert_eq!(a.connections(), 1);
}

#[tokio::test]
async fn srv_records_name_hosts_and_ports_of_one_priority() {
    let [a, b, spare] = Backend::builder().start_each(["A", "B", "spare"]).await;
    let names = NameServer::start().await;
    for host in ["one.shop.test", "two.shop.test"] {
        names.addresses(host, 60, ["127.0.0.1"]);
    }
    let name = "_grpc._tcp.shop.test";
    names.services(
        name,
        [
            (20, port(&spare), "one.shop.test"),
            (10, port(&a), "one.shop.test"),
            (10, port(&b), "two.shop.test"),
            (10, 1, "gone.shop.test"),
        ],
    );
    let (channel, refresh) = channel(asking(&names, name));
    until_ready(&channel, &[&label(&a), &label(&b)]).await;
    assert_eq!(spread(&channel, 4, &[&a, &b, &spare]).await, [2, 2, 0]);
    assert_eq!(a.last_authority().as_deref(), Some("shop.test"));

    names.services(
        name,
        [
            (20, port(&spare), "one.shop.test"),
            (10, 1, "gone.shop.test"),
        ],
    );
    refresh.request();
    until_ready(&channel, &[&label(&spare)]).await;
}

// V14, V13
#[tokio::test]
async fn the_service_config_of_the_name_is_taken_where_it_is_asked_for() {
    let a = Backend::builder()
        .scripted()
        .not_serving(GREETER)
        .start()
        .await;
    let names = NameServer::start().await;
    names.addresses("shop.test", 60, ["127.0.0.1"]);
    let entry = |service| {
        format!(
            r#"grpc_config=[{{"clientLanguage": ["go"], "serviceConfig": {{"other": "{}"}}}},
                {{"clientLanguage": ["rust"], "percentage": 100, "serviceConfig":
                    {{"healthCheckConfig": {{"serviceName": "{service}"}}}}}}]"#,
            "long".repeat(100),
        )
    };
    let record = "_grpc_config.shop.test";
    names.text(record, &entry(GREETER));
    let target = format!("shop.test:{}", port(&a));
    let (channel, refresh) = channel(asking(&names, &target).service_config());
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("NOT_SERVING"), "{text}");
    assert_eq!(a.asked(), [GREETER]);

    // It changes, is garbled, and goes away.
    names.text(record, &entry(""));
    refresh.request();
    until(&channel, Ready).await;
    assert_eq!(a.asked(), [GREETER, ""]);
    names.text(record, "grpc_config=nonsense");
    refresh.request();
    names.until_queries(names.queries() + 3).await;
    hello(&channel).await.expect("the config before stays");
    assert_eq!(a.open_watches(), 1);
    names.forget(record);
    refresh.request();
    a.until_open_watches(0).await;
    hello(&channel).await.expect("no config is an empty one");
}

#[tokio::test]
async fn the_service_config_of_the_name_is_not_looked_up_by_default() {
    let a = Backend::start().await;
    let names = NameServer::start().await;
    names.addresses("shop.test", 60, ["127.0.0.1"]);
    names.text("_grpc_config.shop.test", "grpc_config=nonsense");
    let target = format!("shop.test:{}", port(&a));
    let (channel, _) = channel(asking(&names, &target));
    until(&channel, Ready).await;
    assert_eq!(names.asked("_grpc_config.shop.test", RecordType::TXT), 0);
    assert_eq!(names.asked("shop.test", RecordType::A), 1);
}

#[tokio::test]
async fn a_service_config_that_nobody_can_look_up_keeps_no_call_waiting() {
    let a = Backend::start().await;
    let names = NameServer::start().await;
    names.addresses("shop.test", 60, ["127.0.0.1"]);
    names.mood(Mood::IgnoresText);
    let target = format!("shop.test:{}", port(&a));
    let (answered, _) = channel(asking(&names, &target).service_config());
    until(&answered, Ready).await;
    hello(&answered).await.expect("A is there");

    names.mood(Mood::Fails);
    let (failing, _) = channel(asking(&names, &target).service_config());
    until(&failing, TransientFailure).await;
    let text = refusal(&failing).await;
    let expected = format!("name `{target}` does not resolve: ");
    assert!(text.contains(&expected), "{text}");
}

// R34, T09
#[tokio::test]
async fn a_name_that_is_gone_takes_no_backend_along() {
    let a = Backend::start().await;
    let names = NameServer::start().await;
    let target = format!("shop.test:{}", port(&a));
    let (channel, refresh) = channel(asking(&names, &target));
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    let expected = format!("name resolver error: name `{target}` does not exist");
    assert!(text.contains(&expected), "{text}");

    names.addresses("shop.test", 60, ["127.0.0.1"]);
    until(&channel, Ready).await;
    let fails = [
        (Mood::Answers, "does not exist"),
        (Mood::Fails, "does not resolve: "),
        (Mood::Silent, "was not looked up within 1s"),
    ];
    for (mood, expected) in fails {
        names.forget("shop.test");
        names.mood(mood);
        refresh.request();
        until_that(&channel, expected, |status| {
            let cause = status.cause().map(ToString::to_string).unwrap_or_default();
            cause.contains(expected)
        })
        .await;
        hello(&channel).await.expect("what works is kept");

        names.mood(Mood::Answers);
        names.addresses("shop.test", 60, ["127.0.0.1"]);
        until_that(&channel, "no error", |status| status.cause().is_none()).await;
    }
    assert_eq!(a.connections(), 1);
}

#[tokio::test]
async fn a_name_without_addresses_is_told_from_one_that_does_not_exist() {
    let names = NameServer::start().await;
    names.text("shop.test", "something else");
    let (channel, _) = channel(asking(&names, "shop.test:1"));
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(
        text.contains("name `shop.test:1` produced zero addresses"),
        "{text}"
    );
}

#[tokio::test]
async fn a_target_may_name_the_server_to_ask() {
    let a = Backend::start().await;
    let names = NameServer::start().await;
    names.addresses("shop.test", 60, ["127.0.0.1"]);
    let target = format!("dns://{}/shop.test:{}", names.addr(), port(&a));
    let channel = Channel::target(&target).expect("a target").build();
    until_ready(&channel, &[&label(&a)]).await;
    hello(&channel).await.expect("A is there");
}

#[tokio::test]
async fn a_name_server_that_is_gone_is_an_error() {
    let names = NameServer::start().await;
    let dns = asking(&names, "shop.test:1");
    drop(names);
    let (channel, _) = channel(dns);
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("name `shop.test:1` "), "{text}");
}
