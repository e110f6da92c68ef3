//! Performs the rounds, and looks for what is left after each.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{self, Handle},
    time::{interval, sleep, sleep_until, timeout},
};
use tonic_health_channel::{
    BackoffConfig, Channel, ConnectivityState::Ready, Endpoint, HealthOptions,
    Status as ChannelStatus, discover,
};

use crate::{
    Options, Result,
    backend::SERVICE,
    load::{End, Load, Notes, Troubles},
    node::Node,
    plan::{self, Fault, Round, Trouble},
    report::{Samples, mib, resident_kib},
};

/// Enough for the load to go on while some wait at backends that are silent.
const CALLERS: u32 = 256;

/// The longest pause between attempts, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A silent connection is known to be so after both.
const KEEPALIVE: Duration = Duration::from_millis(300);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(1_200);

/// From the end of the last trouble until all are READY: an attempt that began before
/// it, the longest pause with its jitter, and some time for a busy machine.
const RECOVERY: Duration = Duration::from_millis(2_000 + 1_200 + 3_000);

/// How much more memory a run may have in the end than after its first round.
const GROWTH_KIB: u64 = 24 << 10;

/// How many of the last steps are told of a run that failed.
const TAIL: usize = 60;

/// A run as far as it has come.
struct Run {
    began: Instant,
    nodes: Vec<Node>,
    channel: Channel,
    /// Where the channel and its callers live, and nobody else.
    on: Handle,
    troubles: Arc<Troubles>,
    steps: Vec<String>,
    slowest_recovery: Duration,
    calm: Option<Calm>,
}

/// What there was after the first round.
#[derive(Clone, Copy)]
struct Calm {
    tasks: usize,
    rss_kib: u64,
}

/// A moment of a storm.
#[derive(Clone, Copy)]
enum Event {
    Begin,
    Flip(bool),
    End,
}

/// The whole run.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let Options { seed, backends, .. } = *options;
    println!("seed {seed}, {backends} backends, {:?}", options.lasts);
    let folder = tempfile::tempdir()?;
    let mut nodes = Vec::new();
    for number in 0..backends {
        nodes.push(Node::start(number, folder.path()).await?);
    }
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let on = runtime.handle().clone();
    let channel = {
        let _here = on.enter();
        channel(&nodes, usize::try_from(1 + seed % 2)?)?
    };
    let mut run = Run {
        began: Instant::now(),
        nodes,
        channel,
        on: on.clone(),
        troubles: Arc::default(),
        steps: Vec::new(),
        slowest_recovery: Duration::ZERO,
        calm: None,
    };
    run.until_all("to connect", all_ready).await?;
    let (load, callers) = {
        let troubles = run.troubles.clone();
        Load::start(&on, &run.channel, troubles, CALLERS, options.rate)
    };
    let samples = Arc::<Mutex<Samples>>::default();
    let sampling = tokio::spawn(sample(
        samples.clone(),
        load.clone(),
        run.channel.clone(),
        on,
        options.lasts,
    ));
    let outcome = run.rounds(options).await;
    load.stop();
    for caller in callers {
        caller.await?;
    }
    sampling.abort();
    // It has a handle of the channel.
    let _ = sampling.await;
    let Run {
        mut nodes,
        channel,
        steps,
        slowest_recovery,
        calm,
        ..
    } = run;
    drop(channel);
    let left = until_tasks(runtime.handle(), 0).await;
    let grown = calm.map_or(0, |calm| resident_kib().saturating_sub(calm.rss_kib));
    runtime.shutdown_background();
    for node in &mut nodes {
        node.kill().await?;
    }
    {
        let samples = samples.lock().expect("nobody panics with the samples");
        samples.print();
        if let Some(path) = &options.csv {
            samples.write_csv(path)?;
        }
    }

    let mut complaints = load.notes(|notes| {
        println!(
            "{} calls, {} of them protected; all READY again after {slowest_recovery:?} at most; \
             {:.1} MiB more than after the first round",
            notes.ends.len(),
            notes.protected,
            mib(grown)
        );
        for (reason, times) in &notes.reasons {
            println!("{times:>7} × {reason}");
        }
        let found = of_ledgers(&nodes, notes)?;
        notes.complaints.extend(found);
        Result::Ok(std::mem::take(&mut notes.complaints))
    })?;
    complaints.extend(outcome.err().map(|error| error.to_string()));
    if let Err(tasks) = left {
        complaints.push(format!("{tasks} tasks are left without a channel"));
    }
    if grown > GROWTH_KIB {
        complaints.push(format!("memory grew by {:.1} MiB", mib(grown)));
    }
    if complaints.is_empty() {
        return Ok(());
    }
    let tail = steps.len().saturating_sub(TAIL);
    Err(format!(
        "seed {seed}:\n{}\nits last steps:\n{}\nagain: cargo test --test chaos -- --seed {seed} \
         --backends {backends} --seconds {} --rate {}",
        complaints.join("\n"),
        steps[tail..].join("\n"),
        options.lasts.as_secs(),
        options.rate,
    )
    .into())
}

/// The channel over the fronts of all nodes.
fn channel(nodes: &[Node], connections: usize) -> Result<Channel> {
    let backoff = BackoffConfig::try_new(Duration::from_millis(100), 1.6, 0.2, LONGEST_PAUSE)?;
    let mut endpoints = Vec::new();
    for node in nodes {
        let endpoint = Endpoint::from_shared(format!("http://{}", node.address))?
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
        .connections_per_backend(connections)
        .build())
}

fn all_ready(status: &ChannelStatus) -> bool {
    status
        .backends()
        .iter()
        .all(|backend| backend.state() == Ready)
}

impl Run {
    async fn rounds(&mut self, options: &Options) -> Result<()> {
        let mut number = 0;
        while self.began.elapsed() < options.lasts {
            match plan::round(options.seed, number, self.nodes.len()) {
                Round::Storm(troubles) => self.storm(&troubles).await?,
                Round::Roll => self.roll().await?,
            }
            self.calm_down().await?;
            number += 1;
        }
        self.note(&format!("{number} rounds are over"));
        Ok(())
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
        let start = tokio::time::Instant::now();
        for (at, trouble, event) in events(troubles) {
            sleep_until(start + at).await;
            self.act(&troubles[trouble], event).await?;
        }
        let healed = Instant::now();
        self.until_all("to recover", all_ready).await?;
        self.slowest_recovery = self.slowest_recovery.max(healed.elapsed());
        // What was silent for a while may be given up yet.
        let silent = |trouble: &Trouble| matches!(trouble.fault, Fault::Pause | Fault::Lose { .. });
        let news_takes = match troubles.iter().any(silent) {
            true => KEEPALIVE + KEEPALIVE_TIMEOUT + Duration::from_millis(500),
            false => Duration::from_millis(500),
        };
        let mut watch = self.channel.watch_status();
        while timeout(news_takes, watch.wait_for(|status| !all_ready(status)))
            .await
            .is_ok()
        {
            self.until_all("to stay READY", all_ready).await?;
        }
        self.troubles.all_over();
        Ok(())
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
        let node = &mut self.nodes[trouble.backend];
        match (trouble.fault, event) {
            (Fault::Kill, Event::Begin) => node.kill().await?,
            (Fault::Kill, Event::End) => node.restart().await?,
            (Fault::Pause, Event::Begin) => node.pause(true)?,
            (Fault::Pause, Event::End) => node.pause(false)?,
            (Fault::Cut, Event::Begin) => node.cut(),
            (Fault::Lose { up, down }, Event::Begin) => node.lose(up, down),
            (Fault::Lose { .. }, Event::End) => node.lose(false, false),
            (Fault::Delay(delay), Event::Begin) => node.delay(delay),
            (Fault::Delay(_), Event::End) => node.delay(Duration::ZERO),
            (Fault::Flap, Event::Flip(serving)) => node.serve(serving).await?,
            (Fault::Flap, Event::End) => node.serve(true).await?,
            _ => {}
        }
        Ok(())
    }

    /// Each is stopped, started and READY again before the next.
    async fn roll(&mut self) -> Result<()> {
        for number in 0..self.nodes.len() {
            self.note(&format!(
                "backend {number}: stops gracefully, and starts again"
            ));
            let before = Instant::now();
            self.nodes[number].stop().await?;
            self.nodes[number].restart().await?;
            let is_back = |status: &ChannelStatus| {
                let backend = &status.backends()[number];
                backend.state() == Ready && backend.since() > before
            };
            self.until_all("to come back", is_back).await?;
        }
        Ok(())
    }

    async fn until_all(&self, what: &str, is_so: impl FnMut(&ChannelStatus) -> bool) -> Result<()> {
        let mut watch = self.channel.watch_status();
        if timeout(RECOVERY, watch.wait_for(is_so)).await.is_ok() {
            return Ok(());
        }
        let backends = self.channel.backends();
        let mut text = format!("waited {RECOVERY:?} for the backends {what}, in vain:");
        for backend in backends.iter() {
            text += &format!("\n  {backend}");
        }
        Err(text.into())
    }

    /// Nothing is left of the round.
    async fn calm_down(&mut self) -> Result<()> {
        match self.calm {
            None => {
                let tasks = self.on.metrics().num_alive_tasks();
                self.calm = Some(Calm {
                    tasks,
                    rss_kib: resident_kib(),
                });
            }
            Some(calm) => {
                let more = |tasks| format!("{tasks} tasks, {} after the first round", calm.tasks);
                until_tasks(&self.on, calm.tasks).await.map_err(more)?;
            }
        }
        Ok(())
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
    for _ in 0..100 {
        if on.metrics().num_alive_tasks() <= most {
            return Ok(());
        }
        // The end of a task is no event.
        sleep(Duration::from_millis(50)).await;
    }
    Err(on.metrics().num_alive_tasks())
}

async fn sample(
    samples: Arc<Mutex<Samples>>,
    load: Arc<Load>,
    channel: Channel,
    on: Handle,
    lasts: Duration,
) {
    let began = Instant::now();
    let mut ticks = interval(Duration::from_secs(1).max(lasts / 240));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let backends = channel.backends();
        let ready = backends.iter().filter(|b| b.state() == Ready).count();
        let tasks = on.metrics().num_alive_tasks();
        let mut samples = samples.lock().expect("nobody panics with the samples");
        load.notes(|notes| samples.take(began.elapsed(), notes, tasks, ready));
    }
}

/// What the backends have seen, against what the callers have.
fn of_ledgers(nodes: &[Node], notes: &Notes) -> Result<Vec<String>> {
    let mut times = vec![0_u8; notes.ends.len()];
    let mut places = HashMap::new();
    let failed: HashMap<_, _> = notes.failed.iter().copied().collect();
    let mut complaints = Vec::new();
    for (place, node) in nodes.iter().enumerate() {
        for number in fs::read(node.ledger())?.chunks_exact(8) {
            let number = u64::from_le_bytes(number.try_into()?);
            let number = usize::try_from(number)?;
            let times = times.get_mut(number);
            let times = times.ok_or_else(|| format!("backend {place} made up call {number}"))?;
            *times = times.saturating_add(1);
            if failed.contains_key(&number) {
                places.insert(number, place);
            }
        }
    }
    for (number, (end, times)) in notes.ends.iter().zip(times).enumerate() {
        match (end, times) {
            (Some(End::Answered), 1) | (Some(End::Failed), 0 | 1) => {}
            _ => complaints.push(format!("call {number}: {end:?}, processed {times} times")),
        }
    }
    for (number, place) in places {
        if failed[&number] & (1 << place) == 0 {
            complaints.push(format!(
                "call {number} failed at backend {place}, which had no trouble"
            ));
        }
    }
    complaints.truncate(20);
    Ok(complaints)
}
