//! The status that ends a response.

use http::{HeaderMap, HeaderName};
use tonic::Code;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The status in headers that are all there is, or in trailers.
pub(super) fn status_of(headers: &HeaderMap) -> Code {
    let status = headers.get(GRPC_STATUS);
    status.map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()))
}
