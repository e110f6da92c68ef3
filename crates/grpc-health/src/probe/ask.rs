//! One question to one server.

use std::{fmt, time::Duration};

use tokio::{
    runtime::Builder,
    time::{self, Instant},
};
use tonic::{Code, Request, Status, codec::CompressionEncoding};
use tonic_health_channel::{Channel, ConnectivityState, Endpoint};

use super::flags::{Probe, ProbeArgs};
use crate::{
    exit::Exit,
    limits, output,
    pb::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
        health_client::HealthClient,
    },
    text,
};

/// Between a failed attempt to connect and the next: gRPC's first backoff. With the
/// default timeout there is no next.
const PAUSE: Duration = Duration::from_secs(1);

/// What the channel has beyond its own limit, to say that it is over.
const OVERTIME: Duration = Duration::from_millis(100);

pub(crate) fn run(args: ProbeArgs) -> Exit {
    let probe = match Probe::try_from(args) {
        Ok(probe) => probe,
        Err(exit) => return exit,
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Unreachable(limits::no_runtime(&error)),
    };
    let exit = runtime.block_on(probe.run());
    // A lookup that has not returned holds nobody up.
    runtime.shutdown_background();
    exit.err().unwrap_or(Exit::Healthy)
}

impl Probe {
    async fn run(mut self) -> Result<(), Exit> {
        self.log(format_args!("address {}, TLS: {}", self.addr, self.tls));
        self.log(format_args!(
            "timeouts: {:?} to connect, {:?} for the answer",
            self.connect_timeout, self.rpc_timeout
        ));
        let (channel, connecting) = timed(self.connect()).await;
        let channel = channel.map_err(|why| {
            Exit::Unreachable(format!("error: no connection to {}: {why}", self.addr).into())
        })?;
        self.log(format_args!("connected in {connecting:?}"));
        let (answer, asking) = timed(self.ask(channel)).await;
        let answer = answer.map_err(|status| Exit::CallFailed(self.blame(&status).into()))?;
        self.log(format_args!("answered in {asking:?}"));
        match ServingStatus::try_from(answer.status) {
            Ok(ServingStatus::Serving) => {
                // A pipe that is closed, or not read, leaves the exit code.
                output::say_soon("status: SERVING");
                Ok(())
            }
            other => {
                let status = other.map_or(format!("status {}", answer.status), |other| {
                    other.as_str_name().to_owned()
                });
                Err(Exit::Unhealthy(format!("error: {self} is {status}").into()))
            }
        }
    }

    /// Attempts to connect as long as there is time for another.
    async fn connect(&self) -> Result<Channel, String> {
        let deadline = Instant::now() + self.connect_timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let attempt = attempt(self.endpoint.clone().connect_timeout(left));
            let why = match bounded(left, attempt).await {
                Some(Ok(channel)) => return Ok(channel),
                Some(Err(why)) => why,
                None => format!("the attempt did not end within {left:?}"),
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(why);
            }
            self.log(format_args!("no connection yet: {why}"));
            time::sleep(PAUSE).await;
        }
    }

    async fn ask(&mut self, channel: Channel) -> Result<HealthCheckResponse, Status> {
        let mut client = HealthClient::new(channel);
        if self.gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        let mut request = Request::new(HealthCheckRequest {
            service: self.service.clone(),
        });
        *request.metadata_mut() = std::mem::take(&mut self.headers);
        request.set_timeout(self.rpc_timeout);
        match bounded(self.rpc_timeout, client.check(request)).await {
            Some(answer) => Ok(answer?.into_inner()),
            None => Err(Status::deadline_exceeded(
                "the call did not end within its timeout",
            )),
        }
    }

    fn blame(&self, status: &Status) -> String {
        let message = text::message(status.message());
        match status.code() {
            Code::Unimplemented if self.gzip => format!(
                "error: the server has no health service (grpc.health.v1.Health), or does not \
                 accept gzip: {message}"
            ),
            Code::Unimplemented => {
                format!(
                    "error: the server has no health service (grpc.health.v1.Health): {message}"
                )
            }
            Code::NotFound => format!("error: the server does not know {self}: {message}"),
            Code::DeadlineExceeded => {
                format!(
                    "error: no answer about {self} within {:?}",
                    self.rpc_timeout
                )
            }
            code => format!("error: the health check failed ({code:?}): {message}"),
        }
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        if self.verbose {
            output::tell(line);
        }
    }
}

/// What is asked about.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.service.as_str() {
            "" => f.write_str("the server"),
            service => write!(f, "the service `{service}`"),
        }
    }
}

/// What `work` comes to, unless that takes longer than `limit` and a little more: the channel
/// has the same limit, and its reason is better than ours.
async fn bounded<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    time::timeout(limit.saturating_add(OVERTIME), work)
        .await
        .ok()
}

/// A channel that is READY, or why its first attempt has failed.
async fn attempt(endpoint: Endpoint) -> Result<Channel, String> {
    let channel = endpoint.connect_lazy();
    let settled = channel
        .watch_status()
        .wait_for(|status| match status.state() {
            // From the start, or again: the server has ended the connection at once.
            ConnectivityState::Idle => {
                channel.request_connection();
                false
            }
            ConnectivityState::Connecting => false,
            ConnectivityState::Ready
            | ConnectivityState::TransientFailure
            | ConnectivityState::Shutdown => true,
        })
        .await;
    if settled.state() == ConnectivityState::Ready {
        return Ok(channel);
    }
    let backends = settled.backends().iter();
    let why = backends.filter_map(|backend| backend.last_error());
    let why = why.map(|(cause, _)| cause.text()).collect();
    Err(limits::blamed(why))
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    (work.await, start.elapsed())
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::time::{Instant, sleep};

    use super::bounded;

    // D256
    #[tokio::test(start_paused = true)]
    async fn a_channel_that_hangs_is_left_soon_after_its_limit() {
        let (start, limit) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(bounded(limit, pending::<()>()).await, None);
        assert_eq!(start.elapsed(), Duration::from_millis(1_100));

        let in_time = bounded(limit, sleep(limit)).await;
        assert_eq!(in_time, Some(()), "its own reason comes first");
        assert_eq!(bounded(Duration::MAX, async { 5 }).await, Some(5));
    }
}
