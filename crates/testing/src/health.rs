//! The health service of a backend.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use grpc_health_service::{DrainOptions, HealthHandle, HealthService, ServingStatus};
use http::{Request, Response};
use tonic::body::Body;
use tower_service::Service;

/// The health service of the kit. A restart makes a new one, with the statuses of before.
#[derive(Debug)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    statuses: BTreeMap<String, ServingStatus>,
    handle: HealthHandle,
    service: HealthService,
}

impl Health {
    /// `""` is SERVING.
    pub(crate) fn new() -> Self {
        let (handle, service) = HealthService::new();
        let state = State {
            statuses: BTreeMap::from([(String::new(), ServingStatus::Serving)]),
            handle,
            service,
        };
        Self(Mutex::new(state))
    }

    /// Begins anew, as a process does that starts.
    pub(crate) fn restart(&self) {
        let mut state = self.state();
        let (handle, service) = HealthService::new();
        // The service begins with a status of this name.
        handle.clear("");
        for (name, status) in &state.statuses {
            handle.set(name, *status);
        }
        (state.handle, state.service) = (handle, service);
    }

    pub(crate) fn set(&self, name: &str, status: Option<ServingStatus>) {
        let mut state = self.state();
        match status {
            Some(status) => {
                state.statuses.insert(name.to_owned(), status);
                state.handle.set(name, status);
            }
            None => {
                state.statuses.remove(name);
                state.handle.clear(name);
            }
        }
    }

    pub(crate) fn status(&self, name: &str) -> Option<ServingStatus> {
        self.state().statuses.get(name).copied()
    }

    pub(crate) async fn drain(&self) {
        let handle = self.state().handle.clone();
        handle.drain(DrainOptions::default()).await;
    }

    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let mut service = self.state().service.clone();
        match service.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic leaves no half change behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
