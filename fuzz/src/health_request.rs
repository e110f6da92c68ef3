//! A request to the health service for servers, from bytes to its answer.
//!
//! The first 4 bytes of an input choose the method, the encoding, the size of the DATA and the
//! end. The others are the body. prost decides what the body says.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::FutureExt;
use grpc_health_service::{HealthHandle, HealthService, ServingStatus};
use http_body::{Body as _, Frame};
use prost::Message;
use tonic::{Status, body::Body, codegen::Service};

use super::input::Input;

/// The longest request and the longest name that the service takes.
const MAX_REQUEST: usize = 4 * 1024;
const MAX_NAME: usize = 200;

/// The flag and the length before a message.
const HEAD: usize = 5;

const OK: u32 = 0;
const INVALID_ARGUMENT: u32 = 3;
const NOT_FOUND: u32 = 5;
const OUT_OF_RANGE: u32 = 11;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct ListRequest {}

#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ListResponse {
    #[prost(map = "string, message", tag = "1")]
    statuses: HashMap<String, CheckResponse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Watch,
    Check,
    List,
    Unknown,
}

impl Method {
    fn path(self) -> &'static str {
        match self {
            Self::Watch => "/grpc.health.v1.Health/Watch",
            Self::Check => "/grpc.health.v1.Health/Check",
            Self::List => "/grpc.health.v1.Health/List",
            Self::Unknown => "/grpc.health.v1.Health/Other",
        }
    }
}

/// The event after the last byte of a body.
#[derive(Clone, Copy, Debug)]
enum End {
    Whole,
    Trailers,
    Reset,
    Nothing,
}

/// The state of the service before a request.
fn service() -> (HealthHandle, HealthService) {
    let (health, service) = HealthService::new();
    health.set("a", ServingStatus::NotServing);
    (health, service)
}

/// The status of a name in this state, as a number of the protocol.
fn status_of(name: &str) -> Option<i32> {
    match name {
        "" => Some(1),
        "a" => Some(2),
        _ => None,
    }
}

/// The rest of a request, as prost reads it.
enum Decoded {
    /// The name, which a request of `List` does not have.
    Request(String),
    Refused(u32),
    /// The service has to wait for more.
    Waits,
}

fn decode(method: Method, mut body: &[u8], end: End) -> Decoded {
    let mut first = None;
    while body.len() >= HEAD {
        let (head, rest) = body.split_at(HEAD);
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] != 0 {
            return Decoded::Refused(INTERNAL);
        }
        if length > MAX_REQUEST {
            return Decoded::Refused(OUT_OF_RANGE);
        }
        if rest.len() < length {
            break;
        }
        let (message, rest) = rest.split_at(length);
        body = rest;
        let name = match method {
            Method::List => ListRequest::decode(message).map(|_| String::new()),
            Method::Watch | Method::Check | Method::Unknown => {
                CheckRequest::decode(message).map(|request| request.service)
            }
        };
        match name {
            Ok(name) => first = first.or(Some(name)),
            Err(_) => return Decoded::Refused(INTERNAL),
        }
    }
    match (end, first) {
        (End::Nothing, _) => Decoded::Waits,
        (End::Reset, _) => Decoded::Refused(UNAVAILABLE),
        // tonic drops a message that ends right behind its head.
        (End::Whole, _) if ![0, HEAD].contains(&body.len()) => Decoded::Refused(INTERNAL),
        (End::Whole | End::Trailers, None) => Decoded::Refused(INTERNAL),
        (End::Whole | End::Trailers, Some(name)) => Decoded::Request(name),
    }
}

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let method = input.one_of(&[Method::Watch, Method::Check, Method::List, Method::Unknown]);
    let encoding = input.one_of(&[None, Some("identity"), Some("gzip")]);
    let size = usize::from(input.byte());
    let end = input.one_of(&[End::Whole, End::Trailers, End::Reset, End::Nothing]);
    let body = data.get(4..).unwrap_or_default();
    let expected = match (method, encoding) {
        (Method::Unknown, _) | (_, Some("gzip")) => Decoded::Refused(UNIMPLEMENTED),
        _ => decode(method, body, end),
    };

    let (health, mut service) = service();
    let mut request = http::Request::post(method.path());
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let request = request.body(Body::new(Pieces::new(body, size, end)));
    let answer = service.call(request.expect("a request")).now_or_never();
    let mut answer = match (answer, &expected) {
        (None, Decoded::Waits) => return assert_eq!(health.watchers(), 0),
        (None, _) => panic!("a whole request has no answer"),
        (Some(Ok(answer)), _) => Answer::new(answer),
    };
    match expected {
        Decoded::Waits => panic!("half a request has an answer: {answer:?}"),
        Decoded::Refused(code) => answer.is_refused(code),
        Decoded::Request(name) if method == Method::List => {
            assert_eq!(name, "");
            let listed: ListResponse = answer.message();
            let status = |name| (String::from(name), status_of(name).map(response));
            let all = ["", "a"].map(status);
            let all = all.map(|(name, status)| (name, status.expect("it is known")));
            assert_eq!(listed.statuses, HashMap::from(all));
            assert_eq!(answer.code, Some(OK));
        }
        Decoded::Request(name) if name.len() > MAX_NAME => answer.is_refused(INVALID_ARGUMENT),
        Decoded::Request(name) if method == Method::Check => match status_of(&name) {
            Some(status) => {
                assert_eq!(answer.message::<CheckResponse>(), response(status));
                assert_eq!(answer.code, Some(OK));
            }
            None => answer.is_refused(NOT_FOUND),
        },
        Decoded::Request(name) => {
            // SERVICE_UNKNOWN without a status.
            let status = status_of(&name).unwrap_or(3);
            assert_eq!(answer.message::<CheckResponse>(), response(status));
            assert_eq!((answer.code, health.watchers()), (None, 1));
            // Its name is the one of the request.
            health.set(&name, ServingStatus::Unknown);
            answer.poll();
            assert_eq!(answer.message::<CheckResponse>(), response(0));
        }
    }
    drop(answer);
    assert_eq!(health.watchers(), 0, "a stream is left");
}

fn response(status: i32) -> CheckResponse {
    CheckResponse { status }
}

/// An answer, as far as it has come.
#[derive(Debug)]
struct Answer {
    body: Pin<Box<Body>>,
    data: Vec<u8>,
    /// The code of its end.
    code: Option<u32>,
}

impl Answer {
    fn new(answer: http::Response<Body>) -> Self {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let code = code(answer.headers());
        let mut answer = Self {
            body: Box::pin(answer.into_body()),
            data: Vec::new(),
            code,
        };
        answer.poll();
        answer
    }

    fn poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = self.body.as_mut().poll_frame(&mut cx) {
            let frame = frame.expect("an answer does not fail");
            match frame.into_data() {
                Ok(data) => self.data.extend(data),
                Err(frame) => self.code = frame.trailers_ref().and_then(code),
            }
        }
    }

    /// Takes the only message.
    fn message<M: Message + Default>(&mut self) -> M {
        let data = std::mem::take(&mut self.data);
        let (head, message) = data.split_at_checked(HEAD).expect("a message");
        let length = u32::try_from(message.len()).expect("a short message");
        assert_eq!(head, [&[0], &length.to_be_bytes()[..]].concat());
        M::decode(message).expect("a message of the protocol")
    }

    fn is_refused(&self, code: u32) {
        assert_eq!((self.code, &self.data[..]), (Some(code), &[][..]));
    }
}

fn code(headers: &http::HeaderMap) -> Option<u32> {
    let code = headers.get("grpc-status")?;
    Some(code.to_str().ok()?.parse().expect("a number"))
}

/// A body in DATA of one size, all of which is there at once.
struct Pieces {
    left: VecDeque<Bytes>,
    end: End,
}

impl Pieces {
    /// With size 0, all in 1 piece.
    fn new(body: &[u8], size: usize, end: End) -> Self {
        let size = if size == 0 { body.len().max(1) } else { size };
        let left = body.chunks(size).map(Bytes::copy_from_slice);
        Self {
            left: left.collect(),
            end,
        }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(piece) = self.left.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match std::mem::replace(&mut self.end, End::Whole) {
            End::Whole => Poll::Ready(None),
            End::Trailers => Poll::Ready(Some(Ok(Frame::trailers(http::HeaderMap::new())))),
            End::Reset => Poll::Ready(Some(Err(Status::unavailable("the stream was reset")))),
            End::Nothing => {
                self.end = End::Nothing;
                Poll::Pending
            }
        }
    }
}
