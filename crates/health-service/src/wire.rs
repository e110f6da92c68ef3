//! Answers and errors as the protocol has them.

use tonic::Status;

use crate::{
    pb::{HealthCheckResponse, health_check_response::ServingStatus as Wire},
    registry::{MAX_LISTED, MAX_NAME},
    status::ServingStatus,
};

/// `None` is a name without a status.
pub(crate) fn response(status: Option<ServingStatus>) -> HealthCheckResponse {
    let status = match status {
        Some(ServingStatus::Unknown) => Wire::Unknown,
        Some(ServingStatus::Serving) => Wire::Serving,
        Some(ServingStatus::NotServing) => Wire::NotServing,
        None => Wire::ServiceUnknown,
    };
    HealthCheckResponse {
        status: status.into(),
    }
}

/// # Errors
///
/// INVALID_ARGUMENT if the name is too long.
pub(crate) fn validate_name(name: &str) -> Result<(), Status> {
    match name.len() {
        0..=MAX_NAME => Ok(()),
        length => Err(Status::invalid_argument(format!(
            "the service name has {length} bytes, and at most {MAX_NAME} are allowed"
        ))),
    }
}

/// gRPC's well-known text.
pub(crate) fn unknown_service() -> Status {
    Status::not_found("unknown service")
}

pub(crate) fn too_many_watchers(max: usize) -> Status {
    Status::resource_exhausted(format!(
        "the server has {max} open Watch streams, which is its limit"
    ))
}

pub(crate) fn too_many_services() -> Status {
    Status::resource_exhausted(format!(
        "server health list exceeds maximum capacity: {MAX_LISTED}"
    ))
}

/// UNAVAILABLE is gRPC's code for a server that shuts down, and clients retry after it
/// elsewhere. OK would look like a server that breaks the protocol, and after UNIMPLEMENTED
/// clients would count the server as healthy.
pub(crate) fn stopping() -> Status {
    Status::unavailable("the server is shutting down")
}
