//! Whatever a server may answer to `Watch`, or where it has none to `Check`, over a sound
//! HTTP/2 connection: headers, bytes in frames of any size, and an end or none. The next
//! questions are not answered.

use std::{any::Any, time::Duration};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, body::Body};
use tonic_health_channel::{
    ConnectivityState::{Connecting, Ready, TransientFailure},
    HealthOptions,
    health::{HealthStatus, OnUnimplemented},
};

use super::{
    input::Input,
    rig::{Dials, PIPE, call, channel, dialled, play, settle},
};

const HEALTH: &str = "/grpc.health.v1.Health/";

/// The largest message that a health check takes.
const MAX_MESSAGE: usize = 4 << 10;

/// Shorter than the 20 s after which silence is a failure.
const SCENE: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Debug)]
struct Answer {
    /// It is to `Check`, and `Watch` is not implemented.
    is_polled: bool,
    head: Response<()>,
    /// Headers that are all there is.
    is_whole: bool,
    frames: Vec<Bytes>,
    end: End,
}

#[derive(Debug)]
enum End {
    /// The stream stays open.
    Silence,
    Trailers(HeaderMap),
    /// DATA with END_STREAM.
    Nothing,
    Reset(Reason),
    /// The connection is closed.
    Close,
}

pub fn check(data: &[u8]) {
    let answer = Answer::read(&mut Input::new(data));
    play(scene(answer));
}

async fn scene(answer: Answer) {
    let may_be_ready = answer.says_serving() || answer.says_unimplemented();
    let expected = answer.expected();
    let has_ended = answer.is_whole || !matches!(answer.end, End::Silence);
    let is_gone = has_ended && !answer.is_polled;
    let told = format!("{answer:?}");
    let (endpoint, dials) = dialled(PIPE);
    let polled = OnUnimplemented::PollCheck {
        interval: SCENE * 2,
        timeout: SCENE / 2,
    };
    let options = match answer.is_polled {
        true => HealthOptions::default().on_unimplemented(polled),
        false => HealthOptions::default(),
    };
    let channel = channel(endpoint, true).health_options(options).build();
    let server = tokio::spawn(serve(dials, answer));
    let mut statuses = channel.watch_status();
    let mut was_ready = false;
    let never = statuses.wait_for(|status| {
        let backend = status.backends().first();
        was_ready |= backend.is_some_and(|backend| backend.state() == Ready);
        false
    });
    let end = timeout_at(Instant::now() + SCENE, never).await;
    assert!(end.is_err(), "the channel closed");
    assert!(!was_ready || may_be_ready, "READY by {told}");

    let backend = channel.backends()[0].clone();
    match expected {
        Some(health) => {
            assert_eq!(backend.health(), health, "by {told}");
            let state = match health {
                HealthStatus::Serving => Ready,
                HealthStatus::Pending => Connecting,
                _ => TransientFailure,
            };
            assert_eq!(backend.state(), state, "by {told}");
        }
        None if is_gone => assert_ne!(backend.health(), HealthStatus::Serving, "by {told}"),
        None => {}
    }
    let outcome = call(&channel, Body::empty(), 1).await;
    assert_eq!(
        outcome.is_ok(),
        backend.state() == Ready,
        "a call to {backend}: {outcome:?} after {told}"
    );
    drop(channel);
    server.await.expect("a server does not panic");
}

impl Answer {
    fn read(input: &mut Input<'_>) -> Self {
        let mut head = Response::new(());
        *head.status_mut() = match input.byte() {
            0..=199 => StatusCode::OK,
            200..=219 => StatusCode::NOT_FOUND,
            // Below are the interim ones, after which there is another head.
            other => StatusCode::from_u16(200 + u16::from(other)).expect("three digits"),
        };
        let content: &[&[u8]] = &[
            b"application/grpc",
            b"application/grpc+proto",
            b"",
            b"text/html",
            b"application/grp\xff",
        ];
        let content = input.one_of(content);
        if !content.is_empty() {
            let content = HeaderValue::from_bytes(content).expect("a value");
            head.headers_mut()
                .insert(http::header::CONTENT_TYPE, content);
        }
        let flags = input.byte();
        if flags & 1 != 0 {
            more_headers(input, head.headers_mut());
        }
        let messages = messages(input);
        let frames = match flags & 2 {
            0 => vec![messages],
            _ => cut(messages, input),
        };
        let end = match input.byte() % 8 {
            0..=2 => End::Silence,
            3 | 4 => {
                let mut trailers = HeaderMap::new();
                more_headers(input, &mut trailers);
                End::Trailers(trailers)
            }
            5 => End::Nothing,
            6 => End::Reset(Reason::from(u32::from(input.byte()))),
            _ => End::Close,
        };
        Self {
            is_polled: flags & 8 != 0,
            head,
            is_whole: flags & 4 != 0,
            frames,
            end,
        }
    }

    /// Over all that was sent, whether or not it was looked at.
    fn says_unimplemented(&self) -> bool {
        let is_unimplemented = |headers: &HeaderMap| {
            let mut values = headers.get_all("grpc-status").iter();
            values.any(|value| value == "12")
        };
        let trailers = match &self.end {
            End::Trailers(trailers) => is_unimplemented(trailers),
            _ => false,
        };
        self.head.status() == StatusCode::NOT_FOUND
            || is_unimplemented(self.head.headers())
            || trailers
    }

    fn says_serving(&self) -> bool {
        let (statuses, _) = self.statuses();
        statuses.contains(&1)
    }

    /// What health has to be in the end, if the answer is plain.
    fn expected(&self) -> Option<HealthStatus> {
        let headers = self.head.headers();
        let content = headers.get(http::header::CONTENT_TYPE)?.as_bytes();
        let is_plain = self.head.status() == StatusCode::OK
            && content.starts_with(b"application/grpc")
            && !headers.contains_key("grpc-status")
            && !self.is_whole
            && !self.is_polled
            && matches!(self.end, End::Silence);
        let (statuses, is_sound) = self.statuses();
        if !is_plain {
            return None;
        }
        let encoding = headers.get("grpc-encoding");
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Some(HealthStatus::Failed);
        }
        Some(match (statuses.last(), is_sound) {
            (_, false) => HealthStatus::Failed,
            (None, _) => HealthStatus::Pending,
            (Some(0), _) => HealthStatus::Unknown,
            (Some(1), _) => HealthStatus::Serving,
            (Some(2), _) => HealthStatus::NotServing,
            (Some(3), _) => HealthStatus::ServiceUnknown,
            (Some(number), _) => HealthStatus::Unrecognized(*number),
        })
    }

    /// The messages up to the first that is none, and whether there was no such.
    fn statuses(&self) -> (Vec<i32>, bool) {
        let bytes = self.frames.concat();
        let (mut rest, mut statuses) = (&bytes[..], Vec::new());
        while let Some((prefix, after)) = rest.split_first_chunk::<5>() {
            let [flag, length @ ..] = *prefix;
            let length = u32::from_be_bytes(length) as usize;
            if flag != 0 || length > MAX_MESSAGE {
                return (statuses, false);
            }
            let Some((message, after)) = after.split_at_checked(length) else {
                return (statuses, true);
            };
            match HealthCheckResponse::decode(message) {
                Ok(response) => statuses.push(response.status),
                Err(_) => return (statuses, false),
            }
            rest = after;
        }
        // A flag alone is looked at with the length that follows it.
        (statuses, true)
    }
}

fn more_headers(input: &mut Input<'_>, headers: &mut HeaderMap) {
    const NAMES: [&str; 6] = [
        "grpc-status",
        "grpc-message",
        "grpc-encoding",
        "grpc-status-details-bin",
        "content-length",
        "x-any",
    ];
    const VALUES: [&[u8]; 14] = [
        b"0",
        b"12",
        b"5",
        b"14",
        b"16",
        b"17",
        b"012",
        b"-1",
        b"",
        b"gzip",
        b"identity",
        b"%E2%82%AC%",
        b"\xff\xfe",
        b"not base64!",
    ];
    for _ in 0..1 + input.byte() % 4 {
        let name = HeaderName::from_static(input.one_of(&NAMES));
        let value = match input.byte() {
            choice @ 0..200 => VALUES[usize::from(choice) % VALUES.len()],
            _ => input.some_bytes(),
        };
        // h2 holds its own server to the length that it has announced.
        if name == "content-length" {
            continue;
        }
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
}

/// Well-framed messages of any content, and others.
fn messages(input: &mut Input<'_>) -> Bytes {
    let mut bytes = Vec::new();
    for _ in 0..input.byte() % 16 {
        let message = match input.byte() {
            // A status, as every server sends it.
            status @ 0..=99 => HealthCheckResponse {
                status: i32::from(status % 6),
            }
            .encode_to_vec(),
            100..=119 => HealthCheckResponse {
                status: input.number() as i32,
            }
            .encode_to_vec(),
            120..=139 => vec![0; input.number() as usize % (2 * MAX_MESSAGE)],
            140..=219 => input.some_bytes().to_vec(),
            _ => {
                // No message at all.
                bytes.extend_from_slice(input.some_bytes());
                continue;
            }
        };
        let flag = if input.byte() == 255 { 1 } else { 0 };
        bytes.push(flag);
        bytes.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
        bytes.extend(message);
    }
    bytes.into()
}

fn cut(mut bytes: Bytes, input: &mut Input<'_>) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while !bytes.is_empty() && frames.len() < 64 {
        // Empty frames as well, but not only those.
        let length = usize::from(input.byte() % 32).max(usize::from(input.is_empty()));
        frames.push(bytes.split_to(length.min(bytes.len())));
    }
    frames.push(bytes);
    frames
}

/// Takes one dial after another, until nobody can dial any more.
async fn serve(mut dials: Dials, answer: Answer) {
    let question = match answer.is_polled {
        true => "Check",
        false => "Watch",
    };
    let mut answer = Some(answer);
    while let Some(io) = dials.recv().await {
        let Ok(mut server) = h2::server::handshake(io).await else {
            continue;
        };
        // Streams that are held stay open.
        let mut open = Vec::<Box<dyn Any + Send>>::new();
        while let Some(Ok((request, respond))) = server.accept().await {
            let health = request.uri().path().strip_prefix(HEALTH);
            let is_it = health == Some(question);
            match (is_it, answer.take_if(|_| is_it)) {
                (true, None) => open.push(Box::new((request, respond))),
                (true, Some(answer)) => {
                    // The server sends while it is polled.
                    let closes = matches!(answer.end, End::Close);
                    let answering = answer.send(respond);
                    tokio::pin!(answering);
                    let stream = tokio::select! {
                        stream = &mut answering => stream,
                        _ = server.accept() => None,
                    };
                    if closes {
                        break;
                    }
                    open.push(Box::new(stream));
                }
                (false, _) if health.is_some() => say(respond, Code::Unimplemented),
                (false, _) => say(respond, Code::Ok),
            }
        }
    }
}

fn say(mut respond: SendResponse<Bytes>, code: Code) {
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", i32::from(code));
    // Fails if the caller has left.
    let _ = respond.send_response(head.body(()).expect("a head"), true);
}

impl Answer {
    /// The client may have left at any point.
    async fn send(self, mut respond: SendResponse<Bytes>) -> Option<SendStream<Bytes>> {
        let mut stream = respond.send_response(self.head, self.is_whole).ok()?;
        for frame in self.frames.into_iter().filter(|_| !self.is_whole) {
            stream.send_data(frame, false).ok()?;
            settle().await;
        }
        match self.end {
            _ if self.is_whole => {}
            End::Silence | End::Close => {}
            End::Trailers(trailers) => stream.send_trailers(trailers).ok()?,
            End::Nothing => stream.send_data(Bytes::new(), true).ok()?,
            End::Reset(reason) => stream.send_reset(reason),
        }
        settle().await;
        Some(stream)
    }
}
