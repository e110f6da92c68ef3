//! The rules of one subchannel, without any IO.
//!
//! ```text
//!            ┌──────────────── lost ───────────────────┐
//!            ▼                                         │
//! start ─► Connecting ──── connected ────────────► Connected { health }
//!          ▲   │     ▲                                 │
//!          │   │     └── HeldBack ◄── lost too soon ───┘
//!          │   └─ failed ─► Backoff
//!          └── later, reset, ─┘
//!              hurried
//! ```
//!
//! Where the channel wants to rest once a connection is lost ([`Control::rests_when_lost`]),
//! HeldBack lasts until it wants something else.
//!
//! The connection takes no input from health, so health never causes a
//! reconnect; [`effective`] joins the two. Whether health is checked, and of which
//! service, may change at any time ([`Control`]). Over both lies one memory: the
//! failure being recovered from. While there is one the report says
//! TRANSIENT_FAILURE, through every attempt, until READY (gRFC A62), so that calls
//! fail at once for as long as it lasts and do not wait during each attempt.
//!
//! All of that is about the first connection. A backend may have more for its calls,
//! which are dialled beside it ([`ExtraConnections`]); they decide nothing, until one of them
//! takes the place of a first one that is lost.

use std::{
    mem,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use super::extra_connections::ExtraConnections;
use crate::{
    connectivity::ConnectivityState,
    error::Cause,
    health::{Action, Ended, HealthOptions, HealthStatus, Watch, effective},
    transport::Silence,
    util::backoff::{Backoff, BackoffConfig, next_start},
};

/// One backend's connections and its health.
#[derive(Debug)]
pub(crate) struct Subchannel {
    raw: Raw,
    /// The failure being recovered from: it came with TRANSIENT_FAILURE and goes
    /// with READY.
    failure: Option<Cause>,
    /// Why the last connection ended, until the next is READY. No failure: calls
    /// wait.
    lost: Option<Cause>,
    /// While all connections for calls are silent.
    silence: Option<Silence>,
    backoff: Backoff,
    config: Config,
    control: Control,
    /// Seeds the backoffs of what begins with each connection.
    rng: fastrand::Rng,
}

/// The connection. Health exists only while it is up.
#[derive(Debug)]
enum Raw {
    /// A dial runs.
    Connecting { started: Instant },
    /// Lost so soon after it was dialled that the next dial has to wait, or to be
    /// wanted first: then it `rests`.
    HeldBack { at: Instant, rests: bool },
    /// The last dial, of `started`, failed; the next one starts then.
    Backoff { started: Instant, at: Instant },
    Connected {
        health: Option<Box<Watch>>,
        extras: Box<ExtraConnections>,
    },
}

/// What does not change while a subchannel lives.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) backoff: BackoffConfig,
    /// How health is checked, where [`Control`] has it checked.
    pub(crate) health: Arc<HealthOptions>,
    /// How many connections calls are to have, the first among them.
    pub(crate) connections: NonZeroUsize,
    pub(crate) seed: u64,
}

/// What may change while a subchannel lives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Control {
    pub(crate) health: HealthCheck,
    /// A count. When it has grown, the connection backoff begins anew, and a dial
    /// that waits for it starts at once.
    pub(crate) backoff_resets: u64,
    /// A count. When it has grown, a dial that waits for the backoff starts as soon as
    /// dials may follow each other. The backoff goes on from there.
    pub(crate) hurries: u64,
    /// A connection that is lost is not dialled again: the channel goes IDLE for it.
    pub(crate) rests_when_lost: bool,
}

/// Whether health is checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HealthCheck {
    /// The service config asks for none.
    Off,
    /// The service config asks for it, and the channel does not do it, by an
    /// option or because of its policy. `Off`, but said so.
    Disabled,
    /// It is, of this service.
    Of(Arc<str>),
}

/// What to do now. Between a dial and its outcome there is no other of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(crate) struct Effects {
    /// Start to connect.
    pub(crate) dial: bool,
    /// Dial one connection more.
    pub(crate) dial_extra: bool,
    /// Let go of the connections, and of a dial for one more. Calls on them end by
    /// themselves.
    pub(crate) drop_connections: bool,
    /// To do on the first connection's health RPC. Never together with `dial` but for
    /// its `stop`.
    pub(crate) health: Action,
}

/// What a subchannel tells the balancer: always the whole state, never a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) state: ConnectivityState,
    pub(crate) health: HealthStatus,
    /// Why, in TRANSIENT_FAILURE; in CONNECTING, what ended the last connection.
    pub(crate) cause: Option<Cause>,
    /// Failures in a row, of the connection or else of the health check.
    pub(crate) attempt: u32,
    pub(crate) next_attempt: Option<Instant>,
    /// How many connections calls can have, whenever they may use them.
    pub(crate) connections: usize,
    /// It is READY, and sends nothing.
    pub(crate) silence: Option<Silence>,
}

impl Subchannel {
    /// Dials at once, or at this time, if it is still to come.
    pub(crate) fn start(
        now: Instant,
        not_before: Option<Instant>,
        config: Config,
        control: Control,
    ) -> (Self, Effects) {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let mut subchannel = Self {
            raw: Raw::Connecting { started: now },
            failure: None,
            lost: None,
            silence: None,
            backoff: Backoff::new(config.backoff.clone(), rng.u64(..)),
            config,
            control,
            rng,
        };
        let at = not_before.unwrap_or(now);
        let effects = subchannel.dial_or_wait(now, at, Raw::HeldBack { at, rests: false });
        (subchannel, effects)
    }

    /// The dial succeeded: the server's SETTINGS are here, which is what resets
    /// the connection backoff. Health, if it is checked, is asked at once.
    pub(crate) fn on_connected(&mut self, now: Instant) -> Effects {
        match self.raw {
            Raw::Connecting { started } => {
                self.backoff.reset();
                let (health, action) = self.start_health(now);
                let backoff = Backoff::new(self.config.backoff.clone(), self.rng.u64(..));
                let extra = self.config.connections.get() - 1;
                self.raw = Raw::Connected {
                    health,
                    extras: Box::new(ExtraConnections::start(extra, started, backoff)),
                };
                self.remember_failure();
                Effects::health(action)
            }
            Raw::HeldBack { .. } | Raw::Backoff { .. } | Raw::Connected { .. } => {
                Effects::default()
            }
        }
    }

    /// The dial failed.
    pub(crate) fn on_dial_failed(&mut self, now: Instant, cause: Cause) -> Effects {
        match self.raw {
            Raw::Connecting { started } => {
                self.failure = Some(cause);
                let at = self.backoff.next_start(now, started);
                self.dial_or_wait(now, at, Raw::Backoff { started, at })
            }
            Raw::HeldBack { .. } | Raw::Backoff { .. } | Raw::Connected { .. } => {
                Effects::default()
            }
        }
    }

    /// The connection ended, or the server said that it will (GOAWAY), and no other
    /// can take its place.
    ///
    /// That is IDLE, which `round_robin` leaves at once by connecting again: a
    /// backend that was fine is CONNECTING, where calls wait, and not failed.
    /// Only a server that hangs up right after it accepted is held off a little.
    /// With `pick_first` it stays so until the balancer is done with this subchannel.
    pub(crate) fn on_disconnected(&mut self, now: Instant, cause: Cause) -> Effects {
        let (dialled, health) = match &mut self.raw {
            Raw::Connected { health, extras } => (extras.dialled(), health.take()),
            Raw::Connecting { .. } | Raw::HeldBack { .. } | Raw::Backoff { .. } => {
                return Effects::default();
            }
        };
        self.lost = Some(cause);
        self.silence = None;
        let at = next_start(now, dialled, Duration::ZERO);
        let rests = self.control.rests_when_lost;
        let dial = match rests {
            true => {
                self.raw = Raw::HeldBack { at, rests };
                Effects::default()
            }
            false => self.dial_or_wait(now, at, Raw::HeldBack { at, rests }),
        };
        Effects {
            drop_connections: true,
            health: health.map(|watch| watch.end()).unwrap_or_default(),
            ..dial
        }
    }

    /// The first connection ended, or will, and an extra one has taken its place.
    ///
    /// Nothing was lost of what calls go by. It is the same backend, so what is known
    /// of its health stays until there is news, which is asked for on the new first
    /// connection at once.
    pub(crate) fn on_replaced(&mut self, now: Instant) -> Effects {
        self.with_extras(ExtraConnections::on_lost);
        self.with_health(|watch| watch.renew(now))
    }

    /// The dial of an extra connection succeeded.
    pub(crate) fn on_extra_joined(&mut self) {
        self.with_extras(ExtraConnections::on_joined);
    }

    /// The dial of an extra connection failed.
    pub(crate) fn on_extra_failed(&mut self) {
        self.with_extras(ExtraConnections::on_failed);
    }

    /// An extra connection ended, or the server said that it will.
    pub(crate) fn on_extra_lost(&mut self) {
        self.with_extras(ExtraConnections::on_lost);
    }

    /// All connections for calls are silent from now on, or no longer. Neither is lost for that.
    pub(crate) fn on_silence(&mut self, silence: Option<Silence>) {
        match self.raw {
            Raw::Connected { .. } => self.silence = silence,
            Raw::Connecting { .. } | Raw::HeldBack { .. } | Raw::Backoff { .. } => {}
        }
    }

    /// See [`Watch::on_response`].
    pub(crate) fn on_health_response(&mut self, now: Instant, status: i32) -> Effects {
        self.with_health(|watch| watch.on_response(now, status))
    }

    /// See [`Watch::on_ended`].
    pub(crate) fn on_health_ended(&mut self, now: Instant, ended: Ended) -> Effects {
        self.with_health(|watch| watch.on_ended(now, ended))
    }

    /// See [`Watch::on_checked`].
    pub(crate) fn on_checked(&mut self, now: Instant, result: Result<i32, Ended>) -> Effects {
        self.with_health(|watch| watch.on_checked(now, result))
    }

    /// From now on this holds. Only what is different has an effect.
    pub(crate) fn on_control(&mut self, now: Instant, control: Control) -> Effects {
        let old = mem::replace(&mut self.control, control);
        let health = match old.health == self.control.health {
            true => Action::default(),
            false => self.change_health(now),
        };
        if let Raw::HeldBack { rests, .. } = &mut self.raw {
            *rests &= self.control.rests_when_lost;
        }
        let dial = if self.control.backoff_resets > old.backoff_resets {
            self.reset_backoff(now)
        } else if self.control.hurries > old.hurries {
            self.hurry(now)
        } else {
            Effects::default()
        };
        Effects { health, ..dial }
    }

    /// When [`on_deadline`](Self::on_deadline) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.raw {
            Raw::Connecting { .. } => None,
            Raw::HeldBack { rests: true, .. } => None,
            Raw::HeldBack { at, .. } | Raw::Backoff { at, .. } => Some(*at),
            Raw::Connected { health, extras } => {
                let health = health.as_deref().and_then(Watch::deadline);
                [health, extras.deadline()].into_iter().flatten().min()
            }
        }
    }

    /// Whether the [`deadline`](Self::deadline) is that of an answer from the peer.
    pub(crate) fn awaits_answer(&self) -> bool {
        match &self.raw {
            Raw::Connected { health, .. } => {
                let answer = health.as_deref().and_then(Watch::answer_deadline);
                answer.is_some() && answer == self.deadline()
            }
            Raw::Connecting { .. } | Raw::HeldBack { .. } | Raw::Backoff { .. } => false,
        }
    }

    /// Time has passed. Before the deadline, or without one, nothing happens.
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Effects {
        match self.raw {
            Raw::HeldBack { at, rests: false } | Raw::Backoff { at, .. } if at <= now => {
                self.dial(now)
            }
            Raw::Connected { ref mut extras, .. } => Effects {
                dial_extra: extras.on_deadline(now),
                ..self.with_health(|watch| watch.on_deadline(now))
            },
            Raw::Connecting { .. } | Raw::HeldBack { .. } | Raw::Backoff { .. } => {
                Effects::default()
            }
        }
    }

    pub(crate) fn report(&self) -> Report {
        let watch = self.raw.health();
        let (attempt, next_attempt) = match &self.raw {
            Raw::Connecting { .. } => (self.backoff.failures(), None),
            Raw::HeldBack { at, .. } | Raw::Backoff { at, .. } => {
                (self.backoff.failures(), Some(*at))
            }
            Raw::Connected { .. } => (
                watch.map_or(0, Watch::failures),
                watch.and_then(Watch::next_attempt),
            ),
        };
        let state = match &self.failure {
            Some(_) => ConnectivityState::TransientFailure,
            None => effective(self.raw.state(), watch),
        };
        let is_ready = state == ConnectivityState::Ready;
        Report {
            state,
            silence: self.silence.clone().filter(|_| is_ready),
            health: match (watch, &self.control.health) {
                (Some(watch), _) => watch.status(),
                (None, HealthCheck::Disabled) => HealthStatus::Disabled,
                (None, HealthCheck::Off | HealthCheck::Of(_)) => HealthStatus::NotChecked,
            },
            cause: self.failure.as_ref().or(self.lost.as_ref()).cloned(),
            attempt,
            next_attempt,
            connections: match &self.raw {
                Raw::Connecting { .. } | Raw::HeldBack { .. } | Raw::Backoff { .. } => 0,
                Raw::Connected { extras, .. } => 1 + extras.up(),
            },
        }
    }

    /// The service whose health is asked for while connected, if health is checked.
    pub(crate) fn service(&self) -> Option<&Arc<str>> {
        self.control.health.service()
    }

    fn dial(&mut self, now: Instant) -> Effects {
        self.raw = Raw::Connecting { started: now };
        Effects {
            dial: true,
            ..Effects::default()
        }
    }

    fn dial_or_wait(&mut self, now: Instant, at: Instant, waiting: Raw) -> Effects {
        if at <= now {
            return self.dial(now);
        }
        self.raw = waiting;
        Effects::default()
    }

    fn start_health(&mut self, now: Instant) -> (Option<Box<Watch>>, Action) {
        if self.service().is_none() {
            return (None, Action::default());
        }
        let (watch, action) = Watch::start(now, Arc::clone(&self.config.health), self.rng.u64(..));
        (Some(Box::new(watch)), action)
    }

    /// A connection that is up has its health asked in the new way at once. What
    /// calls went by stays until there is news, except that nothing but the
    /// connection counts where health is not checked any more.
    fn change_health(&mut self, now: Instant) -> Action {
        let on = self.service().is_some();
        let Raw::Connected { health, .. } = &mut self.raw else {
            return Action::default();
        };
        let action = match (on, health.take()) {
            (true, Some(mut watch)) => {
                let action = watch.renew(now);
                *health = Some(watch);
                action
            }
            (true, None) => {
                let options = Arc::clone(&self.config.health);
                let (watch, action) = Watch::start_on_ready(now, options, self.rng.u64(..));
                *health = Some(Box::new(watch));
                action
            }
            (false, Some(watch)) => watch.end(),
            (false, None) => Action::default(),
        };
        self.remember_failure();
        action
    }

    /// Whoever asks for it decides how often is too often.
    fn reset_backoff(&mut self, now: Instant) -> Effects {
        self.backoff.reset();
        match &mut self.raw {
            Raw::HeldBack { rests: false, .. } | Raw::Backoff { .. } => self.dial(now),
            Raw::Connecting { .. } | Raw::HeldBack { rests: true, .. } => Effects::default(),
            Raw::Connected { extras, .. } => Effects {
                dial_extra: extras.reset_backoff(now),
                ..Effects::default()
            },
        }
    }

    /// The next attempt is wanted now, and not when the backoff is over.
    fn hurry(&mut self, now: Instant) -> Effects {
        match self.raw {
            Raw::Backoff { started, at } => {
                let at = next_start(now, started, Duration::ZERO).min(at);
                self.dial_or_wait(now, at, Raw::Backoff { started, at })
            }
            Raw::Connecting { .. } | Raw::HeldBack { .. } | Raw::Connected { .. } => {
                Effects::default()
            }
        }
    }

    fn with_extras(&mut self, input: impl FnOnce(&mut ExtraConnections)) {
        match &mut self.raw {
            Raw::Connected { extras, .. } => input(extras),
            Raw::Connecting { .. } | Raw::HeldBack { .. } | Raw::Backoff { .. } => {}
        }
    }

    fn with_health(&mut self, input: impl FnOnce(&mut Watch) -> Action) -> Effects {
        let action = match &mut self.raw {
            Raw::Connected {
                health: Some(watch),
                ..
            } => input(watch),
            Raw::Connected { health: None, .. }
            | Raw::Connecting { .. }
            | Raw::HeldBack { .. }
            | Raw::Backoff { .. } => Action::default(),
        };
        self.remember_failure();
        Effects::health(action)
    }

    /// gRFC A62: TRANSIENT_FAILURE lasts until READY. Whatever lies between the
    /// two leaves the memory as it is.
    fn remember_failure(&mut self) {
        let watch = self.raw.health();
        match effective(self.raw.state(), watch) {
            ConnectivityState::Ready => {
                self.failure = None;
                self.lost = None;
            }
            ConnectivityState::TransientFailure => {
                if let Some(cause) = watch.and_then(Watch::cause) {
                    self.failure = Some(cause.clone());
                }
            }
            ConnectivityState::Idle
            | ConnectivityState::Connecting
            | ConnectivityState::Shutdown => {}
        }
    }
}

impl Raw {
    fn state(&self) -> ConnectivityState {
        match self {
            Self::Connecting { .. } | Self::HeldBack { .. } => ConnectivityState::Connecting,
            Self::Backoff { .. } => ConnectivityState::TransientFailure,
            Self::Connected { .. } => ConnectivityState::Ready,
        }
    }

    fn health(&self) -> Option<&Watch> {
        match self {
            Self::Connected { health, .. } => health.as_deref(),
            Self::Connecting { .. } | Self::HeldBack { .. } | Self::Backoff { .. } => None,
        }
    }
}

impl HealthCheck {
    fn service(&self) -> Option<&Arc<str>> {
        match self {
            Self::Of(service) => Some(service),
            Self::Off | Self::Disabled => None,
        }
    }
}

impl Effects {
    fn health(action: Action) -> Self {
        Self {
            health: action,
            ..Self::default()
        }
    }
}
