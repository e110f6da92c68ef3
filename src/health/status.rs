//! What a backend says of its health, in a type of our own.

use std::fmt;

/// What is known of a backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthStatus {
    /// Health checking is off, or the backend is not connected.
    NotChecked,
    /// The service config asks for health checks, and the channel is told not to
    /// make them.
    Disabled,
    /// Asked; no answer yet.
    Pending,
    /// The backend said `SERVING`.
    Serving,
    /// The backend said `NOT_SERVING`.
    NotServing,
    /// The backend said `UNKNOWN`.
    Unknown,
    /// The backend does not know the service by that name.
    ServiceUnknown,
    /// The backend answered with a number that this protocol does not define.
    Unrecognized(i32),
    /// The question failed: the `Watch` ended, or nobody answered.
    Failed,
    /// The backend has no health service and counts as healthy (gRFC A17).
    Unimplemented,
}

impl HealthStatus {
    /// Reads `HealthCheckResponse.ServingStatus`.
    pub(crate) fn from_number(number: i32) -> Self {
        match number {
            0 => Self::Unknown,
            1 => Self::Serving,
            2 => Self::NotServing,
            3 => Self::ServiceUnknown,
            number => Self::Unrecognized(number),
        }
    }

    /// As metrics call it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NotChecked => "not_checked",
            Self::Disabled => "disabled",
            Self::Pending => "pending",
            Self::Serving => "serving",
            Self::NotServing => "not_serving",
            Self::Unknown => "unknown",
            Self::ServiceUnknown => "service_unknown",
            Self::Unrecognized(_) => "unrecognized",
            Self::Failed => "failed",
            Self::Unimplemented => "unimplemented",
        }
    }
}

/// The protocol's spelling: `SERVING`, `NOT_SERVING`, …
impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotChecked => f.pad("not checked"),
            Self::Disabled => f.pad("disabled"),
            Self::Pending => f.pad("pending"),
            Self::Serving => f.pad("SERVING"),
            Self::NotServing => f.pad("NOT_SERVING"),
            Self::Unknown => f.pad("UNKNOWN"),
            Self::ServiceUnknown => f.pad("SERVICE_UNKNOWN"),
            Self::Unrecognized(number) => write!(f, "unrecognized status {number}"),
            Self::Failed => f.pad("failed"),
            Self::Unimplemented => f.pad("unimplemented"),
        }
    }
}
