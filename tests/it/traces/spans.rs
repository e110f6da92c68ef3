//! The spans of `tracing_spans()`.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use testing::{Backend, Chat, balanced, hello, of_all_methods, say, until};
use tonic_health_channel::{Channel, ConnectivityState::Ready, trace::tracing_spans};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry,
};

const TARGET: &str = "tonic_health_channel::call";

type Fields = BTreeMap<String, String>;

/// A span with its fields, in which the events are.
#[derive(Clone, Debug, Default)]
struct Seen {
    id: u64,
    parent: Option<u64>,
    name: String,
    fields: Fields,
    events: Vec<Fields>,
    is_closed: bool,
}

impl Seen {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Keeps the spans of the calls of this thread.
#[derive(Clone)]
struct Spans {
    most: Level,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Spans {
    fn new(most: Level) -> Self {
        Self {
            most,
            seen: Arc::default(),
        }
    }

    fn all(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn change(&self, id: &Id, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Ids are used again.
        if let Some(span) = seen.iter_mut().rev().find(|span| span.id == id.into_u64()) {
            change(span);
        }
    }
}

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber> Layer<S> for Spans {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == TARGET && *metadata.level() <= self.most
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let current = context.current_span().id().map(Id::into_u64);
        let mut span = Seen {
            id: id.into_u64(),
            name: attributes.metadata().name().to_owned(),
            parent: attributes.parent().map(Id::into_u64).or(current),
            ..Seen::default()
        };
        assert_eq!(*attributes.metadata().level(), Level::DEBUG);
        attributes.record(&mut Into(&mut span.fields));
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(span);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.change(id, |span| values.record(&mut Into(&mut span.fields)));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Into(&mut fields));
        if let Some(parent) = event.parent() {
            self.change(parent, |span| span.events.push(fields));
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |span| span.is_closed = true);
    }
}

async fn traced(backend: &Backend, config: &str) -> Channel {
    let builder = balanced(&[backend], None).name("shop");
    let config = config.parse().expect("a config");
    let builder = builder.service_config(config).call_tracer(tracing_spans());
    let channel = builder.build();
    until(&channel, Ready).await;
    channel
}

// Q02, Q06
#[tokio::test]
async fn a_call_is_a_span_with_its_attempts_within() {
    testing::keep_a_second_dispatcher();
    let spans = Spans::new(Level::DEBUG);
    let _default = tracing::subscriber::set_default(registry().with(spans.clone()));
    let backend = Backend::start().await;
    let retry = r#""retryPolicy": {"maxAttempts": 2, "initialBackoff": "0.01s",
        "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}"#;
    let channel = traced(&backend, &of_all_methods(retry)).await;
    say(&channel, "again:1").await.expect("the second attempt");
    let all = spans.all();
    let [call, first, second] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(call.name, "call");
    assert_eq!(call.parent, None);
    for (name, value) in [
        ("otel.name", "Sent.demo.v1.Greeter.SayHello"),
        ("otel.kind", "client"),
        ("otel.status_code", "OK"),
        ("otel.status_description", ""),
        ("target", "channel:///shop"),
    ] {
        assert_eq!(call.field(name), value, "{name}");
    }
    for (n, attempt) in [first, second].into_iter().enumerate() {
        assert_eq!(attempt.parent, Some(call.id));
        assert_eq!(
            attempt.field("otel.name"),
            "Attempt.demo.v1.Greeter.SayHello"
        );
        assert_eq!(attempt.field("otel.kind"), "");
        assert_eq!(attempt.field("previous-rpc-attempts"), n.to_string());
        assert_eq!(attempt.field("transparent-retry"), "false");
        assert_eq!(attempt.field("backend"), backend.addr().to_string());
        assert!(attempt.is_closed && call.is_closed);
        assert!(attempt.events.is_empty(), "messages are for TRACE");
    }
    assert_eq!(first.field("otel.status_code"), "ERROR");
    let text = first.field("otel.status_description");
    assert_eq!(text, "UNAVAILABLE, the test asked for this");
    assert_eq!(second.field("otel.status_code"), "OK");
}

// Q07
#[tokio::test]
async fn with_the_level_trace_there_is_an_event_for_each_message() {
    testing::keep_a_second_dispatcher();
    let spans = Spans::new(Level::TRACE);
    let _default = tracing::subscriber::set_default(registry().with(spans.clone()));
    let backend = Backend::start().await;
    let channel = traced(&backend, "{}").await;
    let mut chat = Chat::start(&channel).await;
    let reply = chat.greet("Ada").await.expect("an answer");
    chat.end().await;
    let all = spans.all();
    let mut events = all[1].events.iter();
    let mut told = || {
        let event = events.next().expect("an event");
        let field = |name: &str| event.get(name).map_or("", String::as_str);
        [
            field("message"),
            field("sequence-number"),
            field("message-size"),
        ]
        .map(str::to_owned)
    };
    let size = 4 + reply.message.len() + reply.backend.len();
    assert_eq!(told(), ["Outbound message", "0", "5"]);
    assert_eq!(told(), ["Inbound message", "0", &size.to_string()]);
}

// Q01
#[tokio::test]
async fn without_a_subscriber_that_wants_them_there_are_no_spans() {
    testing::keep_a_second_dispatcher();
    let spans = Spans::new(Level::INFO);
    let _default = tracing::subscriber::set_default(registry().with(spans.clone()));
    let backend = Backend::start().await;
    let channel = traced(&backend, "{}").await;
    hello(&channel).await.expect("an answer");
    assert!(spans.all().is_empty());
}
