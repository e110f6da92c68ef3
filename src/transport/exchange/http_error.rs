//! An answer that is not gRPC's, and its status.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, StatusCode, header, response};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status, metadata::MetadataMap};

use super::{
    headers::{KnownHeaders, clean_status, remove_status},
    quote::{Quote, is_text},
};
use crate::{
    error::{Error, ErrorKind, sanitize_peer_text},
    transport::connection::Connection,
    util::clock::{poll_timer, timer_on},
};

/// How long the body of an HTTP error is waited for. The call has failed already, and what
/// is waited for is a part of its text: a round trip or two, no more.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// What a response is, by its headers.
pub(super) enum Answer {
    Grpc,
    /// It ends with its headers, and they have a status.
    TrailersOnly,
    /// It ends with its headers, and they have none.
    NoStatus,
    /// Not gRPC. The body may say why.
    HttpError,
    /// An HTTP code that is no success, with gRPC's content type. What comes next tells.
    Undecided,
}

impl Answer {
    pub(super) fn of(code: StatusCode, seen: &KnownHeaders<'_>, is_last: bool) -> Self {
        let content_type = seen.content_type.map(|content| content.as_bytes());
        let may_be_grpc = content_type.is_none_or(is_grpc);
        match (is_last, code == StatusCode::OK, may_be_grpc) {
            (false, true, true) => Self::Grpc,
            (true, _, _) if seen.has_status => Self::TrailersOnly,
            (true, true, true) => Self::NoStatus,
            (false, false, true) => Self::Undecided,
            (true, false, true) | (_, _, false) => Self::HttpError,
        }
    }
}

/// Whether this content type is gRPC's, with a subtype or parameters or without. That of
/// gRPC-Web is not: its trailers are a message.
fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let Some((name, rest)) = content_type.split_at_checked(GRPC.len()) else {
        return false;
    };
    // Nearly always in small letters, and that is cheaper to see.
    (name == GRPC || name.eq_ignore_ascii_case(GRPC))
        && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The status of an HTTP answer that has none, by gRPC's table from HTTP codes to its own.
/// A page that comes with 200 is none of them.
pub(super) struct HttpError {
    code: StatusCode,
    /// Named where the code does not tell.
    content_type: Option<String>,
}

impl HttpError {
    pub(super) fn of(head: &response::Parts) -> Self {
        let content_type = head.headers.get(header::CONTENT_TYPE);
        let told = content_type.filter(|_| head.status == StatusCode::OK);
        Self {
            code: head.status,
            content_type: told.map(|content| {
                let content = String::from_utf8_lossy(content.as_bytes());
                sanitize_peer_text(&content).into_owned()
            }),
        }
    }

    /// The status, with the headers as its metadata.
    pub(super) fn error(&self, address: &str, headers: &HeaderMap, quote: &str) -> Error {
        let status = Status::with_metadata(
            self.status_code(),
            self.text(address, quote),
            metadata(headers),
        );
        Error::with_status(ErrorKind::CallFailed, status)
    }

    /// The same for a caller that has the headers already.
    pub(super) fn status(&self, address: &str) -> Status {
        Status::new(self.status_code(), self.text(address, ""))
    }

    fn status_code(&self) -> Code {
        match self.code.as_u16() {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }

    fn text(&self, address: &str, quote: &str) -> String {
        let Self { code, content_type } = self;
        let content = match content_type {
            Some(content) => format!("; received unexpected content-type `{content}`"),
            None => String::new(),
        };
        let separator = if quote.is_empty() { "" } else { ": " };
        let (number, reason) = (code.as_u16(), code.canonical_reason());
        let reason = reason.unwrap_or("unknown");
        format!(
            "stream to {address}: unexpected HTTP status code received from server: {number} \
             ({reason}){content}; no gRPC status{separator}{quote}"
        )
    }
}

/// What a status keeps of the headers of its response.
pub(super) fn metadata(headers: &HeaderMap) -> MetadataMap {
    let mut headers = headers.clone();
    remove_status(&mut headers);
    // A server that passes the status on would announce a body that it does not send.
    headers.remove(header::CONTENT_LENGTH);
    MetadataMap::from_headers(headers)
}

/// A response whose headers are not enough to know its status.
pub(super) struct Page {
    pub(super) head: response::Parts,
    pub(super) stream: RecvStream,
    /// None of a response that may be gRPC yet.
    quote: Option<Quote>,
    /// When the rest is not waited for any longer.
    end: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What a [`Page`] has turned out to be.
pub(super) enum Verdict {
    HttpError,
    /// gRPC. This is its first DATA frame, which is not empty.
    Message(Bytes),
    /// gRPC. It has ended without a message, and these have its status.
    Trailers(HeaderMap),
}

impl Page {
    /// Of a response that may be gRPC in spite of its HTTP code.
    pub(super) fn undecided(head: response::Parts, stream: RecvStream) -> Self {
        Self {
            head,
            stream,
            quote: None,
            end: Instant::now() + BODY_TIMEOUT,
            timer: None,
        }
    }

    /// Of an HTTP error.
    pub(super) fn of_error(head: response::Parts, stream: RecvStream) -> Self {
        let content_type = head.headers.get(header::CONTENT_TYPE);
        let encoding = head.headers.get(header::CONTENT_ENCODING);
        let is_readable = content_type.is_some_and(|content| is_text(content.as_bytes()))
            && encoding.is_none_or(|encoding| encoding == "identity");
        let mut quote = Quote::default();
        if !is_readable {
            quote.on_end();
        }
        Self {
            quote: Some(quote),
            ..Self::undecided(head, stream)
        }
    }

    /// Its error, as far as it has come.
    pub(super) fn error(&self, address: &str) -> Error {
        let quote = self.quote.as_ref().map_or(String::new(), Quote::text);
        HttpError::of(&self.head).error(address, &self.head.headers, &quote)
    }

    /// Ready when the rest would tell nothing more, or takes too long.
    pub(super) fn poll(&mut self, connection: &Connection, cx: &mut Context<'_>) -> Poll<Verdict> {
        let verdict = match &mut self.quote {
            Some(quote) => poll_quote(quote, &mut self.stream, cx),
            None => poll_next(&mut self.stream, cx),
        };
        match verdict {
            Poll::Ready(Ok(verdict)) => Poll::Ready(verdict),
            // What has come of it is an HTTP error all the same.
            Poll::Ready(Err(error)) => {
                connection.on_stream_failed(&error);
                Poll::Ready(Verdict::HttpError)
            }
            Poll::Pending => {
                let timer = || Box::pin(timer_on(connection.runtime(), self.end));
                let timer = self.timer.get_or_insert_with(timer);
                poll_timer(timer.as_mut(), cx).map(|()| Verdict::HttpError)
            }
        }
    }
}

fn poll_quote(
    quote: &mut Quote,
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Result<Verdict, h2::Error>> {
    while !quote.is_whole() {
        match ready!(stream.poll_data(cx)?) {
            Some(data) => {
                quote.on_data(&data);
                // Fails only for a stream that is gone; its error comes next.
                let _ = stream.flow_control().release_capacity(data.len());
            }
            None => quote.on_end(),
        }
    }
    Poll::Ready(Ok(Verdict::HttpError))
}

fn poll_next(stream: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Result<Verdict, h2::Error>> {
    while let Some(data) = ready!(stream.poll_data(cx)?) {
        match data.first() {
            // Nothing, or what says whether a message is compressed.
            None => {}
            Some(0 | 1) => return Poll::Ready(Ok(Verdict::Message(data))),
            Some(_) => return Poll::Ready(Ok(Verdict::HttpError)),
        }
    }
    let trailers = ready!(stream.poll_trailers(cx)?);
    let mut trailers = trailers.unwrap_or_default();
    Poll::Ready(Ok(match clean_status(&mut trailers) {
        true => Verdict::Trailers(trailers),
        false => Verdict::HttpError,
    }))
}
