//! Health checks that another service config switches on, off, or to another
//! name, while the channel is in use.

use testing::{
    Backend, Chat, Configs, GREETER, Logs, WatchScript, balanced, health_checked, hello, outcome,
    refusal, spread, start, until, until_backends, until_that, within,
};
use tonic::Code;
use tonic_health_channel::{
    ConnectivityState::{Ready, TransientFailure},
    health::HealthStatus,
};

use super::{ends_with, hourly, metronome, states, until_health, warnings};

// C11
#[tokio::test]
async fn another_name_decides_anew_on_the_same_connections() {
    let start = Backend::builder().scripted();
    let [a, b] = start.start_each(["A", "B"]).await;
    let both = [&a, &b];
    for (backend, day, night) in [(&a, 1, 2), (&b, 1, 1)] {
        backend.set_status("day", day).await;
        backend.set_status("night", night).await;
        backend.set_not_serving("never").await;
    }
    let (configs, channel) = Configs::of(balanced(&both, None));
    configs.check("day");
    until_backends(&channel, &[Ready, Ready]).await;
    assert_eq!(spread(&channel, 10, &both).await, [5, 5]);
    let mut chat = Chat::start(&channel).await;
    chat.greet("Ada").await.expect("it is day");

    configs.check("night");
    until_backends(&channel, &[TransientFailure, Ready]).await;
    assert_eq!(spread(&channel, 10, &both).await, [0, 10]);

    configs.check("never");
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    for backend in both {
        let named = format!("{} health check: NOT_SERVING", backend.addr());
        assert!(text.contains(&named), "{text}");
    }
    let greeting = chat.greet("Bob").await;
    greeting.expect("a call that is on its way goes on");

    configs.check("day");
    until_backends(&channel, &[Ready, Ready]).await;
    assert_eq!(spread(&channel, 10, &both).await, [5, 5]);
    chat.end().await;
    for backend in both {
        assert_eq!(backend.asked(), ["day", "night", "never", "day"]);
        backend.until_open_watches(1).await;
        assert_eq!(backend.connections(), 1, "a name costs no connection");
    }
}

// J07
#[tokio::test]
async fn health_that_is_switched_on_counts_from_its_first_answer() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted();
    let backend = start.not_serving(GREETER).start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.say("{}");
    until(&channel, Ready).await;
    assert_eq!(channel.backends()[0].health(), HealthStatus::NotChecked);
    assert_eq!(backend.watches(), 0);

    configs.check(GREETER);
    backend.until_watches(1).await;
    until_health(&channel, &[HealthStatus::Pending]).await;
    assert_eq!(channel.state(), Ready, "there is no news yet");
    hello(&channel).await.expect("there is no news yet");

    backend.release_watches();
    until_health(&channel, &[HealthStatus::NotServing]).await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: NOT_SERVING"), "{text}");
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
    assert_eq!(states(&logs), ["READY", "TRANSIENT_FAILURE", "READY"]);
    assert_eq!([backend.watches(), backend.connections()], [1, 1]);
}

// J08
#[tokio::test]
async fn health_that_is_switched_off_is_not_listened_to_any_more() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted();
    let backend = start.not_serving(GREETER).start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.check(GREETER);
    until(&channel, TransientFailure).await;
    refusal(&channel).await;

    configs.say("{}");
    until(&channel, Ready).await;
    hello(&channel).await.expect("nobody asks for its health");
    backend.until_open_watches(0).await;
    let shown = channel.backends()[0].clone();
    assert_eq!(shown.health(), HealthStatus::NotChecked);
    assert!(shown.to_string().ends_with(" READY"), "{shown}");
    assert_eq!(states(&logs), ["TRANSIENT_FAILURE", "READY"]);
    assert_eq!([backend.watches(), backend.connections()], [1, 1]);
}

// J08
#[tokio::test]
async fn calls_that_wait_for_health_go_when_it_is_switched_off() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::HeadersOnly);
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.check(GREETER);
    let waiting = start(&channel, "you");
    backend.until_watches(1).await;
    assert_eq!(backend.hits(), 0);

    configs.say("{}");
    outcome(waiting).await.expect("nobody waits for its health");
    backend.until_open_watches(0).await;
}

// J09
#[tokio::test]
async fn health_that_is_switched_off_is_not_asked_again() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(ends_with(Code::Unavailable));
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.check(GREETER);
    until_that(&channel, "a pause between two Watches", |status| {
        let mut shown = status.backends().iter();
        shown.any(|backend| backend.next_attempt().is_some())
    })
    .await;

    configs.say("{}");
    until(&channel, Ready).await;
    assert_eq!(channel.backends()[0].next_attempt(), None);
    let beat = metronome().await;
    let _beaten = health_checked(&[&beat]);
    // One that was on its way may still arrive.
    beat.until_watches(2).await;
    let asked = backend.watches();
    beat.until_watches(6).await;
    assert_eq!(backend.watches(), asked, "nobody asks any more");
    assert_eq!(channel.state(), Ready);
}

// J10
#[tokio::test]
async fn health_that_is_switched_off_while_a_backend_is_away_is_off_when_it_is_back() {
    let start = Backend::builder().scripted();
    let backend = start.not_serving(GREETER).reserve().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.check(GREETER);
    until(&channel, TransientFailure).await;

    configs.put_in_force(&channel, "{}").await;
    backend.restart().await;
    until(&channel, Ready).await;
    hello(&channel).await.expect("nobody asks for its health");
    assert_eq!(backend.watches(), 0);
}

// J11
#[tokio::test]
async fn another_name_leaves_ready_until_it_is_answered() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted();
    let backend = start.serving("day").serving("night").start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.check("day");
    until(&channel, Ready).await;

    backend.script_watch(WatchScript::HoldFirst);
    configs.check("night");
    backend.until_watches(2).await;
    backend.until_open_watches(1).await;
    until_health(&channel, &[HealthStatus::Pending]).await;
    // The day is nobody's business any more.
    backend.set_not_serving("day").await;
    hello(&channel)
        .await
        .expect("there is no news of the night");
    backend.release_watches();
    until_health(&channel, &[HealthStatus::Serving]).await;
    assert_eq!(states(&logs), ["READY"]);
    assert_eq!(backend.asked(), ["day", "night"]);
}

// J11
#[tokio::test]
async fn names_that_change_all_the_time_fail_no_call() {
    const CHANGES: usize = 100;
    const CALLERS: usize = 8;
    let start = Backend::builder().scripted();
    let backend = start.serving("day").serving("night").start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.check("night");
    until(&channel, Ready).await;
    let changes = async {
        for i in 0..CHANGES {
            configs.check(if i % 2 == 0 { "day" } else { "night" });
            backend.until_hits(backend.hits() + 1).await;
        }
    };
    let calls = futures_util::future::join_all((0..CALLERS).map(async |_| {
        loop {
            hello(&channel).await.expect("both names are served");
        }
    }));
    tokio::select! {
        () = changes => {}
        _ = calls => unreachable!("they call for ever"),
    }

    configs.check("last");
    until_health(&channel, &[HealthStatus::ServiceUnknown]).await;
    backend.until_open_watches(1).await;
    assert_eq!(backend.asked().last().map(String::as_str), Some("last"));
    assert_eq!(backend.connections(), 1);
}

// J11
#[tokio::test]
async fn a_config_that_asks_for_the_same_name_changes_nothing() {
    let backend = Backend::builder().scripted().start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.check(GREETER);
    until_health(&channel, &[HealthStatus::Serving]).await;
    let before = channel.status();

    for _ in 0..3 {
        configs.check(GREETER);
    }
    let another = format!(
        r#"{{"healthCheckConfig": {{"serviceName": "{GREETER}"}},
             "methodConfig": [{{"name": [{{}}], "timeout": "60s"}}]}}"#
    );
    configs.put_in_force(&channel, &another).await;
    hello(&channel).await.expect("it is healthy as ever");
    let after = channel.status();
    assert_eq!(
        after.generation(),
        before.generation() + 1,
        "the same config is not even news"
    );
    assert_eq!(after.backends(), before.backends());
    assert_eq!([backend.watches(), backend.open_watches()], [1, 1]);
}

// J12
#[tokio::test]
async fn another_name_is_not_kept_waiting_by_the_failures_of_the_old_one() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted();
    let backend = start.serving("day").serving("night").start().await;
    backend.script_watch(WatchScript::HoldFirst);
    backend.script_next_watches(1, ends_with(Code::Unavailable));
    let builder = balanced(&[&backend], None).health_options(hourly());
    let (configs, channel) = Configs::of(builder);
    configs.check("day");
    until(&channel, TransientFailure).await;

    configs.check("night");
    backend.until_watches(2).await;
    until_health(&channel, &[HealthStatus::Pending]).await;
    let text = refusal(&channel).await;
    let old = "health check: Watch ended: Unavailable";
    assert!(text.contains(old), "still why nobody can call: {text}");

    backend.release_watches();
    until(&channel, Ready).await;
    assert_eq!(states(&logs), ["TRANSIENT_FAILURE", "READY"]);
    assert_eq!(backend.asked(), ["day", "night"]);
}

// J13
#[tokio::test]
async fn another_name_while_a_backend_is_away_is_asked_when_it_is_back() {
    let start = Backend::builder().scripted();
    let backend = start.serving("day").not_serving("night").reserve().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.check("day");
    until(&channel, TransientFailure).await;

    let night = r#"{"healthCheckConfig": {"serviceName": "night"}}"#;
    configs.put_in_force(&channel, night).await;
    backend.restart().await;
    until_health(&channel, &[HealthStatus::NotServing]).await;
    assert_eq!(backend.asked(), ["night"]);
}

// J13
#[tokio::test]
async fn a_connection_that_is_lost_as_the_name_changes_is_followed_by_one_with_the_new() {
    let backend = Backend::builder().scripted().start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    backend.set_serving("night").await;
    configs.check("night");
    until(&channel, Ready).await;
    let changes = [("night", "day"), ("day", "night")].into_iter().cycle();
    for (round, (old, new)) in (1..=10).zip(changes) {
        backend.set_not_serving(old).await;
        until(&channel, TransientFailure).await;
        backend.set_serving(new).await;

        configs.check(new);
        // Both at once: either may be noticed first.
        backend.cut_connections();
        backend.until_connections(round + 1).await;
        until(&channel, Ready).await;
        hello(&channel).await.expect("the new name is served");
        let asked = backend.asked();
        assert_eq!(asked.last().map(String::as_str), Some(new), "{asked:?}");
        assert_eq!(backend.connections(), round + 1);
    }
}

// J13
#[tokio::test]
async fn a_goaway_right_after_another_name_does_not_bring_back_the_old_one() {
    let start = Backend::builder().scripted();
    let backend = start.serving("day").not_serving("night").start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.check("day");
    until(&channel, Ready).await;
    let mut chat = Chat::start(&channel).await;
    chat.greet("Ada").await.expect("it is day");

    configs.check("night");
    let stopped = backend.stop_gracefully();
    backend.until_open_watches(0).await;
    chat.greet("Bob").await.expect("the Chat outlives GOAWAY");
    chat.end().await;
    within("the server to finish stopping", stopped).await;
    backend.restart().await;
    until_health(&channel, &[HealthStatus::NotServing]).await;
    refusal(&channel).await;
    let asked = backend.asked();
    let of_the_day = asked.iter().filter(|name| *name == "day").count();
    assert_eq!(of_the_day, 1, "{asked:?}");
}

#[tokio::test]
async fn a_server_with_one_stream_gets_a_second_connection_when_health_is_switched_on() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted().max_concurrent_streams(1);
    let backend = start.start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.say("{}");
    until(&channel, Ready).await;
    hello(&channel).await.expect("the only stream is for calls");
    assert_eq!(backend.connections(), 1);

    configs.check(GREETER);
    until_health(&channel, &[HealthStatus::Serving]).await;
    backend.until_open_connections(2).await;
    assert_eq!(spread(&channel, 5, &[&backend]).await, [5]);
    assert_eq!(backend.open_watches(), 1);

    configs.say("{}");
    backend.until_open_watches(0).await;
    backend.until_open_connections(1).await;
    assert_eq!(spread(&channel, 5, &[&backend]).await, [5]);
    assert_eq!(backend.connections(), 3, "the first was made anew, as two");
    assert_eq!(warnings(&logs).len(), 1, "{:?}", warnings(&logs));
}

#[tokio::test]
async fn health_that_is_disabled_cannot_be_switched_on() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted();
    let backend = start.not_serving("day").not_serving("night").start().await;
    let builder = balanced(&[&backend], None).disable_health_check(true);
    let (configs, channel) = Configs::of(builder);
    configs.say("{}");
    until(&channel, Ready).await;
    assert_eq!(channel.backends()[0].health(), HealthStatus::NotChecked);
    assert_eq!(warnings(&logs), [""; 0], "nobody asks for what is disabled");

    for name in ["day", "night", "night"] {
        configs.check(name);
        until_health(&channel, &[HealthStatus::Disabled]).await;
        hello(&channel).await.expect("nobody asks for its health");
    }
    configs.say("{}");
    until_health(&channel, &[HealthStatus::NotChecked]).await;
    let told = "the service config asks for health checks, but they are disabled for this channel";
    let warned = warnings(&logs);
    let source = "tonic_health_channel::discover::list::List";
    assert_eq!(
        warned,
        ["day", "night"].map(|name| format!("{told} channel={source} service={name}")),
        "one word for each config"
    );
    assert_eq!(states(&logs), ["READY"]);
    assert_eq!([backend.watches(), backend.connections()], [0, 1]);
}
