//! The headers that a tracer adds.

use testing::{Backend, balanced, call, greeter, hello, of_all_methods, request, say, within};
use tonic::{Request, metadata::MetadataValue};
use tonic_health_channel::channel::RequestInfo;

use super::notebook::{Settings, build, noted};

fn with_headers(headers: &[(&'static str, &'static str)]) -> Settings {
    Settings {
        headers: headers.to_vec(),
        ..Settings::default()
    }
}

/// The values of `traceparent` that the backend has seen last.
fn parents(backend: &Backend) -> Vec<String> {
    let metadata = backend.last_metadata().expect("there was a call");
    let parents = metadata.get_all("traceparent").iter();
    let parents = parents.map(|value| value.to_str().expect("text").to_owned());
    parents.collect()
}

// Q08
#[tokio::test]
async fn each_attempt_has_headers_of_its_own() {
    let backend = Backend::start().await;
    let retry = r#""retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s",
        "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}"#;
    let config = of_all_methods(retry).parse().expect("a config");
    let builder = balanced(&[&backend], None).service_config(config);
    let (channel, notebook) = build(builder, with_headers(&[("traceparent", "00-#")]));
    hello(&channel).await.expect("an answer");
    assert_eq!(parents(&backend), ["00-0"]);
    say(&channel, "again:2").await.expect("the third attempt");
    assert_eq!(parents(&backend), ["00-2"], "once, and of the last attempt");
    assert!(notebook.lines().contains(&"2 new after 2".to_owned()));
}

// Q08, Q09
#[tokio::test]
async fn what_a_caller_has_set_goes_out_unless_the_tracer_sets_it() {
    let own = || {
        let mut request = Request::new(request("you"));
        let value = MetadataValue::from_static("00-own");
        request.metadata_mut().append("traceparent", value.clone());
        request.metadata_mut().append("traceparent", value);
        request
    };
    let backend = Backend::start().await;
    let (channel, _notebook) = noted(&[&backend], Settings::default());
    call(&channel, own()).await.expect("an answer");
    assert_eq!(parents(&backend), ["00-own", "00-own"]);

    let (channel, _notebook) = noted(&[&backend], with_headers(&[("traceparent", "00-#")]));
    call(&channel, own()).await.expect("an answer");
    assert_eq!(parents(&backend), ["00-0"]);
}

// Q10
#[tokio::test]
async fn a_name_with_a_meaning_is_not_set_and_harms_no_call() {
    let backend = Backend::start().await;
    let headers = [
        ("grpc-timeout", "1n"),
        ("te", "gzip"),
        ("content-type", "text/html"),
        ("x-mine", "#"),
    ];
    let (channel, notebook) = noted(&[&backend], with_headers(&headers));
    hello(&channel).await.expect("an answer");
    let metadata = backend.last_metadata().expect("there was a call");
    assert!(metadata.get("grpc-timeout").is_none());
    assert_eq!(metadata.get("x-mine").expect("it is set"), "0");
    let refused = notebook.take();
    let refused = refused
        .iter()
        .filter_map(|line| line.strip_prefix("0 may not set "));
    assert_eq!(
        refused.collect::<Vec<_>>(),
        ["grpc-timeout", "te", "content-type"]
    );
}

// D437
#[tokio::test]
async fn credentials_and_a_trace_are_added_to_the_same_attempt() {
    let backend = Backend::start().await;
    let credentials = |_: RequestInfo| async {
        let mut metadata = tonic::metadata::MetadataMap::new();
        metadata.insert("authorization", MetadataValue::from_static("Bearer 1"));
        Ok(metadata)
    };
    let builder = balanced(&[&backend], None)
        .call_credentials(credentials)
        .allow_plaintext_credentials(true);
    let (channel, _notebook) = build(builder, with_headers(&[("traceparent", "00-#")]));
    for _ in 0..2 {
        within("an answer", greeter(&channel).say_hello(request("you")))
            .await
            .expect("an answer");
        let metadata = backend.last_metadata().expect("there was a call");
        assert_eq!(
            metadata.get("authorization").expect("it is set"),
            "Bearer 1"
        );
        assert_eq!(parents(&backend), ["00-0"]);
    }
}
