//! What the headers and the trailers of a response say, gRPC or not.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tonic::{Code, Status, metadata::MetadataMap};

use crate::{
    error::{Error, ErrorKind, sanitize_peer_text},
    transport::connection::Connection,
};

/// Taken away where it is not base64, for tonic panics over that. The code and the
/// message of the status stand.
pub(super) const STATUS_DETAILS: &str = "grpc-status-details-bin";

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// Whatever answered this is not a gRPC server: gRPC's table from HTTP codes to
/// its own. A page that comes with 200 is none of them, and no message either.
pub(super) fn http_error(
    code: StatusCode,
    seen: &KnownHeaders<'_>,
    address: &str,
) -> Option<Error> {
    let what = if code == StatusCode::OK {
        let content = seen.content_type?.as_bytes();
        if is_grpc(content) {
            return None;
        }
        let content = String::from_utf8_lossy(content);
        let content = sanitize_peer_text(&content);
        format!("HTTP 200 OK with content-type `{content}`")
    } else {
        format!("HTTP {code}")
    };
    if seen.has_status {
        return None;
    }
    let code = match code.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let text = format!("{address} answered {what} and no gRPC status");
    Some(Error::with_status(
        ErrorKind::Stream,
        Status::new(code, text),
    ))
}

/// Whether this content type is gRPC's, with a subtype or parameters or without. That of
/// gRPC-Web is not: its trailers are a message.
fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let Some((name, rest)) = content_type.split_at_checked(GRPC.len()) else {
        return false;
    };
    name.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// What this crate looks at in the headers and the trailers of a response, all in one
/// pass: there are few, and asking for each by its name costs more.
#[derive(Default)]
pub(super) struct KnownHeaders<'a> {
    content_type: Option<&'a HeaderValue>,
    pub(super) has_status: bool,
    has_message: bool,
    details: Option<&'a HeaderValue>,
}

impl<'a> KnownHeaders<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "content-type" => seen.content_type = seen.content_type.or(Some(value)),
                STATUS => seen.has_status = true,
                MESSAGE => seen.has_message = true,
                STATUS_DETAILS => seen.details = seen.details.or(Some(value)),
                _ => {}
            }
        }
        seen
    }

    /// Whether there is any part of a status.
    pub(super) fn has_part_of_status(&self) -> bool {
        self.has_status || self.has_message || self.details.is_some()
    }

    /// Whether there are status details that are not base64.
    pub(super) fn has_broken_details(&self) -> bool {
        self.details.is_some_and(|details| {
            let name = HeaderName::from_static(STATUS_DETAILS);
            let alone = HeaderMap::from_iter([(name, details.clone())]);
            let alone = MetadataMap::from_headers(alone);
            let details = alone.get_bin(STATUS_DETAILS);
            details.is_none_or(|details| details.to_bytes().is_err())
        })
    }
}

/// Takes every part of a status out of headers that are not the last frame. Only trailers
/// and Trailers-Only carry one (gRPC over HTTP2, "Responses"), and tonic would read this one.
pub(super) fn remove_status(headers: &mut HeaderMap) {
    for name in [STATUS, MESSAGE, STATUS_DETAILS] {
        headers.remove(name);
    }
}

/// The status of a response whose last frame has none. `h2` drops what is beyond the limit
/// of trailers and says nothing, and many servers write the status last.
pub(super) fn missing_status(connection: &Connection, last: LastFrame) -> Status {
    let address = connection.address();
    Status::unknown(match last {
        LastFrame::Headers => format!("missing grpc-status in the only headers of {address}"),
        LastFrame::Data => format!("missing grpc-status: {address} sent no trailers"),
        LastFrame::Trailers => {
            let limit = connection.header_list();
            format!(
                "missing grpc-status in the trailers of {address}; of trailers larger than the \
                 {limit} bytes of `Endpoint::http2_max_header_list_size` the rest is dropped"
            )
        }
    })
}

/// What a response ended with.
pub(super) enum LastFrame {
    Headers,
    Data,
    Trailers,
}
