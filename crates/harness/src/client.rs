//! The channel under test, and calls on it.

use std::time::Duration;

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health_channel::{
    Channel, ChannelBuilder, ConnectivityState, Endpoint, HealthOptions, ServiceConfig,
    WaitForReady,
    channel::{BackoffConfig, Change},
    discover,
    status::ChannelStatus,
};

use super::{
    Backend, GREETER,
    greeter::{HelloReply, HelloRequest, greeter_client::GreeterClient},
    within,
};

/// A service config with `round_robin`, and health checks of `service`.
pub fn checking(service: &str) -> ServiceConfig {
    format!(
        r#"{{"loadBalancingConfig": [{{"round_robin": {{}}}}],
             "healthCheckConfig": {{"serviceName": "{service}"}}}}"#
    )
    .parse()
    .expect("a valid service config")
}

/// gRPC's backoff with every pause a hundredth: 10 ms at first, no jitter.
pub fn quick_backoff() -> BackoffConfig {
    let (initial, max) = (Duration::from_millis(10), Duration::from_millis(100));
    BackoffConfig::default()
        .initial(initial)
        .and_then(|backoff| backoff.jitter(0.0))
        .expect("a valid backoff")
        .max(max)
}

/// Health options with [`quick_backoff`].
pub fn quick_health() -> HealthOptions {
    HealthOptions::default().backoff(quick_backoff())
}

/// A builder of a channel over `backends` that checks the health of `service`,
/// with quick backoffs.
pub fn balanced(backends: &[&Backend], service: Option<&str>) -> ChannelBuilder {
    balanced_at(backends.iter().map(|backend| backend.uri()), service)
}

/// The same over anything that has a URI.
pub fn balanced_at(
    uris: impl IntoIterator<Item = String>,
    service: Option<&str>,
) -> ChannelBuilder {
    let list = discover::list(uris).expect("every URI is one");
    quick(Channel::balance(list), service)
}

/// The same over a set that the test names, takes back and changes.
pub fn by_hand(service: Option<&str>) -> (Backends, ChannelBuilder) {
    let (changes, source) = discover::push(64);
    (Backends(changes), quick(Channel::balance(source), service))
}

fn quick(builder: ChannelBuilder, service: Option<&str>) -> ChannelBuilder {
    let builder = builder
        .connect_backoff(quick_backoff())
        .health_options(quick_health());
    match service {
        Some(service) => builder.service_config(checking(service)),
        None => builder,
    }
}

/// A channel over `backends` that checks the health of the greeter.
pub fn health_checked(backends: &[&Backend]) -> Channel {
    balanced(backends, Some(GREETER)).build()
}

/// One unary call, answered within ten seconds.
pub async fn hello(channel: &Channel) -> Result<HelloReply, Status> {
    say(channel, "you").await
}

/// One unary call with a name that the greeter acts upon.
pub async fn say(channel: &Channel, name: &str) -> Result<HelloReply, Status> {
    call(channel, Request::new(request(name)))
        .await
        .map(Response::into_inner)
}

/// One unary call, as given.
pub async fn call(
    channel: &Channel,
    request: Request<HelloRequest>,
) -> Result<Response<HelloReply>, Status> {
    let mut client = GreeterClient::new(channel.clone());
    within("an answer to SayHello", client.say_hello(request)).await
}

pub fn request(name: &str) -> HelloRequest {
    HelloRequest {
        name: name.into(),
        count: 0,
    }
}

/// The channel's `n` next calls, each of which must succeed: how many went to
/// each of `backends`.
pub async fn spread(channel: &Channel, n: usize, backends: &[&Backend]) -> Vec<usize> {
    let before: Vec<_> = backends.iter().map(|backend| backend.hits()).collect();
    for i in 0..n {
        if let Err(status) = hello(channel).await {
            panic!("call {i} of {n} failed: {status}");
        }
    }
    let after = backends.iter().map(|backend| backend.hits());
    after
        .zip(before)
        .map(|(after, before)| after - before)
        .collect()
}

/// A call that must fail with UNAVAILABLE: its text.
pub async fn refusal(channel: &Channel) -> String {
    match hello(channel).await {
        Ok(reply) => panic!("answered by {} instead of failing", reply.backend),
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            status.message().to_owned()
        }
    }
}

/// A Chat that stays open: one greeting for each name.
pub struct Chat {
    names: mpsc::UnboundedSender<HelloRequest>,
    greetings: Streaming<HelloReply>,
}

impl Chat {
    pub async fn start(channel: &Channel) -> Self {
        let (names, requests) = mpsc::unbounded_channel();
        let mut client = GreeterClient::new(channel.clone());
        let chat = client.chat(UnboundedReceiverStream::new(requests));
        let greetings = within("response headers of Chat", chat)
            .await
            .expect("a backend takes the Chat")
            .into_inner();
        Self { names, greetings }
    }

    pub async fn greet(&mut self, name: &str) -> Result<HelloReply, Status> {
        // If the call has ended, the other direction says how.
        let _ = self.names.send(request(name));
        let greeting = within("a greeting", self.greetings.message()).await?;
        Ok(greeting.expect("the Chat is open as long as the test says nothing else"))
    }

    /// Says that there are no more names, and sees the call end with OK.
    pub async fn end(mut self) {
        drop(self.names);
        let end = within("the end of the Chat", self.greetings.message()).await;
        assert_eq!(end.expect("the Chat ends with OK"), None);
    }
}

/// Awaits a status of the channel of which `condition` is true, and returns it.
pub async fn until_that(
    channel: &Channel,
    what: &str,
    mut condition: impl FnMut(&ChannelStatus) -> bool,
) -> std::sync::Arc<ChannelStatus> {
    let mut watch = channel.watch_status();
    let status = within(what, watch.wait_for(|status| condition(status))).await;
    assert!(condition(&status), "the channel closed instead of {what}");
    status
}

/// Awaits the channel's state.
pub async fn until(channel: &Channel, state: ConnectivityState) {
    let mut watch = channel.watch_status();
    let reached = watch.wait_for(|status| status.state() == state);
    let status = within(&format!("the channel to be {state}"), reached).await;
    assert_eq!(status.state(), state, "the channel closed instead");
}

/// Awaits the states of all backends, in the order of the source.
pub async fn until_backends(channel: &Channel, states: &[ConnectivityState]) {
    let mut watch = channel.watch_status();
    let reached = watch.wait_for(|status| {
        let now: Vec<_> = status.backends().iter().map(|b| b.state()).collect();
        now == states
    });
    within(&format!("the backends to be {states:?}"), reached).await;
}

/// A generated client on the channel.
pub fn greeter(channel: &Channel) -> GreeterClient<Channel> {
    GreeterClient::new(channel.clone())
}

pub fn endpoint(uri: impl Into<String>) -> Endpoint {
    Endpoint::from_shared(uri.into()).expect("a URI that can be dialled")
}

/// The backends of a channel made by [`by_hand`].
pub struct Backends(mpsc::Sender<Change<&'static str, Endpoint>>);

impl Backends {
    pub async fn insert(&self, key: &'static str, at: impl Into<String>) {
        self.insert_as(key, endpoint(at)).await;
    }

    /// The same for an endpoint with options.
    pub async fn insert_as(&self, key: &'static str, endpoint: Endpoint) {
        self.change(Change::Insert(key, endpoint)).await;
    }

    pub async fn remove(&self, key: &'static str) {
        self.change(Change::Remove(key)).await;
    }

    async fn change(&self, change: Change<&'static str, Endpoint>) {
        let sent = self.0.send(change).await;
        assert!(sent.is_ok(), "the channel no longer listens to its source");
    }
}

/// A unary call that goes on by itself; see [`outcome`].
pub type Pending = JoinHandle<Result<HelloReply, Status>>;

pub fn start(channel: &Channel, name: &'static str) -> Pending {
    let channel = channel.clone();
    tokio::spawn(async move { say(&channel, name).await })
}

/// As [`start`], with a call that waits where another would fail.
pub fn start_patient(channel: &Channel, name: &'static str) -> Pending {
    let channel = channel.clone();
    tokio::spawn(async move {
        let answer = call(&channel, waiting_for_ready(name, true)).await;
        answer.map(Response::into_inner)
    })
}

/// How a started call ended.
pub async fn outcome(call: Pending) -> Result<HelloReply, Status> {
    within("a started call to end", call)
        .await
        .expect("a call does not panic")
}

/// Who answered the channel's `n` next calls, in order.
pub async fn order(channel: &Channel, n: usize) -> Vec<String> {
    let mut order = Vec::new();
    for i in 0..n {
        match hello(channel).await {
            Ok(reply) => order.push(reply.backend),
            Err(status) => panic!("call {i} of {n} failed: {status}"),
        }
    }
    order
}

/// A call that says for itself whether it waits for a backend.
pub fn waiting_for_ready(name: &str, wait: bool) -> Request<HelloRequest> {
    let mut request = Request::new(request(name));
    request.extensions_mut().insert(WaitForReady(wait));
    request
}

/// A call with this deadline.
pub fn request_within(name: &str, deadline: Duration) -> Request<HelloRequest> {
    let mut request = Request::new(request(name));
    request.set_timeout(deadline);
    request
}

/// Awaits that the source's backends have exactly these labels, in this order,
/// and that all are READY.
pub async fn until_ready(channel: &Channel, labels: &[&str]) {
    let mut watch = channel.watch_status();
    let reached = watch.wait_for(|status| {
        let all = status.backends().iter();
        let ready = all.filter(|b| b.state() == ConnectivityState::Ready);
        let ready: Vec<_> = ready.map(|b| b.label()).collect();
        ready == labels && status.backends().len() == labels.len()
    });
    within(
        &format!("{labels:?} to be READY, and nobody else there"),
        reached,
    )
    .await;
}
