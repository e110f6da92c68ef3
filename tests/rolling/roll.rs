//! One restart after another, and what it came to.

use std::{collections::BTreeMap, env, fmt, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::{
    ledger::{Counts, Ledger},
    server::{Server, Stop},
};

pub(crate) const SERVERS: usize = 20;

/// The environment variable for more than 1 restart of each server.
const ROUNDS: &str = "ROLLING_ROUNDS";

/// The calls as callers saw them.
#[derive(Debug)]
pub(crate) struct Calls {
    /// Their numbers are those below it.
    pub(crate) made: u64,
    /// Why calls failed, with their numbers.
    pub(crate) lost: Vec<String>,
}

pub(crate) struct Fleet {
    servers: Vec<Server>,
    stop: Stop,
    ledger: Arc<Ledger>,
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Outcome {
    client: &'static str,
    stop: Stop,
    pub(crate) calls: u64,
    pub(crate) lost: Vec<String>,
    /// How often a request arrived that had arrived before.
    pub(crate) sent_again: u64,
    /// Sorted.
    stops: Vec<Duration>,
}

impl Fleet {
    pub(crate) fn start(stop: Stop) -> Self {
        let ledger = Arc::<Ledger>::default();
        let servers = (0..SERVERS).map(|_| Server::start(stop, Arc::clone(&ledger)));
        Self {
            servers: servers.collect(),
            stop,
            ledger,
        }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// Restarts each server when all have calls, and returns how long each took to end.
    pub(crate) async fn roll(&mut self) -> Vec<Duration> {
        let rounds = env::var(ROUNDS).map_or(1, |rounds| rounds.parse().expect("a number"));
        for server in &mut self.servers {
            server.until_in_use().await;
        }
        let mut stops = Vec::new();
        for _ in 0..rounds {
            for server in &mut self.servers {
                stops.push(server.restart().await);
                server.until_in_use().await;
            }
        }
        stops
    }

    /// The row, once it is clear that each call was processed as often as it was answered.
    pub(crate) async fn outcome(
        mut self,
        client: &'static str,
        calls: Calls,
        mut stops: Vec<Duration>,
    ) -> Outcome {
        join_all(self.servers.iter_mut().map(Server::stop)).await;
        stops.sort();
        let counts = self.ledger.counts();
        assert_processed_once(&counts, &calls);
        let outcome = Outcome {
            client,
            stop: self.stop,
            calls: calls.made,
            lost: calls.lost,
            sent_again: counts
                .values()
                .map(|call| call.arrived.saturating_sub(1))
                .sum(),
            stops,
        };
        println!("{outcome}");
        outcome
    }
}

/// No call was processed twice, and none was answered that did not arrive.
fn assert_processed_once(counts: &BTreeMap<u64, Counts>, calls: &Calls) {
    let mut processed = 0;
    for (number, call) in counts {
        assert!(*number < calls.made, "call {number} was not made");
        assert!(call.processed <= 1, "call {number}: {call:?}");
        assert!(call.arrived >= call.processed, "call {number}: {call:?}");
        processed += call.processed;
    }
    let answered = calls.made - calls.lost.len() as u64;
    assert!(
        (answered..=calls.made).contains(&processed),
        "{processed} of {calls:?}"
    );
}

impl Outcome {
    pub(crate) fn quickest_stop(&self) -> Duration {
        self.stops[0]
    }

    pub(crate) fn slowest_stop(&self) -> Duration {
        *self.stops.last().expect("each server was stopped")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stop = match self.stop {
            Stop::Drain => "`drain_on`",
            Stop::Graceful => "tonic's graceful stop alone",
            Stop::Kill => "killed",
        };
        let median = self.stops[self.stops.len() / 2].as_millis();
        let slowest = self.slowest_stop().as_millis();
        write!(
            f,
            "| {} | {stop} | {} | {} | {} | {} | {median} ms | {slowest} ms |",
            self.client,
            self.stops.len(),
            self.calls,
            self.lost.len(),
            self.sent_again,
        )
    }
}
