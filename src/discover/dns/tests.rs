//! The source over scripted answers and paused time, alone and below a channel.

use std::{net::SocketAddr, time::Duration};

use futures_util::StreamExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tower::discover::Change;

use super::{
    found::{Families, Found},
    lookup::Resolver,
    options::Item,
    source::{Dns, dns},
};
use crate::{
    Channel, ConnectivityState, Endpoint,
    discover::RefreshHandle,
    status::ChannelStatus,
    transport::tests::{dialled_endpoint, soon},
};

/// Answers that the test gives, one by one.
#[derive(Clone)]
pub(super) struct Script(mpsc::UnboundedSender<Question>);

/// A lookup that waits for its answer.
struct Question {
    at: Instant,
    answer: oneshot::Sender<Result<Found, String>>,
}

impl Script {
    pub(super) async fn look_up(&self) -> Result<Found, String> {
        let (answer, answered) = oneshot::channel();
        let at = Instant::now();
        let asked = self.0.send(Question { at, answer });
        assert!(asked.is_ok(), "the test is over");
        match answered.await {
            Ok(outcome) => outcome,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Question {
    fn found(self, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse().expect("an address"));
        self.answer(Ok(Found {
            addresses: addresses.collect(),
            ..Found::default()
        }));
    }

    /// Of the other family it could not be learnt.
    fn found_of_v6_alone(self, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse().expect("an address"));
        self.answer(Ok(Found {
            addresses: addresses.collect(),
            valid: None,
            unknown: Families {
                v4: true,
                v6: false,
            },
        }));
    }

    fn failed(self, why: &str) {
        self.answer(Err(why.to_owned()));
    }

    fn answer(self, outcome: Result<Found, String>) {
        // The lookup may have been given up.
        let _ = self.answer.send(outcome);
    }
}

/// A source whose lookups the test answers.
fn scripted(template: Endpoint) -> (Dns, mpsc::UnboundedReceiver<Question>) {
    let (ask, questions) = mpsc::unbounded_channel();
    let mut dns = dns("shop.example:50051", template).expect("a target");
    dns.options.resolver = Resolver::Scripted(Script(ask));
    (dns, questions)
}

fn template() -> Endpoint {
    Endpoint::from_static("http://shop.example")
}

/// A source that is polled all the time.
struct Rig {
    started: Instant,
    refresh: RefreshHandle,
    questions: mpsc::UnboundedReceiver<Question>,
    items: mpsc::UnboundedReceiver<Item>,
}

impl Rig {
    fn start(options: impl FnOnce(Dns) -> Dns) -> Self {
        let (dns, questions) = scripted(template());
        let mut dns = options(dns);
        let refresh = dns.refresh_handle();
        let (tell, items) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(item) = dns.next().await {
                let _ = tell.send(item);
            }
        });
        Self {
            started: Instant::now(),
            refresh,
            questions,
            items,
        }
    }

    /// The next lookup, and at which second it is.
    async fn question(&mut self) -> (f64, Question) {
        let question = soon(self.questions.recv()).await.expect("a lookup");
        ((question.at - self.started).as_secs_f64(), question)
    }

    /// The next item: `+address`, `-address` or the error.
    async fn item(&mut self) -> String {
        match soon(self.items.recv()).await.expect("an item") {
            Ok(Change::Insert(address, endpoint)) => {
                let there = address.parse().expect("an address");
                assert_eq!(endpoint, template_at(there), "the template, there");
                format!("+{address}")
            }
            Ok(Change::Remove(address)) => format!("-{address}"),
            Err(error) => error.to_string(),
        }
    }

    async fn items(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.item().await, *expected);
        }
    }
}

fn template_at(address: SocketAddr) -> Endpoint {
    Endpoint::from_static("http://shop.example:50051").with_address(address)
}

const A: &str = "10.0.0.1:50051";
const B: &str = "10.0.0.2:50051";
const C: &str = "[2001:db8::3]:50051";

#[tokio::test(start_paused = true)]
async fn what_changes_between_answers_is_told() {
    let mut rig = Rig::start(|dns| dns);
    let (at, question) = rig.question().await;
    assert!(at < 0.01, "looked up at once, not after {at}s");
    question.found(&[B, A, B]);
    rig.items(&[&format!("+{B}"), &format!("+{A}")]).await;

    rig.question().await.1.found(&[A, B]);
    rig.question().await.1.found(&[A, C]);
    rig.items(&[&format!("+{C}"), &format!("-{B}")]).await;
}

// D296
#[tokio::test(start_paused = true)]
async fn a_family_that_was_not_learnt_stays_and_is_looked_up_again_soon() {
    let mut rig = Rig::start(|dns| dns.refresh_interval(Duration::from_secs(3600)));
    rig.question().await.1.found(&[A, C]);
    rig.items(&[&format!("+{A}"), &format!("+{C}")]).await;
    rig.refresh.request();
    let (asked, question) = rig.question().await;
    question.found_of_v6_alone(&[C]);
    let (again, question) = rig.question().await;
    let pause = again - asked;
    assert!((30.0..=36.1).contains(&pause), "{pause}");
    question.found(&[C]);
    rig.items(&[&format!("-{A}")]).await;
}

#[tokio::test(start_paused = true)]
async fn the_name_is_looked_up_every_minute_or_a_little_later() {
    let mut rig = Rig::start(|dns| dns);
    let (mut last, question) = rig.question().await;
    question.found(&[A]);
    for _ in 0..10 {
        let (at, question) = rig.question().await;
        question.found(&[A]);
        let pause = at - last;
        assert!((60.0..=72.1).contains(&pause), "{pause}");
        last = at;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_heeded_once_in_thirty_seconds_or_a_little_later() {
    let mut rig = Rig::start(|dns| dns.refresh_interval(None));
    rig.question().await.1.found(&[A]);
    rig.items(&[&format!("+{A}")]).await;
    let mut last = 0.0;
    for _ in 0..3 {
        rig.refresh.request();
        rig.refresh.request();
        let (at, question) = rig.question().await;
        let pause = at - last;
        assert!((30.0..=36.1).contains(&pause), "after {pause}s");
        last = at;
        question.found(&[A]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_interval_only_requests_are_heeded() {
    let mut rig = Rig::start(|dns| dns.refresh_interval(None));
    rig.question().await.1.found(&[A]);
    let day = Duration::from_secs(24 * 3600);
    let silence = tokio::time::timeout(day, rig.questions.recv()).await;
    assert!(silence.is_err(), "nobody asked");
    rig.refresh.request();
    let (at, _question) = rig.question().await;
    let delay = at - day.as_secs_f64();
    assert!((0.0..=1.01).contains(&delay), "at {at}s");
}

#[tokio::test(start_paused = true)]
async fn intervals_are_for_the_application_to_choose() {
    let [five, ten] = [5, 10].map(Duration::from_secs);
    let mut rig = Rig::start(|dns| dns.min_interval(five).refresh_interval(ten));
    rig.question().await.1.found(&[A]);
    let (at, question) = rig.question().await;
    assert!((10.0..=12.1).contains(&at), "{at}");
    question.found(&[A]);
    rig.refresh.request();
    let (again, _question) = rig.question().await;
    assert!((5.0..=6.1).contains(&(again - at)), "{again} after {at}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_by_name_and_takes_nothing_away() {
    let mut rig = Rig::start(|dns| dns);
    rig.question().await.1.found(&[A, B]);
    rig.items(&[&format!("+{A}"), &format!("+{B}")]).await;

    rig.question().await.1.failed("does not exist");
    rig.items(&["name `shop.example:50051` does not exist"])
        .await;
    rig.question().await.1.found(&[]);
    rig.items(&["name `shop.example:50051` produced zero addresses"])
        .await;

    // Named anew, so that the error is over.
    rig.question().await.1.found(&[A, B]);
    rig.items(&[&format!("+{A}"), &format!("+{B}")]).await;
    rig.question().await.1.found(&[A, B]);
    rig.question().await;
    assert!(rig.items.is_empty(), "and only once");
}

/// Whoever forges an answer is not to choose how many connections we make.
#[tokio::test(start_paused = true)]
async fn more_addresses_than_a_channel_is_for_are_a_failure() {
    let mut rig = Rig::start(|dns| dns);
    rig.question().await.1.found(&[A]);
    rig.items(&[&format!("+{A}")]).await;
    let many: Vec<_> = (0..10_001_u32)
        .map(|n| format!("{}:1", std::net::Ipv4Addr::from(n)))
        .collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    rig.question().await.1.found(&many);
    rig.items(&["name `shop.example:50051` has more than 10000 addresses"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_does_not_end_is_given_up() {
    let mut rig = Rig::start(|dns| dns);
    let (_, never) = rig.question().await;
    rig.items(&["name `shop.example:50051` was not looked up within 30s"])
        .await;
    assert!((rig.started.elapsed().as_secs_f64() - 30.0).abs() < 0.01);
    rig.question().await.1.found(&[A]);
    rig.items(&[&format!("+{A}")]).await;
    never.found(&[B]);

    let mut rig = Rig::start(|dns| dns.lookup_timeout(Duration::from_secs(2)));
    let _never = rig.question().await;
    rig.items(&["name `shop.example:50051` was not looked up within 2s"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_address_in_place_of_a_name_is_itself() {
    let at = |target: &str, address: &str| {
        let uri: http::Uri = format!("http://{target}").parse().expect("a URI");
        let address: SocketAddr = address.parse().expect("an address");
        (
            address.to_string(),
            Endpoint::from(uri).with_address(address),
        )
    };
    for (target, address) in [
        ("10.0.0.1:50051", "10.0.0.1:50051"),
        ("10.0.0.1", "10.0.0.1:80"),
        ("[::1]:50051", "[::1]:50051"),
    ] {
        let mut dns = dns(target, template()).expect("a target");
        let first = soon(dns.next()).await.expect("an item").expect("no error");
        let Change::Insert(key, endpoint) = first else {
            panic!("{first:?}");
        };
        assert_eq!((key, endpoint), at(target, address));
    }
}

#[tokio::test(start_paused = true)]
async fn the_port_is_that_of_the_scheme_if_there_is_none() {
    let template = Endpoint::from_static("https://shop.example");
    let mut dns = dns("10.0.0.1", template).expect("a target");
    let first = soon(dns.next()).await.expect("an item").expect("no error");
    let Change::Insert(key, endpoint) = first else {
        panic!("{first:?}");
    };
    assert_eq!(key, "10.0.0.1:443");
    assert_eq!(endpoint.uri(), "https://10.0.0.1/");
}

/// A template whose proxy is that of an environment.
fn behind_proxy(no_proxy: &str) -> Endpoint {
    let template = template().proxy_from(|name| match name {
        "https_proxy" => Some("http://gateway.test:3128".to_owned()),
        "no_proxy" => Some(no_proxy.to_owned()),
        _ => None,
    });
    template.expect("a proxy")
}

// D307
#[tokio::test(start_paused = true)]
async fn a_name_behind_a_proxy_is_not_looked_up() {
    let template = behind_proxy("other.test");
    let mut dns = dns("shop.test:1", template.clone()).expect("a target");
    let items = [soon(dns.next()).await, soon(dns.next()).await];
    let [Some(Ok(Change::Insert(key, endpoint))), None] = items else {
        panic!("{items:?}");
    };
    assert_eq!(key, "shop.test:1");
    let by_name = template.with_authority("shop.test:1".parse().expect("an authority"));
    assert_eq!(endpoint, by_name, "not located, and with its proxy");
}

// D307
#[tokio::test(start_paused = true)]
async fn whether_there_is_a_proxy_is_a_question_of_the_name() {
    let mut rig = Rig::start(|mut dns| {
        dns.options.template = behind_proxy("shop.example").with_target_of(&dns.options.template);
        dns
    });
    // The addresses are not excepted, and get no proxy all the same.
    rig.question().await.1.found(&[A, B]);
    rig.items(&["+10.0.0.1:50051", "+10.0.0.2:50051"]).await;
}

/// Awaits a status of the channel.
async fn until(channel: &Channel, condition: impl FnMut(&ChannelStatus) -> bool) {
    soon(channel.watch_status().wait_for(condition)).await;
}

// T09, R34
#[tokio::test(start_paused = true)]
async fn a_channel_whose_name_does_not_exist_fails_and_recovers() {
    let (dns, mut questions) = scripted(dialled_endpoint().0);
    let channel = Channel::dns(dns).build();
    let question = soon(questions.recv()).await.expect("a lookup");
    assert_eq!(channel.state(), ConnectivityState::Connecting);
    question.failed("does not exist");
    until(&channel, |status| {
        let cause = status.cause().map(ToString::to_string).unwrap_or_default();
        status.state() == ConnectivityState::TransientFailure
            && cause.contains("name resolver error: name `shop.example:50051` does not exist")
    })
    .await;

    let question = soon(questions.recv()).await.expect("another lookup");
    question.found(&[A]);
    until(&channel, |status| {
        status.cause().is_none() && status.backends().len() == 1
    })
    .await;
    assert_eq!(channel.backends()[0].label(), A);
    assert_eq!(channel.backends()[0].address(), A);
}

// R34
#[tokio::test(start_paused = true)]
async fn a_channel_keeps_its_backends_while_its_name_cannot_be_looked_up() {
    let (dns, mut questions) = scripted(dialled_endpoint().0);
    let channel = Channel::dns(dns).build();
    let question = soon(questions.recv()).await.expect("a lookup");
    question.found(&[A, B]);
    until(&channel, |status| status.backends().len() == 2).await;

    for _ in 0..3 {
        let question = soon(questions.recv()).await.expect("another lookup");
        question.failed("does not resolve: the server is down");
        until(&channel, |status| status.cause().is_some()).await;
        assert_eq!(channel.backends().len(), 2);
    }
    let question = soon(questions.recv()).await.expect("another lookup");
    question.found(&[A, B]);
    until(&channel, |status| status.cause().is_none()).await;
    assert_eq!(channel.backends().len(), 2);
}

/// The source backs off, and the channel leaves a source alone that failed: together
/// they wait for the longer time, not for both.
#[tokio::test(start_paused = true)]
async fn pauses_after_failures_do_not_add_up() {
    let (dns, mut questions) = scripted(dialled_endpoint().0);
    let _channel = Channel::dns(dns).build();
    let mut last: Option<Instant> = None;
    for bound in [0.0, 1.2, 2.0, 4.1, 8.0, 16.0, 30.0, 30.0, 36.0, 36.0, 36.0] {
        let question = soon(questions.recv()).await.expect("a lookup");
        if let Some(last) = last {
            let pause = (question.at - last).as_secs_f64();
            assert!((0.8..=bound + 0.1).contains(&pause), "{pause}, not {bound}");
        }
        last = Some(question.at);
        question.failed("does not exist");
    }
}

// R19, R32
#[tokio::test(start_paused = true)]
async fn a_backend_in_trouble_has_the_name_looked_up() {
    let (template, mut dials) = dialled_endpoint();
    let (dns, mut questions) = scripted(template);
    let channel = Channel::dns(dns.refresh_interval(None)).build();
    let question = soon(questions.recv()).await.expect("a lookup");
    let first = question.at;
    question.found(&[A]);
    // Whoever listens there hangs up.
    drop(soon(dials.recv()).await.expect("a dial"));

    let question = soon(questions.recv()).await.expect("another lookup");
    let pause = (question.at - first).as_secs_f64();
    assert!((30.0..=36.1).contains(&pause), "after {pause}s");
    question.found(&[B]);
    until(&channel, |status| {
        let labels: Vec<_> = status.backends().iter().map(|b| b.label()).collect();
        labels == [B]
    })
    .await;
}

#[cfg(not(feature = "hickory"))]
#[test]
fn names_of_srv_records_need_the_feature() {
    let error = dns("_grpc._tcp.shop.example", template()).expect_err("nobody can be asked");
    let expected = "target `_grpc._tcp.shop.example`: SRV records need the feature `hickory`";
    assert_eq!(error.message(), expected);
}
