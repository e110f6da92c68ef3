//! The status that ends a response, or a call without one.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use tonic::{Code, Status};

use crate::{
    error::{Error, sanitize_peer_text},
    trace::TraceStatus,
};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The status in headers that are all there is, or in trailers.
pub(super) fn status_of(headers: &HeaderMap) -> Code {
    let status = headers.get(GRPC_STATUS);
    status.map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()))
}

/// Where the status is of a call or an attempt that has ended.
#[derive(Clone, Copy)]
pub(super) enum FinalStatus<'a> {
    /// The peer says it, in headers that are all there is, or in trailers.
    Headers(&'a HeaderMap),
    /// The body of the response has failed.
    Status(&'a Status),
    /// There is no response.
    Error(&'a Error),
    /// No stream was opened.
    Unsent,
    /// The body of the response has ended without trailers.
    Missing,
}

impl<'a> FinalStatus<'a> {
    pub(super) fn code(self) -> Code {
        match self {
            Self::Headers(headers) => status_of(headers),
            Self::Status(status) => status.code(),
            Self::Error(error) => error.code(),
            Self::Unsent => Code::Unavailable,
            Self::Missing => Code::Unknown,
        }
    }

    /// With its text, which is read for traces alone.
    pub(super) fn traced(self) -> TraceStatus<'a> {
        let message = match self {
            Self::Headers(headers) => match Status::from_header_map(headers) {
                Some(status) => {
                    let message = sanitize_peer_text(status.message());
                    Cow::Owned(message.into_owned())
                }
                None => MISSING.into(),
            },
            Self::Status(status) => sanitize_peer_text(status.message()),
            Self::Error(error) => error.message().into(),
            Self::Unsent => "the connection takes no new streams".into(),
            Self::Missing => MISSING.into(),
        };
        TraceStatus::new(self.code(), message)
    }
}

const MISSING: &str = "a response without a status";
