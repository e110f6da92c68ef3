//! Performs the rounds, and looks for what is left after each.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, interval, sleep_until, timeout},
};
use tonic_health_channel::{
    Channel, ConnectivityState::Ready, HealthOptions, channel::BackoffConfig, discover,
    status::ChannelStatus,
};

use super::{Fault, Host, Load, Result, Round, SERVICE, Trouble, ledger, load::Troubles, round};

/// The longest pause between attempts, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A silent connection is known to be so after both; the least there is (gRFC A8).
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(1_200);

/// From the end of the last trouble until all are READY: an attempt that began before
/// it, the longest pause with its jitter, and some time for a busy machine.
const RECOVERY: Duration = Duration::from_millis(2_000 + 1_200 + 3_000);

/// How many of the last steps are told of a run that failed.
const TAIL: usize = 60;

/// A fleet, its channel, and how far a run has come.
pub struct Fleet<H> {
    began: Instant,
    hosts: Vec<H>,
    pub channel: Channel,
    /// Where the channel lives.
    on: Handle,
    /// How many tasks were there without it.
    before: usize,
    /// How many are there with it, when all is well and nobody calls.
    calm: usize,
    troubles: Arc<Troubles>,
    steps: Vec<String>,
    pub slowest_recovery: Duration,
}

/// A moment of a storm.
#[derive(Clone, Copy)]
enum Event {
    Begin,
    Flip(bool),
    End,
}

/// The channel over all hosts.
fn channel<H: Host>(hosts: &[H], connections: usize) -> Result<Channel> {
    let backoff = BackoffConfig::default()
        .initial(Duration::from_millis(100))?
        .max(LONGEST_PAUSE);
    let mut endpoints = Vec::new();
    for host in hosts {
        let endpoint = host
            .endpoint()?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        endpoints.push(endpoint);
    }
    let config = format!(r#"{{"healthCheckConfig": {{"serviceName": "{SERVICE}"}}}}"#);
    Ok(Channel::balance(discover::list(endpoints)?)
        .service_config(config.parse()?)
        .connect_backoff(backoff.clone())
        .health_options(HealthOptions::default().backoff(backoff))
        .connections_per_backend(NonZeroUsize::try_from(connections)?)
        .build())
}

/// A channel that has not heard of its backends yet has none.
fn all_ready(status: &ChannelStatus) -> bool {
    let mut backends = status.backends().iter();
    status.state() == Ready && backends.all(|backend| backend.state() == Ready)
}

impl<H: Host> Fleet<H> {
    /// Whose channel, with so many connections to each host, and whose callers are `on`
    /// that runtime.
    pub async fn start(on: &Handle, hosts: Vec<H>, connections: usize) -> Result<Self> {
        let before = on.metrics().num_alive_tasks();
        let channel = {
            let _here = on.enter();
            channel(&hosts, connections)?
        };
        let mut fleet = Self {
            began: Instant::now(),
            hosts,
            channel,
            on: on.clone(),
            before,
            calm: 0,
            troubles: Arc::default(),
            steps: Vec::new(),
            slowest_recovery: Duration::ZERO,
        };
        let is_complete = |status: &ChannelStatus| {
            let mut backends = status.backends().iter();
            all_ready(status) && backends.all(|backend| backend.connections() == connections)
        };
        fleet.until("connect", is_complete).await?;
        fleet.calm = on.metrics().num_alive_tasks();
        Ok(fleet)
    }

    /// So many callers, who make `rate` calls a second together.
    pub fn load(&self, callers: u32, rate: u32) -> Arc<Load> {
        Load::start(
            &self.on,
            &self.channel,
            self.troubles.clone(),
            callers,
            rate,
        )
    }

    /// Performs one round, until all is well again.
    pub async fn perform(&mut self, round: &Round) -> Result<()> {
        match round {
            Round::Storm(troubles) => self.storm(troubles).await,
            Round::Roll => self.roll().await,
        }
    }

    /// The rounds of a seed, for so long.
    pub async fn perform_all(&mut self, seed: u64, lasts: Duration) -> Result<()> {
        let mut number = 0;
        while self.began.elapsed() < lasts {
            self.note(&format!("round {number}"));
            let round = round(seed, number, self.hosts.len());
            self.perform(&round).await?;
            number += 1;
        }
        Ok(())
    }

    /// Without load nothing is left of the troubles, and without the channel nothing at
    /// all: the hosts, and what was wrong, `outcome` included.
    pub async fn end(self, load: &Load, outcome: Result<()>) -> Result<(Vec<H>, Vec<String>)> {
        load.end().await;
        let calm = until_tasks(&self.on, self.calm).await;
        drop(self.channel);
        let left = until_tasks(&self.on, self.before).await;
        let mut complaints = load.notes(|notes| {
            let mut complaints = std::mem::take(&mut notes.complaints);
            complaints.extend(ledger::complaints(&self.hosts, notes)?);
            Result::Ok(complaints)
        })?;
        complaints.extend(outcome.err().map(|error| error.to_string()));
        for (tasks, before) in [(calm, self.calm), (left, self.before)] {
            if let Err(tasks) = tasks {
                complaints.push(format!("{tasks} tasks are left, of {before} before"));
            }
        }
        if !complaints.is_empty() {
            let tail = self.steps.len().saturating_sub(TAIL);
            complaints.push(format!(
                "the last steps:\n{}",
                self.steps[tail..].join("\n")
            ));
        }
        Ok((self.hosts, complaints))
    }

    fn note(&mut self, step: &str) {
        // What is told in the end, and a little more.
        if self.steps.len() > 10 * TAIL {
            self.steps.drain(..9 * TAIL);
        }
        let at = self.began.elapsed().as_secs_f64();
        self.steps.push(format!("{at:>8.2}s {step}"));
    }

    async fn storm(&mut self, troubles: &[Trouble]) -> Result<()> {
        let start = Instant::now();
        for (at, trouble, event) in events(troubles) {
            sleep_until(start + at).await;
            self.act(&troubles[trouble], event).await?;
        }
        let healed = Instant::now();
        self.until("recover", all_ready).await?;
        self.slowest_recovery = self.slowest_recovery.max(healed.elapsed());
        let news_takes = self.news_takes(troubles);
        let mut watch = self.channel.watch_status();
        while timeout(news_takes, watch.wait_for(|status| !all_ready(status)))
            .await
            .is_ok()
        {
            self.until("stay READY", all_ready).await?;
        }
        self.troubles.all_over();
        Ok(())
    }

    /// What was silent for a while may be given up yet, and what was lost is sent again.
    fn news_takes(&self, troubles: &[Trouble]) -> Duration {
        let silent = troubles.iter().filter(|trouble| trouble.fault.is_silent());
        let takes = silent.map(|trouble| match trouble.fault {
            // Where a PING has found it, nothing is under way.
            Fault::Lose { .. } if trouble.lasts < KEEPALIVE + KEEPALIVE_TIMEOUT => {
                let afterwards = self.hosts[trouble.backend].afterwards(trouble.lasts);
                KEEPALIVE_TIMEOUT.max(afterwards)
            }
            _ => KEEPALIVE_TIMEOUT,
        });
        takes.max().unwrap_or_default() + Duration::from_millis(500)
    }

    async fn act(&mut self, trouble: &Trouble, event: Event) -> Result<()> {
        match event {
            Event::Begin => {
                self.note(&trouble.to_string());
                if trouble.fault.may_fail_calls() {
                    self.troubles.begin(trouble.backend);
                }
            }
            Event::End => self.note(&format!("backend {}: over", trouble.backend)),
            Event::Flip(_) => {}
        }
        let host = &mut self.hosts[trouble.backend];
        match (trouble.fault, event) {
            (Fault::Kill, Event::Begin) => host.kill().await?,
            (Fault::Kill, Event::End) => host.restart().await?,
            (Fault::Pause, Event::Begin) => host.pause(true)?,
            (Fault::Pause, Event::End) => host.pause(false)?,
            (fault @ (Fault::Cut | Fault::Lose { .. } | Fault::Delay(_)), Event::Begin) => {
                host.disturb(fault).await?;
            }
            (fault @ (Fault::Cut | Fault::Lose { .. } | Fault::Delay(_)), Event::End) => {
                host.mend(fault).await?;
            }
            (Fault::Flap, Event::Flip(serving)) => host.serve(serving).await?,
            (Fault::Flap, Event::End) => host.serve(true).await?,
            _ => {}
        }
        Ok(())
    }

    /// Each is stopped, started and READY again before the next.
    async fn roll(&mut self) -> Result<()> {
        for number in 0..self.hosts.len() {
            self.note(&format!(
                "backend {number}: stops gracefully, and starts again"
            ));
            // A moment of its own, also where all that follows takes no time.
            let before = Instant::now() + Duration::from_millis(1);
            sleep_until(before).await;
            self.hosts[number].stop().await?;
            self.hosts[number].restart().await?;
            let is_back = |status: &ChannelStatus| {
                let backend = &status.backends()[number];
                backend.state() == Ready && backend.since() >= before.into_std()
            };
            self.until("come back", is_back).await?;
        }
        Ok(())
    }

    async fn until(&self, what: &str, is_so: impl FnMut(&ChannelStatus) -> bool) -> Result<()> {
        let mut watch = self.channel.watch_status();
        if timeout(RECOVERY, watch.wait_for(is_so)).await.is_ok() {
            return Ok(());
        }
        let backends = self.channel.backends();
        let mut text = format!("waited {RECOVERY:?} for the backends to {what}, in vain:");
        for backend in backends.iter() {
            text += &format!("\n  {backend}");
        }
        Err(text.into())
    }
}

/// By their time, and each with the place of its trouble.
fn events(troubles: &[Trouble]) -> Vec<(Duration, usize, Event)> {
    let mut events = Vec::new();
    for (place, trouble) in troubles.iter().enumerate() {
        let Trouble { begins, lasts, .. } = *trouble;
        events.push((begins, place, Event::Begin));
        if trouble.fault == Fault::Flap {
            let mut serving = true;
            let mut at = Duration::ZERO;
            while at < lasts {
                serving = !serving;
                events.push((begins + at, place, Event::Flip(serving)));
                at += Duration::from_millis(20);
            }
        }
        events.push((begins + lasts, place, Event::End));
    }
    // Stable, so each trouble's own order stays.
    events.sort_by_key(|(at, ..)| *at);
    events
}

/// Until there are no more than so many tasks, or how many there are after a while.
async fn until_tasks(on: &Handle, most: usize) -> std::result::Result<(), usize> {
    // The end of a task is no event.
    let mut ticks = interval(Duration::from_millis(50));
    for _ in 0..100 {
        ticks.tick().await;
        if on.metrics().num_alive_tasks() <= most {
            return Ok(());
        }
    }
    Err(on.metrics().num_alive_tasks())
}
