//! What the headers and the trailers of a gRPC response say.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tonic::{Status, metadata::MetadataMap};

use crate::transport::connection::Connection;

/// Taken away where it is not base64, for tonic panics over that. The code and the
/// message of the status stand.
const STATUS_DETAILS: &str = "grpc-status-details-bin";

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// What this crate looks at in the headers and the trailers of a response, all in one
/// pass: there are few, and asking for each by its name costs more.
#[derive(Default)]
pub(super) struct KnownHeaders<'a> {
    pub(super) content_type: Option<&'a HeaderValue>,
    pub(super) has_status: bool,
    has_message: bool,
    details: Option<&'a HeaderValue>,
}

impl<'a> KnownHeaders<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            // A standard name is a number, and the others are none.
            if *name == header::CONTENT_TYPE {
                seen.content_type = seen.content_type.or(Some(value));
                continue;
            }
            match name.as_str() {
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
    fn has_broken_details(&self) -> bool {
        self.details.is_some_and(|details| {
            let name = HeaderName::from_static(STATUS_DETAILS);
            let alone = HeaderMap::from_iter([(name, details.clone())]);
            let alone = MetadataMap::from_headers(alone);
            let details = alone.get_bin(STATUS_DETAILS);
            details.is_none_or(|details| details.to_bytes().is_err())
        })
    }
}

/// Takes out every part of a status. Only the last frame has one that counts (gRPC over
/// HTTP2, "Responses"), and tonic would read that of any headers.
pub(super) fn remove_status(headers: &mut HeaderMap) {
    for name in [STATUS, MESSAGE, STATUS_DETAILS] {
        headers.remove(name);
    }
}

/// Whether the last frame of a response has a status. What tonic could not read of it is taken
/// out.
pub(super) fn clean_status(last: &mut HeaderMap) -> bool {
    let seen = KnownHeaders::of(last);
    let has_status = seen.has_status;
    if seen.has_broken_details() {
        last.remove(STATUS_DETAILS);
    }
    has_status
}

/// The status of a response whose last frame has none. `h2` drops what is beyond the limit
/// of trailers and says nothing, and many servers write the status last.
pub(super) fn missing_status(connection: &Connection, last: LastFrame) -> Status {
    let address = connection.address();
    Status::unknown(match last {
        LastFrame::Headers => format!("missing grpc-status in the only headers of {address}"),
        LastFrame::Data => {
            format!("missing grpc-status: {address} closed the stream without sending trailers")
        }
        LastFrame::Trailers => {
            let limit = connection.header_list();
            format!(
                "missing grpc-status in the trailers of {address}; trailers beyond the {limit} \
                 bytes of `Endpoint::http2_max_header_list_size` are dropped"
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
