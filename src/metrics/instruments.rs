//! All that a channel measures.
//!
//! Per-call ones are of gRFC A66, with the labels of A89 and A108, and of A96. Those of
//! subchannels are of A94, TLS handshakes of A118, weights of A78, ejections of A91.

use super::{
    instrument::{
        Instrument,
        InstrumentKind::{Counter, Histogram, Observed, UpDown},
    },
    names::{
        BACKEND, BACKEND_SERVICE, CAUSE, CUSTOM, DETECTION_METHOD, DISCONNECT_ERROR, ENDED, FROM,
        HANDSHAKE_RESULT, HANDSHAKE_RESUMED, HEALTH, LOCALITY, METHOD, OUTCOME, REASON, RESULT,
        RPC, SECURITY_LEVEL, STATE, STATUS, TARGET, TO, UNENFORCED_REASON,
    },
};

/// Of latencies in seconds (gRFC A66).
const LATENCY: &[f64] = &[
    0.0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005,
    0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16,
    0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];

/// Of sizes in bytes (gRFC A66).
const SIZE: &[f64] = &[
    0.0,
    1024.0,
    2048.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
    16777216.0,
    67108864.0,
    268435456.0,
    1073741824.0,
    4294967296.0,
];

/// Of retries and hedges (gRFC A96).
const ATTEMPTS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0];

/// Of transparent retries (gRFC A96).
const TRANSPARENT_RETRIES: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0];

/// Of weights: requests per second for each part of a backend that they use.
const WEIGHTS: &[f64] = &[
    0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0,
    16384.0, 32768.0, 65536.0,
];

/// Of times in seconds that a backend takes, from a round trip to an hour.
const WAITS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
    600.0, 1800.0, 3600.0,
];

pub(crate) static ATTEMPT_STARTED: Instrument = Instrument {
    name: "grpc.client.attempt.started",
    description: "Attempts of calls that were started, also those that have not ended.",
    unit: "{attempt}",
    kind: Counter,
    buckets: &[],
    labels: &[METHOD, TARGET],
    optional_labels: &[CUSTOM],
    is_default: true,
};

pub(crate) static ATTEMPT_DURATION: Instrument = Instrument {
    name: "grpc.client.attempt.duration",
    description: "Time from the start of an attempt to its status, the pick of a backend included.",
    unit: "s",
    kind: Histogram,
    buckets: LATENCY,
    labels: &[METHOD, TARGET, STATUS],
    optional_labels: &[LOCALITY, BACKEND_SERVICE, CUSTOM],
    is_default: true,
};

pub(crate) static ATTEMPT_SENT: Instrument = Instrument {
    name: "grpc.client.attempt.sent_total_compressed_message_size",
    description: "Bytes of all messages that an attempt has sent, compressed, without their prefixes.",
    unit: "By",
    kind: Histogram,
    buckets: SIZE,
    labels: &[METHOD, TARGET, STATUS],
    optional_labels: &[LOCALITY, BACKEND_SERVICE, CUSTOM],
    is_default: true,
};

pub(crate) static ATTEMPT_RECEIVED: Instrument = Instrument {
    name: "grpc.client.attempt.rcvd_total_compressed_message_size",
    description: "Bytes of all messages that an attempt has received, compressed, without their prefixes.",
    unit: "By",
    kind: Histogram,
    buckets: SIZE,
    labels: &[METHOD, TARGET, STATUS],
    optional_labels: &[LOCALITY, BACKEND_SERVICE, CUSTOM],
    is_default: true,
};

pub(crate) static CALL_DURATION: Instrument = Instrument {
    name: "grpc.client.call.duration",
    description: "Time from the start of a call to the status that its caller sees.",
    unit: "s",
    kind: Histogram,
    buckets: LATENCY,
    labels: &[METHOD, TARGET, STATUS],
    optional_labels: &[CUSTOM],
    is_default: true,
};

pub(crate) static CALL_RETRIES: Instrument = Instrument {
    name: "grpc.client.call.retries",
    description: "Retries of a call by its policy, if there was one. Transparent retries do not count.",
    unit: "{retry}",
    kind: Histogram,
    buckets: ATTEMPTS,
    labels: &[METHOD, TARGET],
    optional_labels: &[CUSTOM],
    is_default: false,
};

pub(crate) static CALL_TRANSPARENT_RETRIES: Instrument = Instrument {
    name: "grpc.client.call.transparent_retries",
    description: "Transparent retries of a call, if there was one.",
    unit: "{transparent_retry}",
    kind: Histogram,
    buckets: TRANSPARENT_RETRIES,
    labels: &[METHOD, TARGET],
    optional_labels: &[CUSTOM],
    is_default: false,
};

pub(crate) static CALL_HEDGES: Instrument = Instrument {
    name: "grpc.client.call.hedges",
    description: "Hedges of a call, if there was one. The first attempt does not count.",
    unit: "{hedge}",
    kind: Histogram,
    buckets: ATTEMPTS,
    labels: &[METHOD, TARGET],
    optional_labels: &[CUSTOM],
    is_default: false,
};

pub(crate) static CALL_RETRY_DELAY: Instrument = Instrument {
    name: "grpc.client.call.retry_delay",
    description: "Time of a call between its attempts, with none under way.",
    unit: "s",
    kind: Histogram,
    buckets: LATENCY,
    labels: &[METHOD, TARGET],
    optional_labels: &[CUSTOM],
    is_default: false,
};

pub(crate) static ATTEMPTS_SUCCEEDED: Instrument = Instrument {
    name: "grpc.subchannel.connection_attempts_succeeded",
    description: "Attempts to connect to a backend that succeeded.",
    unit: "{attempt}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET],
    optional_labels: &[BACKEND_SERVICE, LOCALITY],
    is_default: false,
};

pub(crate) static ATTEMPTS_FAILED: Instrument = Instrument {
    name: "grpc.subchannel.connection_attempts_failed",
    description: "Attempts to connect to a backend that failed.",
    unit: "{attempt}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET],
    optional_labels: &[BACKEND_SERVICE, LOCALITY],
    is_default: false,
};

pub(crate) static DISCONNECTIONS: Instrument = Instrument {
    name: "grpc.subchannel.disconnections",
    description: "Connections that were lost or let go.",
    unit: "{disconnection}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET],
    optional_labels: &[BACKEND_SERVICE, LOCALITY, DISCONNECT_ERROR],
    is_default: false,
};

pub(crate) static OPEN_CONNECTIONS: Instrument = Instrument {
    name: "grpc.subchannel.open_connections",
    description: "Connections that take new calls.",
    unit: "{connection}",
    kind: UpDown,
    buckets: &[],
    labels: &[TARGET],
    optional_labels: &[SECURITY_LEVEL, BACKEND_SERVICE, LOCALITY],
    is_default: false,
};

pub(crate) static TLS_HANDSHAKES: Instrument = Instrument {
    name: "grpc.client.tls.handshakes",
    description: "TLS handshakes that have ended.",
    unit: "{handshake}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET, HANDSHAKE_RESULT],
    optional_labels: &[HANDSHAKE_RESUMED, LOCALITY, BACKEND_SERVICE],
    is_default: false,
};

pub(crate) static WRR_FALLBACK: Instrument = Instrument {
    name: "grpc.lb.wrr.rr_fallback",
    description: "Updates of weights with fewer than 2 that can be used, after which calls rotate.",
    unit: "{update}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET],
    optional_labels: &[LOCALITY, BACKEND_SERVICE],
    is_default: false,
};

pub(crate) static WRR_NOT_YET_USABLE: Instrument = Instrument {
    name: "grpc.lb.wrr.endpoint_weight_not_yet_usable",
    description: "Backends without a usable weight in an update, as none was reported or the blackout lasts.",
    unit: "{endpoint}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET],
    optional_labels: &[LOCALITY, BACKEND_SERVICE],
    is_default: false,
};

pub(crate) static WRR_STALE: Instrument = Instrument {
    name: "grpc.lb.wrr.endpoint_weight_stale",
    description: "Backends in an update whose weight has expired.",
    unit: "{endpoint}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET],
    optional_labels: &[LOCALITY, BACKEND_SERVICE],
    is_default: false,
};

pub(crate) static WRR_WEIGHTS: Instrument = Instrument {
    name: "grpc.lb.wrr.endpoint_weights",
    description: "Weights of backends in each update; 0 without a usable one.",
    unit: "{weight}",
    kind: Histogram,
    buckets: WEIGHTS,
    labels: &[TARGET],
    optional_labels: &[LOCALITY, BACKEND_SERVICE],
    is_default: false,
};

pub(crate) static EJECTIONS_ENFORCED: Instrument = Instrument {
    name: "grpc.lb.outlier_detection.ejections_enforced",
    description: "Ejections of outliers.",
    unit: "{ejection}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET, DETECTION_METHOD],
    optional_labels: &[BACKEND_SERVICE],
    is_default: false,
};

pub(crate) static EJECTIONS_UNENFORCED: Instrument = Instrument {
    name: "grpc.lb.outlier_detection.ejections_unenforced",
    description: "Outliers that were not ejected.",
    unit: "{ejection}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET, DETECTION_METHOD, UNENFORCED_REASON],
    optional_labels: &[BACKEND_SERVICE],
    is_default: false,
};

pub(crate) static BACKENDS: Instrument = Instrument {
    name: "tonic_health_channel.backends",
    description: "Backends by their state and their health.",
    unit: "{backend}",
    kind: UpDown,
    buckets: &[],
    labels: &[TARGET, STATE, HEALTH],
    optional_labels: &[BACKEND],
    is_default: true,
};

pub(crate) static BACKEND_TRANSITIONS: Instrument = Instrument {
    name: "tonic_health_channel.backend.transitions",
    description: "Changes of the state of a backend.",
    unit: "{transition}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET, FROM, TO],
    optional_labels: &[BACKEND],
    is_default: true,
};

pub(crate) static HEALTH_TRANSITIONS: Instrument = Instrument {
    name: "tonic_health_channel.health.transitions",
    description: "Changes of the health of a backend.",
    unit: "{transition}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET, FROM, TO],
    optional_labels: &[BACKEND],
    is_default: true,
};

pub(crate) static HEALTH_WATCHES: Instrument = Instrument {
    name: "tonic_health_channel.health.watches",
    description: "Health RPCs that were started.",
    unit: "{watch}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET, RPC],
    optional_labels: &[BACKEND],
    is_default: true,
};

pub(crate) static WATCH_FAILURES: Instrument = Instrument {
    name: "tonic_health_channel.health.watch_failures",
    description: "Health RPCs that ended other than by the channel's own decision.",
    unit: "{failure}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET, RPC, REASON],
    optional_labels: &[BACKEND],
    is_default: true,
};

pub(crate) static TIME_TO_READY: Instrument = Instrument {
    name: "tonic_health_channel.backend.time_to_ready",
    description: "Time until a backend was READY, since its source named it or the channel left IDLE.",
    unit: "s",
    kind: Histogram,
    buckets: WAITS,
    labels: &[TARGET],
    optional_labels: &[BACKEND],
    is_default: true,
};

pub(crate) static TIME_TO_FIRST_ANSWER: Instrument = Instrument {
    name: "tonic_health_channel.health.time_to_first_answer",
    description: "Time from a new connection to the first answer about health on it.",
    unit: "s",
    kind: Histogram,
    buckets: WAITS,
    labels: &[TARGET, HEALTH],
    optional_labels: &[BACKEND],
    is_default: true,
};

pub(crate) static OUTAGE_DURATION: Instrument = Instrument {
    name: "tonic_health_channel.backend.outage_duration",
    description: "Time for which a backend could not be used, when that is over.",
    unit: "s",
    kind: Histogram,
    buckets: WAITS,
    labels: &[TARGET, CAUSE, ENDED],
    optional_labels: &[BACKEND],
    is_default: true,
};

pub(crate) static BACKEND_NOT_READY: Instrument = Instrument {
    name: "tonic_health_channel.backend.not_ready_time",
    description: "Time for which backends could not be used, outages that last included.",
    unit: "s",
    kind: Observed,
    buckets: &[],
    labels: &[TARGET, CAUSE],
    optional_labels: &[BACKEND],
    is_default: true,
};

pub(crate) static CHANNEL_NOT_READY: Instrument = Instrument {
    name: "tonic_health_channel.channel.not_ready_time",
    description: "Time for which the channel was CONNECTING or in TRANSIENT_FAILURE.",
    unit: "s",
    kind: Observed,
    buckets: &[],
    labels: &[TARGET, STATE],
    optional_labels: &[],
    is_default: true,
};

pub(crate) static CALLS_WAITING: Instrument = Instrument {
    name: "tonic_health_channel.calls.waiting",
    description: "Calls that wait for a backend.",
    unit: "{call}",
    kind: UpDown,
    buckets: &[],
    labels: &[TARGET],
    optional_labels: &[],
    is_default: true,
};

pub(crate) static CALLS_WAIT_DURATION: Instrument = Instrument {
    name: "tonic_health_channel.calls.wait_duration",
    description: "Time that a call has waited for a backend, if it had to.",
    unit: "s",
    kind: Histogram,
    buckets: LATENCY,
    labels: &[TARGET, OUTCOME],
    optional_labels: &[],
    is_default: true,
};

pub(crate) static DISCOVER_UPDATES: Instrument = Instrument {
    name: "tonic_health_channel.discover.updates",
    description: "Changes that the source of backends has named.",
    unit: "{update}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET],
    optional_labels: &[],
    is_default: true,
};

pub(crate) static DISCOVER_ERRORS: Instrument = Instrument {
    name: "tonic_health_channel.discover.errors",
    description: "Errors of the source of backends.",
    unit: "{error}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET],
    optional_labels: &[],
    is_default: true,
};

pub(crate) static CONFIG_UPDATES: Instrument = Instrument {
    name: "tonic_health_channel.service_config.updates",
    description: "Service configs that have come at run time.",
    unit: "{update}",
    kind: Counter,
    buckets: &[],
    labels: &[TARGET, RESULT],
    optional_labels: &[],
    is_default: true,
};

static ALL: &[&Instrument] = &[
    &ATTEMPT_STARTED,
    &ATTEMPT_DURATION,
    &ATTEMPT_SENT,
    &ATTEMPT_RECEIVED,
    &CALL_DURATION,
    &CALL_RETRIES,
    &CALL_TRANSPARENT_RETRIES,
    &CALL_HEDGES,
    &CALL_RETRY_DELAY,
    &ATTEMPTS_SUCCEEDED,
    &ATTEMPTS_FAILED,
    &DISCONNECTIONS,
    &OPEN_CONNECTIONS,
    &TLS_HANDSHAKES,
    &WRR_FALLBACK,
    &WRR_NOT_YET_USABLE,
    &WRR_STALE,
    &WRR_WEIGHTS,
    &EJECTIONS_ENFORCED,
    &EJECTIONS_UNENFORCED,
    &BACKENDS,
    &BACKEND_TRANSITIONS,
    &HEALTH_TRANSITIONS,
    &HEALTH_WATCHES,
    &WATCH_FAILURES,
    &TIME_TO_READY,
    &TIME_TO_FIRST_ANSWER,
    &OUTAGE_DURATION,
    &BACKEND_NOT_READY,
    &CHANNEL_NOT_READY,
    &CALLS_WAITING,
    &CALLS_WAIT_DURATION,
    &DISCOVER_UPDATES,
    &DISCOVER_ERRORS,
    &CONFIG_UPDATES,
];

impl Instrument {
    /// All that a channel can measure.
    pub fn all() -> &'static [&'static Self] {
        ALL
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Histogram, Instrument};

    #[test]
    fn each_has_a_name_of_its_own_and_buckets_in_order() {
        let mut names = BTreeSet::new();
        for instrument in Instrument::all() {
            assert!(
                names.insert(instrument.name()),
                "{} twice",
                instrument.name()
            );
            assert!(
                instrument.buckets().is_sorted_by(|a, b| a < b),
                "{instrument:?}"
            );
            let has_buckets = !instrument.buckets().is_empty();
            assert_eq!(
                has_buckets,
                instrument.kind() == Histogram,
                "{instrument:?}"
            );
            let is_ours = instrument.name().starts_with("tonic_health_channel.");
            assert!(is_ours || instrument.name().starts_with("grpc."));
        }
    }
}
