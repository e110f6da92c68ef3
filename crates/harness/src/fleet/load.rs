//! Calls without a pause, each with a number, and what becomes of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tonic::{Code, Request, Status};
use tonic_health_channel::{
    Channel, ConnectivityState::Ready, WaitForReady, status::ChannelStatus,
};

use super::greeter::{HelloRequest, greeter_client::GreeterClient};

/// The deadline of nearly all calls: far more than one takes on a machine that is
/// busy with something else.
const DEADLINE: Duration = Duration::from_secs(3);
/// That of a few, so that deadlines pass at a backend that is silent.
const HASTY: Duration = Duration::from_millis(300);
/// How long after its deadline a call counts as stuck.
const SLACK: Duration = Duration::from_secs(3);

/// Why a call may have failed, as many as are told apart.
const REASONS: usize = 40;

/// What the schedule does at the moment, as calls are judged by it.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Grows before each that begins.
    begun: AtomicU64,
    /// The backends that have some: one bit each.
    mask: AtomicU64,
}

impl Troubles {
    pub fn begin(&self, backend: usize) {
        self.mask.fetch_or(1 << backend, SeqCst);
        self.begun.fetch_add(1, SeqCst);
    }

    /// All is well, and has been for long enough to be sure.
    pub fn all_over(&self) {
        self.mask.store(0, SeqCst);
    }
}

/// How a call ended, one byte for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Answered,
    Failed,
}

#[derive(Debug)]
pub struct Load {
    troubles: Arc<Troubles>,
    stop: AtomicBool,
    callers: Mutex<Vec<JoinHandle<()>>>,
    notes: Mutex<Notes>,
}

/// What has been seen.
#[derive(Debug)]
pub struct Notes {
    /// By the number of the call; none while it goes on.
    pub ends: Vec<Option<End>>,
    /// Calls that failed although they had time, and the backends that may have caused
    /// it: one bit each.
    pub failed: Vec<(usize, u64)>,
    pub reasons: BTreeMap<String, u64>,
    /// Of the calls that were answered since somebody looked, in microseconds.
    pub took: Histogram<u64>,
    /// Calls for which a backend was READY that had no trouble, and none that had any.
    pub protected: u64,
    pub complaints: Vec<String>,
}

impl Load {
    /// So many callers, who make `rate` calls a second together.
    pub fn start(
        on: &Handle,
        channel: &Channel,
        troubles: Arc<Troubles>,
        callers: u32,
        rate: u32,
    ) -> Arc<Self> {
        let load = Arc::new(Self {
            troubles,
            stop: AtomicBool::new(false),
            callers: Mutex::default(),
            notes: Mutex::new(Notes {
                ends: Vec::new(),
                failed: Vec::new(),
                reasons: BTreeMap::new(),
                took: Histogram::new_with_bounds(1, 60_000_000, 3).expect("good bounds"),
                protected: 0,
                complaints: Vec::new(),
            }),
        });
        let every = Duration::from_secs(1) * callers / rate;
        let tasks = (0..callers).map(|caller| {
            let calls = load.clone().call_on(channel.clone(), caller, every);
            on.spawn(calls)
        });
        let tasks = tasks.collect();
        *load.callers.lock().expect("nobody panics with it") = tasks;
        load
    }

    /// No call is left, and no handle of the channel.
    pub async fn end(&self) {
        self.stop.store(true, SeqCst);
        let callers = std::mem::take(&mut *self.callers.lock().expect("nobody panics with it"));
        for caller in callers {
            caller.await.expect("a caller does not panic");
        }
    }

    pub fn notes<T>(&self, look: impl FnOnce(&mut Notes) -> T) -> T {
        look(&mut self.notes.lock().expect("nobody panics with the notes"))
    }

    async fn call_on(self: Arc<Self>, channel: Channel, caller: u32, every: Duration) {
        // Spread over the interval, so that the load is even.
        let start = Instant::now() + every * (caller % 32) / 32;
        let mut ticks = interval_at(start, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.stop.load(SeqCst) {
            ticks.tick().await;
            self.call(&channel, caller % 8 == 7, caller % 2 == 1).await;
        }
    }

    async fn call(&self, channel: &Channel, hasty: bool, patient: bool) {
        let number = self.notes(|notes| {
            notes.ends.push(None);
            notes.ends.len() - 1
        });
        let begun = self.troubles.begun.load(SeqCst);
        let mask = self.troubles.mask.load(SeqCst);
        let status = channel.status();
        let deadline = if hasty { HASTY } else { DEADLINE };
        let mut request = Request::new(HelloRequest {
            name: number.to_string(),
            count: 0,
        });
        request.set_timeout(deadline);
        request.extensions_mut().insert(WaitForReady(patient));
        let mut client = GreeterClient::new(channel.clone());
        let at = Instant::now();
        let outcome = timeout(deadline + SLACK, client.say_hello(request)).await;
        let took = at.elapsed();
        let no_news = self.troubles.begun.load(SeqCst) == begun;
        let blamed = mask | self.troubles.mask.load(SeqCst);
        let is_protected = no_news && is_protected(&status, mask);
        self.notes(|notes| {
            notes.protected += u64::from(is_protected);
            let end = match &outcome {
                Ok(Ok(reply)) => {
                    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                    notes.took.saturating_record(micros);
                    let reply = &reply.get_ref().message;
                    if *reply != number.to_string() {
                        notes.complain(format!("call {number} was answered {reply:?}"));
                    }
                    End::Answered
                }
                Ok(Err(status)) => {
                    notes.count_failure(number, status);
                    let is_late = hasty && is_timeout(status);
                    if !is_late {
                        notes.failed.push((number, blamed));
                    }
                    if is_protected && !is_late {
                        notes.complain(format!(
                            "call {number} failed after {took:?}, though no backend of its time \
                             was in trouble: {status:?}"
                        ));
                    }
                    End::Failed
                }
                Err(_) => {
                    notes.complain(format!("call {number} hangs {SLACK:?} past its deadline"));
                    End::Failed
                }
            };
            notes.ends[number] = Some(end);
        });
    }
}

/// Whether the channel knew of every trouble, and of a backend without any.
fn is_protected(status: &ChannelStatus, mask: u64) -> bool {
    let in_trouble = |backend: usize| mask & (1 << backend) != 0;
    let backends = status.backends().iter().map(|backend| backend.state());
    let mut ready = backends
        .enumerate()
        .filter(|(_, state)| *state == Ready)
        .peekable();
    ready.peek().is_some() && ready.all(|(backend, _)| !in_trouble(backend))
}

/// Both sides keep the deadline; tonic's server calls it CANCELLED.
fn is_timeout(status: &Status) -> bool {
    match status.code() {
        Code::DeadlineExceeded => true,
        Code::Cancelled => status.message() == "Timeout expired",
        _ => false,
    }
}

impl Notes {
    pub fn complain(&mut self, complaint: String) {
        // The first tell what went wrong.
        if self.complaints.len() < 20 {
            self.complaints.push(complaint);
        }
    }

    /// The numbers of the calls that failed.
    pub fn failures(&self) -> Vec<usize> {
        let ends = self.ends.iter().enumerate();
        let failed = ends.filter(|(_, end)| **end == Some(End::Failed));
        failed.map(|(number, _)| number).collect()
    }

    fn count_failure(&mut self, number: usize, status: &Status) {
        let names_its_reason = status.code() == Code::Unavailable && !status.message().is_empty();
        if !names_its_reason && !is_timeout(status) {
            self.complain(format!(
                "call {number} failed without a good reason: {status:?}"
            ));
        }
        let mut reason = format!("{:?}: {}", status.code(), pattern(status.message()));
        if self.reasons.len() >= REASONS && !self.reasons.contains_key(&reason) {
            reason = "others".to_owned();
        }
        *self.reasons.entry(reason).or_default() += 1;
    }
}

/// The text without its numbers, and not all of it.
fn pattern(text: &str) -> String {
    let mut pattern = String::new();
    for letter in text.chars().take(160) {
        match letter {
            '0'..='9' if pattern.ends_with('#') => {}
            '0'..='9' => pattern.push('#'),
            other => pattern.push(other),
        }
    }
    pattern.replace("#.#.#.#:#", "<backend>")
}
