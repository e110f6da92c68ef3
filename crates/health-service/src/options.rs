//! The limits of a health service.

/// The limits of a [`HealthService`](crate::HealthService).
///
/// ```
/// use grpc_health_service::{HealthOptions, HealthService};
///
/// let options = HealthOptions::default().max_watchers(1_000);
/// let (health, service) = HealthService::with_options(options);
/// # let _ = (health, service);
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct HealthOptions {
    pub(crate) max_watchers: usize,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self {
            max_watchers: 100_000,
        }
    }
}

impl HealthOptions {
    /// The most open `Watch` streams of all clients together. With 0, each `Watch` fails.
    ///
    /// A `Watch` beyond it fails with RESOURCE_EXHAUSTED, and clients then count the server as
    /// unhealthy and ask again later.
    ///
    /// The default is 100,000, which is more than the clients that one server has. The
    /// service takes less than 100 MiB for them, beside what HTTP/2 takes. The README has the
    /// figures.
    pub fn max_watchers(mut self, max: usize) -> Self {
        self.max_watchers = max;
        self
    }
}
