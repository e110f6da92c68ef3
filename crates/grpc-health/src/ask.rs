//! Asking each backend of a target, for `check`, `list` and `channels`.
//!
//! ```text
//!   target ──► Channel, health checks off ──► its READY backends ──► a connection each
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tokio::time::{self, Instant};
use tonic::{Request, Response, Status as RpcStatus, metadata::MetadataMap};
use tonic_health_channel::{
    Channel, ConnectivityState,
    channel::{BackendConnection, Change, ReadyBackends},
    status::{BackendId, BackendStatus, ChannelStatus, StatusWatch},
};

use crate::{answer::Answer, connect::ConnectArgs, exit::Exit, targets};

/// A target and the connections to its backends.
pub(crate) struct Target {
    pub(crate) name: String,
    channel: Channel,
    ready: ReadyBackends,
    connections: BTreeMap<BackendId, BackendConnection>,
    connect: ConnectArgs,
    headers: MetadataMap,
}

/// A backend that can be asked, or why it cannot.
pub(crate) struct Backend {
    pub(crate) label: String,
    /// Where it is. Empty if the target has named no backend: its source is meant.
    pub(crate) address: String,
    pub(crate) connection: Result<BackendConnection, Answer>,
    /// What goes with each call.
    headers: MetadataMap,
}

impl Target {
    /// Starts to connect to every backend of each of `targets`.
    pub(crate) fn open(targets: &[String], connect: &ConnectArgs) -> Result<Vec<Self>, Exit> {
        connect.check(targets)?;
        let headers = connect.headers()?;
        let builders = targets
            .iter()
            .map(|target| Ok((target, targets::channel(target, connect)?)));
        // All are known to be good before any is asked.
        let builders = builders.collect::<Result<Vec<_>, Exit>>()?;
        let opened = builders.into_iter().map(|(target, builder)| {
            let channel = builder.disable_service_config_updates(true).build();
            Self {
                name: target.clone(),
                ready: channel.ready_backends(),
                channel,
                connections: BTreeMap::new(),
                connect: connect.clone(),
                headers: headers.clone(),
            }
        });
        Ok(opened.collect())
    }

    /// Its backends, once it is known of each whether there is a connection.
    pub(crate) async fn backends(&mut self) -> Vec<Backend> {
        let began = Instant::now();
        let mut watch = self.channel.watch_status();
        let status = self.settled(&mut watch).await;
        while let Some(Some(change)) = self.ready.next().now_or_never() {
            match change {
                Ok(Change::Insert(id, connection)) => {
                    self.connections.insert(id, connection);
                }
                Ok(Change::Remove(id)) => {
                    self.connections.remove(&id);
                }
                Err(never) => match never {},
            }
        }
        if status.backends().is_empty() {
            let why = match status.cause() {
                Some(cause) => targets::trouble(cause),
                None => format!(
                    "no backend is known after {:?}",
                    self.connect.connect_timeout()
                ),
            };
            return vec![Backend {
                label: self.name.clone(),
                address: String::new(),
                headers: MetadataMap::new(),
                connection: Err(Answer::unreachable(why)),
            }];
        }
        let backends = status.backends().iter();
        let backends: Vec<_> = backends.map(|backend| self.backend(backend)).collect();
        let connected = backends.iter().filter(|backend| backend.connection.is_ok());
        self.connect.log(format_args!(
            "{}: {} of {} backends connected in {:?}",
            self.name,
            connected.count(),
            backends.len(),
            began.elapsed()
        ));
        backends
    }

    /// The backends are named, or will not be; and each is connected, or has failed. The
    /// channel bounds the time for each connection by itself.
    async fn settled(&self, watch: &mut StatusWatch) -> Arc<ChannelStatus> {
        let is_named =
            |status: &ChannelStatus| !status.backends().is_empty() || status.cause().is_some();
        if time::timeout(self.connect.connect_timeout(), watch.wait_for(is_named))
            .await
            .is_err()
        {
            return watch.status();
        }
        let is_settled = |status: &ChannelStatus| {
            status.backends().iter().all(|backend| {
                matches!(
                    backend.state(),
                    ConnectivityState::Ready | ConnectivityState::TransientFailure
                )
            })
        };
        // Longer than the channel gives one: its reason is better than ours.
        let settled = time::timeout(
            2 * self.connect.connect_timeout(),
            watch.wait_for(is_settled),
        )
        .await;
        settled.unwrap_or_else(|_| watch.status())
    }

    fn backend(&self, backend: &BackendStatus) -> Backend {
        let connection = self.connections.get(&backend.id()).cloned();
        let connection = connection.ok_or_else(|| {
            let why = match backend.last_error() {
                Some((cause, _)) => cause.to_string(),
                None => "not connected".to_owned(),
            };
            Answer::unreachable(why)
        });
        Backend {
            label: backend.label().to_owned(),
            address: backend.address().to_owned(),
            connection,
            headers: self.headers.clone(),
        }
    }
}

impl Backend {
    /// Makes a call on its connection, for at most `timeout`. Its request says so to the
    /// server. A server that lacks the method has no `lacking`.
    pub(crate) async fn call<Q, T>(
        &self,
        timeout: Duration,
        question: Q,
        lacking: &str,
        call: impl AsyncFnOnce(BackendConnection, Request<Q>) -> Result<Response<T>, RpcStatus>,
    ) -> Result<T, Answer> {
        let connection = self.connection.as_ref().map_err(Clone::clone)?;
        let mut request = Request::new(question);
        *request.metadata_mut() = self.headers.clone();
        request.set_timeout(timeout);
        let answer = match time::timeout(timeout, call(connection.clone(), request)).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => {
                let text = format!("no answer within {}", humantime::format_duration(timeout));
                Err(RpcStatus::deadline_exceeded(text))
            }
        };
        answer.map_err(|status| Answer::failed(&status, lacking))
    }

    /// Why there is no answer of it: how the program ends, and a line that says so.
    pub(crate) fn failure(&self, why: &Answer) -> (Exit, String) {
        let text = why.error().unwrap_or_default();
        (why.exit(), format!("error: {}: {text}", self.name()))
    }

    /// Its label, and its address if that is something else.
    pub(crate) fn name(&self) -> String {
        match self.address.is_empty() || self.address == self.label {
            true => self.label.clone(),
            false => format!("{} ({})", self.label, self.address),
        }
    }
}
