//! Backends that answer a Watch with more than health. Each is unhealthy and says
//! why, costs a bounded amount, and harms nobody else.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{SendStream, server};
use http::{HeaderMap, HeaderValue, Response};
use testing::{Backend, GREETER, Logs, balanced_at, hello, order, until_backends, until_that};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    health::HealthStatus,
    status::ChannelStatus,
};
use tracing::Level;

use super::{hourly, until_health};

/// SERVING, behind the prefix of a message.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 2];
/// An answer without a field: UNKNOWN.
const EMPTY: &[u8] = &[0; 5];
const FLOODED: &str = "health check: more than 1000 messages in 1 s";

/// How the attacker answers each Watch.
#[derive(Clone)]
enum Attack {
    /// These headers besides, and SERVING.
    Headers(HeaderMap),
    /// SERVING, then these trailers.
    Trailers(HeaderMap),
    /// The first, then the second for ever if there is one, one to a frame.
    Data(&'static [u8], Option<&'static [u8]>),
    /// The first Watch is given this for ever, the others are given SERVING.
    Once(&'static [u8]),
}

impl Attack {
    fn on(&self, watch: usize) -> Self {
        match (self, watch) {
            (Self::Once(flood), 0) => Self::Data(flood, Some(flood)),
            (Self::Once(_), _) => Self::Data(SERVING, None),
            (other, _) => other.clone(),
        }
    }
}

/// A server that answers calls, and Watches in its own way.
struct Attacker {
    addr: SocketAddr,
    /// Bytes of DATA that the client has allowed it to send.
    sent: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Attacker {
    async fn start(attack: Attack) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (attack, count) = (attack.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let mut connection = server::handshake(socket).await?;
                    let mut watches = 0..;
                    while let Some(call) = connection.accept().await {
                        let (request, respond) = call?;
                        let is_watch = request.uri().path().ends_with("/Watch");
                        let attack = match is_watch {
                            true => watches.next().map(|watch| attack.on(watch)),
                            false => None,
                        };
                        tokio::spawn(answer(respond, attack, Arc::clone(&count)));
                    }
                    Ok::<_, h2::Error>(())
                });
            }
        });
        Self { addr, sent, task }
    }

    /// A channel over this one, which is asked once an hour, and one in good health.
    fn beside(&self, good: &Backend) -> Channel {
        let uris = [format!("http://{}", self.addr), good.uri()];
        let builder = balanced_at(uris, Some(GREETER));
        builder.health_options(hourly()).build()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    mut respond: server::SendResponse<Bytes>,
    attack: Option<Attack>,
    sent: Arc<AtomicUsize>,
) -> Result<Infallible, h2::Error> {
    let mut head = Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert("content-type", grpc);
    if let Some(Attack::Headers(more)) = &attack {
        head.headers_mut().extend(more.clone());
    }
    let mut stream = respond.send_response(head, false)?;
    match attack {
        None => {
            send(&mut stream, EMPTY).await?;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            stream.send_trailers(trailers)?;
        }
        Some(Attack::Headers(_)) => send(&mut stream, SERVING).await?,
        Some(Attack::Once(_)) => unreachable!("each Watch has its own"),
        Some(Attack::Trailers(trailers)) => {
            send(&mut stream, SERVING).await?;
            stream.send_trailers(trailers)?;
        }
        Some(Attack::Data(first, then)) => {
            send(&mut stream, first).await?;
            while let Some(then) = then {
                send(&mut stream, then).await?;
                sent.fetch_add(then.len(), Ordering::Relaxed);
                // Client and server share a thread here, as they would not elsewhere.
                tokio::task::consume_budget().await;
            }
        }
    }
    // As long as the client wants it.
    poll_fn(|cx| stream.poll_reset(cx)).await?;
    std::future::pending().await
}

/// Waits for the window; fails when the client has ended the stream.
async fn send(stream: &mut SendStream<Bytes>, bytes: &'static [u8]) -> Result<(), h2::Error> {
    stream.reserve_capacity(bytes.len());
    while stream.capacity() < bytes.len() {
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(capacity) => capacity?,
            None => return Err(h2::Reason::STREAM_CLOSED.into()),
        };
    }
    stream.send_data(Bytes::from_static(bytes), false)
}

fn cause_of_the_first(status: &ChannelStatus) -> Option<String> {
    let first = status.backends().first()?;
    let is_failed = first.state() == TransientFailure;
    let (cause, _) = first.last_error().filter(|_| is_failed)?;
    Some(cause.to_string())
}

async fn until_first_fails_for(channel: &Channel, reason: &str) -> Arc<ChannelStatus> {
    let what = format!("the first backend to fail for {reason:?}");
    until_that(channel, &what, |status| {
        cause_of_the_first(status).is_some_and(|cause| cause.contains(reason))
    })
    .await
}

/// Awaits that the attacker is unhealthy for this reason, while the other one answers.
async fn check(attack: Attack, reason: &str) -> Attacker {
    let good = Backend::builder().name("good").scripted().start().await;
    let attacker = Attacker::start(attack).await;
    let channel = attacker.beside(&good);
    until_first_fails_for(&channel, reason).await;
    until_backends(&channel, &[TransientFailure, Ready]).await;
    assert_eq!(order(&channel, 5).await, ["good"; 5]);
    let cause = cause_of_the_first(&channel.status()).expect("it stays unhealthy");
    assert!(cause.len() < 400 && !cause.contains('\n'), "{cause}");
    attacker
}

/// Ends the flood of `flooding`, the first backend, beside one that is well.
async fn check_flood(channel: &Channel, quiet: &Backend) {
    let calls = async {
        for _ in 0..50 {
            hello(channel).await.expect("calls are not disturbed");
        }
    };
    let (flooded, ()) = tokio::join!(until_first_fails_for(channel, FLOODED), calls);
    let publications = flooded.generation();
    assert!(publications < 1_100, "{publications} publications");
    quiet.set_not_serving(GREETER).await;
    until_backends(channel, &[TransientFailure, TransientFailure]).await;
    quiet.set_serving(GREETER).await;
    until_backends(channel, &[TransientFailure, Ready]).await;
    assert_eq!(order(channel, 5).await, ["quiet"; 5]);
}

/// A thousand messages in a frame, so that it is the client that takes the time.
fn flips() -> &'static [u8] {
    [SERVING, NOT_SERVING].concat().repeat(500).leak()
}

#[tokio::test]
async fn a_flood_of_flips_is_ended_and_disturbs_nobody() {
    let logs = Logs::capture();
    let quiet = Backend::builder().name("quiet").scripted().start().await;
    let flips = flips();
    let attacker = Attacker::start(Attack::Data(flips, Some(flips))).await;
    let channel = attacker.beside(&quiet);
    check_flood(&channel, &quiet).await;

    let lines = logs.at(Level::INFO, "tonic_health_channel::backend");
    let of_it = format!("backend={}", attacker.addr);
    let lines = lines.iter().filter(|line| line.contains(&of_it)).count();
    assert_eq!(lines, 60, "what it brings into the log is enough");
}

#[tokio::test]
async fn a_flood_of_one_status_is_ended_and_disturbs_nobody() {
    let quiet = Backend::builder().name("quiet").scripted().start().await;
    for status in [SERVING, EMPTY] {
        let attacker = Attacker::start(Attack::Data(status, Some(status))).await;
        let channel = attacker.beside(&quiet);
        check_flood(&channel, &quiet).await;
    }
}

#[tokio::test]
async fn a_backend_that_has_flooded_is_asked_again() {
    let attacker = Attacker::start(Attack::Once(flips())).await;
    let uri = format!("http://{}", attacker.addr);
    let channel = balanced_at([uri], Some(GREETER)).build();
    until_first_fails_for(&channel, FLOODED).await;
    until_health(&channel, &[HealthStatus::Serving]).await;
    hello(&channel).await.expect("it is well again");
}

/// 100 MB, as its prefix says, and as much of it as the client takes.
#[tokio::test]
async fn a_huge_message_is_refused_for_its_prefix() {
    let prefix = &[0, 5, 0xf5, 0xe1, 0];
    let reason = "health check: Watch ended: OutOfRange: Error, decoded message length too \
                  large: found 100000000 bytes, the limit is: 4096 bytes";
    for then in [None, Some(&[0; 1 << 14][..])] {
        let attacker = check(Attack::Data(prefix, then), reason).await;
        let sent = attacker.sent.load(Ordering::Relaxed);
        assert!(sent <= 4 << 20, "{sent} bytes were taken");
    }
}

/// The largest message there may be, a byte at a time; it is no answer.
#[tokio::test]
async fn a_message_in_endless_frames_ends_where_it_may_be_no_larger() {
    let attacker = check(
        Attack::Data(&[0, 0, 0, 0x10, 0], Some(&[0])),
        "health check: Watch ended: Internal: failed to decode Protobuf message",
    )
    .await;
    let sent = attacker.sent.load(Ordering::Relaxed);
    assert!(sent >= 4_096, "{sent} bytes are not the whole message");
}

#[tokio::test]
async fn compressed_messages_are_refused() {
    let reason = "health check: Watch ended: Internal: protocol error: received message with \
                  compressed-flag but no grpc-encoding was specified";
    check(Attack::Data(&[1, 0, 0, 0, 2, 8, 1], None), reason).await;
}

/// tonic's client has UNIMPLEMENTED for it. As an answer of the server that would
/// mean that it has no health service, and is healthy.
#[tokio::test]
async fn a_compressed_answer_is_not_taken_for_no_health_service() {
    let headers = HeaderMap::from_iter([(
        "grpc-encoding".parse().expect("a name"),
        "gzip".parse().expect("letters"),
    )]);
    let reason = "health check: Watch ended: Internal: decompressor is not installed for \
                  grpc-encoding `gzip`, which the client did not offer";
    check(Attack::Headers(headers), reason).await;
}

fn large(name: &'static str, bytes: usize) -> HeaderMap {
    let value = HeaderValue::from_str(&"x".repeat(bytes)).expect("letters");
    HeaderMap::from_iter([(name.parse().expect("a name"), value)])
}

#[tokio::test]
async fn gigantic_metadata_are_refused() {
    let reason = "its headers are larger than the 16384 bytes of \
                  `Endpoint::http2_max_header_list_size`";
    check(Attack::Headers(large("x-large", 20_000)), reason).await;
    let mut many = HeaderMap::new();
    for i in 0..1_000 {
        let name = format!("x-{i}")
            .parse::<http::HeaderName>()
            .expect("a name");
        many.insert(name, HeaderValue::from_static(""));
    }
    check(Attack::Headers(many), reason).await;
    // Beside the metadata there is no room for the status.
    let good = Backend::builder().name("good").scripted().start().await;
    let attacker = Attacker::start(Attack::Trailers(large("x-large", 20_000))).await;
    let channel = attacker.beside(&good);
    until_first_fails_for(&channel, "missing grpc-status in the trailers").await;
}

/// A message of the server's own, which is repeated to people.
#[tokio::test]
async fn what_it_says_is_told_in_one_line() {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("14"));
    let message = format!("down%0AERROR%1B[2J{}", "x".repeat(10_000));
    trailers.insert("grpc-message", message.parse().expect("letters"));
    let attacker = Attacker::start(Attack::Trailers(trailers)).await;
    let good = Backend::builder().name("good").scripted().start().await;
    let channel = attacker.beside(&good);
    let said = "Watch ended: Unavailable: down\\nERROR\\u{1b}[2Jxxx";
    let status = until_first_fails_for(&channel, said).await;
    let cause = cause_of_the_first(&status).expect("it failed");
    assert!(cause.ends_with("x…") && cause.len() < 400, "{cause}");
    until_backends(&channel, &[TransientFailure, Ready]).await;
}
