//! The rules of the balancer, without any IO: which subchannels there are, which
//! one a backend shows, and what all of them amount to.
//!
//! ```text
//!            insert                    another endpoint while READY
//!   (none) ────────► current          ─────────────────────────────► current + pending
//!                    │    ▲  another endpoint while not READY:          │
//!                    └────┘  the new one is current, the old stops      │
//!                         ▲                                             │
//!                         └─────────────────────────────────────────────┘
//!                           pending READY or failed, or current no longer READY:
//!                           pending is current, the old stops
//! ```
//!
//! A backend whose endpoint changes is replaced make-before-break, and the old
//! subchannel is worth keeping for one reason only, that calls can go to it: so
//! there is a pending one only while the current one is READY. gRPC decides the
//! same way when one balancing policy replaces another.
//!
//! Nothing is started in IDLE, nor before it is known how: a service config has
//! to be in force.
//!
//! Inputs change the balancer and say what to start and stop; what calls and
//! users see is made apart, by [`Balancer::publication`]. A task that takes
//! several inputs before it publishes shows nothing of what was between them.

use std::{
    collections::BTreeMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    backend::{Backend, Named, Reported, RunningSubchannels, initial_report},
    effects::{Effects, Start, SubchannelId},
    levels::{LevelSettings, Levels},
    outliers::Outliers,
    policy::Policy,
    subset::Subset,
};
use crate::{
    attributes::Attributes,
    connectivity::ConnectivityState::{self, Connecting, Idle, Ready, Shutdown, TransientFailure},
    error::{Cause, CauseKind},
    routing::{
        BackendId, BackendStatus, Backends, ChannelStatus, Choice, Cursor, PickHalf, Picker,
        PriorityStatus,
    },
    subchannel::Report,
    transport::{BackendCalls, Outcomes, Recorded},
};

/// How long a set that was emptied may be filled again before calls fail: a source that
/// takes its only backend back and names another has two changes to make.
const EMPTY_GRACE: Duration = Duration::from_millis(100);

/// All backends of a channel. `E` is an endpoint, `C` what one has for calls: handles to
/// its connections.
#[derive(Debug)]
pub(crate) struct Balancer<E, C> {
    pub(super) phase: ChannelPhase,
    pub(super) policy: Policy,
    /// The policy sees these backends alone. None if it sees all.
    pub(super) subset: Option<Subset>,
    config: Config,
    source: SourceState,
    /// The last error of the source, until it names a backend or removes one.
    source_error: Option<Cause>,
    /// How long the source may name nothing, and nothing fails for that.
    first_backends_timeout: Option<Duration>,
    /// While the channel waits for that.
    pub(super) silent_until: Option<Instant>,
    /// It has waited in vain, since it was last IDLE.
    pub(super) is_overdue: bool,
    /// While the set is empty, was not, and may soon be filled again.
    pub(super) emptied_until: Option<Instant>,
    /// Whether the application asks how calls end.
    counts_calls: bool,
    /// The policy has backends ejected that do worse than the others.
    pub(super) outliers: Option<Outliers>,
    pub(super) levels: Levels,
    /// By id, which is the order in which the source named them: ids grow.
    pub(super) backends: BTreeMap<BackendId, Backend<E, C>>,
    pub(super) running: RunningSubchannels,
    /// The policy's last word: every backend runs, and one that is named does so at once.
    pub(super) runs_all: bool,
}

/// What calls and users see, at one moment.
#[derive(Debug)]
pub(crate) struct Publication<C> {
    pub(crate) state: ConnectivityState,
    pub(crate) cause: Option<Cause>,
    /// In the order of the source. A backend that did not change since the last
    /// publication is the same `Arc`.
    pub(crate) backends: Arc<[Arc<BackendStatus>]>,
    /// What those that take calls have for them, in the same order.
    /// They are the READY ones, and in panic others.
    pub(crate) ready: Vec<C>,
    pub(crate) priorities: Arc<[PriorityStatus]>,
    /// The same of the silent ones, for probes.
    pub(crate) silent: Vec<C>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelPhase {
    /// Nothing runs until somebody wants to connect.
    Idle,
    Active,
    /// For good.
    Closed,
}

/// Whether it is known how to use the backends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Config {
    Awaited,
    /// The first one is invalid, and there is none to fall back on (gRFC A21).
    Rejected(Cause),
    InForce,
}

/// What the source of backends has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceState {
    Silent,
    Heard,
    Ended { heard: bool },
}

impl<E: Clone + PartialEq, C: Clone + PartialEq> Balancer<E, C> {
    /// With `started` false it is IDLE, and starts nothing until
    /// [`on_connect`](Self::on_connect); without a config in force nothing until
    /// [`on_config`](Self::on_config).
    pub(crate) fn new(started: bool, configured: bool) -> Self {
        Self {
            phase: if started {
                ChannelPhase::Active
            } else {
                ChannelPhase::Idle
            },
            policy: Policy::new(),
            subset: None,
            config: match configured {
                true => Config::InForce,
                false => Config::Awaited,
            },
            source: SourceState::Silent,
            source_error: None,
            first_backends_timeout: None,
            silent_until: None,
            is_overdue: false,
            emptied_until: None,
            counts_calls: false,
            outliers: None,
            levels: Levels::new(LevelSettings::default(), 0),
            backends: BTreeMap::new(),
            running: RunningSubchannels::default(),
            runs_all: false,
        }
    }

    /// The source has `timeout` to name a backend or to fail, from now on or from when the
    /// channel leaves IDLE. Then calls fail, until it does.
    pub(crate) fn expect_backends_within(&mut self, now: Instant, timeout: Option<Duration>) {
        self.first_backends_timeout = timeout;
        self.expect_backends(now);
    }

    /// Whether backends count how calls end, for the application.
    pub(crate) fn count_calls(&mut self, counts: bool) {
        self.counts_calls = counts;
        self.record();
    }

    /// The outcomes of calls are for the application and for outlier detection.
    fn recorded(&self) -> Recorded {
        let outliers = Recorded::OUTLIERS.when(self.outliers.is_some());
        Recorded::COUNTS.when(self.counts_calls).and(outliers)
    }

    /// Has backends record what is asked for now.
    pub(super) fn record(&self) {
        for backend in self.backends.values() {
            backend.status.calls.set_recorded(self.recorded());
        }
    }

    fn expect_backends(&mut self, now: Instant) {
        let is_awaited = self.phase == ChannelPhase::Active && self.source == SourceState::Silent;
        let timeout = self.first_backends_timeout.filter(|_| is_awaited);
        self.is_overdue = false;
        self.silent_until = timeout.and_then(|timeout| now.checked_add(timeout));
    }

    /// The endpoint of every backend, as the source wants it.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &E> {
        self.backends.values().map(Backend::wanted)
    }

    /// The source names a backend, or names it again: then only what is different means
    /// anything. Another endpoint is another connection, and other attributes are not.
    pub(crate) fn on_insert(
        &mut self,
        now: Instant,
        id: BackendId,
        label: Arc<str>,
        address: Arc<str>,
        endpoint: E,
        attributes: Attributes,
    ) -> Effects<E> {
        if self.phase == ChannelPhase::Closed {
            return Effects::none();
        }
        let mut effects = Effects::changed(self.mark_source_healthy());
        if let Some(backend) = self.backends.get_mut(&id) {
            self.levels.remove(&backend.status.attributes);
            self.levels.add(&attributes);
            effects.changed |= backend.set_attributes(&attributes);
        }
        match self.backends.get_mut(&id) {
            Some(backend) if *backend.wanted() == endpoint => return effects,
            // The source is back at what is in use: forget the replacement.
            Some(backend) if backend.current.endpoint == endpoint => {
                let pending = backend.pending.take();
                effects
                    .stop
                    .extend(pending.and_then(|p| self.running.stop(p.subchannel.id)));
                return effects;
            }
            Some(_) | None => {}
        }
        let starts = self.starts(id);
        let subchannel = self.running.create(address, endpoint);
        let report = initial_report(starts);
        let Some(backend) = self.backends.get_mut(&id) else {
            let calls = BackendCalls::new(self.recorded());
            calls.set_load_rules(self.policy.load_rules().cloned());
            let named = Named {
                id,
                label,
                attributes,
            };
            self.levels.add(&named.attributes);
            let backend = Backend::new(now, named, subchannel, report, calls);
            if starts {
                let start = self.running.start(&backend, &backend.current);
                effects.start.push(start);
                if let Some(outliers) = &mut self.outliers {
                    outliers.begin(id, Outcomes::default());
                }
            }
            self.backends.insert(id, backend);
            self.emptied_until = None;
            effects.changed = true;
            return effects;
        };
        let shown = backend.replace(now, subchannel, report);
        if starts {
            let start = self.running.start(backend, backend.newest());
            effects.start.push(start);
        }
        self.take_shown(id, shown, &mut effects);
        effects
    }

    /// The source takes a backend back. Calls in flight on it are not ours.
    pub(crate) fn on_remove(&mut self, now: Instant, id: BackendId) -> Effects<E> {
        if self.phase == ChannelPhase::Closed {
            return Effects::none();
        }
        let mut effects = Effects::changed(self.mark_source_healthy());
        if let Some(backend) = self.backends.remove(&id) {
            effects.changed = true;
            self.levels.remove(&backend.status.attributes);
            if let Some(outliers) = &mut self.outliers {
                outliers.forget(id);
            }
            if self.backends.is_empty() {
                self.emptied_until = Some(now + EMPTY_GRACE);
            }
            let pending = backend.pending.map(|pending| pending.subchannel.id);
            for id in [Some(backend.current.id), pending].into_iter().flatten() {
                effects.stop.extend(self.running.stop(id));
            }
        }
        effects
    }

    /// The source reports that it cannot do its work now. Its backends stay.
    pub(crate) fn on_discovery_error(&mut self, text: impl Into<Arc<str>>) -> Effects<E> {
        if self.phase == ChannelPhase::Closed {
            return Effects::none();
        }
        let before = (self.state(), self.cause());
        self.source_error = Some(Cause::new(CauseKind::NameResolver, text));
        Effects::changed((self.state(), self.cause()) != before)
    }

    /// The source will say nothing more. Its backends stay.
    pub(crate) fn on_discovery_end(&mut self) -> Effects<E> {
        if self.phase == ChannelPhase::Closed {
            return Effects::none();
        }
        let before = (self.state(), self.cause());
        // Nothing can fill the set again.
        self.emptied_until = None;
        self.source = match self.source {
            SourceState::Silent => SourceState::Ended { heard: false },
            SourceState::Heard => SourceState::Ended { heard: true },
            ended @ SourceState::Ended { .. } => ended,
        };
        Effects::changed((self.state(), self.cause()) != before)
    }

    /// Somebody wants to connect: leaves IDLE.
    pub(crate) fn on_connect(&mut self, now: Instant) -> Effects<E> {
        if self.phase != ChannelPhase::Idle {
            return Effects::none();
        }
        let before = self.state();
        self.phase = ChannelPhase::Active;
        self.expect_backends(now);
        if let Some(outliers) = &mut self.outliers {
            outliers.restart(now);
        }
        self.policy.begin(now);
        let mut effects = self.run_by_policy(now);
        effects.changed |= self.state() != before;
        effects
    }

    /// Nobody has needed the channel for a while, or somebody says so: lets go of
    /// every subchannel. The backends stay, for [`on_connect`](Self::on_connect).
    /// Calls in flight on them are not ours.
    pub(crate) fn on_idle(&mut self, now: Instant) -> Effects<E> {
        if self.phase != ChannelPhase::Active {
            return Effects::none();
        }
        let before = self.state();
        self.phase = ChannelPhase::Idle;
        self.runs_all = false;
        self.expect_backends(now);
        if let Some(outliers) = &mut self.outliers {
            outliers.restart(now);
        }
        let mut effects = Effects::changed(before != Idle);
        for backend in self.backends.values_mut() {
            let outgoing = backend.go_idle(&mut self.running);
            effects.stop.extend(outgoing);
            effects.changed |= backend.reset_status(now, false);
        }
        effects
    }

    /// A service config is in force, for the first time or again.
    pub(crate) fn on_config(&mut self, now: Instant) -> Effects<E> {
        if self.phase == ChannelPhase::Closed || self.config == Config::InForce {
            return Effects::none();
        }
        let before = (self.state(), self.cause());
        self.config = Config::InForce;
        let mut effects = self.run_by_policy(now);
        effects.changed |= (self.state(), self.cause()) != before;
        effects
    }

    /// The first service config is invalid. Later ones do not matter here: what
    /// is in force stays in force.
    pub(crate) fn on_config_rejected(&mut self, cause: Cause) -> Effects<E> {
        let rejected = Config::Rejected(cause);
        let is_late = self.phase == ChannelPhase::Closed || self.config == Config::InForce;
        if is_late || self.config == rejected {
            return Effects::none();
        }
        self.config = rejected;
        Effects::changed(true)
    }

    /// A subchannel says how it is. `connection` comes with READY. What one says
    /// that has been stopped meanwhile is not heard.
    pub(crate) fn on_report(
        &mut self,
        now: Instant,
        from: SubchannelId,
        mut report: Report,
        connection: Option<C>,
    ) -> Effects<E> {
        let mut effects = Effects::none();
        let Some(id) = self.running.owners.get(&from).copied() else {
            return effects;
        };
        let Some(backend) = self.backends.get_mut(&id) else {
            return effects;
        };
        if report.state == Ready && connection.is_none() {
            debug_assert!(false, "READY comes with a connection");
            report.state = Connecting;
        }
        // One that nobody stopped cannot be in SHUTDOWN, which does not count.
        if report.state != Shutdown {
            let shown = backend.on_report(now, from, Reported { report, connection });
            self.take_shown(id, shown, &mut effects);
        }
        effects
    }

    /// What a subchannel is started with again, if it is still to run: its task has ended,
    /// and nothing asked it to.
    pub(crate) fn start_again(&mut self, id: SubchannelId) -> Option<Start<E>> {
        let backend = self.backends.get(self.running.owners.get(&id)?)?;
        let pending = backend.pending.as_ref().map(|pending| &pending.subchannel);
        let mut all = [Some(&backend.current), pending].into_iter().flatten();
        let subchannel = all.find(|subchannel| subchannel.id == id)?;
        Some(self.running.start(backend, subchannel))
    }

    /// The subchannels that are to run.
    pub(crate) fn running(&self) -> impl Iterator<Item = SubchannelId> {
        self.running.owners.keys().copied()
    }

    /// Closes the channel for good: no input means anything after this one.
    pub(crate) fn on_shutdown(&mut self) -> Effects<E> {
        let mut effects = Effects::changed(self.phase != ChannelPhase::Closed);
        self.phase = ChannelPhase::Closed;
        self.source_error = None;
        self.silent_until = None;
        self.emptied_until = None;
        self.outliers = None;
        self.levels.share(None);
        self.backends.clear();
        effects.stop = mem::take(&mut self.running.owners).into_keys().collect();
        effects
    }

    /// A picker over the backends that are READY now, if the channel is.
    pub(crate) fn picker(&mut self, now: Instant, cursor: &Arc<Cursor>) -> Option<Picker<C>> {
        (self.state() == Ready).then(|| {
            let (ready, silent) = (self.ready().collect(), self.silent().collect());
            Picker::ready(ready, self.choice(now, cursor), silent)
        })
    }

    fn ready(&self) -> impl Iterator<Item = C> {
        self.backends.values().filter_map(|b| b.connection.clone())
    }

    fn silent(&self) -> impl Iterator<Item = C> {
        let backends = self.backends.values();
        backends.filter_map(|backend| backend.probed().cloned())
    }

    /// What calls and users are to see from now on.
    pub(crate) fn publication(&self) -> Publication<C> {
        let backends: Arc<[_]> = self.backends.values().map(|b| b.status.clone()).collect();
        Publication {
            state: self.state(),
            cause: self.cause(),
            backends,
            ready: self.ready().collect(),
            priorities: self.priorities(),
            silent: self.silent().collect(),
        }
    }

    pub(crate) fn state(&self) -> ConnectivityState {
        match (self.phase, &self.config) {
            (ChannelPhase::Closed, _) => return Shutdown,
            (ChannelPhase::Idle, _) => return Idle,
            (ChannelPhase::Active, Config::Awaited) => return Connecting,
            (ChannelPhase::Active, Config::Rejected(_)) => return TransientFailure,
            (ChannelPhase::Active, Config::InForce) => {}
        }
        match (self.source, &self.source_error) {
            _ if self.emptied_until.is_some() => Connecting,
            (SourceState::Silent, None) if !self.is_overdue => Connecting,
            _ => self.aggregate(),
        }
    }

    /// Whether subchannels may run.
    pub(super) fn runs(&self) -> bool {
        self.phase == ChannelPhase::Active && self.config == Config::InForce
    }

    /// Why the channel, or its set of backends, is not what it should be.
    fn cause(&self) -> Option<Cause> {
        if let (Config::Rejected(cause), false) = (&self.config, self.phase == ChannelPhase::Closed)
        {
            return Some(cause.clone());
        }
        if self.source_error.is_some() {
            return self.source_error.clone();
        }
        if self.emptied_until.is_some()
            || !self.backends.is_empty()
            || self.phase == ChannelPhase::Closed
        {
            return None;
        }
        let text = match self.source {
            SourceState::Silent if self.is_overdue => {
                let timeout = self.first_backends_timeout.unwrap_or_default();
                let text =
                    format!("no backends yet: the source produced no addresses within {timeout:?}");
                return Some(Cause::new(CauseKind::NoBackends, text));
            }
            SourceState::Silent => return None,
            SourceState::Heard => "no backends: the source produced zero addresses",
            SourceState::Ended { heard: true } => {
                "no backends: the source removed all of them and ended"
            }
            SourceState::Ended { heard: false } => {
                "no backends: the source produced zero addresses and ended"
            }
        };
        Some(Cause::new(CauseKind::NoBackends, text))
    }

    /// Takes note that the source is well. Whether that can be seen.
    fn mark_source_healthy(&mut self) -> bool {
        let before = self.cause();
        self.source_error = None;
        self.silent_until = None;
        self.source = match self.source {
            SourceState::Silent | SourceState::Heard => SourceState::Heard,
            SourceState::Ended { .. } => SourceState::Ended { heard: true },
        };
        self.cause() != before
    }
}

impl<C> Publication<C> {
    /// Its two halves: what users see, and what calls use.
    pub(crate) fn split(self, generation: u64, choice: Choice) -> (ChannelStatus, Picker<C>) {
        let picker = match self.state {
            Ready => Picker::ready(self.ready, choice, self.silent),
            Connecting => Picker::Connecting,
            Idle => Picker::Idle,
            TransientFailure if choice.may_wait() => Picker::Connecting,
            TransientFailure => Picker::failing(self.silent),
            Shutdown => Picker::Shutdown,
        };
        let status = ChannelStatus {
            generation,
            state: self.state,
            cause: self.cause,
            backends: Backends::new(self.backends),
            priorities: self.priorities,
        };
        (status, picker)
    }
}
