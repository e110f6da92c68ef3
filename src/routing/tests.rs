//! Texts of a status.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    BackendId, BackendStatus, Backends, ChannelStatus,
    ejection::{DetectionMethod, Ejection, Outlier},
};
use crate::{
    connectivity::ConnectivityState::{self, *},
    error::{Cause, CauseKind},
    health::HealthStatus,
};

const HOST: &str = "10.0.0.1:50051";

/// Where every backend has been as it is since the start.
struct Scene {
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    fn backend(&self, address: &str, state: ConnectivityState) -> BackendStatus {
        BackendStatus {
            since: self.start,
            ..BackendStatus::in_state(0, address, state)
        }
    }

    fn unhealthy(&self, address: &str) -> BackendStatus {
        let cause = Cause::new(CauseKind::Health, "NOT_SERVING");
        BackendStatus {
            health: HealthStatus::NotServing,
            last_error: Some((cause, self.start)),
            ..self.backend(address, TransientFailure)
        }
    }

    /// Its fourth attempt is due 14.1 s after the start.
    fn refused(&self, address: &str) -> BackendStatus {
        let cause = Cause::new(CauseKind::Connect, "connection refused");
        BackendStatus {
            last_error: Some((cause, self.start)),
            attempt: 3,
            next_attempt: Some(self.start + Duration::from_millis(14_100)),
            ..self.backend(address, TransientFailure)
        }
    }

    #[track_caller]
    fn explains(&self, status: &ChannelStatus, second: u64, text: &str) {
        let now = self.start + Duration::from_secs(second);
        assert_eq!(status.explain(now), text);
    }
}

fn status(
    state: ConnectivityState,
    cause: Option<Cause>,
    backends: impl IntoIterator<Item = BackendStatus>,
) -> ChannelStatus {
    ChannelStatus {
        generation: 1,
        state,
        cause,
        backends: Backends::new(backends.into_iter().map(Arc::new).collect()),
        priorities: Arc::default(),
    }
}

fn failing(backends: impl IntoIterator<Item = BackendStatus>) -> ChannelStatus {
    status(TransientFailure, None, backends)
}

#[test]
fn every_backend_is_named_with_its_reason() {
    let scene = Scene::new();
    scene.explains(
        &failing([scene.unhealthy(HOST), scene.refused("10.0.0.2:50051")]),
        12,
        "no healthy backend: 10.0.0.1:50051 health check: NOT_SERVING (12s); \
         10.0.0.2:50051 connect: connection refused (attempt 3, next in 2.1s)",
    );
}

#[test]
fn an_attempt_that_is_due_is_being_made() {
    let scene = Scene::new();
    let text = "no healthy backend: a connect: connection refused (attempt 3, trying again)";
    scene.explains(&failing([scene.refused("a")]), 15, text);
    let trying = BackendStatus {
        next_attempt: None,
        ..scene.refused("a")
    };
    scene.explains(&failing([trying]), 12, text);
}

#[test]
fn a_call_waits_for_no_attempt_of_an_ejected_backend() {
    let scene = Scene::new();
    let refused = scene.refused("a");
    let ejection = Ejection {
        since: scene.start,
        until: scene.start,
        multiplier: 1,
        outlier: Outlier {
            method: DetectionMethod::SuccessRate,
            percentage: 50.0,
            bound: 90.0,
            volume: 100,
        },
    };
    let ejected = BackendStatus {
        ejection: Some(Arc::new(ejection)),
        ..refused.clone()
    };
    assert_eq!(failing([refused]).attempts().len(), 1);
    assert!(failing([ejected]).attempts().is_empty());
}

#[test]
fn a_backend_that_has_not_failed_is_told_by_its_state() {
    let scene = Scene::new();
    let connecting = scene.backend("a", Connecting);
    let recovering = BackendStatus {
        state: Connecting,
        ..scene.unhealthy("b")
    };
    scene.explains(
        &status(Connecting, None, [connecting, recovering]),
        3,
        "no healthy backend: a CONNECTING (3s); b CONNECTING (3s)",
    );
}

#[test]
fn time_is_told_in_one_unit() {
    let scene = Scene::new();
    for (second, text) in [(59, "59s"), (119, "1m"), (7_200, "2h"), (200_000, "2d")] {
        let text = format!("no healthy backend: a health check: NOT_SERVING ({text})");
        scene.explains(&failing([scene.unhealthy("a")]), second, &text);
    }
}

#[test]
fn three_are_named_and_the_rest_counted() {
    let scene = Scene::new();
    let many = |n| failing((0..n).map(|_| scene.backend("a", Idle)));
    let named = ["a IDLE (0s)"; 3].join("; ");
    for (backends, rest) in [
        (3, ""),
        (4, "; and 1 more backend"),
        (200, "; and 197 more backends"),
    ] {
        let text = format!("no healthy backend: {named}{rest}");
        scene.explains(&many(backends), 0, &text);
    }
}

// D319
#[test]
fn those_are_named_that_have_other_reasons() {
    let scene = Scene::new();
    let mut backends = vec![scene.backend("a", Idle); 50];
    backends.push(scene.unhealthy("b"));
    backends.push(scene.backend("c", Connecting));
    backends.push(scene.unhealthy("d"));
    let text = "no healthy backend: a IDLE (0s); b health check: NOT_SERVING (0s); \
                c CONNECTING (0s); and 50 more backends";
    scene.explains(&failing(backends), 0, text);
}

#[test]
fn without_backends_the_cause_stands_alone() {
    let empty = Cause::new(
        CauseKind::NoBackends,
        "no backends: the source produced zero addresses",
    );
    let status = status(TransientFailure, Some(empty), []);
    Scene::new().explains(
        &status,
        0,
        "no healthy backend: no backends: the source produced zero addresses",
    );
}

#[test]
fn the_error_of_the_source_comes_first() {
    let scene = Scene::new();
    let error = Cause::new(CauseKind::NameResolver, "timed out");
    let text = "no healthy backend: name resolver error: timed out; \
                a health check: NOT_SERVING (1s)";
    let status = status(TransientFailure, Some(error), [scene.unhealthy("a")]);
    scene.explains(&status, 1, text);
}

#[test]
fn with_nothing_to_tell_it_ends_there() {
    let scene = Scene::new();
    scene.explains(&status(Connecting, None, []), 0, "no healthy backend");
    scene.explains(&status(Shutdown, None, []), 0, "channel is closed");
}

#[test]
fn a_call_that_waits_for_healthy_backends_waits_for_a_stream() {
    let scene = Scene::new();
    let text = "no backend with a free stream: a READY (5s)";
    let status = status(Ready, None, [scene.backend("a", Ready)]);
    scene.explains(&status, 5, text);
}

#[test]
fn the_name_that_its_source_gave_stands_before_the_address() {
    let scene = Scene::new();
    let named = BackendStatus {
        label: "api-1".into(),
        ..scene.unhealthy(HOST)
    };
    let line = "api-1 (10.0.0.1:50051) TRANSIENT_FAILURE, health check: NOT_SERVING";
    assert_eq!(named.to_string(), line);
    let text = "no healthy backend: api-1 (10.0.0.1:50051) health check: NOT_SERVING (0s)";
    scene.explains(&failing([named]), 0, text);
}

#[test]
fn a_backend_is_one_line() {
    let scene = Scene::new();
    let serving = BackendStatus {
        health: HealthStatus::Serving,
        ..scene.backend("a", Ready)
    };
    let asked = BackendStatus {
        health: HealthStatus::Pending,
        ..scene.backend("a", Connecting)
    };
    let recovered = BackendStatus {
        health: HealthStatus::Serving,
        state: Ready,
        ..scene.unhealthy("a")
    };
    for (backend, line) in [
        (scene.backend("a", Ready), "a READY"),
        (serving, "a READY, health SERVING"),
        (asked, "a CONNECTING, health pending"),
        (recovered, "a READY, health SERVING"),
        (
            scene.refused("a"),
            "a TRANSIENT_FAILURE, connect: connection refused (attempt 3)",
        ),
    ] {
        assert_eq!(backend.to_string(), line);
    }
}

#[test]
fn backends_are_found_by_their_ids_and_come_in_order() {
    let scene = Scene::new();
    let named = |id, address| BackendStatus {
        id: BackendId(id),
        ..scene.backend(address, Ready)
    };
    let status = status(Ready, None, [named(2, "a"), named(5, "b"), named(9, "c")]);
    let backends = status.backends();
    assert_eq!((backends.len(), backends.is_empty()), (3, false));
    for backend in backends {
        assert_eq!(backends.get(backend.id()), Some(backend));
    }
    for id in [0, 3, 10].map(BackendId) {
        assert_eq!(backends.get(id), None);
    }
    let labels = backends.clone().into_iter();
    let labels: Vec<_> = labels.map(|backend| backend.label().to_owned()).collect();
    assert_eq!(labels, ["a", "b", "c"]);
    assert_eq!(backends[1].label(), "b");
    assert_eq!(backends.first(), Some(&backends[0]));
    assert!(Backends::default().is_empty());
}

#[test]
fn the_debug_text_of_backends_is_what_each_displays() {
    let scene = Scene::new();
    let status = failing([scene.unhealthy("a"), scene.refused("b")]);
    assert_eq!(
        format!("{:?}", status.backends()),
        "[a TRANSIENT_FAILURE, health check: NOT_SERVING, \
         b TRANSIENT_FAILURE, connect: connection refused (attempt 3)]"
    );
}
