//! The end of a subchannel's task, as its balancer learns of it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::effects::SubchannelId;
use crate::{
    connectivity::ConnectivityState,
    error::{Cause, CauseKind},
    health::HealthStatus,
    subchannel::Report,
    util::contained::contained_future,
};

/// Until a task that has died is started again.
pub(super) const RESTART: Duration = Duration::from_secs(1);

/// The subchannels whose tasks are to be started again, the next first.
#[derive(Default)]
pub(super) struct Restarts(VecDeque<(Instant, SubchannelId)>);

impl Restarts {
    /// Says when.
    pub(super) fn add(&mut self, now: Instant, id: SubchannelId) -> Instant {
        let at = now + RESTART;
        self.0.push_back((at, id));
        at
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.front().map(|(at, _)| *at)
    }

    pub(super) fn due(&mut self, now: Instant) -> Option<SubchannelId> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop_front().map(|(_, id)| id)
    }
}

/// How the task of a subchannel ended: because it was stopped, or else.
pub(super) struct TaskEnd {
    pub(super) id: SubchannelId,
    /// What the panic said that ended it.
    panicked: Option<String>,
}

impl TaskEnd {
    /// What calls and users see until it runs again.
    pub(super) fn report(self, next: Instant) -> Report {
        let text = match self.panicked {
            Some(text) => format!("the task of this backend panicked: {text}"),
            None => "the task of this backend was dropped".to_owned(),
        };
        Report {
            silence: None,
            state: ConnectivityState::TransientFailure,
            health: HealthStatus::NotChecked,
            cause: Some(Cause::new(CauseKind::Connect, text)),
            attempt: 1,
            next_attempt: Some(next),
            connections: 0,
        }
    }
}

/// Goes with a task, and tells its end however that comes: by a panic, or by an executor that
/// drops the task.
pub(super) struct TellEnd {
    id: SubchannelId,
    panicked: Option<String>,
    ends: mpsc::UnboundedSender<TaskEnd>,
}

impl TellEnd {
    pub(super) fn new(id: SubchannelId, ends: mpsc::UnboundedSender<TaskEnd>) -> Self {
        Self {
            id,
            panicked: None,
            ends,
        }
    }

    /// Runs `task`, and tells its end when it is dropped at the latest.
    pub(super) async fn of(mut self, task: impl Future<Output = ()>) {
        self.panicked = contained_future(task).await.err();
    }
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        let (id, panicked) = (self.id, self.panicked.take());
        // A balancer that is gone needs no news.
        let _ = self.ends.send(TaskEnd { id, panicked });
    }
}
