//! The trace of a call that is under way. The code of the application behind it is contained.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use http::HeaderMap;
use tonic::Code;
use tracing::{debug, error};

use super::{
    AttemptHeaders, AttemptTrace, CallTrace, CallTracer,
    info::{AttemptInfo, CallInfo, MessageInfo, TraceStatus},
};
use crate::util::contained::{Contained, contained};

/// The target of what is logged here; see the crate's documentation.
const CHANNEL: &str = "tonic_health_channel::channel";

/// The trace of a call that is under way. Empty once it has ended, or has moved into the body of
/// the response. If it is dropped before, the call was cancelled.
#[derive(Default)]
pub(crate) struct TraceRecord(Option<OngoingTrace>);

struct OngoingTrace {
    call: Contained<Arc<dyn CallTrace>>,
    attempts: Begun,
    /// The one under way.
    attempt: Option<AttemptWitness>,
}

/// How many attempts of the call have begun, but for transparent retries.
enum Begun {
    /// 1 at a time.
    Call(u32),
    /// Beside each other: the record is of the call without them.
    Hedged(Arc<AtomicU32>),
    /// One of these.
    Hedge(Arc<AtomicU32>),
}

/// The trace of one attempt, told what becomes of it from several places.
#[derive(Clone)]
pub(crate) struct AttemptWitness {
    trace: Contained<Arc<dyn AttemptTrace>>,
    wants_messages: bool,
}

/// The trace of a call whose attempts are beside each other, as it is for one of these.
pub(crate) struct HedgeTraces {
    call: Contained<Arc<dyn CallTrace>>,
    begun: Arc<AtomicU32>,
}

impl TraceRecord {
    /// A call begins.
    pub(crate) fn begin(tracer: &dyn CallTracer, call: &CallInfo<'_>) -> Self {
        let started = told(|| tracer.start(call).map(Contained::new)).flatten();
        Self(started.map(|call| OngoingTrace {
            call,
            attempts: Begun::Call(0),
            attempt: None,
        }))
    }

    /// Whether the call is over, or traced elsewhere, or not at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The same record in another place.
    pub(crate) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// It has waited for a service config, which is there.
    pub(crate) fn on_resolved(&self) {
        if let Some(trace) = &self.0 {
            told(|| trace.call.resolution_delayed());
        }
    }

    /// An attempt begins.
    pub(crate) fn begin_attempt(&mut self, is_transparent: bool) {
        if let Some(trace) = &mut self.0 {
            trace.begin_attempt(is_transparent);
        }
    }

    /// The attempt under way.
    pub(crate) fn attempt(&self) -> Option<&AttemptWitness> {
        self.0.as_ref()?.attempt.as_ref()
    }

    /// The attempt under way ends, if there is one.
    pub(crate) fn end_attempt<'s>(&mut self, status: impl FnOnce() -> TraceStatus<'s>) {
        if let Some(trace) = &mut self.0
            && let Some(attempt) = trace.attempt.take()
        {
            attempt.end(&status());
        }
    }

    /// The call ends, and with it the attempt under way.
    pub(crate) fn end<'s>(&mut self, status: impl FnOnce() -> TraceStatus<'s>) {
        if let Some(trace) = self.0.take() {
            trace.end(&status());
        }
    }

    /// Its attempts are beside each other from now on. None if there is nothing to trace.
    pub(crate) fn hedges(&mut self) -> Option<HedgeTraces> {
        let trace = self.0.as_mut()?;
        let begun = Arc::<AtomicU32>::default();
        trace.attempts = Begun::Hedged(Arc::clone(&begun));
        Some(HedgeTraces {
            call: trace.call.clone(),
            begun,
        })
    }
}

/// The future or the body was dropped before the end.
impl Drop for TraceRecord {
    fn drop(&mut self) {
        self.end(|| TraceStatus::new(Code::Cancelled, "the caller has dropped the call"));
    }
}

impl OngoingTrace {
    fn begin_attempt(&mut self, is_transparent: bool) {
        let previous = self.attempts.begin(is_transparent);
        let info = AttemptInfo::new(previous, is_transparent);
        let call = Arc::clone(&self.call);
        let trace = told(|| Contained::new(call.attempt(info)));
        self.attempt = trace.map(|trace| AttemptWitness {
            wants_messages: told(|| trace.wants_messages()).unwrap_or(false),
            trace,
        });
    }

    fn end(mut self, status: &TraceStatus<'_>) {
        if let Some(attempt) = self.attempt.take() {
            attempt.end(status);
        }
        if !matches!(self.attempts, Begun::Hedge(_)) {
            told(|| self.call.ended(status));
        }
    }
}

impl Begun {
    /// Another one begins. How many there were before.
    fn begin(&mut self, is_transparent: bool) -> u32 {
        let new = u32::from(!is_transparent);
        let before = match self {
            Self::Call(begun) => {
                *begun += new;
                *begun - new
            }
            Self::Hedged(begun) | Self::Hedge(begun) => begun.fetch_add(new, Relaxed),
        };
        // That of which it is the transparent retry does not count.
        before.saturating_sub(u32::from(is_transparent))
    }
}

impl HedgeTraces {
    /// Of one attempt, which begins now.
    pub(crate) fn fork(&self) -> TraceRecord {
        TraceRecord(Some(OngoingTrace {
            call: self.call.clone(),
            attempts: Begun::Hedge(Arc::clone(&self.begun)),
            attempt: None,
        }))
    }
}

impl AttemptWitness {
    /// The attempt has waited for a backend, which it has.
    pub(crate) fn on_delayed_pick(&self) {
        told(|| self.trace.pick_delayed());
    }

    /// The headers go out to `backend`.
    pub(crate) fn on_headers(&self, backend: &str, headers: &mut HeaderMap) {
        told(|| {
            self.trace
                .sending(backend, &mut AttemptHeaders::new(headers));
        });
    }

    /// Whether messages are told.
    pub(crate) fn wants_messages(&self) -> bool {
        self.wants_messages
    }

    pub(crate) fn on_sent(&self, message: MessageInfo) {
        told(|| self.trace.sent(message));
    }

    pub(crate) fn on_received(&self, message: MessageInfo) {
        told(|| self.trace.received(message));
    }

    fn end(&self, status: &TraceStatus<'_>) {
        told(|| self.trace.ended(status));
    }
}

/// Calls the code of the application. A panic of it is logged.
fn told<T>(call: impl FnOnce() -> T) -> Option<T> {
    contained(call).map_err(|panic| tell(&panic)).ok()
}

/// The first one is an error. The next are many, and say the same.
#[cold]
fn tell(panic: &str) {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);

    let what = "the call tracer of the application panicked";
    // A subscriber is code of the application, too.
    let _ = contained(|| match IS_TOLD.swap(true, Relaxed) {
        false => error!(target: CHANNEL, panic, "{what}"),
        true => debug!(target: CHANNEL, panic, "{what}"),
    });
}
