//! Outlier detection (gRFC A50) against servers that say SERVING and fail their calls.

use std::time::Duration;

use futures_util::future::select_all;
use testing::{
    Answer, Backend, Chat, Configs, GREETER, H2Peer, Logs, balanced, balanced_at, by_hand, call,
    hello, outcome, refusal, request_within, spread, start, start_patient, until, until_backends,
    until_that, within,
};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    ServiceConfig,
    metrics::{Metrics, Prometheus},
    status::{BackendEvent, CauseKind, DetectionMethod, Ejection},
};
use tracing::Level;

/// The options of a config with health checks. It looks every 50 ms, and ejects each backend of
/// which more than half of the calls fail.
struct Detection {
    max_percent: u32,
    base_time: &'static str,
    hosts: u32,
    more: &'static str,
}

const DETECTION: Detection = Detection {
    max_percent: 34,
    base_time: "600s",
    hosts: 2,
    more: "",
};

impl Detection {
    fn json(&self) -> String {
        let Self {
            max_percent,
            base_time,
            hosts,
            more,
        } = self;
        format!(
            r#"{{"healthCheckConfig": {{"serviceName": "{GREETER}"}},
                "loadBalancingConfig": [{{"outlier_detection_experimental": {{
                    "interval": "0.05s", "baseEjectionTime": "{base_time}",
                    "maxEjectionTime": "600s", "maxEjectionPercent": {max_percent}, {more}
                    "failurePercentageEjection": {{
                        "threshold": 50, "minimumHosts": {hosts}, "requestVolume": 3
                    }},
                    "childPolicy": [{{"round_robin": {{}}}}]
                }}}}]}}"#
        )
    }

    fn config(&self) -> ServiceConfig {
        self.json().parse().expect("valid")
    }
}

/// A channel over these, each READY.
async fn detecting<const N: usize>(backends: [&Backend; N], detection: Detection) -> Channel {
    let channel = balanced(&backends, None).service_config(detection.config());
    let channel = channel.build();
    until_backends(&channel, &[Ready; N]).await;
    channel
}

fn ejection(channel: &Channel, n: usize) -> Option<Ejection> {
    channel.backends()[n].ejection().cloned()
}

/// Calls until this is so.
async fn call_until(channel: &Channel, what: &str, is_so: impl Fn(&Channel) -> bool) {
    let calls = async {
        while !is_so(channel) {
            let _ = hello(channel).await;
        }
    };
    within(what, calls).await;
}

async fn until_ejected(channel: &Channel, n: usize) -> Ejection {
    call_until(channel, "an ejection", |channel| {
        ejection(channel, n).is_some()
    })
    .await;
    ejection(channel, n).expect("it is ejected")
}

async fn until_back(channel: &Channel, n: usize) {
    let is_back = until_that(channel, "the end of an ejection", |status| {
        status.backends()[n].ejection().is_none()
    });
    is_back.await;
}

async fn three() -> [Backend; 3] {
    Backend::builder().start_each(["a", "b", "c"]).await
}

// O27
#[tokio::test]
async fn one_that_fails_is_left_out_and_tried_again_and_again() {
    let [a, b, bad] = three().await;
    let detection = Detection {
        base_time: "0.1s",
        ..DETECTION
    };
    let channel = detecting([&a, &b, &bad], detection).await;
    bad.end_calls_with(Code::Unavailable);
    for multiplier in 1..=2 {
        let ejection = until_ejected(&channel, 2).await;
        assert_eq!(ejection.multiplier(), multiplier);
        let lasts = ejection.until() - ejection.since();
        assert_eq!(lasts, multiplier * Duration::from_millis(100));
        until_back(&channel, 2).await;
    }
    let third = until_ejected(&channel, 2).await;
    assert!(
        third.multiplier() <= 3,
        "an interval without may lie between"
    );

    bad.end_calls_with(Code::Ok);
    until_back(&channel, 2).await;
    bad.reset_hits();
    call_until(&channel, "calls on it", |_| bad.hits() > 10).await;
    assert_eq!(ejection(&channel, 2), None);
}

// O27
#[tokio::test]
async fn calls_go_to_the_others_alone() {
    let [a, b, bad] = three().await;
    let channel = detecting([&a, &b, &bad], DETECTION).await;
    bad.end_calls_with(Code::Internal);
    until_ejected(&channel, 2).await;
    assert_eq!(spread(&channel, 20, &[&a, &b, &bad]).await, [10, 10, 0]);
}

// O15
#[tokio::test]
async fn an_ejected_backend_keeps_its_connection_and_its_streams() {
    let [a, bad] = Backend::builder().start_each(["a", "b"]).await;
    let channel = detecting([&a, &bad], DETECTION).await;
    let mut chats = [Chat::start(&channel).await, Chat::start(&channel).await];
    bad.end_calls_with(Code::Unavailable);
    until_ejected(&channel, 1).await;

    let status = channel.backends()[1].clone();
    assert_eq!(status.state(), TransientFailure);
    assert_eq!((status.connections(), bad.open_connections()), (1, 1));
    assert_eq!(bad.open_watches(), 1, "its health is still of interest");
    let (cause, _) = status.last_error().expect("a reason");
    assert_eq!(cause.kind(), CauseKind::Ejected);
    let text = status.to_string();
    let expected = "TRANSIENT_FAILURE, ejected by outlier detection: failure percentage 100.00 % \
                    is above 50.00 % (";
    assert!(text.contains(expected), "{text}");

    bad.end_calls_with(Code::Ok);
    let mut names = Vec::new();
    for chat in &mut chats {
        names.push(chat.greet("you").await.expect("its stream goes on").backend);
    }
    names.sort();
    assert_eq!(names, ["a", "b"]);

    bad.cut_connections();
    bad.until_connections(2).await;
    bad.until_open_watches(1).await;
    let reconnected = until_that(&channel, "the new connection", |status| {
        status.backends()[1].connections() == 1
    });
    let status = reconnected.await;
    assert!(status.backends()[1].ejection().is_some());
    assert_eq!(status.backends()[1].state(), TransientFailure);
    assert_eq!(spread(&channel, 10, &[&a, &bad]).await, [10, 0]);
}

// O16
#[tokio::test]
async fn an_ejected_backend_that_is_unhealthy_has_to_be_both_healthy_and_back() {
    let [a, bad] = Backend::builder().start_each(["a", "b"]).await;
    let detection = Detection {
        base_time: "0.1s",
        ..DETECTION
    };
    let channel = detecting([&a, &bad], detection).await;
    bad.end_calls_with(Code::Unavailable);
    until_ejected(&channel, 1).await;
    bad.set_not_serving(GREETER).await;
    until_back(&channel, 1).await;
    let status = channel.backends()[1].clone();
    assert_eq!(status.state(), TransientFailure);
    let (cause, _) = status.last_error().expect("a reason");
    assert_eq!(cause.to_string(), "health check: NOT_SERVING");
    assert_eq!(spread(&channel, 10, &[&a, &bad]).await, [10, 0]);

    bad.end_calls_with(Code::Ok);
    bad.set_serving(GREETER).await;
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!(spread(&channel, 10, &[&a, &bad]).await, [5, 5]);
}

// O26
#[tokio::test]
async fn if_all_are_ejected_calls_fail_or_wait_for_the_first() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let all = Detection {
        max_percent: 100,
        ..DETECTION
    };
    let (configs, channel) = Configs::of(balanced(&[&a, &b], None));
    configs.say(&all.json());
    until_backends(&channel, &[Ready; 2]).await;
    for backend in [&a, &b] {
        backend.end_calls_with(Code::Unavailable);
    }
    call_until(&channel, "both ejections", |channel| {
        channel
            .backends()
            .iter()
            .all(|backend| backend.ejection().is_some())
    })
    .await;
    until(&channel, TransientFailure).await;
    let hits = (a.hits(), b.hits());
    let text = refusal(&channel).await;
    assert!(text.starts_with("no healthy backend: "), "{text}");
    let reason = "ejected by outlier detection: failure percentage 100.00 % is above 50.00 %";
    assert_eq!(text.matches(reason).count(), 2, "{text}");
    assert_eq!((a.hits(), b.hits()), hits, "it was not sent");

    let patient = start_patient(&channel, "you");
    a.end_calls_with(Code::Ok);
    b.end_calls_with(Code::Ok);
    let sooner = Detection {
        base_time: "0.1s",
        ..all
    };
    configs.say(&sooner.json());
    outcome(patient).await.expect("one is back");
}

// O28
#[tokio::test]
async fn a_slot_of_an_ejected_backend_goes_to_no_call_that_waits() {
    let limited = || Backend::builder().max_concurrent_streams(4);
    let [a, bad] = limited().start_each(["a", "b"]).await;
    let channel = detecting([&a, &bad], DETECTION).await;
    // 1 stream is the Watch's, and 2 are held, so that calls go on.
    let held: Vec<_> = (0..4).map(|_| start(&channel, "hold")).collect();
    a.until_held(2).await;
    bad.until_held(2).await;
    bad.end_calls_with(Code::Unavailable);
    until_ejected(&channel, 1).await;

    // The other one is full now, and calls wait.
    let last = start(&channel, "hold");
    a.until_held(3).await;
    let waiting: Vec<_> = (0..5).map(|_| start(&channel, "you")).collect();
    let hits = bad.hits();
    bad.release();
    bad.until_open_calls(0).await;
    let text = call(&channel, request_within("you", Duration::from_millis(50)));
    let status = text.await.expect_err("it waits behind the others");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(waiting.iter().all(|call| !call.is_finished()));

    a.release();
    for call in waiting {
        assert_eq!(
            outcome(call).await.expect("a slot of the other").backend,
            "a"
        );
    }
    for call in held.into_iter().chain([last]) {
        outcome(call).await.expect("it was let go");
    }
    assert_eq!(bad.hits(), hits);
}

// O29
#[tokio::test]
async fn calls_that_their_caller_drops_do_not_count_and_those_past_their_deadline_do() {
    let [a, slow, bad] = three().await;
    let all = Detection {
        max_percent: 100,
        ..DETECTION
    };
    let channel = detecting([&a, &slow, &bad], all).await;
    while hello(&channel).await.expect("an answer").backend != "c" {}
    bad.end_calls_with(Code::Unavailable);
    // In rotation: the calls on the second are dropped, and those on the third fail.
    let dropped = async {
        while ejection(&channel, 2).is_none() {
            let _ = hello(&channel).await;
            let dropped = start(&channel, "hold");
            let held = [&a, &slow, &bad].map(|backend| Box::pin(backend.until_held(1)));
            select_all(held).await;
            dropped.abort();
            for backend in [&a, &slow, &bad] {
                backend.until_held(0).await;
            }
            let _ = hello(&channel).await;
        }
    };
    within("the sweep that ejects the third", dropped).await;
    assert_eq!(ejection(&channel, 1), None);

    let late = async {
        while (0..2).all(|n| ejection(&channel, n).is_none()) {
            let late = request_within("hold", Duration::from_millis(5));
            call(&channel, late).await.expect_err("it is too slow");
        }
    };
    within("the ejection of a slow one", late).await;
}

// D327
#[tokio::test]
async fn an_ejection_is_an_event_with_its_reason_and_so_is_the_return() {
    let logs = Logs::capture_from("tonic_health_channel::backend");
    let [a, bad] = Backend::builder().start_each(["a", "b"]).await;
    let detection = Detection {
        base_time: "0.1s",
        ..DETECTION
    };
    let channel = detecting([&a, &bad], detection).await;
    let mut events = channel.watch_backends();
    for _ in 0..2 {
        let event = within("an event", events.next()).await;
        assert!(matches!(event, Some(BackendEvent::Added(_))), "{event:?}");
    }
    let mut next = async || loop {
        let event = within("an event", events.next())
            .await
            .expect("the channel is open");
        if let BackendEvent::Changed { before, now } = event
            && before.ejection().is_some() != now.ejection().is_some()
        {
            return now;
        }
    };
    bad.end_calls_with(Code::Unavailable);
    let shown = until_ejected(&channel, 1).await;
    bad.end_calls_with(Code::Ok);
    let told = next().await;
    assert_eq!(told.label(), bad.addr().to_string());
    let ejection = told.ejection().expect("it is ejected");
    assert_eq!(*ejection, shown);
    assert_eq!(ejection.method(), DetectionMethod::FailurePercentage);
    assert_eq!((ejection.percentage(), ejection.bound()), (100.0, 50.0));
    assert!(ejection.volume() >= 3);
    assert_eq!(ejection.since(), told.since());
    let back = next().await;
    assert_eq!((back.ejection(), back.state()), (None, Ready));

    let line = |text: &'static str| logs.until(text, move |line| line.text.starts_with(text));
    let ejected = line("the backend is ejected").await;
    assert_eq!(ejected.level, Level::WARN);
    let reason = format!("reason={shown}");
    assert!(ejected.text.contains(&reason), "{ejected:?}");
    assert!(ejected.text.contains("lasts=100ms"), "{ejected:?}");
    let back = line("the backend is not ejected any more").await;
    assert_eq!(back.level, Level::INFO);
}

// O05
#[tokio::test]
async fn an_outlier_that_is_not_ejected_is_logged() {
    let logs = Logs::capture_from("tonic_health_channel::backend");
    let [a, bad] = Backend::builder().start_each(["a", "b"]).await;
    let none = Detection {
        max_percent: 0,
        ..DETECTION
    };
    let channel = detecting([&a, &bad], none).await;
    bad.end_calls_with(Code::Unavailable);
    call_until(&channel, "the line", |_| {
        let text = "the backend is an outlier and not ejected";
        let mut lines = logs.all().into_iter();
        lines.any(|line| line.text.starts_with(text) && line.text.contains("max_ejection_overflow"))
    })
    .await;
    assert_eq!(ejection(&channel, 1), None);
}

// O12, O14
#[tokio::test]
async fn a_config_without_the_policy_takes_all_back_at_once() {
    let [a, bad] = Backend::builder().start_each(["a", "b"]).await;
    let (configs, channel) = Configs::of(balanced(&[&a, &bad], None));
    configs.say(&DETECTION.json());
    until_backends(&channel, &[Ready; 2]).await;
    bad.end_calls_with(Code::Unavailable);
    until_ejected(&channel, 1).await;
    assert_eq!(
        channel.backends()[1].calls(),
        None,
        "the application did not ask for counts"
    );
    let other = Detection {
        max_percent: 0,
        ..DETECTION
    };
    configs.put_in_force(&channel, &other.json()).await;
    assert!(ejection(&channel, 1).is_some(), "its time is not over");
    configs.check(GREETER);
    until_backends(&channel, &[Ready; 2]).await;
    bad.end_calls_with(Code::Ok);
    assert_eq!(spread(&channel, 10, &[&a, &bad]).await, [5, 5]);
}

// D325
#[tokio::test]
async fn answers_to_bad_requests_are_no_failures_where_only_server_errors_count() {
    let [a, b, bad] = three().await;
    let servers_only = Detection {
        max_percent: 100,
        more: r#""serverErrorsOnly": true,"#,
        ..DETECTION
    };
    let channel = detecting([&a, &b, &bad], servers_only).await;
    b.end_calls_with(Code::NotFound);
    bad.end_calls_with(Code::DataLoss);
    until_ejected(&channel, 2).await;
    assert_eq!(ejection(&channel, 1), None);
}

// O18
#[tokio::test]
async fn a_backend_that_is_named_again_gets_calls_at_once() {
    let [a, bad] = Backend::builder().start_each(["a", "b"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.service_config(DETECTION.config()).build();
    backends.insert("a", a.uri()).await;
    backends.insert("b", bad.uri()).await;
    until_backends(&channel, &[Ready; 2]).await;
    bad.end_calls_with(Code::Unavailable);
    until_ejected(&channel, 1).await;
    bad.end_calls_with(Code::Ok);
    backends.remove("b").await;
    backends.insert("b", bad.uri()).await;
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!(spread(&channel, 10, &[&a, &bad]).await, [5, 5]);
}

// O29
#[tokio::test]
async fn refused_streams_do_not_count() {
    let [a, refusing, bad] = [
        H2Peer::start().await,
        H2Peer::start().await,
        H2Peer::start().await,
    ];
    refusing.answer_calls(Answer::Reset(h2::Reason::REFUSED_STREAM));
    bad.answer_calls(Answer::Status(Code::Unavailable));
    let all = Detection {
        max_percent: 100,
        ..DETECTION
    };
    let uris = [&a, &refusing, &bad].map(|peer| peer.uri());
    let channel = balanced_at(uris, None).service_config(all.config()).build();
    until_backends(&channel, &[Ready; 3]).await;
    until_ejected(&channel, 2).await;
    assert!(refusing.calls() > 2);
    assert_eq!(ejection(&channel, 1), None);
}

// D414
#[tokio::test]
async fn ejections_are_recorded_with_their_method() {
    let [a, b, bad] = three().await;
    let meter = Prometheus::new();
    let metrics = Metrics::new(meter.clone()).enable([
        "grpc.lb.outlier_detection.ejections_enforced",
        "grpc.lb.outlier_detection.ejections_unenforced",
    ]);
    let detection = Detection {
        max_percent: 33,
        ..DETECTION
    };
    let builder = balanced(&[&a, &b, &bad], None).service_config(detection.config());
    let channel = builder.metrics(metrics).expect("known names").build();
    until_backends(&channel, &[Ready; 3]).await;
    bad.end_calls_with(Code::Internal);
    until_ejected(&channel, 2).await;
    let labels = "grpc_target=\"balance:///\",\
                  grpc_lb_outlier_detection_detection_method=\"failure_percentage\"";
    let enforced = format!("grpc_lb_outlier_detection_ejections_enforced_total{{{labels}}} 1");
    assert!(meter.render().lines().any(|line| line == enforced));
    let ejected = "state=\"transient_failure\",health=\"serving\"} 1";
    assert!(meter.render().contains(ejected), "{}", meter.render());

    // 1 of 3 is as many as may be.
    b.end_calls_with(Code::Internal);
    let reason = "unenforced_reason=\"max_ejection_overflow\"";
    call_until(&channel, "an outlier that is spared", |_| {
        meter.render().contains(reason)
    })
    .await;
}
