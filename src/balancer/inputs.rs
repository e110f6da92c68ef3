//! What the worker waits for, each kind in its turn.

use std::{future::pending, pin::pin, time::Instant};

use futures_util::FutureExt;
use tokio::{sync::mpsc, task};

use super::{
    config_updates::{self, ConfigUpdates},
    effects::SubchannelId,
    in_turn::InTurn,
    source_with_retry::{FromSource, SourceWithRetry},
    task_end::TaskEnd,
};
use crate::{
    routing::{Board, Command},
    service_config::ServiceConfig,
    subchannel::ReportMessage,
    util::clock::sleep_until,
};

/// Changes and reports taken in before the next publication. Ten thousand
/// backends that come up together are then published a few times, not ten
/// thousand.
pub(super) const BATCH: usize = 256;

/// All that comes to the worker, but for what calls leave on its board.
pub(super) struct Inputs {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) reports: mpsc::Receiver<ReportMessage<SubchannelId>>,
    /// The ends of the subchannels' tasks: one for each, so it is bounded by their number.
    pub(super) ends: mpsc::UnboundedReceiver<TaskEnd>,
    pub(super) source: SourceWithRetry,
    pub(super) config_updates: Option<ConfigUpdates>,
    pub(super) in_turn: InTurn,
}

pub(super) enum Input {
    /// `None` when the channel has been dropped.
    Command(Option<Command>),
    /// They are in the buffer.
    Reports,
    End(TaskEnd),
    Named(FromSource),
    Config(Option<Result<Option<ServiceConfig>, String>>),
    /// A call has found the channel IDLE.
    Woken,
    /// A call has found that the worker does not run. It may want the next attempt to connect now.
    Called {
        hurry: bool,
    },
    IdleCheckDue,
    PolicyDue,
    RestartDue,
    PublicationDue,
}

/// When the worker has something to do by itself.
pub(super) struct Due {
    pub(super) idle_check: Option<Instant>,
    pub(super) policy: Option<Instant>,
    pub(super) restart: Option<Instant>,
    pub(super) publication: Option<Instant>,
}

impl Inputs {
    /// The next one. The source is asked if it `may_name` backends.
    ///
    /// A flood of one kind must not starve the others. What may be ready for ever, a source,
    /// leaves time for other tasks by itself.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn next(
        &mut self,
        board: &Board,
        messages: &mut Vec<ReportMessage<SubchannelId>>,
        may_name: bool,
        due: Due,
    ) -> Input {
        let Self {
            commands,
            reports,
            ends,
            source,
            config_updates,
            in_turn,
        } = self;
        let called = board.standstill().called();
        in_turn
            .first([
                pin!(commands.recv().map(Input::Command)),
                pin!(reports.recv_many(messages, BATCH).map(|_| Input::Reports)),
                pin!(next_end(ends).map(Input::End)),
                pin!(next_name(source, may_name).map(Input::Named)),
                pin!(config_updates::next(config_updates).map(Input::Config)),
                pin!(board.woken().map(|()| Input::Woken)),
                pin!(called.map(|hurry| Input::Called { hurry })),
                pin!(sleep_until(due.idle_check).map(|()| Input::IdleCheckDue)),
                pin!(sleep_until(due.policy).map(|()| Input::PolicyDue)),
                pin!(sleep_until(due.restart).map(|()| Input::RestartDue)),
                pin!(sleep_until(due.publication).map(|()| Input::PublicationDue)),
            ])
            .await
    }

    /// Takes along the reports that are on their way: backends come up in crowds,
    /// and each publication costs as much as there are backends. Nothing waits
    /// for it, as a subchannel takes its connection out of use by itself.
    pub(super) async fn drain_pending_reports(
        &mut self,
        messages: &mut Vec<ReportMessage<SubchannelId>>,
    ) {
        task::yield_now().await;
        while messages.len() < BATCH
            && let Ok(another) = self.reports.try_recv()
        {
            messages.push(another);
        }
    }
}

async fn next_end(ends: &mut mpsc::UnboundedReceiver<TaskEnd>) -> TaskEnd {
    match ends.recv().await {
        Some(end) => end,
        // The worker holds a sender.
        None => pending().await,
    }
}

async fn next_name(source: &mut SourceWithRetry, may_name: bool) -> FromSource {
    match may_name {
        true => source.next().await,
        false => pending().await,
    }
}
