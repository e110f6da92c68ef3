//! The series of calls, resolved once for each method and status.
//!
//! ```text
//!   request ── GrpcMethod, or its path ──► PerMethod ── custom label ──► MethodMeter ── status ──► series
//! ```
//!
//! A call looks up by the addresses of its [`GrpcMethod`], which are those of constants in
//! generated code. Several addresses of one name share the series.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
};

use arc_swap::ArcSwap;
use http::Extensions;
use tonic::{Code, GrpcMethod};

use super::{
    instruments as all, names,
    recorder::{Count, Level, Recorder, Spread},
    settings::CustomLabel,
};
use crate::{
    error::CODES,
    util::{contained::contained, lock::lock},
};

/// How many methods of a channel are told apart, and how many custom labels of a method.
const MAX_METHODS: usize = 1_000;

/// How many places in generated code may name them.
const MAX_PLACES: usize = 4 * MAX_METHODS;

/// The value of further ones.
const OTHER: &str = "other";

/// The series of a channel's calls.
pub(crate) struct CallMeters {
    recorder: Arc<Recorder>,
    known: ArcSwap<Known>,
    /// All methods by their text. Locked to add one.
    methods: Mutex<HashMap<Arc<str>, Arc<PerMethod>>>,
    other: Arc<PerMethod>,
    has_custom: bool,
    waits: Arc<WaitSeries>,
}

/// The series of calls that wait.
pub(super) struct WaitSeries {
    recorder: Arc<Recorder>,
    pub(super) waiting: Level,
    durations: [OnceLock<Spread>; 4],
}

/// The methods that were called.
#[derive(Clone, Default)]
struct Known {
    by_place: HashMap<[usize; 4], Arc<PerMethod>>,
    by_path: HashMap<Arc<str>, Arc<PerMethod>>,
}

struct PerMethod {
    method: Arc<str>,
    /// Without a custom label, or where none is asked for.
    plain: Arc<MethodMeter>,
    custom: ArcSwap<HashMap<Arc<str>, Arc<MethodMeter>>>,
}

/// The series of calls with the same labels but for their status.
pub(super) struct MethodMeter {
    recorder: Arc<Recorder>,
    pub(super) waits: Arc<WaitSeries>,
    method: Arc<str>,
    custom: Arc<str>,
    started: Count,
    attempts: [OnceLock<AttemptSeries>; CODES.len()],
    calls: [OnceLock<Spread>; CODES.len()],
    policy: OnceLock<PolicySeries>,
}

/// The series of attempts that end with one status.
pub(super) struct AttemptSeries {
    pub(super) duration: Spread,
    pub(super) sent: Spread,
    pub(super) received: Spread,
}

/// The series of calls that have more than 1 attempt.
pub(super) struct PolicySeries {
    pub(super) retries: Spread,
    pub(super) transparent_retries: Spread,
    pub(super) hedges: Spread,
    pub(super) retry_delay: Spread,
}

/// How a call's wait for a backend ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitOutcome {
    Sent,
    Expired,
    Failed,
    Cancelled,
}

impl CallMeters {
    pub(crate) fn new(recorder: &Arc<Recorder>) -> Arc<Self> {
        let waits = Arc::new(WaitSeries {
            recorder: Arc::clone(recorder),
            waiting: recorder.level(&all::CALLS_WAITING, &[]),
            durations: Default::default(),
        });
        Arc::new(Self {
            known: ArcSwap::default(),
            methods: Mutex::default(),
            other: PerMethod::new(recorder, &waits, OTHER.into()),
            has_custom: recorder.has_label(names::CUSTOM),
            waits,
            recorder: Arc::clone(recorder),
        })
    }

    /// The series of a call with this path and these extensions.
    pub(super) fn of(&self, path: &str, extensions: &Extensions) -> Arc<MethodMeter> {
        if !self.has_custom {
            return self.with_method(path, extensions, |method| Arc::clone(&method.plain));
        }
        let custom = extensions.get::<CustomLabel>();
        let custom = custom.map_or("", CustomLabel::value);
        self.with_method(path, extensions, |method| {
            method.with_custom(&self.recorder, &self.waits, custom)
        })
    }

    fn with_method<T>(
        &self,
        path: &str,
        extensions: &Extensions,
        then: impl FnOnce(&PerMethod) -> T,
    ) -> T {
        let known = self.known.load();
        if let Some(generated) = extensions.get::<GrpcMethod<'static>>() {
            let place = place_of(generated);
            return match known.by_place.get(&place) {
                Some(method) => then(method),
                None => then(&self.learn_place(place, generated)),
            };
        }
        let Some(filter) = self.recorder.method_filter() else {
            return then(&self.other);
        };
        let path = path.trim_start_matches('/');
        if let Some(method) = known.by_path.get(path) {
            return then(method);
        }
        match contained(|| filter(path)) {
            Ok(true) => then(&self.learn_path(path)),
            Ok(false) | Err(_) => then(&self.other),
        }
    }

    #[cold]
    fn learn_place(&self, place: [usize; 4], generated: &GrpcMethod<'_>) -> Arc<PerMethod> {
        let text = format!("{}/{}", generated.service(), generated.method());
        let method = self.learn(&text);
        // The lock keeps one thread from undoing what another has added.
        let _locked = lock(&self.methods);
        let mut known = Known::clone(&self.known.load());
        if known.by_place.len() < MAX_PLACES {
            known.by_place.insert(place, Arc::clone(&method));
            self.known.store(Arc::new(known));
        }
        method
    }

    #[cold]
    fn learn_path(&self, path: &str) -> Arc<PerMethod> {
        let method = self.learn(path);
        if !Arc::ptr_eq(&method, &self.other) {
            let _locked = lock(&self.methods);
            let mut known = Known::clone(&self.known.load());
            let path = Arc::clone(&method.method);
            known.by_path.insert(path, Arc::clone(&method));
            self.known.store(Arc::new(known));
        }
        method
    }

    fn learn(&self, text: &str) -> Arc<PerMethod> {
        let known = |methods: &HashMap<_, _>| match methods.get(text) {
            Some(method) => Some(Arc::clone(method)),
            None if methods.len() >= MAX_METHODS => Some(Arc::clone(&self.other)),
            None => None,
        };
        if let Some(method) = known(&lock(&self.methods)) {
            return method;
        }
        // The code of the application is not called behind a lock.
        let text: Arc<str> = text.into();
        let method = PerMethod::new(&self.recorder, &self.waits, Arc::clone(&text));
        let mut methods = lock(&self.methods);
        known(&methods).unwrap_or_else(|| {
            methods.insert(text, Arc::clone(&method));
            method
        })
    }
}

impl WaitSeries {
    /// Of calls whose wait ended so.
    pub(super) fn duration(&self, outcome: WaitOutcome) -> &Spread {
        self.durations[outcome as usize].get_or_init(|| {
            let outcome = match outcome {
                WaitOutcome::Sent => "sent",
                WaitOutcome::Expired => "expired",
                WaitOutcome::Failed => "failed",
                WaitOutcome::Cancelled => "cancelled",
            };
            let labels = [(names::OUTCOME, outcome)];
            self.recorder.spread(&all::CALLS_WAIT_DURATION, &labels)
        })
    }
}

/// Tells one constant of generated code from another.
fn place_of(method: &GrpcMethod<'_>) -> [usize; 4] {
    let (service, method) = (method.service(), method.method());
    [
        service.as_ptr().addr(),
        service.len(),
        method.as_ptr().addr(),
        method.len(),
    ]
}

impl PerMethod {
    fn new(recorder: &Arc<Recorder>, waits: &Arc<WaitSeries>, method: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            plain: MethodMeter::new(recorder, waits, Arc::clone(&method), "".into()),
            custom: ArcSwap::default(),
            method,
        })
    }

    fn with_custom(
        &self,
        recorder: &Arc<Recorder>,
        waits: &Arc<WaitSeries>,
        custom: &str,
    ) -> Arc<MethodMeter> {
        if custom.is_empty() {
            return Arc::clone(&self.plain);
        }
        if let Some(meter) = self.custom.load().get(custom) {
            return Arc::clone(meter);
        }
        let new = |custom| MethodMeter::new(recorder, waits, Arc::clone(&self.method), custom);
        let mut meter = None;
        // Several threads may add at a moment: what each of them adds is there in the end.
        self.custom.rcu(|known| {
            let mut known = HashMap::clone(known);
            let custom = match known.contains_key(custom) || known.len() < MAX_METHODS {
                true => custom,
                false => OTHER,
            };
            let custom: Arc<str> = custom.into();
            let entry = known.entry(Arc::clone(&custom));
            let added = entry.or_insert_with(|| new(custom));
            meter = Some(Arc::clone(added));
            known
        });
        meter.expect("the closure has run")
    }
}

impl MethodMeter {
    fn new(
        recorder: &Arc<Recorder>,
        waits: &Arc<WaitSeries>,
        method: Arc<str>,
        custom: Arc<str>,
    ) -> Arc<Self> {
        let labels = [(names::METHOD, &*method), (names::CUSTOM, &*custom)];
        Arc::new(Self {
            started: recorder.count(&all::ATTEMPT_STARTED, &labels),
            attempts: Default::default(),
            calls: Default::default(),
            policy: OnceLock::new(),
            recorder: Arc::clone(recorder),
            waits: Arc::clone(waits),
            method,
            custom,
        })
    }

    pub(super) fn started(&self) {
        self.started.add(1);
    }

    /// Of attempts that end with this status.
    pub(super) fn attempts(&self, status: Code) -> &AttemptSeries {
        let at = status as usize;
        self.attempts[at].get_or_init(|| {
            let labels = self.labels(CODES[at]);
            let spread = |instrument| self.recorder.spread(instrument, &labels);
            AttemptSeries {
                duration: spread(&all::ATTEMPT_DURATION),
                sent: spread(&all::ATTEMPT_SENT),
                received: spread(&all::ATTEMPT_RECEIVED),
            }
        })
    }

    /// Durations of calls that end with this status.
    pub(super) fn calls(&self, status: Code) -> &Spread {
        let at = status as usize;
        self.calls[at].get_or_init(|| {
            let labels = self.labels(CODES[at]);
            self.recorder.spread(&all::CALL_DURATION, &labels)
        })
    }

    pub(super) fn policy(&self) -> &PolicySeries {
        self.policy.get_or_init(|| {
            let labels = [
                (names::METHOD, &*self.method),
                (names::CUSTOM, &*self.custom),
            ];
            let spread = |instrument| self.recorder.spread(instrument, &labels);
            PolicySeries {
                retries: spread(&all::CALL_RETRIES),
                transparent_retries: spread(&all::CALL_TRANSPARENT_RETRIES),
                hedges: spread(&all::CALL_HEDGES),
                retry_delay: spread(&all::CALL_RETRY_DELAY),
            }
        })
    }

    fn labels(&self, status: &'static str) -> [(&'static str, &str); 3] {
        [
            (names::METHOD, &*self.method),
            (names::STATUS, status),
            (names::CUSTOM, &*self.custom),
        ]
    }
}

#[cfg(test)]
mod tests {
    use http::Extensions;
    use tonic::{Code, GrpcMethod};

    use super::{super::settings::CustomLabel, CallMeters, MAX_METHODS, Recorder};
    use crate::metrics::{Metrics, Prometheus, call::MetricsRecord};

    fn meters(meter: &Prometheus, custom: bool) -> std::sync::Arc<CallMeters> {
        let metrics = Metrics::new(meter.clone());
        let metrics = match custom {
            true => metrics.optional_labels(["grpc.client.call.custom"]),
            false => metrics,
        };
        CallMeters::new(&Recorder::new(metrics, "dns:///shop"))
    }

    /// The number of series of calls.
    fn series(meter: &Prometheus) -> usize {
        let text = meter.render();
        let is_count = |line: &&str| line.starts_with("grpc_client_call_duration_seconds_count");
        text.lines().filter(is_count).count()
    }

    fn call(meters: &CallMeters, method: &'static str, extensions: &mut Extensions) {
        extensions.insert(GrpcMethod::new("shop.Orders", method));
        MetricsRecord::begin(meters, "/ignored", extensions).end(Code::Ok);
    }

    // M04
    #[test]
    fn beyond_1_000_methods_further_ones_are_other() {
        let meter = Prometheus::new();
        let meters = meters(&meter, false);
        for number in 0..MAX_METHODS + 2 {
            let method = format!("Method{number}").leak();
            call(&meters, method, &mut Extensions::new());
        }
        assert_eq!(series(&meter), MAX_METHODS + 1);
        let others = "grpc_method=\"other\",grpc_target=\"dns:///shop\",grpc_status=\"OK\"} 2";
        assert!(meter.render().contains(others));
        call(&meters, "Method0", &mut Extensions::new());
        let first = "grpc_method=\"shop.Orders/Method0\",grpc_target=\"dns:///shop\",\
                     grpc_status=\"OK\"} 2";
        assert!(meter.render().contains(first), "as it is known");
    }

    // D405
    #[test]
    fn the_places_that_name_a_method_share_its_series() {
        let meter = Prometheus::new();
        let meters = meters(&meter, false);
        for _ in 0..2 {
            call(&meters, String::from("Buy").leak(), &mut Extensions::new());
        }
        assert_eq!(series(&meter), 1);
    }

    // M20
    #[test]
    fn beyond_1_000_custom_labels_of_a_method_further_ones_are_other() {
        let meter = Prometheus::new();
        let meters = meters(&meter, true);
        for number in 0..MAX_METHODS + 2 {
            let mut extensions = Extensions::new();
            extensions.insert(CustomLabel::new(number.to_string()));
            call(&meters, "Buy", &mut extensions);
        }
        assert_eq!(series(&meter), MAX_METHODS + 1);
        let others = "grpc_client_call_custom=\"other\"} 2";
        assert!(meter.render().contains(others));
    }
}
