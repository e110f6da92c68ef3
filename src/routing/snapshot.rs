//! What the balancer publishes: one value in two halves that share a
//! generation number.
//!
//! ```text
//!   Routing { picker, status }             for calls: in the ArcSwap only
//!   ChannelStatus { state, cause, backends }      for users: plain data, anywhere
//! ```
//!
//! [`Routing`] holds connections and lives only in the channel's `ArcSwap`, so
//! that a connection is pinned by nothing but the routing in force and the calls
//! on it. [`ChannelStatus`] is plain data: it is what users see, and what an error text
//! is made of.

use std::{
    fmt,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ejection::Ejection, picker::Picker, priority::PriorityStatus, retry_throttle::RetryThrottle,
};
use crate::{
    attributes::{Attributes, Locality},
    connectivity::ConnectivityState,
    error::{Cause, Origin},
    health::HealthStatus,
    service_config::ServiceConfig,
    transport::{BackendCalls, CallCounts, ConnectionGroup},
};

/// What a call needs: the picker, the rules, and the status they were made with.
#[derive(Debug)]
pub(crate) struct Routing {
    pub(crate) picker: Picker<ConnectionGroup>,
    /// The one in force; none before the first is known.
    pub(crate) config: Option<Arc<ServiceConfig>>,
    /// How long a call may wait for a backend.
    pub(crate) wait_timeout: Option<Duration>,
    /// Of retries and hedges, if the config has one.
    pub(crate) throttle: Option<Arc<RetryThrottle>>,
    pub(crate) status: Arc<ChannelStatus>,
}

/// The state of a channel and of every backend at one moment.
#[derive(Clone, Debug)]
pub struct ChannelStatus {
    pub(crate) generation: u64,
    pub(crate) state: ConnectivityState,
    pub(crate) cause: Option<Cause>,
    pub(crate) backends: Backends,
    pub(crate) priorities: Arc<[PriorityStatus]>,
}

/// The backends of a channel at one moment, in the order in which the source named them.
///
/// Cheap to clone, and a value: what becomes of a backend later does not change it. Each is an
/// `Arc`, to be kept by itself.
///
/// ```no_run
/// use tonic_health_channel::{Channel, ConnectivityState};
///
/// fn how_many_take_calls(channel: &Channel) -> usize {
///     let backends = channel.backends();
///     let ready = |state| state == ConnectivityState::Ready;
///     backends.iter().filter(|backend| ready(backend.state())).count()
/// }
///
/// fn print(channel: &Channel) {
///     for backend in channel.backends() {
///         println!("{backend}");
///     }
/// }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Backends(pub(super) Arc<[Arc<BackendStatus>]>);

/// Names one backend for as long as its source keeps it. A key that is removed
/// and inserted again is a new backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub(crate) u64);

/// Its number in the channel.
impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One backend at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendStatus {
    pub(crate) id: BackendId,
    pub(crate) label: Arc<str>,
    pub(crate) address: Arc<str>,
    pub(crate) state: ConnectivityState,
    pub(crate) health: HealthStatus,
    pub(crate) since: Instant,
    pub(crate) last_error: Option<(Cause, Instant)>,
    pub(crate) attempt: u32,
    pub(crate) next_attempt: Option<Instant>,
    pub(crate) connections: usize,
    pub(crate) calls: BackendCalls,
    pub(crate) ejection: Option<Arc<Ejection>>,
    /// It has something for calls, and they go there.
    pub(crate) takes_calls: bool,
    pub(crate) attributes: Arc<Attributes>,
}

/// How many backends an error text names before it only counts the rest. All of them are in
/// [`Channel::backends`](crate::Channel::backends).
const NAMED_IN_TEXT: usize = 3;

/// How many backends are looked at for that: an error is made for each call that fails.
const MAX_COMPARED: usize = 64;

impl ChannelStatus {
    /// Grows by one with every publication, so that two statuses of one channel
    /// can be ordered.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The state of the channel.
    pub fn state(&self) -> ConnectivityState {
        self.state
    }

    /// Why the channel as a whole has no backend to use, where that is not the
    /// doing of one backend: an empty set, or an error of the source.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Every backend, in the order in which the source named them.
    pub fn backends(&self) -> &Backends {
        &self.backends
    }

    /// The priorities that the source gives its backends, from the first on, and which share of
    /// the calls each has.
    ///
    /// Empty while priorities have no effect: each backend has priority 0, and the channel has
    /// neither a [`locality`](crate::ChannelBuilder::locality) nor a
    /// [`panic_threshold`](crate::ChannelBuilder::panic_threshold).
    pub fn priorities(&self) -> &[PriorityStatus] {
        &self.priorities
    }

    /// The attempts that are under way or waited for: to connect, or to learn the health
    /// on a new connection. Each is a backend with the number of failures before it.
    pub(crate) fn attempts(&self) -> Vec<(BackendId, u32)> {
        let attempts = self
            .backends
            .iter()
            .filter(|backend| backend.is_attempted());
        attempts
            .map(|backend| (backend.id, backend.attempt))
            .collect()
    }

    /// Whether the channel still fails, and one of these attempts is not over.
    pub(crate) fn makes_any_of(&self, attempts: &[(BackendId, u32)]) -> bool {
        self.state == ConnectivityState::TransientFailure
            && self.backends.iter().any(|backend| {
                let attempt = attempts.iter().find(|(id, _)| *id == backend.id);
                // On a connection that is up the failures of connecting do not count.
                let goes_on = |(_, failures): &(_, u32)| {
                    backend.attempt == *failures || backend.connections > 0
                };
                backend.is_attempted() && attempt.is_some_and(goes_on)
            })
    }

    /// Why no call can be sent, with the reasons of up to 3 backends, told as of
    /// `now`.
    pub(crate) fn explain(&self, now: Instant) -> String {
        let text = match self.state {
            ConnectivityState::Shutdown => "channel is closed",
            ConnectivityState::Ready => "no backend with a free stream",
            _ => "no healthy backend",
        };
        self.explained(text, false, now)
    }

    /// Why a call waits for one backend, though others are READY.
    pub(crate) fn explain_key(&self, now: Instant) -> String {
        let text = "the backend for the call's hash key is not READY";
        self.explained(text, true, now)
    }

    fn explained(&self, text: &'static str, skips_ready: bool, now: Instant) -> String {
        let status = self;
        Explained {
            status,
            text,
            skips_ready,
            now,
        }
        .to_string()
    }

    /// Some backends that stand for all: as far as there are, each has another reason.
    fn examples(&self, skips_ready: bool) -> Vec<&BackendStatus> {
        let backends = self.backends.iter().map(|backend| &**backend);
        let is_told =
            |backend: &&BackendStatus| !(skips_ready && backend.state == ConnectivityState::Ready);
        let backends = backends.filter(is_told).take(MAX_COMPARED);
        let mut rest: Vec<_> = backends.collect();
        let mut examples: Vec<&BackendStatus> = Vec::with_capacity(NAMED_IN_TEXT);
        while examples.len() < NAMED_IN_TEXT && !rest.is_empty() {
            let is_new = |backend: &&BackendStatus| {
                !examples
                    .iter()
                    .any(|told| told.reason() == backend.reason())
            };
            let next = rest.iter().position(is_new).unwrap_or(0);
            examples.push(rest.remove(next));
        }
        examples
    }

    /// The error of the transport behind that: of the first backend that has one.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        let failures = self.backends.iter().filter_map(|backend| backend.failure());
        failures.filter_map(Cause::origin).next()
    }
}

#[cfg(test)]
impl BackendStatus {
    /// A backend in this state since now, with nothing else to tell.
    pub(crate) fn in_state(id: u64, address: &str, state: ConnectivityState) -> Self {
        Self {
            id: BackendId(id),
            label: address.into(),
            address: address.into(),
            state,
            health: HealthStatus::NotChecked,
            since: Instant::now(),
            last_error: None,
            attempt: 0,
            next_attempt: None,
            connections: 0,
            calls: BackendCalls::default(),
            ejection: None,
            takes_calls: state == ConnectivityState::Ready,
            attributes: Arc::default(),
        }
    }
}

impl BackendStatus {
    /// Which backend this is about.
    pub fn id(&self) -> BackendId {
        self.id
    }

    /// The name its source gave it; its address where the source gave none.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Where it is: `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its state: that of its connection with its health, or TRANSIENT_FAILURE while it is
    /// [ejected](Self::ejection).
    pub fn state(&self) -> ConnectivityState {
        self.state
    }

    /// Whether calls go to it: in READY, and in any other state while it is connected and its
    /// priority is [in panic](PriorityStatus::is_in_panic).
    pub fn takes_calls(&self) -> bool {
        self.takes_calls
    }

    /// What is known of its health.
    pub fn health(&self) -> HealthStatus {
        self.health
    }

    /// When [`state`](Self::state) or [`health`](Self::health) last changed.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The last failure, and when it was noticed. It stays after recovery.
    pub fn last_error(&self) -> Option<(&Cause, Instant)> {
        self.last_error.as_ref().map(|(cause, at)| (cause, *at))
    }

    /// How many attempts in a row have failed: to connect, or, on a connection
    /// that is up, to learn the backend's health.
    pub fn failed_attempts(&self) -> u32 {
        self.attempt
    }

    /// How many connections for calls it has, whether calls may use them or not:
    /// none until it is connected, then up to as many as
    /// [`connections_per_backend`](crate::ChannelBuilder::connections_per_backend)
    /// says. One that a health check has to itself is not counted.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// How many calls are on it now, each until its response has ended: the number of
    /// the moment, not of this status. Calls that wait are on no backend yet.
    pub fn calls_in_flight(&self) -> usize {
        self.calls.in_flight()
    }

    /// How the calls on it ended, as numbers of the moment. Only if the channel
    /// [counts them](crate::ChannelBuilder::count_calls).
    pub fn calls(&self) -> Option<CallCounts> {
        self.calls.counts()
    }

    /// Why outlier detection keeps calls from it, while it does (gRFC A50).
    ///
    /// [`state`](Self::state) is then TRANSIENT_FAILURE, and [`last_error`](Self::last_error)
    /// names the ejection. Everything else is about the backend as it is: it may be connected, and
    /// its [`health`](Self::health) SERVING.
    pub fn ejection(&self) -> Option<&Ejection> {
        self.ejection.as_deref()
    }

    /// The weight that its source gives it; see
    /// [`Backend::weight`](crate::discover::Backend::weight).
    pub fn weight(&self) -> NonZeroU32 {
        self.attributes.weight
    }

    /// The priority that its source gives it; see
    /// [`Backend::priority`](crate::discover::Backend::priority).
    pub fn priority(&self) -> u32 {
        self.attributes.priority
    }

    /// Where it is, if its source says so.
    pub fn locality(&self) -> Option<&Locality> {
        self.attributes.locality.as_ref()
    }

    /// The text that stands for it where backends are hashed, if its source gives one: see
    /// [`Backend::hash_key`](crate::discover::Backend::hash_key).
    pub fn hash_key(&self) -> Option<&str> {
        self.attributes.hash_key.as_deref()
    }

    /// When the next attempt starts, while one is due.
    pub fn next_attempt(&self) -> Option<Instant> {
        self.next_attempt
    }
}

/// `10.0.0.1:50051 READY, health SERVING`, and with the reason if it cannot take
/// calls: `api-2 (10.0.0.2:50051) TRANSIENT_FAILURE, connect: connection refused
/// (attempt 3)`.
impl fmt::Display for BackendStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_name(f)?;
        write!(f, " {}", self.state)?;
        match (self.failure(), self.health) {
            (Some(cause), _) => write!(f, ", {cause}")?,
            (None, HealthStatus::NotChecked) => {}
            (None, health) => write!(f, ", health {health}")?,
        }
        match self.attempt {
            0 => Ok(()),
            n => write!(f, " (attempt {n})"),
        }
    }
}

/// `no healthy backend: 10.0.0.1:50051 health check: NOT_SERVING (12s);
/// 10.0.0.2:50051 connect: connection refused (attempt 3, next in 2.1s)`
struct Explained<'a> {
    status: &'a ChannelStatus,
    /// The text before the backends.
    text: &'static str,
    skips_ready: bool,
    now: Instant,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, now, .. } = self;
        f.write_str(self.text)?;
        let mut separator = ": ";
        if let Some(cause) = &status.cause {
            write!(f, "{separator}{cause}")?;
            separator = "; ";
        }
        for backend in status.examples(self.skips_ready) {
            f.write_str(separator)?;
            backend.write_explained(f, *now)?;
            separator = "; ";
        }
        if self.skips_ready {
            return Ok(());
        }
        match status.backends.len().saturating_sub(NAMED_IN_TEXT) {
            0 => Ok(()),
            1 => f.write_str("; and 1 more backend"),
            more => write!(f, "; and {more} more backends"),
        }
    }
}

impl BackendStatus {
    /// The text by which it is hashed.
    pub(crate) fn key(&self) -> &Arc<str> {
        let given = self.attributes.hash_key.as_ref();
        given.unwrap_or(&self.address)
    }

    /// `10.0.0.1:50051`, or `api-1 (10.0.0.1:50051)` if its source gave a name.
    fn write_name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)?;
        if self.label != self.address {
            write!(f, " ({})", self.address)?;
        }
        Ok(())
    }

    /// The backend's part of [`Explained`].
    fn write_explained(&self, f: &mut fmt::Formatter<'_>, now: Instant) -> fmt::Result {
        self.write_name(f)?;
        match (self.failure(), self.state, self.health) {
            (Some(cause), _, _) => write!(f, " {cause}")?,
            // Connected, and in need of another remedy than what is out of reach.
            (None, ConnectivityState::Connecting, HealthStatus::Pending) => {
                f.write_str(" CONNECTING, health check: no answer yet")?;
            }
            (None, state, _) => write!(f, " {state}")?,
        }
        match (self.attempt, self.next_attempt) {
            (0, _) => write!(f, " ({})", age(now.saturating_duration_since(self.since))),
            (n, Some(at)) if at > now => {
                let wait = (at - now).as_secs_f64();
                write!(f, " (attempt {n}, next in {wait:.1}s)")
            }
            (n, _) => write!(f, " (attempt {n}, trying again)"),
        }
    }

    /// Whether an attempt is under way or waited for that may end its failure.
    fn is_attempted(&self) -> bool {
        // An ejection lasts, however an attempt ends.
        self.state == ConnectivityState::TransientFailure
            && self.ejection.is_none()
            && (self.connections == 0 || self.health == HealthStatus::Pending)
    }

    /// What tells backends apart that cannot take calls: not how long, nor how often.
    fn reason(&self) -> (Option<&str>, ConnectivityState, HealthStatus) {
        (self.failure().map(Cause::text), self.state, self.health)
    }

    /// Why it cannot take calls now: not an error that it has recovered from.
    fn failure(&self) -> Option<&Cause> {
        let (cause, _) = self.last_error()?;
        (self.state == ConnectivityState::TransientFailure).then_some(cause)
    }
}

/// In one unit, rounded down: `12s`, `5m`, `3h`, `2d`.
fn age(duration: Duration) -> String {
    match duration.as_secs() {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3_600 => format!("{}m", s / 60),
        s @ 3_600..86_400 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}
