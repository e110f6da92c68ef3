//! The metrics of one backend's connections and health RPCs: of each dial, each TLS handshake,
//! each connection that is up, and each RPC.

use std::{
    mem,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{instruments as all, names, recorder::Recorder};
use crate::{
    error::Cause,
    util::{clock::now, lock::lock},
};

/// The reason of a connection that we let go (gRFC A94).
const SHUTDOWN: &str = "subchannel shutdown";

/// Records what becomes of a backend, if its channel has metrics.
///
/// Each clone is for another connection. It records the end of that connection once, and when it
/// is dropped at the latest.
#[derive(Default)]
pub(crate) struct BackendMeter {
    of: Option<Of>,
    connection: Mutex<ConnectionState>,
    /// Handshakes that were dropped before their end.
    #[cfg(feature = "_tls-any")]
    unfinished: std::sync::atomic::AtomicU64,
}

#[derive(Clone)]
struct Of {
    recorder: Arc<Recorder>,
    backend: Arc<str>,
}

/// How far the connection is.
#[derive(Clone, Copy, Default)]
enum ConnectionState {
    /// It is not the outcome of its dial yet, and may never be.
    #[default]
    New,
    Up {
        is_secure: bool,
    },
    /// It ended before it was the outcome of its dial.
    EndedEarly {
        error: &'static str,
    },
    Over,
}

impl BackendMeter {
    pub(crate) fn new(recorder: Option<&Arc<Recorder>>, backend: &Arc<str>) -> Self {
        let of = recorder.map(|recorder| Of {
            recorder: Arc::clone(recorder),
            backend: Arc::clone(backend),
        });
        Self::with(of)
    }

    fn with(of: Option<Of>) -> Self {
        let mut meter = Self::default();
        meter.of = of;
        meter
    }

    /// The connection is the outcome of its dial.
    pub(crate) fn on_dialled(&self, is_secure: bool) {
        let Some(Of { recorder, .. }) = &self.of else {
            return;
        };
        recorder.add(&all::ATTEMPTS_SUCCEEDED, &[]);
        let mut state = lock(&self.connection);
        match *state {
            ConnectionState::New => {
                *state = ConnectionState::Up { is_secure };
                self.shift_open(is_secure, 1);
            }
            ConnectionState::EndedEarly { error } => {
                *state = ConnectionState::Over;
                self.shift_open(is_secure, 1);
                self.end_open(is_secure, error);
            }
            ConnectionState::Up { .. } | ConnectionState::Over => {}
        }
    }

    /// A dial has failed. A dial that was given up has not.
    pub(crate) fn on_dial_failed(&self) {
        if let Some(Of { recorder, .. }) = &self.of {
            recorder.add(&all::ATTEMPTS_FAILED, &[]);
        }
    }

    /// The connection takes no new streams any more, for this reason if there is one. The first
    /// reason counts (gRFC A94).
    pub(crate) fn on_ended(&self, why: Option<&Cause>) {
        if self.of.is_some()
            && let Some(why) = why
        {
            self.end(why.disconnect_error());
        }
    }

    fn end(&self, error: &'static str) {
        let mut state = lock(&self.connection);
        match *state {
            ConnectionState::New => *state = ConnectionState::EndedEarly { error },
            ConnectionState::Up { is_secure } => {
                *state = ConnectionState::Over;
                self.end_open(is_secure, error);
            }
            ConnectionState::EndedEarly { .. } | ConnectionState::Over => {}
        }
    }

    fn end_open(&self, is_secure: bool, error: &'static str) {
        self.shift_open(is_secure, -1);
        if let Some(Of { recorder, .. }) = &self.of {
            let labels = [(names::DISCONNECT_ERROR, error)];
            recorder.add(&all::DISCONNECTIONS, &labels);
        }
    }

    fn shift_open(&self, is_secure: bool, by: i64) {
        let level = match is_secure {
            true => "privacy_and_integrity",
            false => "none",
        };
        if let Some(Of { recorder, .. }) = &self.of {
            let labels = [(names::SECURITY_LEVEL, level)];
            recorder.shift(&all::OPEN_CONNECTIONS, &labels, by);
        }
    }

    /// A health RPC has been started.
    pub(crate) fn on_health_rpc(&self, rpc: &'static str) {
        if let Some(Of { recorder, backend }) = &self.of {
            let labels = [(names::RPC, rpc), (names::BACKEND, &**backend)];
            recorder.add(&all::HEALTH_WATCHES, &labels);
        }
    }

    /// It has ended for this reason, which is not a decision of ours.
    pub(crate) fn on_health_rpc_failed(&self, rpc: &'static str, reason: &'static str) {
        if let Some(Of { recorder, backend }) = &self.of {
            let labels = [
                (names::RPC, rpc),
                (names::REASON, reason),
                (names::BACKEND, &**backend),
            ];
            recorder.add(&all::WATCH_FAILURES, &labels);
        }
    }

    /// The first answer about health on a connection, so long after it was up.
    pub(crate) fn on_first_answer(&self, health: &'static str, after: Duration) {
        if let Some(Of { recorder, backend }) = &self.of {
            let labels = [(names::HEALTH, health), (names::BACKEND, &**backend)];
            let after = after.as_secs_f64();
            recorder.record(&all::TIME_TO_FIRST_ANSWER, &labels, after);
        }
    }

    /// The time, if it is recorded how long something takes.
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.of.as_ref().map(|_| now())
    }
}

/// For another connection of the same backend.
impl Clone for BackendMeter {
    fn clone(&self) -> Self {
        Self::with(self.of.clone())
    }
}

/// The last handle of the connection is gone, and nothing has ended it.
impl Drop for BackendMeter {
    fn drop(&mut self) {
        let state = self.connection.get_mut();
        let state = mem::take(state.unwrap_or_else(std::sync::PoisonError::into_inner));
        if let ConnectionState::Up { is_secure } = state {
            self.end_open(is_secure, SHUTDOWN);
        }
    }
}

#[cfg(feature = "_tls-any")]
mod handshakes {
    use std::sync::atomic::Ordering::Relaxed;

    use super::{BackendMeter, Of, all, names};

    /// A TLS handshake that is under way.
    pub(crate) struct HandshakeRecord<'a>(Option<&'a BackendMeter>);

    impl BackendMeter {
        pub(crate) fn begin_handshake(&self) -> HandshakeRecord<'_> {
            HandshakeRecord(Some(self))
        }

        /// The time for the dial is over, and with it for each of its handshakes.
        pub(crate) fn on_dial_timeout(&self) {
            for _ in 0..self.unfinished.swap(0, Relaxed) {
                self.end_handshake("HANDSHAKE_TIMEOUT", "");
            }
        }

        fn end_handshake(&self, result: &'static str, resumed: &'static str) {
            if let Some(Of { recorder, .. }) = &self.of {
                let labels = [
                    (names::HANDSHAKE_RESULT, result),
                    (names::HANDSHAKE_RESUMED, resumed),
                ];
                recorder.add(&all::TLS_HANDSHAKES, &labels);
            }
        }
    }

    impl HandshakeRecord<'_> {
        /// It ends with this result of gRFC A118. `resumed` is empty where it has failed.
        pub(crate) fn end(mut self, result: &'static str, resumed: &'static str) {
            if let Some(meter) = self.0.take() {
                meter.end_handshake(result, resumed);
            }
        }
    }

    impl Drop for HandshakeRecord<'_> {
        fn drop(&mut self) {
            if let Some(meter) = self.0.take() {
                meter.unfinished.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(feature = "_tls-any")]
pub(crate) use handshakes::HandshakeRecord;
