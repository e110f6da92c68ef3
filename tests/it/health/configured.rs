//! Which configuration has which question asked.

use testing::{
    Backend, GREETER, HealthKind, Logs, WatchScript, balanced, health_checked, hello,
    quick_backoff, refusal, until, until_backends,
};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    HealthOptions, ServiceConfig,
    health::HealthStatus,
};
use tracing::Level;

use super::{ends_with, warnings};

// H12, J14
#[tokio::test]
async fn no_name_in_the_config_means_no_health_checks() {
    for config in [
        r#"{}"#,
        r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#,
        r#"{"healthCheckConfig": null}"#,
        r#"{"healthCheckConfig": {}}"#,
        r#"{"healthCheckConfig": {"serviceName": null}}"#,
    ] {
        let start = Backend::builder().scripted();
        let backend = start.not_serving(GREETER).not_serving("").start().await;
        let parsed: ServiceConfig = config.parse().expect("a valid service config");
        let builder = balanced(&[&backend], None).service_config(parsed);
        let channel = builder.build();
        until(&channel, Ready).await;
        hello(&channel).await.expect("nobody asks for its health");
        assert_eq!([backend.watches(), backend.checks()], [0, 0], "{config}");
        assert_eq!(channel.backends()[0].health(), HealthStatus::NotChecked);
    }
}

// J14
#[tokio::test]
async fn the_empty_name_asks_for_the_whole_server() {
    let start = Backend::builder().scripted();
    let backend = start.not_serving(GREETER).start().await;
    let channel = balanced(&[&backend], Some("")).build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("the server as a whole serves");
    assert_eq!(backend.asked(), [""]);

    backend.set_not_serving("").await;
    until(&channel, TransientFailure).await;
    refusal(&channel).await;
}

// J16
#[tokio::test]
async fn check_is_never_called_by_default() {
    let start = Backend::builder().scripted();
    let [healthy, repeated, without_watch] = start
        .start_each(["healthy", "repeated", "without Watch"])
        .await;
    repeated.script_watch(ends_with(Code::Unavailable));
    without_watch.script_watch(ends_with(Code::Unimplemented));
    let check_only = Backend::builder().health(HealthKind::CheckOnly);
    let check_only = check_only.start().await;
    let all = [&healthy, &repeated, &without_watch, &check_only];
    let channel = health_checked(&all);
    until_backends(&channel, &[Ready, TransientFailure, Ready, Ready]).await;
    repeated.until_watches(4).await;
    repeated.script_watch(WatchScript::Normal);
    until_backends(&channel, &[Ready; 4]).await;
    healthy.set_not_serving(GREETER).await;
    until_backends(&channel, &[TransientFailure, Ready, Ready, Ready]).await;
    assert_eq!(all.map(|backend| backend.checks()), [0; 4]);
}

// H10
#[tokio::test]
async fn health_that_is_disabled_is_never_asked_whatever_the_config_says() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted();
    let backend = start.not_serving(GREETER).start().await;
    let builder = balanced(&[&backend], Some(GREETER)).disable_health_check(true);
    let channel = builder.build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("nobody asks for its health");
    let known = channel.backends()[0].clone();
    assert_eq!(known.health(), HealthStatus::Disabled);
    assert!(known.to_string().ends_with("READY, health disabled"));

    backend.cut_connections();
    backend.until_connections(2).await;
    until(&channel, Ready).await;
    assert_eq!([backend.watches(), backend.checks()], [0, 0]);
    let [warning] = &warnings(&logs)[..] else {
        panic!("one WARN, not {:?}", warnings(&logs));
    };
    let expected = "the service config asks for health checks, but they are disabled for this \
                    channel";
    assert!(warning.starts_with(expected), "{warning}");
}

// C09
#[tokio::test]
async fn one_channel_may_disable_what_another_asks_of_the_same_server() {
    let start = Backend::builder().scripted();
    let backend = start.not_serving(GREETER).start().await;
    let builder = balanced(&[&backend], Some(GREETER)).disable_health_check(true);
    let trusting = builder.build();
    let checking = health_checked(&[&backend]);
    until(&trusting, Ready).await;
    until(&checking, TransientFailure).await;
    hello(&trusting).await.expect("nobody asks for its health");
    let text = refusal(&checking).await;
    assert!(text.contains("health check: NOT_SERVING"), "{text}");
    assert_eq!((backend.connections(), backend.watches()), (2, 1));
}

// D289
#[tokio::test]
async fn what_is_off_by_mistake_is_a_warning() {
    for (config, warning) in [
        (r#"{"healthCheckConfig": {}}"#, "names no service"),
        (
            r#"{"healthCheckConfig": {"service_name": ""}}"#,
            "the field is \"serviceName\"",
        ),
        ("{}", "the HealthOptions have no effect"),
    ] {
        let logs = Logs::capture();
        let backend = Backend::start().await;
        let parsed: ServiceConfig = config.parse().expect("a valid service config");
        let builder = balanced(&[&backend], None).service_config(parsed);
        let channel = builder.health_options(HealthOptions::default()).build();
        until(&channel, Ready).await;
        let warnings = warnings(&logs);
        let is_said = warnings.iter().any(|text| text.contains(warning));
        assert!(is_said, "{config}: {warnings:?}");
    }
}

// D313
#[tokio::test]
async fn log_lines_name_their_channel_and_a_loss_of_all_backends_is_a_warning() {
    let logs = Logs::capture();
    let backend = Backend::builder().serving(GREETER).start().await;
    let target = format!("127.0.0.1:{}", backend.addr().port());
    let of_target = Channel::target(&target).expect("a target");
    let channel = of_target.health_check(GREETER).build();
    let named = Channel::list([backend.uri()]).expect("a list");
    let named = named.name("shop").connect_backoff(quick_backoff()).build();
    until(&channel, Ready).await;
    until(&named, Ready).await;
    backend.kill().await;
    until(&channel, TransientFailure).await;
    until(&named, TransientFailure).await;
    drop(channel);
    logs.until("the end of the first channel", |line| {
        line.text.contains("to=SHUTDOWN")
    })
    .await;
    let fields = [format!(" channel={target}"), " channel=shop".to_owned()];
    for line in logs.all() {
        let ours = line.target.starts_with("tonic_health_channel");
        let is_named = fields.iter().any(|field| line.text.contains(field));
        assert!(!ours || is_named, "{line:?}");
    }
    for field in fields {
        let warned = logs.at(Level::WARN, "tonic_health_channel::channel");
        let lost = warned
            .iter()
            .any(|text| text.contains(&field) && text.contains(" to=TRANSIENT_FAILURE"));
        assert!(lost, "{field}: {warned:?}");
    }
    let ends = logs.at(Level::INFO, "tonic_health_channel::channel");
    let dropped = "cause=the channel was dropped: no clone of it is left";
    assert!(ends.iter().any(|text| text.ends_with(dropped)), "{ends:?}");
}

// D289
#[tokio::test]
async fn a_channel_says_how_it_begins() {
    let logs = Logs::capture();
    let backend = Backend::builder().serving(GREETER).start().await;
    let channel = Channel::target(&format!("127.0.0.1:{}", backend.addr().port()));
    let channel = channel.expect("a target").health_check(GREETER).build();
    until(&channel, Ready).await;
    assert_eq!(backend.asked(), [GREETER]);
    let begins = logs.at(Level::INFO, "tonic_health_channel::channel");
    let [begins] = &begins[..1] else {
        unreachable!("one of them");
    };
    for part in [
        "the channel starts",
        "127.0.0.1:",
        "policy=round_robin",
        GREETER,
    ] {
        assert!(begins.contains(part), "{begins}");
    }
}
