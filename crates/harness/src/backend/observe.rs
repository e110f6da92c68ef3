//! What a test does to a backend while it runs, and what it can see and await.

use std::{net::SocketAddr, time::Duration};

use tonic::{Code, metadata::MetadataMap};

use super::{Backend, Health};
use crate::{
    CheckScript, Counter, NOT_SERVING, SERVING, UNKNOWN, WatchScript, front::Seen,
    health_service::ScriptedHealth,
};

/// Where it is, and the greeter.
impl Backend {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn uri(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn name(&self) -> &str {
        self.greeter.name()
    }

    /// Greeter calls of all four kinds that arrived since the last reset.
    pub fn hits(&self) -> usize {
        self.traffic.hits.get()
    }

    pub fn reset_hits(&self) {
        self.traffic.hits.reset();
    }

    /// Greeter calls that have not been answered to the end.
    pub fn open_calls(&self) -> usize {
        self.kit.open_calls().get()
    }

    /// Greeter calls that wait for `release`, because they asked for "hold".
    pub fn held(&self) -> usize {
        self.greeter.held.get()
    }

    /// Lets the calls go on that are held now; `until_held` says when they are.
    pub fn release(&self) {
        self.greeter.release();
    }

    /// Greeter calls that ask for nothing special end with this code from now on. `Ok` is the
    /// default.
    pub fn end_calls_with(&self, code: Code) {
        self.greeter.end_calls_with(code);
    }

    /// Headers of the last greeter call.
    pub fn last_metadata(&self) -> Option<MetadataMap> {
        self.last_call().map(|seen| seen.metadata)
    }

    /// The `grpc-timeout` that the last greeter call brought along.
    pub fn last_timeout(&self) -> Duration {
        let metadata = self.last_metadata().expect("there was a call");
        let timeout = metadata.get("grpc-timeout").expect("a deadline was set");
        let text = timeout.to_str().expect("ASCII");
        let (number, unit) = text.split_at(text.len() - 1);
        let number = number.parse().expect("digits");
        match unit {
            "n" => Duration::from_nanos(number),
            "u" => Duration::from_micros(number),
            "m" => Duration::from_millis(number),
            "S" => Duration::from_secs(number),
            other => panic!("a few seconds are not given in {other:?}"),
        }
    }

    /// `:authority` of the last greeter call.
    pub fn last_authority(&self) -> Option<String> {
        self.last_call().and_then(|seen| seen.authority)
    }

    pub fn last_call(&self) -> Option<Seen> {
        let last = self.traffic.last_call.lock();
        last.expect("no holder of the record panics").clone()
    }

    /// The `x-id` of each greeter call that has one, in the order in which they came.
    pub fn ids(&self) -> Vec<u64> {
        let ids = self.traffic.ids.lock();
        ids.expect("no holder of the record panics").clone()
    }

    /// TCP connections accepted so far.
    pub fn connections(&self) -> usize {
        self.kit.connections().get()
    }

    pub fn open_connections(&self) -> usize {
        self.kit.open_connections().get()
    }
}

/// Health.
impl Backend {
    pub async fn set_serving(&self, service: &str) {
        self.set_status(service, SERVING).await;
    }

    pub async fn set_not_serving(&self, service: &str) {
        self.set_status(service, NOT_SERVING).await;
    }

    /// Any number with a scripted service. The others take only 0, 1 and 2.
    pub async fn set_status(&self, service: &str, status: i32) {
        match &self.health {
            Health::Own(handle, _) => handle.set(service, own_status(status)),
            Health::Tonic(reporter) => {
                reporter
                    .set_service_status(service, tonic_status(status))
                    .await;
            }
            Health::Scripted(health) => health.set(service, status),
            Health::None => panic!("this backend has no health service to set a status on"),
        }
    }

    /// Forgets a service: SERVICE_UNKNOWN, or the end of the Watches with OK from
    /// `tonic-health`.
    pub async fn clear_status(&self, service: &str) {
        match &self.health {
            Health::Own(handle, _) => handle.clear(service),
            Health::Tonic(reporter) => reporter.clone().clear_service_status(service).await,
            Health::Scripted(health) => health.clear(service),
            Health::None => panic!("this backend has no health service to clear a status of"),
        }
    }

    /// How Watches are answered that start from now on.
    pub fn script_watch(&self, script: WatchScript) {
        self.scriptable();
        self.traffic.scripts.set(script);
    }

    /// How the next `times` Watches are answered, before what holds anyway.
    pub fn script_next_watches(&self, times: usize, script: WatchScript) {
        self.scriptable();
        self.traffic.scripts.next(times, script);
    }

    pub fn script_check(&self, script: CheckScript) {
        self.scriptable().checks.set(script);
    }

    /// Lets the Watches send their first message that `HoldFirst` holds back.
    pub fn release_watches(&self) {
        self.scriptable().release_watches();
    }

    /// Ends the Watches that are open now and have sent response headers.
    pub fn end_watches(&self, code: Code) {
        self.scriptable().end_watches(code);
    }

    fn scriptable(&self) -> &ScriptedHealth {
        match &self.health {
            Health::Scripted(health) => health,
            Health::Own(..) | Health::Tonic(_) | Health::None => {
                panic!("only a backend with a scripted health service follows a script")
            }
        }
    }

    /// Watch calls that arrived.
    pub fn watches(&self) -> usize {
        self.traffic.watches.get()
    }

    /// Watch calls that neither side has ended.
    pub fn open_watches(&self) -> usize {
        self.kit.watchers().get()
    }

    pub fn checks(&self) -> usize {
        self.traffic.checks.get()
    }

    /// The service that each Watch asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.traffic.asked.lock();
        asked.expect("no holder of the record panics").clone()
    }

    /// What the last Check brought along.
    pub fn last_check(&self) -> Option<Seen> {
        let last = self.traffic.last_check.lock();
        last.expect("no holder of the record panics").clone()
    }

    /// What the last Watch brought along.
    pub fn last_watch(&self) -> Option<Seen> {
        let last = self.traffic.last_watch.lock();
        last.expect("no holder of the record panics").clone()
    }
}

/// `until_*` of a total waits for at least `n`, of a gauge for exactly `n`.
macro_rules! until {
    ($($until:ident: $how:ident($backend:ident => $counter:expr);)+) => {
        impl Backend {
            $(#[track_caller]
            pub fn $until(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
                let $backend = self;
                let counter: &Counter = &$counter;
                counter.$how(n)
            })+
        }
    };
}

until! {
    until_hits: until_at_least(it => it.traffic.hits);
    until_open_calls: until_exactly(it => it.kit.open_calls());
    until_held: until_exactly(it => it.greeter.held);
    until_watches: until_at_least(it => it.traffic.watches);
    until_open_watches: until_exactly(it => it.kit.watchers());
    until_checks: until_at_least(it => it.traffic.checks);
    until_connections: until_at_least(it => it.kit.connections());
    until_open_connections: until_exactly(it => it.kit.open_connections());
}

pub(super) fn own_status(status: i32) -> grpc_health_service::ServingStatus {
    use grpc_health_service::ServingStatus;
    match status {
        UNKNOWN => ServingStatus::Unknown,
        SERVING => ServingStatus::Serving,
        NOT_SERVING => ServingStatus::NotServing,
        other => panic!("a server cannot set the status {other}; use a scripted backend"),
    }
}

pub(super) fn tonic_status(status: i32) -> tonic_health::ServingStatus {
    use tonic_health::ServingStatus;
    match own_status(status) {
        grpc_health_service::ServingStatus::Unknown => ServingStatus::Unknown,
        grpc_health_service::ServingStatus::Serving => ServingStatus::Serving,
        grpc_health_service::ServingStatus::NotServing => ServingStatus::NotServing,
    }
}
