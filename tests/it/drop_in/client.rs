//! What client code does with tonic's `Channel` and `Endpoint`.

use std::{
    cell::Cell,
    error::Error,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use testing::{
    Answer, Backend, H2Peer, dead_addr,
    greeter::{HelloReply, HelloRequest, greeter_client::GreeterClient},
    within,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::{StreamExt, iter};
use tonic::{
    Code, Request, Status, body::Body, codegen::InterceptedService, metadata::MetadataValue,
};
use tower::{Service, ServiceExt};

use super::EXPECTED;
use super::transport::{Channel, Endpoint, channel::Change};

/// A client as applications hold it: the type of its channel is spelled out.
struct Application {
    greeter: GreeterClient<Channel>,
}

impl Application {
    fn new(channel: Channel) -> Self {
        Self {
            greeter: GreeterClient::new(channel),
        }
    }

    async fn hello(&mut self) -> Result<HelloReply, Status> {
        let answer = self.greeter.say_hello(named("you"));
        let reply = within("an answer to SayHello", answer).await?;
        Ok(reply.into_inner())
    }

    async fn answered_by(&mut self) -> String {
        self.hello().await.expect("the call is answered").backend
    }
}

fn named(name: &str) -> HelloRequest {
    HelloRequest {
        name: name.to_owned(),
        count: 3,
    }
}

fn endpoint(backend: &Backend) -> Endpoint {
    Endpoint::from_shared(backend.uri()).expect("a URI")
}

async fn connected(endpoint: Endpoint) -> Channel {
    let channel = within("the endpoint to connect", endpoint.connect()).await;
    channel.expect("the backend is up")
}

/// Runs tasks on tokio, and counts them.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Counting {
    fn execute(&self, task: F) {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(task);
    }
}

/// A key that can do what tonic asks of keys, and no more: it is neither `Sync`
/// nor `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key(&'static str, PhantomData<Cell<()>>);

fn key(name: &'static str) -> Key {
    Key(name, PhantomData)
}

#[tokio::test]
async fn endpoints_are_made_of_anything_like_a_uri() -> Result<(), Box<dyn Error>> {
    const URI: &str = "http://10.0.0.1:50051/";
    let uri: http::Uri = URI.parse()?;
    for endpoint in [
        Endpoint::from_static(URI),
        Endpoint::from_shared(URI)?,
        Endpoint::from_shared(URI.to_owned())?,
        Endpoint::from_shared(bytes::Bytes::from_static(URI.as_bytes()))?,
        Endpoint::new(URI)?,
        Endpoint::new(URI.to_owned())?,
        Endpoint::new(Endpoint::from_static(URI))?,
        Endpoint::from(uri.clone()),
        URI.parse()?,
        URI.try_into()?,
        URI.to_owned().try_into()?,
        Channel::from_static(URI),
        Channel::from_shared(URI)?,
        Channel::from_shared(URI.to_owned())?,
        Channel::builder(uri.clone()),
    ] {
        assert_eq!(endpoint.uri(), &uri);
    }
    assert!(Endpoint::from_shared("this is not a URI").is_err());
    assert!(Endpoint::new("nor is this").is_err());
    assert!(Channel::from_shared("http://[").is_err());
    let without_scheme = Endpoint::from_shared("10.0.0.1:50051");
    assert_eq!(without_scheme.is_ok(), EXPECTED.takes_no_scheme);
    Ok(())
}

#[test]
fn options_can_be_asked_for() {
    let plain = Endpoint::from_static("http://10.0.0.1:50051");
    assert!(plain.get_tcp_nodelay());
    assert_eq!(plain.get_connect_timeout(), None);
    assert_eq!(plain.get_tcp_keepalive(), EXPECTED.tcp_keepalive);
    let interval = plain.get_tcp_keepalive_interval();
    assert_eq!(interval, EXPECTED.tcp_keepalive_interval);
    let retries = plain.get_tcp_keepalive_retries();
    assert_eq!(retries, EXPECTED.tcp_keepalive_retries);

    let [after, interval, connect] = [7, 8, 9].map(Duration::from_secs);
    let set = plain
        .tcp_nodelay(false)
        .tcp_keepalive(Some(after))
        .tcp_keepalive_interval(Some(interval))
        .tcp_keepalive_retries(Some(4))
        .connect_timeout(connect);
    assert!(!set.get_tcp_nodelay());
    assert_eq!(set.get_tcp_keepalive(), Some(after));
    assert_eq!(set.get_tcp_keepalive_interval(), Some(interval));
    assert_eq!(set.get_tcp_keepalive_retries(), Some(4));
    assert_eq!(set.get_connect_timeout(), Some(connect));
}

#[tokio::test]
async fn one_endpoint_with_every_option_is_one_channel() {
    let backend = Backend::start().await;
    let executor = Counting::default();
    let channel = connected(
        endpoint(&backend)
            .user_agent("greeter-app/1.0")
            .expect("a header value")
            .origin("http://greeter.test".parse().expect("a URI"))
            .timeout(Duration::from_secs(10))
            .connect_timeout(Duration::from_secs(10))
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(60)))
            .tcp_keepalive_interval(Some(Duration::from_secs(5)))
            .tcp_keepalive_retries(Some(2))
            .initial_stream_window_size(Some(1 << 20))
            .initial_connection_window_size(2 << 20)
            .http2_adaptive_window(false)
            .max_frame_size(1 << 20)
            .http2_header_table_size(8192)
            .http2_max_header_list_size(32 << 10)
            .http2_max_concurrent_reset_streams(100)
            .http2_reset_stream_duration(Duration::from_secs(5))
            .http2_max_local_error_reset_streams(100)
            .http2_keep_alive_interval(Duration::from_secs(60))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .concurrency_limit(100)
            .rate_limit(1_000, Duration::from_secs(1))
            .buffer_size(1024)
            .local_address(Some("127.0.0.1".parse().expect("an address")))
            .executor(executor.clone()),
    )
    .await;

    let answered_by = Application::new(channel).answered_by().await;
    assert_eq!(answered_by, backend.name());
    assert_eq!(backend.last_authority().as_deref(), Some("greeter.test"));
    let metadata = backend.last_metadata().expect("there was a call");
    let agent = metadata.get("user-agent").expect("every client says it");
    let agent = agent.to_str().expect("text");
    let signed = format!("greeter-app/1.0 {}", EXPECTED.signature);
    assert!(agent.starts_with(&signed), "{agent}");
    assert_ne!(executor.0.load(Ordering::Relaxed), 0, "no task was given");
}

#[tokio::test]
async fn a_lazy_channel_connects_with_its_first_call() {
    let backend = Backend::start().await;
    let mut application = Application::new(endpoint(&backend).connect_lazy());
    assert_eq!(backend.open_connections(), 0);
    assert_eq!(application.answered_by().await, backend.name());
    assert_eq!(backend.open_connections(), 1);
}

#[tokio::test]
async fn every_kind_of_call_has_its_answer() {
    let backend = Backend::start().await;
    let mut client = GreeterClient::new(connected(endpoint(&backend)).await);
    let names = || iter(["you", "me"].map(named));
    let texts = |replies: Vec<Result<HelloReply, Status>>| -> Vec<_> {
        let text = |reply: Result<HelloReply, _>| reply.expect("a reply").message;
        replies.into_iter().map(text).collect()
    };
    within("all four kinds of call to end", async {
        let reply = client.say_hello(named("you")).await.expect("a reply");
        assert_eq!(reply.into_inner().message, "Hello you!");
        let replies = client.say_hello_many(named("you")).await.expect("replies");
        let replies: Vec<_> = replies.into_inner().collect().await;
        assert_eq!(texts(replies), ["Hello you!"; 3]);
        let reply = client.greet_all(names()).await.expect("a reply");
        assert_eq!(reply.into_inner().message, "Hello you, me!");
        let replies = client.chat(names()).await.expect("replies");
        let replies: Vec<_> = replies.into_inner().collect().await;
        assert_eq!(texts(replies), ["Hello you!", "Hello me!"]);
    })
    .await;
}

/// Leads to a backend whatever the URI.
fn to(
    backend: &Backend,
) -> impl Service<
    http::Uri,
    Response = TokioIo<TcpStream>,
    Error = std::io::Error,
    Future: Send + Unpin + 'static,
> + Send
+ 'static {
    let at = backend.addr();
    tower::service_fn(move |_: http::Uri| {
        Box::pin(async move { TcpStream::connect(at).await.map(TokioIo::new) })
    })
}

#[tokio::test]
async fn a_connector_of_ones_own_makes_the_connection() {
    let backend = Backend::start().await;
    let endpoint = Endpoint::from_static("http://greeter.test");
    let eager = endpoint.connect_with_connector(to(&backend));
    let channels = [
        within("the first to connect", eager).await,
        Ok(endpoint.connect_with_connector_lazy(to(&backend))),
        within(
            "the third to connect",
            Channel::connect(to(&backend), endpoint.clone()),
        )
        .await,
        Ok(Channel::new(to(&backend), endpoint)),
    ];
    for channel in channels {
        let channel = channel.expect("the backend is up");
        let answered_by = Application::new(channel).answered_by().await;
        assert_eq!(answered_by, backend.name());
        assert_eq!(backend.last_authority().as_deref(), Some("greeter.test"));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_an_endpoint() {
    let backend = Backend::start().await;
    let door = testing::UnixDoor::to(backend.addr());
    for target in [
        format!("unix:{}", door.path()),
        format!("unix://{}", door.path()),
    ] {
        let endpoint = Endpoint::from_shared(target).expect("a path");
        assert_eq!(endpoint.uri(), EXPECTED.unix_uri);
        let mut application = Application::new(connected(endpoint).await);
        assert_eq!(application.answered_by().await, backend.name());
        let authority = EXPECTED.unix_uri.trim_start_matches("http://");
        let authority = authority.trim_end_matches('/');
        assert_eq!(backend.last_authority().as_deref(), Some(authority));
    }
}

#[tokio::test]
async fn messages_of_any_size_fit_frames_of_any_size() {
    let backend = Backend::start().await;
    let name = "x".repeat(1 << 20);
    for frames in [None, Some(20_000), Some(1 << 20)] {
        let channel = connected(endpoint(&backend).max_frame_size(frames)).await;
        let mut client = GreeterClient::new(channel);
        let answer = within("an answer", client.say_hello(named(&name))).await;
        let reply = answer.expect("a reply").into_inner();
        assert_eq!(reply.message.len(), "Hello !".len() + name.len());
    }
}

#[tokio::test]
async fn the_limits_of_a_client_on_messages_hold() {
    let backend = Backend::start().await;
    let channel = connected(endpoint(&backend)).await;
    let mut client = GreeterClient::new(channel).max_decoding_message_size(10);
    let answer = within("an answer", client.say_hello(named("you"))).await;
    let status = answer.expect_err("the reply is larger");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");

    let mut client = client.max_encoding_message_size(2);
    let answer = within("an answer", client.say_hello(named("you"))).await;
    let status = answer.expect_err("the request is larger");
    assert_eq!(status.code(), EXPECTED.request_too_large, "{status}");
}

/// Answers each call with a header of this many bytes.
async fn verbose_server(bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = h2::server::handshake(io).await.expect("HTTP/2");
                while let Some(Ok((_, mut respond))) = server.accept().await {
                    let head = http::Response::builder()
                        .header("content-type", "application/grpc")
                        .header("grpc-status", "9")
                        .header("x-large", "x".repeat(bytes));
                    let _ = respond.send_response(head.body(()).expect("a head"), true);
                }
            });
        }
    });
    format!("http://{addr}")
}

#[tokio::test]
async fn response_headers_may_be_as_large_as_the_endpoint_says() {
    let uri = verbose_server(20_000).await;
    let endpoint = Endpoint::from_shared(uri).expect("a URI");
    let mut small = Application::new(connected(endpoint.clone()).await);
    let status = small.hello().await.expect_err("16 KiB is the limit");
    assert_ne!(status.code(), Code::FailedPrecondition, "{status}");

    let large = endpoint.http2_max_header_list_size(32 << 10);
    let mut large = Application::new(connected(large).await);
    let status = large.hello().await.expect_err("that is the answer");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
}

#[tokio::test]
async fn what_a_request_says_of_its_sender_comes_first() {
    let backend = Backend::start().await;
    let endpoint = endpoint(&backend)
        .user_agent("app/1")
        .expect("a header value");
    let mut client = GreeterClient::new(connected(endpoint).await);
    let mut request = Request::new(named("you"));
    let library = MetadataValue::from_static("library/2");
    request.metadata_mut().insert("user-agent", library);
    let answer = within("an answer", client.say_hello(request)).await;
    answer.expect("the call is answered");
    let metadata = backend.last_metadata().expect("there was a call");
    let agent = metadata.get("user-agent").expect("every client says it");
    let agent = agent.to_str().expect("text");
    let signed = format!("library/2 app/1 {}", EXPECTED.signature);
    assert!(agent.starts_with(&signed), "{agent}");
}

#[tokio::test]
async fn extensions_of_a_request_reach_layers_below_the_client() {
    #[derive(Clone)]
    struct Tenant(&'static str);

    let backend = Backend::start().await;
    let channel = connected(endpoint(&backend)).await;
    let layered = tower::ServiceBuilder::new()
        .map_request(|mut request: http::Request<Body>| {
            let tenant = request.extensions().get::<Tenant>().expect("it was put in");
            let tenant = http::HeaderValue::from_static(tenant.0);
            request.headers_mut().insert("tenant", tenant);
            request
        })
        .service(channel);
    let mut client = GreeterClient::with_interceptor(layered, |mut request: Request<()>| {
        request.extensions_mut().insert(Tenant("blue"));
        Ok(request)
    });
    let answer = within("an answer", client.say_hello(named("you"))).await;
    answer.expect("the call is answered");
    let metadata = backend.last_metadata().expect("there was a call");
    let tenant = metadata.get("tenant").map(|value| value.as_bytes());
    assert_eq!(tenant, Some(&b"blue"[..]));
}

#[tokio::test]
async fn a_call_beyond_the_concurrency_limit_waits() {
    let peer = H2Peer::start().await;
    peer.answer_calls(Answer::KeepOpen);
    let endpoint = Endpoint::from_shared(peer.uri()).expect("a URI");
    let channel = connected(endpoint.concurrency_limit(1)).await;
    let [first, second] = [channel.clone(), channel]
        .map(|channel| tokio::spawn(async move { Application::new(channel).hello().await }));
    peer.until_calls(1).await;
    peer.answer_calls(Answer::Ok);
    assert_eq!(peer.calls(), 1, "the other one waits");
    peer.end_open_calls(Answer::Ok);
    for call in [first, second] {
        let answer = within("the call to end", call).await;
        answer.expect("no panic").expect("a reply");
    }
    assert_eq!(peer.calls(), 2);
}

#[tokio::test]
async fn interceptors_and_metadata_reach_the_server() {
    let backend = Backend::start().await;
    let channel = connected(endpoint(&backend)).await;
    let with_token = |mut request: Request<()>| {
        let token = MetadataValue::from_static("secret");
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    };
    let mut client: GreeterClient<InterceptedService<Channel, _>> =
        GreeterClient::with_interceptor(channel, with_token);
    let mut request = Request::new(named("you"));
    let trace = MetadataValue::from_bytes(&[0, 1, 255]);
    request.metadata_mut().insert_bin("trace-bin", trace);

    let answer = within("an answer", client.say_hello(request)).await;
    answer.expect("the call is answered");
    let metadata = backend.last_metadata().expect("there was a call");
    let token = metadata.get("authorization").map(|value| value.as_bytes());
    assert_eq!(token, Some(&b"secret"[..]));
    let trace = metadata.get_bin("trace-bin").expect("it was sent");
    assert_eq!(trace.to_bytes().expect("base64"), [0, 1, 255][..]);
}

#[tokio::test]
async fn the_channel_is_a_tower_service() {
    let backend = Backend::start().await;
    let mut channel = connected(endpoint(&backend)).await;
    let layered = tower::ServiceBuilder::new()
        .map_request(|mut request: http::Request<Body>| {
            let yes = http::HeaderValue::from_static("yes");
            request.headers_mut().insert("layered", yes);
            request
        })
        .service(channel.clone());
    let mut client = GreeterClient::new(layered);
    let answer = within("an answer", client.say_hello(named("you"))).await;
    answer.expect("the call is answered");
    let metadata = backend.last_metadata().expect("there was a call");
    assert!(metadata.contains_key("layered"));

    let channel = channel.ready().await.expect("a channel is ready");
    let request = http::Request::post(format!("{}/no.Such/Method", backend.uri()))
        .header("content-type", "application/grpc")
        .body(Body::empty())
        .expect("a request");
    let response = within("a response", channel.call(request)).await;
    let response = response.expect("the server says something");
    let status = response.headers().get("grpc-status");
    assert_eq!(status.map(|status| status.as_bytes()), Some(&b"12"[..]));
}

#[tokio::test]
async fn a_refused_connect_is_an_error() {
    let dead = dead_addr();
    let endpoint = Endpoint::from_shared(dead.uri()).expect("a URI");
    let outcome = within("connect to end", endpoint.connect()).await;
    let error = outcome.map(drop).expect_err("nobody listens");
    let error: Box<dyn Error + Send + Sync> = error.into();
    assert!(!error.to_string().is_empty());
}

#[tokio::test]
async fn a_lazy_channel_to_a_dead_address_fails_its_calls() {
    let dead = dead_addr();
    let endpoint = Endpoint::from_shared(dead.uri()).expect("a URI");
    let mut application = Application::new(endpoint.connect_lazy());
    let status = application.hello().await.expect_err("nobody listens");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn a_status_of_the_server_comes_as_it_is() {
    let backend = Backend::start().await;
    let mut client = GreeterClient::new(connected(endpoint(&backend)).await);
    let answer = within("an answer", client.say_hello(named("fail:9"))).await;
    let status = answer.expect_err("the server was asked to fail");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "the test asked for this");
}

#[tokio::test]
async fn timeouts_end_calls() {
    // A server of tonic's would also watch the clock, and might answer first.
    let peer = H2Peer::start().await;
    peer.answer_calls(Answer::KeepOpen);
    let endpoint = Endpoint::from_shared(peer.uri()).expect("a URI");

    let hurried = connected(endpoint.clone().timeout(Duration::from_millis(50))).await;
    let answer = Application::new(hurried).hello().await;
    let status = answer.expect_err("the server never answers");
    assert_eq!(status.code(), EXPECTED.timed_out, "{status}");

    let mut client = GreeterClient::new(connected(endpoint).await);
    let mut request = Request::new(named("you"));
    request.set_timeout(Duration::from_millis(50));
    let answer = within("the call to end", client.say_hello(request)).await;
    let status = answer.expect_err("the server never answers");
    assert_eq!(status.code(), EXPECTED.timed_out, "{status}");
}

#[tokio::test]
async fn a_list_of_endpoints_is_balanced() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let endpoints = [&a, &b].map(endpoint);
    let mut application = Application::new(Channel::balance_list(endpoints.into_iter()));
    // Tonic chooses at random.
    within("both to be chosen", async {
        while a.hits() == 0 || b.hits() == 0 {
            application.answered_by().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_set_of_endpoints_is_changed_while_it_is_used() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let (channel, changes) = Channel::balance_channel(16);
    let mut application = Application::new(channel);
    let change = async |change| changes.send(change).await.expect("the channel takes it");

    change(Change::Insert(key("first"), endpoint(&a))).await;
    assert_eq!(application.answered_by().await, "A");
    change(Change::Insert(key("second"), endpoint(&b))).await;
    within("the new one to be chosen", async {
        while application.answered_by().await != "B" {}
    })
    .await;
    change(Change::Remove(key("first"))).await;
    within("the old one to be forgotten", async {
        let mut in_a_row = 0;
        while in_a_row < 20 {
            in_a_row = match application.answered_by().await.as_str() {
                "B" => in_a_row + 1,
                _ => 0,
            };
        }
    })
    .await;
}

#[tokio::test]
async fn a_set_of_endpoints_may_have_an_executor() {
    let backend = Backend::start().await;
    let executor = Counting::default();
    let (channel, changes) = Channel::balance_channel_with_executor(16, executor.clone());
    let change = Change::Insert(key("only"), endpoint(&backend));
    changes.send(change).await.expect("the channel takes it");
    let answered_by = Application::new(channel).answered_by().await;
    assert_eq!(answered_by, backend.name());
    assert_ne!(executor.0.load(Ordering::Relaxed), 0, "no task was given");
}

#[tokio::test]
async fn a_set_without_endpoints_answers_nothing() {
    let mut application = Application::new(Channel::balance_list(std::iter::empty()));
    let call = application.greeter.say_hello(named("you"));
    let answer = tokio::time::timeout(Duration::from_millis(200), call).await;
    let status = answer
        .ok()
        .map(|answer| answer.expect_err("nobody is there"));
    assert_eq!(status.map(|status| status.code()), EXPECTED.empty_set);
}
