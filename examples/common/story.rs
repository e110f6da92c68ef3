//! Tells a demonstration on stdout as it happens, and checks what it tells.
//!
//! ```text
//! 2. A says NOT_SERVING: …                                step
//!    0.55s  A READY → TRANSIENT_FAILURE, …                until…: every change
//!           the channel knew 1.4 ms after A was told      note
//!    1.08s  A   0           B 100 ██████████   failed 0   a sample of calls
//!           A  127.0.0.1:…  TRANSIENT_FAILURE …           the backends after it
//! ```
//!
//! No call is lost sight of: whatever ends while the story waits for something
//! belongs to its step, and is there when the step is checked.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic_health_channel::{
    ConnectivityState,
    status::{BackendStatus, Backends, ChannelStatus, StatusWatch},
};

use super::{
    Result,
    report::{self, Paint, short},
    traffic::{Ended, Tally, Traffic},
};

/// How many calls are counted to show who answers.
const SAMPLE: usize = 100;
/// How many are enough to show that all fail.
const SMALL_SAMPLE: usize = 20;
/// How far an even split may be off: a sample may begin and end mid-turn.
const UNEVEN: usize = 2;
/// A call that fails at once takes no longer, even on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(250);
/// How long anything may take before the story gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The width of the bar of a backend that answers everything.
const BAR: usize = 20;

#[derive(Debug)]
pub(crate) struct Story {
    start: Instant,
    paint: Paint,
    steps: usize,
    /// What people call the backends, in the order of their source.
    names: [&'static str; 2],
    watch: StatusWatch,
    told: Option<Arc<ChannelStatus>>,
    traffic: Traffic,
    /// The calls that ended in this step.
    ended: Vec<Ended>,
    total: Tally,
    /// How many calls of all were in flight on a backend that went away.
    lost: usize,
}

impl Story {
    pub(crate) fn new(names: [&'static str; 2], watch: StatusWatch, traffic: Traffic) -> Self {
        Self {
            start: Instant::now(),
            paint: Paint::stdout(),
            steps: 0,
            names,
            watch,
            told: None,
            traffic,
            ended: Vec::new(),
            total: Tally::default(),
            lost: 0,
        }
    }

    pub(crate) fn step(&mut self, title: &str) {
        self.steps += 1;
        self.ended.clear();
        let title = format!("{}. {title}", self.steps);
        println!("\n{}", self.paint.bold(&title));
    }

    pub(crate) fn note(&self, line: impl AsRef<str>) {
        println!("          {}", line.as_ref());
    }

    pub(crate) fn end(&self) {
        let Tally { answered, failed } = &self.total;
        let answered: Vec<_> = answered
            .iter()
            .map(|(who, n)| format!("{who} {n}"))
            .collect();
        println!();
        println!(
            "{} calls: {} answered; {} refused while no backend was healthy; {} lost in flight.",
            self.total.total(),
            answered.join(" and "),
            failed - self.lost,
            self.lost
        );
        let took = short(self.start.elapsed());
        let held = format!("All {} steps held. That took {took}.", self.steps);
        println!("{}", self.paint.green(&held));
    }

    /// Awaits the states of both backends, and tells every change on the way.
    /// Returns when they were seen.
    pub(crate) async fn until_states(&mut self, states: [ConnectivityState; 2]) -> Result<Instant> {
        let [a, b] = self.names;
        let what = format!("{a} to be {} and {b} to be {}", states[0], states[1]);
        let reached = |backends: &Backends| {
            let now = backends.iter().map(|backend| backend.state());
            now.eq(states)
        };
        self.until(&what, reached).await
    }

    /// The same for any condition on the backends.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        condition: impl Fn(&Backends) -> bool,
    ) -> Result<Instant> {
        within(what, async {
            loop {
                self.tell_changes();
                let told = self.told.as_deref().map(ChannelStatus::backends);
                if told.is_some_and(&condition) {
                    return Instant::now();
                }
                self.next().await;
            }
        })
        .await
    }

    /// A sample of calls, of which every backend has the same share.
    pub(crate) async fn shared_evenly(&mut self) -> Result<()> {
        let tally = self.sample(SAMPLE).await?;
        let [a, b] = self.names.map(|name| tally.answered_by(name));
        check(a.abs_diff(b) <= UNEVEN, || format!("not even: {tally}"))
    }

    /// A sample of calls that one backend answers.
    pub(crate) async fn all_answered_by(&mut self, name: &str) -> Result<()> {
        let tally = self.sample(SAMPLE).await?;
        let all = tally.answered_by(name) == tally.total();
        check(all, || format!("not all answered by {name}: {tally}"))
    }

    /// A sample of calls that all fail without waiting. Prints what one says.
    pub(crate) async fn all_fail_at_once(&mut self) -> Result<()> {
        let since = Instant::now();
        self.sample(SMALL_SAMPLE).await?;
        let sample = || self.ended.iter().filter(|ended| ended.began >= since);
        for ended in sample() {
            let refused = ended.failed_with(Code::Unavailable, "no healthy backend");
            check(refused, || format!("not refused: {ended}"))?;
            check(ended.took < AT_ONCE, || format!("not at once: {ended}"))?;
        }
        let slowest = sample().map(|ended| ended.took).max();
        self.note(format!(
            "none took longer than {}:",
            short(slowest.unwrap_or_default())
        ));
        if let Some(last) = sample().next_back() {
            self.note(self.paint.red(&last.error()));
        }
        Ok(())
    }

    pub(crate) fn nothing_failed(&self) -> Result<()> {
        self.nothing_failed_that_began_after(self.start)
    }

    pub(crate) fn nothing_failed_that_began_after(&self, then: Instant) -> Result<()> {
        match self.failures().find(|ended| ended.began > then) {
            None => Ok(()),
            Some(ended) => Err(format!("a call failed in this step: {ended}").into()),
        }
    }

    /// Failures of this step are calls that began before `gone` and whose text
    /// names `address`.
    pub(crate) fn only_failed_in_flight(&mut self, address: &str, gone: Instant) -> Result<()> {
        for ended in self.failures() {
            let in_flight = ended.began < gone && ended.failed_with(Code::Unavailable, address);
            check(in_flight, || format!("not in flight on {address}: {ended}"))?;
        }
        match self.failures().count() {
            0 => self.note("no call was in flight on it"),
            count => self.note(format!("calls that were in flight on it: {count}")),
        }
        if let Some(ended) = self.failures().next() {
            self.note(self.paint.red(&ended.error()));
        }
        self.lost += self.failures().count();
        Ok(())
    }

    /// Every backend, as it was told last.
    pub(crate) fn backends(&self) {
        let Some(told) = &self.told else { return };
        for line in report::table(told, &|b| self.name(told, b)) {
            self.note(self.paint.dim(&line));
        }
    }

    fn failures(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter().filter(|ended| ended.outcome.is_err())
    }

    /// How the next `n` calls end that begin from now on, told in bars.
    async fn sample(&mut self, n: usize) -> Result<Tally> {
        let since = Instant::now();
        let mut tally = Tally::default();
        let counted = async {
            while tally.total() < n {
                self.tell_changes();
                if let Some(ended) = self.next().await
                    && ended.began >= since
                {
                    tally.count(ended);
                }
            }
        };
        within("calls to end", counted).await?;
        self.tell_changes();
        self.tell_tally(&tally);
        Ok(tally)
    }

    /// The next call to end, unless the channel's status changes first.
    async fn next(&mut self) -> Option<&Ended> {
        tokio::select! {
            biased;
            Some(_) = self.watch.changed() => None,
            ended = self.traffic.next() => {
                self.total.count(&ended);
                self.ended.push(ended);
                self.ended.last()
            }
        }
    }

    fn tell_changes(&mut self) {
        let status = self.watch.status();
        for line in report::changes(self.told.as_deref(), &status, &|b| self.name(&status, b)) {
            println!("{}  {line}", self.time());
        }
        self.told = Some(status);
    }

    fn tell_tally(&self, tally: &Tally) {
        let bars = self.names.map(|name| {
            let count = tally.answered_by(name);
            let bar = "█".repeat((count * BAR).div_ceil(tally.total()));
            format!(
                "{name} {count:>3} {}",
                self.paint.green(&format!("{bar:<BAR$}"))
            )
        });
        let failed = format!("failed {}", tally.failed);
        let failed = match tally.failed {
            0 => failed,
            _ => self.paint.red(&failed),
        };
        println!("{}  {}   {}   {failed}", self.time(), bars[0], bars[1]);
    }

    /// What people call a backend of `status`.
    fn name(&self, status: &ChannelStatus, backend: &BackendStatus) -> String {
        let mut named = status.backends().iter().zip(self.names);
        match named.find(|(other, _)| other.id() == backend.id()) {
            Some((_, name)) => name.to_owned(),
            None => backend.label().to_owned(),
        }
    }

    fn time(&self) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        self.paint.dim(&format!("{seconds:>7.2}s"))
    }
}

/// What `future` comes to, unless it takes too long.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> Result<F::Output> {
    let outcome = timeout(PATIENCE, future).await;
    outcome.map_err(|_| format!("waited {PATIENCE:?} for {what}, in vain").into())
}

pub(crate) fn check(holds: bool, complaint: impl FnOnce() -> String) -> Result<()> {
    match holds {
        true => Ok(()),
        false => Err(complaint().into()),
    }
}
