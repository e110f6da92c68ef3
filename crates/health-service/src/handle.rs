//! The application's side of the service.

use std::{sync::Arc, task::Waker};

use tonic::server::NamedService;

use crate::{registry::Registry, shared::Shared, status::ServingStatus};

/// Sets the statuses that a [`HealthService`](crate::HealthService) tells.
///
/// A clone is cheap and sets the same statuses. No method blocks, and each works outside a
/// runtime. The service outlives its handles, with the last statuses.
///
/// Each change of a status is logged at INFO with the target `grpc_health_service`, at most 60
/// a minute, and the others at DEBUG.
///
/// Watchers get the newest status. A slow client skips the statuses between, and a status that
/// is set again is not sent again.
#[derive(Clone, Debug)]
pub struct HealthHandle {
    pub(crate) shared: Arc<Shared>,
}

impl HealthHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Sets the status of a service. The name `""` is the server as a whole.
    ///
    /// By convention a name is `package.Service`. Clients cannot ask for a name of more than
    /// 200 bytes. After [`shutdown`](Self::shutdown) the call is ignored.
    ///
    /// ```
    /// use grpc_health_service::{HealthService, ServingStatus};
    ///
    /// let (health, _service) = HealthService::new();
    /// assert_eq!(health.status("orders"), None);
    /// health.set("orders", ServingStatus::Serving);
    /// assert_eq!(health.status("orders"), Some(ServingStatus::Serving));
    /// ```
    pub fn set(&self, name: impl AsRef<str>, status: ServingStatus) {
        self.change_one(name.as_ref(), |registry, name| {
            registry.on_set(name, status)
        });
    }

    /// Changes one status, and logs that.
    fn change_one(
        &self,
        name: &str,
        change: impl FnOnce(&mut Registry<Waker>, &str) -> Vec<Waker>,
    ) {
        let (mut from, mut to) = (None, None);
        let changes = self.shared.update(|registry| {
            from = registry.status(name);
            let woken = change(registry, name);
            to = registry.status(name);
            woken
        });
        if changes > 0 {
            self.shared.log().one(name, from, to);
        }
    }

    /// Changes several statuses to one, and logs that.
    fn change_several(
        &self,
        to: ServingStatus,
        by: &str,
        change: impl FnOnce(&mut Registry<Waker>) -> Vec<Waker>,
    ) {
        let changes = self.shared.update(change);
        if changes > 0 {
            self.shared.log().several(changes, to, by);
        }
    }

    /// Sets several services at one moment: no `List` sees a part of them.
    pub fn set_each<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        status: ServingStatus,
    ) {
        // The caller's iterator may use the handle, so it runs before the lock is taken.
        let names: Vec<N> = names.into_iter().collect();
        self.change_several(status, "set_each", |registry| {
            let mut woken = Vec::new();
            for name in &names {
                woken.extend(registry.on_set(name.as_ref(), status));
            }
            woken
        });
    }

    /// Sets every service that has a status, also `""`.
    pub fn set_all(&self, status: ServingStatus) {
        self.change_several(status, "set_all", |registry| registry.on_set_all(status));
    }

    /// Sets a service to SERVING, by the name in its generated server.
    ///
    /// ```
    /// # use grpc_health_service::{HealthService, ServingStatus};
    /// # struct GreeterServer;
    /// # impl tonic::server::NamedService for GreeterServer {
    /// #     const NAME: &'static str = "demo.v1.Greeter";
    /// # }
    /// let (health, _service) = HealthService::new();
    /// health.set_serving::<GreeterServer>();
    /// assert_eq!(health.status("demo.v1.Greeter"), Some(ServingStatus::Serving));
    /// ```
    pub fn set_serving<S: NamedService>(&self) {
        self.set(S::NAME, ServingStatus::Serving);
    }

    /// Sets a service to NOT_SERVING, by the name in its generated server.
    pub fn set_not_serving<S: NamedService>(&self) {
        self.set(S::NAME, ServingStatus::NotServing);
    }

    /// Takes the status of a service away.
    ///
    /// Its watchers get SERVICE_UNKNOWN and stay, and `Check` fails with NOT_FOUND. After
    /// [`shutdown`](Self::shutdown) the call is ignored.
    pub fn clear(&self, name: impl AsRef<str>) {
        self.change_one(name.as_ref(), Registry::on_clear);
    }

    /// The status of a service, or `None` if it has none.
    #[must_use]
    pub fn status(&self, name: impl AsRef<str>) -> Option<ServingStatus> {
        self.shared.ask(|registry| registry.status(name.as_ref()))
    }

    /// The number of open `Watch` streams.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.shared.ask(Registry::watchers)
    }

    /// Sets every service that has a status to NOT_SERVING, and ignores what is set or cleared
    /// later, until [`resume`](Self::resume).
    ///
    /// This is grpc-go's `Shutdown`: checks and other tasks that still set statuses cannot undo
    /// it. Streams of `Watch` stay open, and hold up a graceful
    /// stop: [`drain`](Self::drain) ends them.
    pub fn shutdown(&self) {
        self.change_several(ServingStatus::NotServing, "shutdown", Registry::on_shutdown);
    }

    /// Sets every service that has a status to SERVING, and ends a [`shutdown`](Self::shutdown).
    ///
    /// This is grpc-go's `Resume`. It is ignored once a drain has begun, because streams have
    /// been or will be ended.
    pub fn resume(&self) {
        self.change_several(ServingStatus::Serving, "resume", Registry::on_resume);
    }
}
