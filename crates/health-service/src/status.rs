//! The statuses that an application sets, and those that a watcher sees.

use std::fmt;

/// The health of a service, as an application sets it.
///
/// The protocol's fourth status, SERVICE_UNKNOWN, is what watchers of a name see that has no
/// status: before [`HealthHandle::set`](crate::HealthHandle::set) and after
/// [`HealthHandle::clear`](crate::HealthHandle::clear).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServingStatus {
    /// The server does not know. Clients treat it as unhealthy.
    Unknown,
    /// The service takes calls.
    Serving,
    /// The service asks for no new calls.
    NotServing,
}

impl ServingStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
        }
    }
}

/// The protocol's name of the status, such as `NOT_SERVING`.
impl fmt::Display for ServingStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
