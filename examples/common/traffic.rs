//! Steady calls, and what became of each.

use std::{collections::BTreeMap, fmt, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{self, Instant},
};
use tonic::{Code, Request, Status};
use tonic_health_channel::Channel;

use super::{
    greeter::{HelloRequest, greeter_client::GreeterClient},
    report::short,
};

/// No call may take longer, whatever happens.
const DEADLINE: Duration = Duration::from_secs(2);

/// One call that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    /// Who answered, or why nobody did.
    pub(crate) outcome: Result<String, Status>,
}

/// `A answered in 0.6 ms`, or the code and text of the error.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = short(self.took);
        match &self.outcome {
            Ok(backend) => write!(f, "{backend} answered in {took}"),
            Err(_) => write!(f, "failed in {took}: {}", self.error()),
        }
    }
}

impl Ended {
    pub(crate) fn by(&self, backend: &str) -> bool {
        self.outcome.as_deref().is_ok_and(|by| by == backend)
    }

    /// Code and text of its error, if it has one.
    pub(crate) fn error(&self) -> String {
        let error = self.outcome.as_ref().err();
        let text = |status: &Status| format!("{:?}: {}", status.code(), status.message());
        error.map_or_else(String::new, text)
    }

    pub(crate) fn failed_with(&self, code: Code, text: &str) -> bool {
        let failed = self.outcome.as_ref().err();
        failed.is_some_and(|status| status.code() == code && status.message().contains(text))
    }
}

/// Calls that begin at a steady pace, however long each takes. They stop when
/// this is dropped.
#[derive(Debug)]
pub(crate) struct Traffic {
    ended: mpsc::UnboundedReceiver<Ended>,
    task: JoinHandle<()>,
}

impl Traffic {
    pub(crate) fn start(client: GreeterClient<Channel>, every: Duration) -> Self {
        let (report, ended) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut pace = time::interval(every);
            pace.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
            loop {
                pace.tick().await;
                let (client, report) = (client.clone(), report.clone());
                tokio::spawn(async move {
                    // Nobody listens any more once the traffic has been dropped.
                    let _ = report.send(call(client).await);
                });
            }
        });
        Self { ended, task }
    }

    /// The next call to end.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Ended {
        let next = self.ended.recv().await;
        next.expect("calls are made for as long as there is a `Traffic`")
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One call with a deadline.
pub(crate) async fn call(mut client: GreeterClient<Channel>) -> Ended {
    let mut request = Request::new(HelloRequest {
        name: "you".to_owned(),
        count: 0,
    });
    request.set_timeout(DEADLINE);
    let began = Instant::now();
    let reply = client.say_hello(request).await;
    Ended {
        began,
        took: began.elapsed(),
        outcome: reply.map(|reply| reply.into_inner().backend),
    }
}

/// How calls ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: BTreeMap<String, usize>,
    pub(crate) failed: usize,
}

impl Tally {
    pub(crate) fn count(&mut self, ended: &Ended) {
        match &ended.outcome {
            Ok(backend) => *self.answered.entry(backend.clone()).or_default() += 1,
            Err(_) => self.failed += 1,
        }
    }

    pub(crate) fn answered_by(&self, backend: &str) -> usize {
        self.answered.get(backend).copied().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> usize {
        self.answered.values().sum::<usize>() + self.failed
    }
}

/// `A 6, B 6, failed 0`
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (backend, count) in &self.answered {
            write!(f, "{backend} {count}, ")?;
        }
        write!(f, "failed {}", self.failed)
    }
}
