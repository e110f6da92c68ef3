//! How a server stops without failed calls.

use std::{
    fmt,
    future::pending,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use tracing::{info, warn};

use crate::{handle::HealthHandle, registry::Registry};

/// The times of a drain.
///
/// The defaults add up to 25 s: Kubernetes kills a pod 30 s after SIGTERM by default.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct DrainOptions {
    watchers_timeout: Duration,
    linger: Duration,
    calls_timeout: Duration,
}

impl Default for DrainOptions {
    fn default() -> Self {
        Self {
            watchers_timeout: Duration::from_secs(5),
            linger: Duration::ZERO,
            calls_timeout: Duration::from_secs(20),
        }
    }
}

impl DrainOptions {
    /// The longest wait for watchers to take NOT_SERVING.
    ///
    /// The default is 5 s. A client that reads takes the message within 1 round trip. A client
    /// that does not read must not keep the server.
    pub fn watchers_timeout(mut self, timeout: Duration) -> Self {
        self.watchers_timeout = timeout;
        self
    }

    /// A pause between the last watcher and the graceful stop, in which the server takes calls.
    ///
    /// The default is zero, which suits clients that watch. For clients and load balancers
    /// that poll `Check`, set it to the time after which they notice.
    pub fn linger(mut self, pause: Duration) -> Self {
        self.linger = pause;
        self
    }

    /// The longest wait for calls that are open when the graceful stop begins. Then
    /// [`Drain::cut_off`] is ready.
    ///
    /// The default is 20 s.
    pub fn calls_timeout(mut self, timeout: Duration) -> Self {
        self.calls_timeout = timeout;
        self
    }

    /// The longest time from the signal until [`Drain::cut_off`] is ready: the sum of all times.
    ///
    /// The process has to live longer. In Kubernetes `terminationGracePeriodSeconds` is this
    /// time, that of a `preStop` hook, and a margin for the start and the end of the drain.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use grpc_health_service::DrainOptions;
    ///
    /// let options = DrainOptions::default().linger(Duration::from_secs(10));
    /// assert_eq!(options.longest(), Duration::from_secs(5 + 10 + 20));
    /// ```
    #[must_use]
    pub fn longest(&self) -> Duration {
        let drain = self.watchers_timeout.saturating_add(self.linger);
        drain.saturating_add(self.calls_timeout)
    }
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// The watchers that had not taken NOT_SERVING within
    /// [`DrainOptions::watchers_timeout`].
    pub untold: usize,
}

impl HealthHandle {
    /// Tells all watchers NOT_SERVING, waits until they have taken it, and ends their streams.
    ///
    /// 1. Every service that has a status becomes NOT_SERVING. Later calls of
    ///    `set`, `clear` and `resume` are ignored.
    /// 2. The drain waits until every watcher has taken the message: its stream was polled
    ///    again after the message. The wait ends after [`DrainOptions::watchers_timeout`].
    /// 3. The pause [`DrainOptions::linger`].
    /// 4. Every `Watch` ends with UNAVAILABLE, so that it does not hold up a graceful stop. A
    ///    `Watch` that begins later gets NOT_SERVING and ends in the same way.
    ///
    /// gRPC uses UNAVAILABLE for a server that shuts down: clients ask another time, elsewhere.
    /// After UNIMPLEMENTED they would count the server as healthy.
    ///
    /// Each step is logged at INFO, and watchers that have not taken the message at WARN.
    ///
    /// [`drain_on`](Self::drain_on) joins it to tonic's graceful stop.
    ///
    /// # Panics
    ///
    /// The future panics without a tokio runtime with timers.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the statuses stay NOT_SERVING, and the streams stay open until
    /// another drain ends them.
    pub async fn drain(&self, options: DrainOptions) -> Drained {
        let services = self.shared.update(Registry::on_drain);
        let watchers = self.shared.ask(Registry::untold);
        info!(services, watchers, "drain: all services are NOT_SERVING");
        let told = timeout(options.watchers_timeout, self.shared.until_told()).await;
        let untold = match told {
            Ok(()) => 0,
            Err(_) => self.shared.ask(Registry::untold),
        };
        let DrainOptions {
            watchers_timeout,
            linger,
            ..
        } = options;
        match untold {
            0 => info!("drain: every watcher has taken it"),
            _ => warn!(
                untold,
                ?watchers_timeout,
                "drain: watchers have not taken it"
            ),
        }
        if !linger.is_zero() {
            info!(?linger, "drain: the server still takes calls");
            sleep(linger).await;
        }
        self.shared.update(Registry::on_end);
        let watchers = self.shared.ask(Registry::watchers);
        info!(
            watchers,
            "drain: the Watch streams end, and the server may stop"
        );
        Drained { untold }
    }

    /// A drain that begins with `signal`, for `serve_with_shutdown` of tonic's server.
    ///
    /// When the future is ready, tonic stops gracefully: it closes its port and waits for open
    /// calls. [`Drain::cut_off`] bounds that wait.
    ///
    /// ```no_run
    /// use grpc_health_service::{DrainOptions, HealthService};
    /// use tonic::transport::Server;
    ///
    /// # #[cfg(feature = "signal")]
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let (health, service) = HealthService::new();
    /// let signal = grpc_health_service::stop_signal()?;
    /// let drain = health.drain_on(signal, DrainOptions::default());
    /// let cut_off = drain.cut_off();
    /// let server = Server::builder()
    ///     .add_service(service)
    ///     .serve_with_shutdown("[::]:50051".parse()?, drain);
    /// tokio::select! {
    ///     served = server => served?,
    ///     () = cut_off => eprintln!("open calls were cut off"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain_on<F>(&self, signal: F, options: DrainOptions) -> Drain
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let health = self.clone();
        let (begun, stopping) = watch::channel(false);
        let steps = async move {
            signal.await;
            health.drain(options).await;
            begun.send_replace(true);
        };
        Drain {
            steps: Box::pin(steps),
            stopping,
            calls_timeout: options.calls_timeout,
        }
    }
}

/// A future that is ready when the server may stop; see [`HealthHandle::drain_on`].
#[must_use = "a drain does nothing until it is polled"]
pub struct Drain {
    steps: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether the graceful stop has begun.
    stopping: watch::Receiver<bool>,
    calls_timeout: Duration,
}

impl Drain {
    /// A future that is ready [`DrainOptions::calls_timeout`] after this drain has ended.
    ///
    /// Select it beside the server, as the example of [`HealthHandle::drain_on`] does. A server
    /// that is dropped leaves its open calls to the runtime, which ends them when the process
    /// exits. If the drain is dropped before it has ended, the future is never ready.
    ///
    /// # Panics
    ///
    /// The future panics without a tokio runtime with timers.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is cut off.
    pub fn cut_off(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut stopping = self.stopping.clone();
        let calls_timeout = self.calls_timeout;
        async move {
            let has_begun = stopping.wait_for(|begun| *begun).await.is_ok();
            if !has_begun {
                pending::<()>().await;
            }
            sleep(calls_timeout).await;
            warn!(?calls_timeout, "drain: open calls are cut off");
        }
    }
}

impl Future for Drain {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.steps.as_mut().poll(cx)
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut drain = f.debug_struct("Drain");
        drain.field("calls_timeout", &self.calls_timeout);
        drain.finish_non_exhaustive()
    }
}
