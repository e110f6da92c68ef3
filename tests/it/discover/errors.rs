//! Sources that fail, end, or say nothing.

use std::{io, time::Duration};

use futures_util::{Stream, stream};
use testing::{
    Backend, endpoint, hello, outcome, quick_backoff, refusal, spread, start, until,
    until_backends, within,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    Endpoint,
    channel::Change,
    status::CauseKind,
};

type Said = Result<Change<&'static str, Endpoint>, io::Error>;

/// A channel, and all that its source is to say.
fn told() -> (mpsc::UnboundedSender<Said>, Channel) {
    let (source, said) = mpsc::unbounded_channel();
    let builder = Channel::balance(UnboundedReceiverStream::new(said));
    (source, builder.connect_backoff(quick_backoff()).build())
}

fn insert(key: &'static str, backend: &Backend) -> Said {
    Ok(Change::Insert(key, endpoint(backend.uri())))
}

#[track_caller]
fn say(source: &mpsc::UnboundedSender<Said>, what: Said) {
    source.send(what).expect("the channel listens");
}

/// A source of nothing that ends.
fn ended(changes: Vec<Change<&'static str, Endpoint>>) -> impl Stream<Item = Said> {
    stream::iter(changes.into_iter().map(Ok))
}

async fn until_cause(channel: &Channel, cause: &str) {
    let mut watch = channel.watch_status();
    let told = watch.wait_for(|status| {
        let now = status.cause().map(ToString::to_string);
        now.is_some_and(|now| now.contains(cause))
    });
    within(&format!("the cause {cause:?}"), told).await;
}

// R34
#[tokio::test]
async fn an_error_of_the_source_is_told_and_the_channel_works_on() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let (source, channel) = told();
    say(&source, insert("A", &a));
    until(&channel, Ready).await;

    say(&source, Err(io::Error::other("the registry is down")));
    until_cause(&channel, "name resolver error: the registry is down").await;
    let status = channel.status();
    let cause = status.cause().expect("just seen");
    assert_eq!(cause.kind(), CauseKind::NameResolver);
    assert_eq!(status.state(), Ready, "its backends stay");
    hello(&channel).await.expect("its backends stay");

    // Asked again after a second.
    say(&source, insert("B", &b));
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!(channel.status().cause(), None, "the source is well again");
}

// R10
#[tokio::test]
async fn calls_that_fail_tell_the_error_of_the_source_and_the_backends() {
    let down = Backend::builder().reserve().await;
    let (source, channel) = told();
    say(&source, insert("A", &down));
    until(&channel, TransientFailure).await;

    say(&source, Err(io::Error::other("the registry is down")));
    until_cause(&channel, "the registry is down").await;
    let text = refusal(&channel).await;
    let backend = format!("A ({}) connect: connection refused", down.addr());
    for told in ["name resolver error: the registry is down", &backend] {
        assert!(text.contains(told), "{text}");
    }
}

// R34
#[tokio::test]
async fn an_error_before_the_first_backend_fails_calls_with_its_text() {
    let (source, channel) = told();
    say(&source, Err(io::Error::other("the registry is down")));
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    let expected = "name resolver error: the registry is down";
    assert!(text.contains(expected), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_asked_again_after_1_2_4_and_at_most_30_seconds() {
    let (asked, mut questions) = mpsc::unbounded_channel();
    let source = stream::poll_fn(move |_| {
        asked.send(Instant::now()).expect("the test listens");
        std::task::Poll::Ready(Some(Said::Err(io::Error::other("down"))))
    });
    let channel = Channel::balance(source).build();

    let mut last = questions.recv().await.expect("asked at once");
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let next = questions.recv().await.expect("asked again");
        let pause = (next - last).as_secs_f64();
        assert!(
            (pause - f64::from(seconds)).abs() < 0.01,
            "asked again after {pause}s, not {seconds}s"
        );
        last = next;
    }
    assert_eq!(channel.state(), TransientFailure);
}

#[tokio::test]
async fn the_end_of_the_source_freezes_the_set() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let changes = [&a, &b].map(|backend| endpoint(backend.uri()));
    let [at_a, at_b] = changes;
    let source = ended(vec![Change::Insert("A", at_a), Change::Insert("B", at_b)]);
    let channel = Channel::balance(source)
        .connect_backoff(quick_backoff())
        .build();
    until_backends(&channel, &[Ready; 2]).await;

    a.kill().await;
    until_backends(&channel, &[TransientFailure, Ready]).await;
    a.restart().await;
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [2, 2]);
}

// T10, R20
#[tokio::test]
async fn a_source_that_ends_without_a_backend_fails_calls_with_that() {
    let channel = Channel::balance(ended(vec![])).build();
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    let expected = "no backends: the source produced zero addresses and ended";
    assert!(text.contains(expected), "{text}");

    let gone = Change::Insert("A", endpoint("http://127.0.0.1:1"));
    let channel = Channel::balance(ended(vec![gone, Change::Remove("A")])).build();
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    let expected = "no backends: the source removed all of them and ended";
    assert!(text.contains(expected), "{text}");
}

// D308
#[tokio::test]
async fn a_source_that_names_nothing_fails_calls_after_a_while() {
    let backend = Backend::start().await;
    let (source, said) = mpsc::unbounded_channel::<Said>();
    // The time runs from `build`.
    let began = Instant::now();
    let channel = Channel::balance(UnboundedReceiverStream::new(said))
        .first_backends_timeout(Duration::from_millis(200))
        .build();
    let status = outcome(start(&channel, "you")).await;
    let status = status.expect_err("there is no backend");
    assert_eq!(status.code(), Code::Unavailable);
    let text = "no healthy backend: no backends yet: the source produced no addresses within 200ms";
    assert_eq!(status.message(), text);
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(channel.state(), TransientFailure);

    say(&source, insert("A", &backend));
    until(&channel, Ready).await;
    hello(&channel).await.expect("a backend was named");
}

#[tokio::test]
async fn calls_wait_through_a_long_silence_of_the_source() {
    let backend = Backend::start().await;
    let (source, channel) = told();
    let waiting = start(&channel, "you");
    let early = tokio::time::timeout(Duration::from_millis(50), channel.wait_until_ready()).await;
    assert!(early.is_err(), "nobody is named yet");
    say(&source, insert("A", &backend));
    outcome(waiting).await.expect("a backend was named");
}
