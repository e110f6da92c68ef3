//! What is followed of a channel, as JSON.

use std::num::NonZeroU32;

use serde_json::{Value, json};
use testing::{
    Backend, balanced, by_hand, dead_addr, endpoint, hello, quick_backoff, until_backends, within,
};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    channel::Change,
    discover::{self, Locality},
};

/// Takes what differs from run to run out of `status`, after a look at it.
#[track_caller]
fn without_times(mut status: Value) -> Value {
    for name in ["since", "last_error"] {
        let told = match name {
            "since" => status[name].take(),
            _ if status[name].is_null() => continue,
            _ => status[name]["at"].take(),
        };
        let told = told.as_str().expect("a time");
        assert!(told.starts_with("20") && told.ends_with('Z'), "{told}");
    }
    let attempt = &mut status["next_attempt_in_seconds"];
    assert!(attempt.is_null() || attempt.as_f64().is_some(), "{attempt}");
    *attempt = Value::Null;
    let failed = &mut status["failed_attempts"];
    assert!(failed.is_u64(), "{failed}");
    *failed = Value::Null;
    status
}

// D327
#[tokio::test]
async fn an_ejection_is_json() {
    let [a, bad] = Backend::builder().start_each(["a", "b"]).await;
    let config = r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {
        "interval": "0.05s",
        "failurePercentageEjection": {"threshold": 50, "minimumHosts": 1, "requestVolume": 1},
        "childPolicy": [{"round_robin": {}}]
    }}]}"#;
    let config = config.parse().expect("valid");
    let channel = balanced(&[&a, &bad], None).service_config(config).build();
    bad.end_calls_with(Code::Unavailable);
    let calls = async {
        while channel.backends().iter().all(|b| b.ejection().is_none()) {
            let _ = hello(&channel).await;
        }
    };
    within("an ejection", calls).await;
    let status = serde_json::to_value(&*channel.backends()[1]).expect("JSON");
    let mut told = status["ejection"].clone();
    let since = told["since"].take();
    assert!(since.as_str().expect("a time").ends_with('Z'), "{since}");
    let until = told["until_in_seconds"].take();
    assert!(
        (0.0..=30.0).contains(&until.as_f64().expect("a number")),
        "{until}"
    );
    assert!(told["volume"].take().as_u64().expect("a number") > 0);
    let expected = json!({
        "since": null,
        "until_in_seconds": null,
        "multiplier": 1,
        "method": "failure percentage",
        "percentage": 100.0,
        "bound": 50.0,
        "volume": null,
    });
    assert_eq!(told, expected);
}

// D420, D436
#[tokio::test]
async fn attributes_and_priorities_are_json() {
    let (changes, source) = discover::push(4);
    let channel = Channel::balance(source).panic_threshold(50).build();
    let locality = Locality {
        region: "eu".to_owned(),
        zone: "eu-1a".to_owned(),
        sub_zone: String::new(),
    };
    let backend = discover::Backend::new(endpoint(dead_addr().uri()))
        .weight(NonZeroU32::new(3).expect("not 0"))
        .priority(2)
        .locality(locality)
        .hash_key("pod-0");
    let sent = changes.send(Change::Insert("a", backend)).await;
    sent.expect("the channel listens");
    until_backends(&channel, &[TransientFailure]).await;
    let told = serde_json::to_value(&*channel.status()).expect("JSON");
    let priority = json!({
        "priority": 2, "healthy": 0, "total": 1, "load": 100, "in_panic": true,
    });
    assert_eq!(told["priorities"], json!([priority]));
    let backend = &told["backends"][0];
    assert_eq!(backend["weight"], 3);
    assert_eq!(backend["priority"], 2);
    let locality = json!({"region": "eu", "zone": "eu-1a", "sub_zone": ""});
    assert_eq!(backend["locality"], locality);
    assert_eq!(backend["hash_key"], "pod-0");
    assert_eq!(backend["takes_calls"], false, "it is not connected");
    let text = "priority 2: 0 of 1 backends healthy, 100 % of the calls, in panic";
    assert_eq!(channel.status().priorities()[0].to_string(), text);
}

// D317
#[tokio::test]
async fn statuses_and_events_are_json() {
    let (backend, dead) = (Backend::start().await, dead_addr());
    let (backends, builder) = by_hand(None);
    let builder = builder.connect_backoff(quick_backoff());
    let channel = builder.count_calls(true).build();
    let mut watch = channel.watch_backends();
    backends.insert("a", backend.uri()).await;
    backends.insert("b", dead.uri()).await;
    until_backends(&channel, &[Ready, TransientFailure]).await;

    hello(&channel).await.expect("an answer");
    let status = channel.status();
    let mut told = serde_json::to_value(&*status).expect("JSON");
    let rows = told["backends"].take();
    let expected = json!({
        "generation": status.generation(),
        "state": "READY",
        "cause": null,
        "backends": null,
        "priorities": [],
    });
    assert_eq!(told, expected);
    let rows: Vec<_> = rows.as_array().expect("a list").clone();
    let ids: Vec<_> = status
        .backends()
        .iter()
        .map(|b| b.id().to_string())
        .collect();
    let [a, b] = &rows[..] else {
        panic!("two backends: {rows:?}");
    };
    let expected = json!({
        "id": ids[0],
        "label": "a",
        "address": backend.addr().to_string(),
        "state": "READY",
        "takes_calls": true,
        "health": "not checked",
        "since": null,
        "last_error": null,
        "failed_attempts": null,
        "next_attempt_in_seconds": null,
        "connections": 1,
        "calls_in_flight": 0,
        "calls": {"started": 1, "succeeded": 1, "failed": 0, "cancelled": 0, "refused": 0},
        "ejection": null,
        "weight": 1,
        "priority": 0,
        "locality": null,
        "hash_key": null,
    });
    assert_eq!(without_times(a.clone()), expected);
    let error = json!({"kind": "connect", "text": "connection refused", "at": null});
    let b = without_times(b.clone());
    assert_eq!(
        (&b["state"], &b["last_error"]),
        (&json!("TRANSIENT_FAILURE"), &error)
    );

    let added = watch.next().await.expect("a backend was added");
    let added = serde_json::to_value(&added).expect("JSON");
    assert_eq!(added["event"], "added");
    assert!(added["before"].is_null());
    assert_eq!(added["now"]["label"], "a");
}
