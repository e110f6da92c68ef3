//! What an `h2` error means: for a stream, for its whole connection, and in words.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use tonic::{Code, Status};

use super::{disconnect::disconnect_error, io_error};
use crate::error::{Cause, CauseKind, Origin, sanitize_peer_text};

/// What the reader of frames says of one that is not there whole.
const CUT_OFF: &str = "bytes remaining on stream";

/// Why a connection has resolved. A GOAWAY, of either side, says more than what came of
/// it: `Ok` if its code was no error, a write that found nobody, or its bare code.
pub(in crate::transport) fn why_ended(
    outcome: Result<(), h2::Error>,
    send: &SendRequest<Bytes>,
) -> Option<h2::Error> {
    match (end_of(send), outcome) {
        (Some(said), _) if said.is_go_away() => Some(said),
        (_, Err(error)) => Some(error),
        (said, Ok(())) => said,
    }
}

/// Why the whole connection is over, if that is what `error` of one of its
/// streams means.
pub(in crate::transport) fn end_behind(
    error: &h2::Error,
    send: &SendRequest<Bytes>,
) -> Option<Cause> {
    if !error.is_io() && !error.is_go_away() {
        return None;
    }
    let said = end_of(send).filter(is_from_peer);
    Some(disconnected(said.as_ref().unwrap_or(error)))
}

/// Why the whole connection takes no new streams, if that is why `h2` did not open
/// one. Else it does not like what it was given.
pub(in crate::transport) fn end_on_open(
    error: &h2::Error,
    send: &SendRequest<Bytes>,
) -> Option<Cause> {
    match is_user_error(error) {
        false => Some(disconnected(error)),
        true => end_of(send).as_ref().map(disconnected),
    }
}

/// The error that ended a connection for new streams, if one has.
pub(in crate::transport) fn end_of(send: &SendRequest<Bytes>) -> Option<h2::Error> {
    let mut cx = Context::from_waker(Waker::noop());
    // A clone has no request of its own to wait for, so it never pends.
    match send.clone().poll_ready(&mut cx) {
        Poll::Ready(Err(error)) => Some(error),
        Poll::Ready(Ok(())) | Poll::Pending => None,
    }
}

pub(in crate::transport) fn disconnected(error: &h2::Error) -> Cause {
    let why = match is_user_error(error) {
        // There is no other that is about a whole connection.
        true => "all HTTP/2 stream IDs are used".to_owned(),
        false => describe_h2(error),
    };
    let origin = error.get_io().map(|io| Origin::new(reduced_io(io)));
    let cause = Cause::new(CauseKind::Disconnected, why).caused_by(origin);
    cause.with_disconnect_error(disconnect_error(error))
}

/// What `h2` keeps of an IO error: the kind and the text.
pub(in crate::transport) fn reduced_io(io: &io::Error) -> io::Error {
    match io.get_ref() {
        Some(text) => io::Error::new(io.kind(), text.to_string()),
        None => io.kind().into(),
    }
}

/// Neither the peer nor the connection is at fault.
fn is_user_error(error: &h2::Error) -> bool {
    !error.is_io() && !error.is_go_away() && !error.is_reset() && error.reason().is_none()
}

/// An `h2` error in the words of this crate.
pub(in crate::transport) fn describe_h2(error: &h2::Error) -> String {
    match error.get_io() {
        Some(io) if io.kind() == io::ErrorKind::BrokenPipe => {
            "the peer closed the connection (transport is closing)".to_owned()
        }
        // Not to be taken for a deadline.
        Some(io) if io.kind() == io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        Some(io) if io.to_string() == CUT_OFF => {
            "the peer closed the connection within a frame (transport is closing)".to_owned()
        }
        Some(io) => io_error::describe_io(io),
        None if is_from_peer(error) => {
            let said = error.to_string();
            format!(
                "GOAWAY received from the peer: {}",
                sanitize_peer_text(&said)
            )
        }
        None if error.is_go_away() && error.is_library() => broken(error),
        None => match error.reason() {
            Some(reason) if error.is_reset() && error.is_remote() => {
                format!("stream terminated by RST_STREAM with error code: {reason:?}")
            }
            _ => error.to_string(),
        },
    }
}

/// Why we end a connection whose peer does not keep to HTTP/2.
fn broken(error: &h2::Error) -> String {
    let error = error.to_string();
    let why = match error.as_str() {
        abuse if abuse.contains("header_list_way_too_large") => {
            "headers larger than 4 times `http2_max_header_list_size`"
        }
        abuse if abuse.contains("too_many_continuations") => "headers in too many frames",
        _ => error.as_str(),
    };
    format!("the peer violates HTTP/2: {why}")
}

/// Whether the peer guarantees that it has not looked at the request, which may be sent again:
/// it refused the stream, or its GOAWAY counts the stream out (RFC 9113 §8.7).
///
/// A GOAWAY over an error says that something of ours broke the connection. That may have been
/// this request, and would break the next connection too.
pub(in crate::transport) fn is_unprocessed(error: &h2::Error) -> bool {
    let harmless = match error.is_go_away() {
        true => [Reason::NO_ERROR, Reason::ENHANCE_YOUR_CALM].as_slice(),
        false => &[Reason::REFUSED_STREAM],
    };
    let reason = error.reason();
    error.is_remote() && reason.is_some_and(|reason| harmless.contains(&reason))
}

/// The status of a call whose stream to `address` failed, by the table "Errors"
/// of gRPC's "gRPC over HTTP2". The table is about RST_STREAM; a connection that
/// breaks under a call is UNAVAILABLE, whichever side broke it, and `end` is why.
///
/// `h2` has one code for headers above `header_list` and for headers that are none.
pub(in crate::transport) fn status(
    error: &h2::Error,
    end: Option<&Cause>,
    address: &str,
    header_list: u32,
) -> Status {
    let code = match error.reason() {
        _ if end.is_some() => Code::Unavailable,
        Some(Reason::REFUSED_STREAM) => Code::Unavailable,
        Some(Reason::CANCEL) => Code::Cancelled,
        Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(_) => Code::Internal,
        None => Code::Unknown,
    };
    let why = match end {
        Some(end) => end.text().to_owned(),
        None if error.is_library() && error.reason() == Some(Reason::PROTOCOL_ERROR) => format!(
            "the response is not valid HTTP/2, or its headers are larger than the {header_list} \
             bytes of `Endpoint::http2_max_header_list_size`"
        ),
        None => describe_h2(error),
    };
    let mut status = Status::new(code, format!("stream to {address}: {why}"));
    if let Some(origin) = end.and_then(Cause::origin) {
        status.set_source(Arc::new(origin.clone()));
    }
    status
}

/// A GOAWAY is HTTP/2, even in the place of SETTINGS.
pub(in crate::transport) fn is_from_peer(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote()
}
