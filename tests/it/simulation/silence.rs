//! A channel that looks for silence avoids a backend that is cut off, and no other. In time that is
//! made.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use futures_util::{StreamExt, stream::FuturesUnordered};
use testing::{
    fleet::{Fault, Host, Result},
    greeter::{HelloRequest, greeter_client::GreeterClient},
};
use tokio::time::{Instant, interval_at};
use tonic::{Code, Request};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    discover,
};

use super::{host::Simulated, in_made_time};

const LIMIT: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(3);
/// The shortest time from one call to the next.
const PACE: Duration = Duration::from_millis(5);
const SEEDS: u64 = 12;

/// A call by its number, and how it ended.
type Ends = Arc<Mutex<BTreeMap<u64, (Instant, Option<Code>)>>>;

/// Backends whose calls take up to 15 times `unit`, and a channel over them.
struct Rig {
    hosts: Vec<Simulated>,
    channel: Channel,
    ends: Ends,
    next: u64,
    /// From one call to the next.
    pace: Duration,
}

impl Rig {
    async fn start(backends: usize, unit: Duration, policy: &'static str) -> Result<Self> {
        let mut hosts = Vec::new();
        for number in 0..backends {
            hosts.push(Simulated::with_unit(number, unit));
        }
        let endpoints: Result<Vec<_>> = hosts.iter().map(Host::endpoint).collect();
        let config = format!(r#"{{"loadBalancingConfig": [{{"{policy}": {{}}}}]}}"#);
        let channel = Channel::balance(discover::list(endpoints?)?)
            .service_config(config.parse()?)
            .silence(LIMIT)
            .build();
        let mut watch = channel.watch_status();
        let all_ready = watch.wait_for(|status| {
            let mut backends = status.backends().iter();
            status.state() == Ready && backends.all(|backend| backend.state() == Ready)
        });
        all_ready.await;
        Ok(Self {
            hosts,
            channel,
            ends: Ends::default(),
            next: 0,
            pace: PACE,
        })
    }

    /// Calls at the pace until then, and then the end of all of them.
    async fn call_until(&mut self, end: Instant, calls: &mut FuturesUnordered<Call>) {
        let mut ticks = interval_at(Instant::now() + self.pace, self.pace);
        while Instant::now() < end {
            calls.push(self.call());
            loop {
                tokio::select! {
                    biased;
                    _ = ticks.tick() => break,
                    Some(()) = calls.next() => {}
                }
            }
        }
    }

    fn call(&mut self) -> Call {
        let number = self.next;
        self.next += 1;
        let (channel, ends) = (self.channel.clone(), self.ends.clone());
        Box::pin(async move {
            let began = Instant::now();
            let mut request = Request::new(HelloRequest {
                name: number.to_string(),
                count: 0,
            });
            request.set_timeout(DEADLINE);
            let outcome = GreeterClient::new(channel).say_hello(request).await;
            let code = outcome.err().map(|status| status.code());
            ends.lock()
                .expect("no holder panics")
                .insert(number, (began, code));
        })
    }

    /// Calls that began between these and failed, by their begin.
    fn failed(&self, from: Instant, to: Instant) -> Vec<(Instant, Code)> {
        let ends = self.ends.lock().expect("no holder panics");
        let failed = ends.values().filter_map(|(began, code)| {
            let code = (*code)?;
            (from..to).contains(began).then_some((*began, code))
        });
        failed.collect()
    }
}

type Call = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// 1 of the backends is cut off for a while: how many probes there were once that was known.
async fn cut_off(seed: u64, policy: &'static str) -> Result<usize> {
    let mut rng = Rng::with_seed(seed);
    let backends = rng.usize(2..8);
    let mut rig = Rig::start(backends, Duration::from_millis(2), policy).await?;
    rig.pace *= rng.u32(1..20);
    let mut calls = FuturesUnordered::new();
    rig.call_until(Instant::now() + LIMIT * 2, &mut calls).await;
    let cut = rng.usize(..backends);
    let began = Instant::now();
    rig.hosts[cut]
        .disturb(Fault::Lose {
            up: true,
            down: true,
        })
        .await?;
    let lasts = DEADLINE * rng.u32(3..6);
    rig.call_until(began + lasts, &mut calls).await;
    while calls.next().await.is_some() {}

    // The last byte is of before, and a call goes there within some rounds of all backends.
    let known = began + 2 * LIMIT + rig.pace * 50;
    let unknown = rig.failed(began - rig.pace, known);
    let failed = rig.failed(known, began + lasts);
    let status = rig.channel.backends()[cut].clone();
    if status.state() != TransientFailure || status.silence().is_none() {
        return Err(format!("it is not silent: {status}").into());
    }
    if unknown.is_empty() {
        return Err("no call met it".into());
    }
    // Each is a probe, which the next one follows at its deadline.
    for pair in failed.windows(2) {
        let apart = pair[1].0 - pair[0].0;
        if apart < DEADLINE - Duration::from_millis(5) {
            return Err(format!("2 probes within {apart:?}: {failed:?}").into());
        }
    }
    if let Some(other) = failed
        .iter()
        .find(|(_, code)| *code != Code::DeadlineExceeded)
    {
        return Err(format!("a call failed otherwise: {other:?}").into());
    }
    Ok(failed.len())
}

/// A server that takes its time, and is never cut off.
async fn slow(seed: u64) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    let backends = rng.usize(1..4);
    // Up to 15 of it, which is 5 times the limit or more.
    let unit = LIMIT / rng.u32(1..4);
    let mut rig = Rig::start(backends, unit, "round_robin").await?;
    let mut statuses = rig.channel.watch_status();
    let watched = statuses.wait_for(|status| {
        let mut backends = status.backends().iter();
        backends.any(|backend| backend.silence().is_some())
    });
    let mut watched = std::pin::pin!(watched);
    let began = Instant::now();
    let mut calls = FuturesUnordered::new();
    let is_crowd = rng.bool();
    for number in 0..40_u32 {
        let pause = match is_crowd {
            true => PACE * rng.u32(..20),
            false => LIMIT * 20,
        };
        calls.push(rig.call());
        interval_at(began + pause * number, LIMIT).tick().await;
    }
    tokio::select! {
        biased;
        status = &mut watched => Err(format!("a slow server is silent: {status:?}").into()),
        () = async { while calls.next().await.is_some() {} } => Ok(()),
    }
}

fn of_each_seed<T, F: Future<Output = Result<T>>>(run: impl Fn(u64) -> F) -> Vec<T> {
    let run = |seed| match in_made_time(seed, run(seed)) {
        Ok(outcome) => outcome,
        Err(error) => panic!("seed {seed}: {error}"),
    };
    (0..SEEDS).map(run).collect()
}

// D372, D373, D376
#[test]
fn a_backend_that_is_cut_off_has_only_probes_after_twice_the_limit() {
    for policy in ["round_robin", "least_request_experimental"] {
        let probes = of_each_seed(|seed| cut_off(seed, policy));
        let seeds = probes.iter().filter(|probes| **probes > 0).count();
        assert!(seeds > SEEDS as usize / 4, "{policy}: {probes:?}");
    }
}

// D372
#[test]
fn a_slow_server_is_never_silent() {
    of_each_seed(slow);
}
