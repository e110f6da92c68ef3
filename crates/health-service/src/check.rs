//! A periodic probe of a dependency, which decides a status.

use std::{error::Error, fmt, num::NonZeroU32, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    handle::HealthHandle,
    log::CheckLog,
    registry::{CheckTicket, HasCheck, Registry},
    shared::Shared,
    status::ServingStatus,
    thresholds::Thresholds,
};

/// How often a check probes, and how many results decide.
///
/// The defaults are those of a Kubernetes probe: every 10 s, 1 s for an answer, up after
/// 1 success, down after 3 failures.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct CheckOptions {
    interval: Duration,
    jitter: f64,
    timeout: Duration,
    up_after: NonZeroU32,
    down_after: NonZeroU32,
}

impl Default for CheckOptions {
    fn default() -> Self {
        const DOWN_AFTER: NonZeroU32 = NonZeroU32::new(3).expect("above zero");
        Self {
            interval: Duration::from_secs(10),
            jitter: 0.1,
            timeout: Duration::from_secs(1),
            up_after: NonZeroU32::MIN,
            down_after: DOWN_AFTER,
        }
    }
}

impl CheckOptions {
    /// The pause between a result and the next probe. The default is 10 s.
    ///
    /// # Panics
    ///
    /// If it is zero, because the check would never rest.
    pub fn interval(mut self, interval: Duration) -> Self {
        assert!(!interval.is_zero(), "the interval of a check is zero");
        self.interval = interval;
        self
    }

    /// The fraction by which a pause is longer or shorter at random. The default is 0.1.
    ///
    /// It keeps the replicas of a server from probing their dependency at the same moment.
    ///
    /// # Panics
    ///
    /// If it is not between 0 and 1.
    pub fn jitter(mut self, fraction: f64) -> Self {
        assert!(
            (0.0..=1.0).contains(&fraction),
            "the jitter of a check is {fraction}, which is not between 0 and 1"
        );
        self.jitter = fraction;
        self
    }

    /// The time for one probe. A slower probe is dropped, and counts as failed. The
    /// default is 1 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The successes in a row that change NOT_SERVING to SERVING. The default is 1.
    pub fn up_after(mut self, successes: NonZeroU32) -> Self {
        self.up_after = successes;
        self
    }

    /// The failures in a row that change SERVING to NOT_SERVING. The default is 3, so that a
    /// single timeout takes no server out.
    pub fn down_after(mut self, failures: NonZeroU32) -> Self {
        self.down_after = failures;
        self
    }

    fn pause(&self) -> Duration {
        let chance = fastrand::f64() * 2.0 - 1.0;
        let seconds = self.interval.as_secs_f64() * (1.0 + self.jitter * chance);
        // An interval without end stays without end.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl HealthHandle {
    /// Probes a dependency again and again, and sets the status of `name` by the results.
    ///
    /// The status is NOT_SERVING until the first success, and the first probe begins at once. An
    /// error, a panic and a timeout count as failed. The check stops when its guard is dropped,
    /// and the last status stays.
    ///
    /// A check that begins to fail is logged at WARN with its error, and a check that succeeds
    /// again at INFO. Above 60 lines a minute they are at DEBUG.
    ///
    /// Each result sets the status. A second check of the name would overwrite it, so probe
    /// several dependencies in 1 function.
    ///
    /// ```
    /// use grpc_health_service::{CheckOptions, HealthService, ServingStatus};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (health, _service) = HealthService::new();
    /// let check = health.check("orders", CheckOptions::default(), async || {
    ///     // Ask the database here.
    ///     Ok::<_, std::io::Error>(())
    /// })?;
    /// # tokio::task::yield_now().await;
    /// # tokio::task::yield_now().await;
    /// assert_eq!(health.status("orders"), Some(ServingStatus::Serving));
    /// drop(check);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The name has a check whose guard is not dropped yet.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub fn check<F, Fut, E>(
        &self,
        name: impl Into<String>,
        options: CheckOptions,
        probe: F,
    ) -> Result<Check, AlreadyChecked>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + 'static,
    {
        let name = name.into();
        let ticket = match self.shared.begin_check(&name) {
            Ok(ticket) => ticket,
            Err(HasCheck) => return Err(AlreadyChecked { service: name }),
        };
        let thresholds = Thresholds::new(options.up_after, options.down_after);
        let target = Target {
            shared: Arc::clone(&self.shared),
            ticket,
        };
        target.set(thresholds.status());
        let log = CheckLog::new(name);
        let task = tokio::spawn(run(target.clone(), options, thresholds, log, probe));
        Ok(Check {
            task: task.abort_handle(),
            target,
        })
    }
}

/// The status that a check sets.
#[derive(Clone, Debug)]
struct Target {
    shared: Arc<Shared>,
    ticket: CheckTicket,
}

impl Target {
    fn set(&self, status: ServingStatus) {
        let change = |registry: &mut Registry<_>| registry.on_check_result(self.ticket, status);
        self.shared.update(change);
    }
}

async fn run<F, Fut, E>(
    target: Target,
    options: CheckOptions,
    mut thresholds: Thresholds,
    mut log: CheckLog,
    mut probe: F,
) where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    loop {
        // A panic is in the log of the panic hook, and the next probe is a new future.
        let attempt = async { probe().await.map_err(|error| error.to_string()) };
        let attempt = AssertUnwindSafe(attempt).catch_unwind();
        let result = match timeout(options.timeout, attempt).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err("the probe panicked".to_owned()),
            Err(_) => Err(format!("no answer within {:?}", options.timeout)),
        };
        let before = thresholds.status();
        let after = thresholds.on_result(result.is_ok());
        // An equal status wakes no watcher, and after `resume` it is right again.
        target.set(after);
        log.on_result(&result, before, after);
        sleep(options.pause()).await;
    }
}

/// The guard of a [`HealthHandle::check`], which stops it when dropped.
#[derive(Debug)]
#[must_use = "the check stops when its guard is dropped"]
pub struct Check {
    task: AbortHandle,
    target: Target,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.task.abort();
        self.target.shared.end_check(self.target.ticket);
    }
}

/// The error of a second [`HealthHandle::check`] of the same service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlreadyChecked {
    service: String,
}

impl fmt::Display for AlreadyChecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service {:?} already has a check", self.service)
    }
}

impl Error for AlreadyChecked {}
