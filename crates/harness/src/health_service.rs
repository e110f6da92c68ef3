//! A health service that follows the protocol to the letter, or a script.
//!
//! Watch tells the present status at once and then every change; an unknown
//! service is SERVICE_UNKNOWN and the stream stays open; a status that is set
//! again is not repeated; a client that reads slowly gets the newest, not all.
//! Check fails with NOT_FOUND for an unknown service. List tells everything.

use std::{collections::BTreeMap, pin::Pin};

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

use super::{
    health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_server::Health,
    },
    scripts::{CheckScript, Plan, WatchScript},
};

/// Numbers of the health protocol, as `set_status` takes them.
pub const UNKNOWN: i32 = 0;
pub const SERVING: i32 = 1;
pub const NOT_SERVING: i32 = 2;
pub const SERVICE_UNKNOWN: i32 = 3;

/// What the watchers look at.
#[derive(Debug)]
struct Board {
    statuses: BTreeMap<String, i32>,
    /// How often the held first messages were let go.
    releases: usize,
    /// How often all open Watches were told to end, and how the last time.
    ends: (usize, Code),
}

#[derive(Debug)]
pub(crate) struct ScriptedHealth {
    board: watch::Sender<Board>,
    pub checks: Plan<CheckScript>,
    /// `false`: Watch is UNIMPLEMENTED, as in servers older than it.
    has_watch: bool,
}

impl ScriptedHealth {
    pub(crate) fn new(statuses: BTreeMap<String, i32>, has_watch: bool) -> Self {
        let board = Board {
            statuses,
            releases: 0,
            ends: (0, Code::Ok),
        };
        Self {
            board: watch::Sender::new(board),
            checks: Plan::always(CheckScript::Normal),
            has_watch,
        }
    }

    pub(crate) fn set(&self, service: &str, status: i32) {
        self.board.send_modify(|board| {
            board.statuses.insert(service.to_owned(), status);
        });
    }

    pub(crate) fn clear(&self, service: &str) {
        self.board.send_modify(|board| {
            board.statuses.remove(service);
        });
    }

    pub(crate) fn release_watches(&self) {
        self.board.send_modify(|board| board.releases += 1);
    }

    pub(crate) fn end_watches(&self, code: Code) {
        self.board
            .send_modify(|board| board.ends = (board.ends.0 + 1, code));
    }

    fn status(&self, service: &str) -> Option<i32> {
        self.board.borrow().statuses.get(service).copied()
    }
}

#[tonic::async_trait]
impl Health for ScriptedHealth {
    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = match self.checks.take() {
            CheckScript::Normal => self
                .status(&request.get_ref().service)
                .ok_or_else(|| Status::not_found("this backend knows no such service"))?,
            CheckScript::NeverAnswer => std::future::pending().await,
            CheckScript::Unimplemented => return Err(Status::unimplemented("no Check here")),
            CheckScript::Status(status) => status,
        };
        Ok(Response::new(HealthCheckResponse { status }))
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let statuses = self.board.borrow().statuses.clone();
        let statuses = statuses
            .into_iter()
            .map(|(service, status)| (service, HealthCheckResponse { status }))
            .collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !self.has_watch {
            return Err(Status::unimplemented("no Watch here"));
        }
        // The front has picked the script, because it counts the calls too.
        let script = match request.extensions().get::<WatchScript>() {
            Some(script) => script.clone(),
            None => WatchScript::Normal,
        };
        match script {
            WatchScript::NeverAnswer => std::future::pending().await,
            WatchScript::EndWith {
                code,
                after_messages: 0,
            } if code != Code::Ok => return Err(scripted_end(code)),
            _ => {}
        }
        let watcher = Watcher::new(self, request.into_inner().service, script);
        let answers = stream::unfold(watcher, |mut watcher| async move {
            let answer = watcher.next().await?;
            Some((answer, watcher))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// One open Watch.
struct Watcher {
    board: watch::Receiver<Board>,
    service: String,
    script: WatchScript,
    sent: usize,
    last: Option<i32>,
    /// What the board said of these when the Watch began.
    releases: usize,
    ends: usize,
    ended: bool,
}

/// Why a watcher stops waiting.
enum Wake {
    News,
    End(Code),
}

impl Watcher {
    fn new(health: &ScriptedHealth, service: String, script: WatchScript) -> Self {
        let board = health.board.subscribe();
        let (releases, ends) = {
            let now = board.borrow();
            (now.releases, now.ends.0)
        };
        Self {
            board,
            service,
            script,
            sent: 0,
            last: None,
            releases,
            ends,
            ended: false,
        }
    }

    async fn next(&mut self) -> Option<Result<HealthCheckResponse, Status>> {
        if self.ended {
            return None;
        }
        match self.wait().await {
            Wake::News => {}
            Wake::End(code) => {
                self.ended = true;
                return (code != Code::Ok).then(|| Err(scripted_end(code)));
            }
        }
        let status = self.choose();
        self.sent += 1;
        self.last = Some(status);
        Some(Ok(HealthCheckResponse { status }))
    }

    /// Waits until the script and the board have something to say.
    async fn wait(&mut self) -> Wake {
        let first = self.sent == 0;
        let (releases, last) = (self.releases, self.last);
        let service = self.service.clone();
        match self.script {
            WatchScript::EndWith {
                code,
                after_messages,
            } if self.sent >= after_messages => Wake::End(code),
            WatchScript::EndWith { .. } => Wake::News,
            WatchScript::Flood(n) if self.sent < n => Wake::News,
            WatchScript::UnknownNumber(_) if first => Wake::News,
            WatchScript::UnknownNumber(_) | WatchScript::HeadersOnly => self.news(|_| false).await,
            WatchScript::HoldFirst if first => {
                self.news(move |board| board.releases > releases).await
            }
            WatchScript::DelayFirst(delay) if first => {
                tokio::time::sleep(delay).await;
                Wake::News
            }
            _ => {
                self.news(move |board| last != Some(present(board, &service)))
                    .await
            }
        }
    }

    /// Waits for news on the board, or for the order to end.
    async fn news(&mut self, mut is_news: impl FnMut(&Board) -> bool) -> Wake {
        let ends = self.ends;
        let wait = self
            .board
            .wait_for(|board| board.ends.0 > ends || is_news(board));
        match wait.await {
            Ok(board) if board.ends.0 > ends => Wake::End(board.ends.1),
            Ok(_) => Wake::News,
            Err(_) => Wake::End(Code::Unavailable),
        }
    }

    fn choose(&self) -> i32 {
        let status = present(&self.board.borrow(), &self.service);
        match self.script {
            WatchScript::UnknownNumber(number) => number,
            WatchScript::Flood(n) if self.sent < n && (n - self.sent).is_multiple_of(2) => {
                if status == SERVING {
                    NOT_SERVING
                } else {
                    SERVING
                }
            }
            _ => status,
        }
    }
}

fn present(board: &Board, service: &str) -> i32 {
    board
        .statuses
        .get(service)
        .copied()
        .unwrap_or(SERVICE_UNKNOWN)
}

fn scripted_end(code: Code) -> Status {
    Status::new(code, "the script ends this Watch")
}
