//! The spans of calls and attempts (gRFC A72).

use std::collections::BTreeMap;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::{FutureExt, SpanId, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::Sampler::{AlwaysOff, AlwaysOn},
};
use testing::{
    Answer, Backend, Chat, Configs, GREETER, H2Peer, balanced, balanced_at, call, dead_addr,
    greeter, hello, of_all_methods, outcome, request, say, start, until, until_backends, within,
};
use tonic::{Code, Request, body::Body, codegen::http, metadata::MetadataValue};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
};
use tonic_health_channel_opentelemetry::OtelTracer;

use crate::traced::{Ended, Traced, seen};

const SENT: &str = "Sent.demo.v1.Greeter.SayHello";
const ATTEMPT: &str = "Attempt.demo.v1.Greeter.SayHello";

fn as_it_is(tracer: OtelTracer) -> OtelTracer {
    tracer
}

fn propagated(tracer: OtelTracer) -> OtelTracer {
    tracer.with_propagator(TraceContextPropagator::new())
}

/// `attempt` as it must be, to this address.
fn assert_attempt(attempt: &Ended, call: &Ended, previous: &str, is_again: &str, backend: &str) {
    assert_eq!(
        (&*attempt.name, &attempt.kind),
        (ATTEMPT, &SpanKind::Internal)
    );
    assert_eq!((attempt.trace, attempt.parent), (call.trace, call.id));
    let expected = [
        ("previous-rpc-attempts", previous),
        ("transparent-retry", is_again),
        ("backend", backend),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(attempt.attributes, BTreeMap::from(expected));
}

// Q02
#[tokio::test]
async fn a_call_is_a_client_span_with_its_attempt_within() {
    let traced = Traced::new(AlwaysOn);
    let backend = Backend::start().await;
    let channel = traced.channel(balanced(&[&backend], Some(GREETER)), as_it_is);
    until(&channel, Ready).await;
    assert!(traced.take().is_empty(), "health checks are not calls");
    hello(&channel).await.expect("an answer");
    let [attempt, call] = traced.take_both();
    assert_eq!((&*call.name, &call.kind), (SENT, &SpanKind::Client));
    assert_eq!(call.parent, SpanId::INVALID);
    assert!(call.attributes.is_empty());
    assert_attempt(&attempt, &call, "0", "false", &backend.addr().to_string());
    let version = env!("CARGO_PKG_VERSION").to_owned();
    for span in [&attempt, &call] {
        assert_eq!(span.status, Status::Ok);
        assert!(span.events.is_empty(), "{span:?}");
        assert_eq!(
            span.scope,
            ("tonic-health-channel".to_owned(), version.clone())
        );
    }
    assert!(
        seen(&backend, "traceparent").is_empty(),
        "there is no propagator"
    );
}

// Q02
#[tokio::test]
async fn the_current_context_is_the_parent() {
    let traced = Traced::new(AlwaysOn);
    let backend = Backend::start().await;
    let channel = traced.channel(balanced(&[&backend], None), as_it_is);
    let parent = traced.provider.tracer("of the test").start("parent");
    let context = Context::new().with_span(parent);
    hello(&channel)
        .with_context(context.clone())
        .await
        .expect("an answer");
    let [_, call] = traced.take_both();
    let parent = context.span().span_context().clone();
    assert_eq!(
        (call.parent, call.trace),
        (parent.span_id(), parent.trace_id())
    );
}

// Q02
#[tokio::test]
async fn the_current_span_of_tracing_is_the_parent() {
    use tracing::Instrument;
    use tracing_subscriber::layer::SubscriberExt;

    // By default a layer makes its span the current context.
    for activates in [true, cfg!(not(feature = "tracing"))] {
        let traced = Traced::new(AlwaysOn);
        let layer = tracing_opentelemetry::layer()
            .with_context_activation(activates)
            .with_tracer(traced.provider.tracer("of the test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        let _guard = tracing::subscriber::set_default(subscriber);
        let backend = Backend::start().await;
        let channel = traced.channel(balanced(&[&backend], None), as_it_is);
        let order = tracing::info_span!("order");
        hello(&channel).instrument(order).await.expect("an answer");
        traced.until_ended(3).await;
        let spans = traced.take();
        let named = |name| spans.iter().find(|span| span.name == name).expect(name);
        let (call, order) = (named(SENT), named("order"));
        assert_eq!((call.parent, call.trace), (order.id, order.trace));
    }
}

/// One call by hand, to a method that is not there.
async fn by_path(channel: &Channel, path: &'static str) {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("it is always ready");
    let request = http::Request::post(path)
        .body(Body::empty())
        .expect("a request");
    let mut service = channel.clone();
    let answer = tonic::client::GrpcService::call(&mut service, request);
    drop(within("an answer", answer).await.expect("a status"));
}

// Q02
#[tokio::test]
async fn a_path_without_a_generated_client_is_other_unless_a_filter_takes_it() {
    let traced = Traced::new(AlwaysOn);
    let backend = Backend::start().await;
    let plain = traced.channel(balanced(&[&backend], None), as_it_is);
    let filtered = traced.channel(balanced(&[&backend], None), |tracer| {
        tracer.method_filter(|path| path.starts_with("/made."))
    });
    let made = "/made.up.By/AClient";
    for (channel, path, name) in [
        (&plain, made, "other"),
        (&filtered, made, "made.up.By.AClient"),
        (&filtered, "/others.By/AClient", "other"),
    ] {
        by_path(channel, path).await;
        let [attempt, call] = traced.take_both();
        let names = [call.name, attempt.name];
        assert_eq!(names, [format!("Sent.{name}"), format!("Attempt.{name}")]);
    }
    hello(&filtered).await.expect("an answer");
    assert_eq!(traced.take_both()[1].name, SENT, "whatever the filter says");
}

// Q03
#[tokio::test]
async fn a_transparent_retry_is_an_attempt_that_counts_for_none() {
    let traced = Traced::new(AlwaysOn);
    let peer = H2Peer::start().await;
    let channel = traced.channel(balanced_at([peer.uri()], None), as_it_is);
    until(&channel, Ready).await;
    peer.answer_next_calls(1, Answer::Reset(h2::Reason::REFUSED_STREAM));
    hello(&channel).await.expect("an answer to the second");
    let [first, second, call] = <[Ended; 3]>::try_from(traced.take()).expect("2 attempts");
    let address = peer.addr().to_string();
    assert_attempt(&first, &call, "0", "false", &address);
    assert_attempt(&second, &call, "0", "true", &address);
    assert!(
        matches!(&first.status, Status::Error { description } if description.starts_with("UNAVAILABLE, "))
    );
    assert_eq!([second.status, call.status], [Status::Ok, Status::Ok]);
}

fn retrying() -> String {
    of_all_methods(
        r#""retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.01s", "maxBackoff": "0.01s",
            "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}"#,
    )
}

// Q04
#[tokio::test]
async fn a_call_that_waits_for_the_first_config_says_so_once() {
    let traced = Traced::new(AlwaysOn);
    let backend = Backend::start().await;
    let tracer = std::sync::Arc::new(OtelTracer::new(&traced.provider));
    let builder = balanced(&[&backend], None).call_tracer(tracer);
    let (configs, channel) = Configs::of(builder);
    let mut waiting = Box::pin(say(&channel, "again:1"));
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    configs.say(&retrying());
    within("an answer", waiting)
        .await
        .expect("the second attempt");
    let [first, second, call] = <[Ended; 3]>::try_from(traced.take()).expect("2 attempts");
    assert_eq!(call.events, ["Delayed name resolution complete"]);
    let address = backend.addr().to_string();
    assert_attempt(&first, &call, "0", "false", &address);
    assert_attempt(&second, &call, "1", "false", &address);

    hello(&channel).await.expect("an answer");
    assert!(traced.take_both()[1].events.is_empty());
}

// Q05
#[tokio::test]
async fn an_attempt_that_waits_for_a_stream_says_so() {
    let traced = Traced::new(AlwaysOn);
    let backend = Backend::builder().max_concurrent_streams(1).start().await;
    let channel = traced.channel(balanced(&[&backend], None), as_it_is);
    until(&channel, Ready).await;
    let held = start(&channel, "hold");
    backend.until_held(1).await;
    let mut waits = Box::pin(hello(&channel));
    assert!(futures_util::poll!(waits.as_mut()).is_pending());
    backend.release();
    outcome(held).await.expect("an answer");
    waits.await.expect("an answer");
    let spans = traced.take();
    let events = spans.iter().map(|span| (span.name.as_str(), &*span.events));
    let delayed = "Delayed LB pick complete".to_owned();
    let expected: [(_, &[String]); 4] = [
        (ATTEMPT, &[]),
        (SENT, &[]),
        (ATTEMPT, &[delayed]),
        (SENT, &[]),
    ];
    assert_eq!(events.collect::<Vec<_>>(), expected);
}

fn described(span: &Ended) -> &str {
    match &span.status {
        Status::Error { description } => description,
        other => panic!("{other:?} is not an error"),
    }
}

// Q06
#[tokio::test]
async fn the_description_of_an_error_begins_with_its_code() {
    let traced = Traced::new(AlwaysOn);
    let channel = traced.channel(balanced_at([dead_addr().uri()], None), as_it_is);
    until(&channel, TransientFailure).await;
    let refused = hello(&channel).await.expect_err("there is no backend");
    let [attempt, call] = traced.take_both();
    let expected = format!("UNAVAILABLE, {}", refused.message());
    assert_eq!([described(&attempt), described(&call)], [&*expected; 2]);
    assert!(
        !attempt.attributes.contains_key("backend"),
        "it went to none"
    );

    let backend = Backend::start().await;
    let channel = traced.channel(balanced(&[&backend], None), as_it_is);
    let failed = say(&channel, "fail:5").await.expect_err("it is to fail");
    assert_eq!(failed.code(), Code::NotFound);
    for span in traced.take_both() {
        assert!(described(&span).starts_with("NOT_FOUND, "), "{span:?}");
    }
}

// Q07
#[tokio::test]
async fn messages_are_events_of_the_attempt_where_they_are_asked_for() {
    let traced = Traced::new(AlwaysOn);
    let backend = Backend::start().await;
    let channel = traced.channel(balanced(&[&backend], None), |tracer| {
        tracer.message_events(true)
    });
    until(&channel, Ready).await;
    let mut chat = Chat::start(&channel).await;
    let first = chat.greet("Ada").await.expect("an answer");
    let second = chat.greet("Grace").await.expect("an answer");
    chat.end().await;
    traced.until_ended(2).await;
    let [attempt, call] = traced.take_both();
    let size = |reply: &testing::greeter::HelloReply| 4 + reply.message.len() + reply.backend.len();
    let expected = [
        "Outbound message sequence-number=0 message-size=5".to_owned(),
        format!(
            "Inbound message sequence-number=0 message-size={}",
            size(&first)
        ),
        "Outbound message sequence-number=1 message-size=7".to_owned(),
        format!(
            "Inbound message sequence-number=1 message-size={}",
            size(&second)
        ),
    ];
    assert_eq!(attempt.events, expected);
    assert!(call.events.is_empty());

    // The 7 bytes of a message that its prefix calls compressed.
    let message = [1, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7];
    let body = http_body_util::Full::new(tonic::codegen::Bytes::copy_from_slice(&message));
    let request = http::Request::post("/demo.v1.Greeter/SayHello").body(Body::new(body));
    let mut service = channel.clone();
    let answer = tonic::client::GrpcService::call(&mut service, request.expect("a request"));
    drop(within("an answer", answer).await);
    let [attempt, _] = traced.take_both();
    let compressed = "Outbound message sequence-number=0 message-size-compressed=7";
    assert_eq!(attempt.events[0], compressed);
}

// Q08
#[tokio::test]
async fn each_attempt_sends_a_context_of_its_own() {
    let traced = Traced::new(AlwaysOn);
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let config = retrying().parse().expect("a config");
    let builder = balanced(&[&a, &b], None).service_config(config);
    let channel = traced.channel(builder, propagated);
    until_backends(&channel, &[Ready, Ready]).await;
    say(&channel, "again:1").await.expect("the second attempt");
    let [first, second, call] = <[Ended; 3]>::try_from(traced.take()).expect("2 attempts");
    assert_eq!((first.trace, second.trace), (call.trace, call.trace));
    for attempt in [first, second] {
        let to = |backend: &&Backend| attempt.attributes["backend"] == backend.addr().to_string();
        let backend = [&a, &b]
            .into_iter()
            .find(to)
            .expect("an address of the two");
        let parent = format!("00-{}-{}-01", attempt.trace, attempt.id);
        assert_eq!(seen(backend, "traceparent"), [parent]);
        assert!(seen(backend, "tracestate").is_empty());
    }
}

/// With a `traceparent` and a `tracestate` of the caller's own.
fn with_context() -> Request<testing::greeter::HelloRequest> {
    let mut request = Request::new(request("you"));
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", MetadataValue::from_static("00-own"));
    metadata.insert("tracestate", MetadataValue::from_static("own=1"));
    request
}

// Q09
#[tokio::test]
async fn a_context_of_the_callers_goes_out_unless_there_is_a_propagator() {
    let traced = Traced::new(AlwaysOn);
    let backend = Backend::start().await;
    let channel = traced.channel(balanced(&[&backend], None), as_it_is);
    call(&channel, with_context()).await.expect("an answer");
    assert_eq!(seen(&backend, "traceparent"), ["00-own"]);
    assert_eq!(seen(&backend, "tracestate"), ["own=1"]);

    traced.take();
    let channel = traced.channel(balanced(&[&backend], None), propagated);
    call(&channel, with_context()).await.expect("an answer");
    let [attempt, _] = traced.take_both();
    let parent = format!("00-{}-{}-01", attempt.trace, attempt.id);
    assert_eq!(seen(&backend, "traceparent"), [parent]);
    assert_eq!(
        seen(&backend, "tracestate"),
        [""],
        "not that of another trace"
    );
}

/// Sets names and values that are not to be sent.
#[derive(Debug)]
struct Odd;

impl TextMapPropagator for Odd {
    fn inject_context(&self, _: &Context, injector: &mut dyn Injector) {
        let pairs = [
            ("grpc-timeout", "1n"),
            ("a name", "1"),
            ("x-value", "1\n2"),
            ("x-empty", ""),
            ("X-Mine", "1"),
        ];
        for (key, value) in pairs {
            injector.set(key, value.to_owned());
        }
    }

    fn extract_with_context(&self, context: &Context, _: &dyn Extractor) -> Context {
        context.clone()
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&[])
    }
}

// Q10
#[tokio::test]
async fn what_is_not_to_be_sent_is_left_out_and_harms_no_call() {
    let traced = Traced::new(AlwaysOn);
    let backend = Backend::start().await;
    let channel = traced.channel(balanced(&[&backend], None), |tracer| {
        tracer.with_propagator(Odd)
    });
    hello(&channel).await.expect("an answer");
    assert_eq!(seen(&backend, "x-mine"), ["1"]);
    for name in ["grpc-timeout", "x-value", "x-empty"] {
        assert!(seen(&backend, name).is_empty(), "{name}");
    }
}

// Q11
#[tokio::test]
async fn a_call_that_is_not_sampled_has_no_spans_and_tells_the_server_so() {
    let traced = Traced::new(AlwaysOff);
    let backend = Backend::start().await;
    let channel = traced.channel(balanced(&[&backend], None), as_it_is);
    hello(&channel).await.expect("an answer");
    assert!(seen(&backend, "traceparent").is_empty());

    let channel = traced.channel(balanced(&[&backend], None), propagated);
    let parents = Traced::new(AlwaysOn);
    let parent = parents.provider.tracer("of the test").start("parent");
    let context = Context::new().with_span(parent);
    let trace = context.span().span_context().trace_id();
    hello(&channel)
        .with_context(context)
        .await
        .expect("an answer");
    let [sent] = <[String; 1]>::try_from(seen(&backend, "traceparent")).expect("one");
    assert!(sent.starts_with(&format!("00-{trace}-")), "{sent}");
    assert!(sent.ends_with("-00"), "it is not sampled: {sent}");
    assert!(traced.take().is_empty());
}

// Q12
#[tokio::test]
async fn a_call_that_is_dropped_ends_both_spans_as_cancelled() {
    let traced = Traced::new(AlwaysOn);
    let backend = Backend::start().await;
    let channel = traced.channel(balanced(&[&backend], None), as_it_is);
    let held = start(&channel, "hold");
    backend.until_held(1).await;
    held.abort();
    held.await.expect_err("it was given up");
    for span in traced.take_both() {
        assert!(described(&span).starts_with("CANCELLED, "), "{span:?}");
    }

    let mut wanted = request("hold");
    wanted.count = 3;
    let replies = within("headers", greeter(&channel).say_hello_many(wanted)).await;
    let mut replies = replies.expect("a stream").into_inner();
    within("a reply", replies.message()).await.expect("a reply");
    assert!(traced.take().is_empty(), "it is under way");
    drop(replies);
    for span in traced.take_both() {
        assert!(described(&span).starts_with("CANCELLED, "), "{span:?}");
    }
}
