//! A source of backends of one's own.
//!
//! A source is a stream of changes: `Insert` a key with the endpoint it stands for, or
//! `Remove` the key. This one plays a deployment that rolls: of three servers, two are
//! in service at a time, and every half second the oldest makes room for the next. In
//! the real world the changes come from a registry, a control plane, a file.
//!
//! ```text
//! $ cargo run --example custom_discover
//!    0.00s  A B    A 25  B 25
//!    0.50s  B C    B 25  C 25
//!    1.00s  A C    A 25  C 25
//!    1.50s  A B    A 25  B 25
//! ```
//!
//! Exits with 1 if a call fails.

mod common;

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use common::{
    Result,
    backend::{self, GREETER, GreeterService},
    greeter::{HelloRequest, greeter_client::GreeterClient},
};
use futures_util::Stream;
use tokio::time::{Instant, Interval, interval, timeout_at};
use tonic_health_channel::{
    Channel, ConnectivityState::Ready, Endpoint, channel::Change, status::ChannelStatus,
};

/// How often the set changes.
const EVERY: Duration = Duration::from_millis(500);
/// How many sets there are before the last one stays.
const SETS: u32 = 4;

/// Two servers of a pool at a time.
struct Rolling {
    pool: Vec<(&'static str, Endpoint)>,
    timer: Interval,
    rolled: u32,
    changes: VecDeque<Change<&'static str, Endpoint>>,
}

impl Rolling {
    fn new(pool: Vec<(&'static str, Endpoint)>) -> Self {
        Self {
            pool,
            timer: interval(EVERY),
            rolled: 0,
            changes: VecDeque::new(),
        }
    }

    fn server(&self, n: u32) -> (&'static str, Endpoint) {
        self.pool[n as usize % self.pool.len()].clone()
    }

    fn roll(&mut self) {
        let n = self.rolled;
        if n == 0 {
            let (first, endpoint) = self.server(0);
            self.changes.push_back(Change::Insert(first, endpoint));
        } else {
            self.changes.push_back(Change::Remove(self.server(n - 1).0));
        }
        let (next, endpoint) = self.server(n + 1);
        self.changes.push_back(Change::Insert(next, endpoint));
        self.rolled += 1;
    }
}

/// That is all it takes: tower makes a `Discover` of every such stream. Keys are
/// what the application calls its backends, and the channel calls them so too.
impl Stream for Rolling {
    type Item = std::result::Result<Change<&'static str, Endpoint>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Poll::Ready(Some(Ok(change)));
            }
            if self.rolled == SETS {
                return Poll::Ready(None); // the set stays as it is
            }
            ready!(self.timer.poll_tick(cx));
            self.roll();
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    common::log_to_stderr();
    let mut pool = Vec::new();
    for name in ["A", "B", "C"] {
        let (uri, _control) = backend::start(GreeterService::new(name.to_owned())).await?;
        pool.push((name, Endpoint::new(uri)?));
    }
    let config = format!(r#"{{"healthCheckConfig": {{"serviceName": "{GREETER}"}}}}"#);
    let channel = Channel::balance(Rolling::new(pool))
        .service_config(config.parse()?)
        .build();

    let start = Instant::now();
    let mut watch = channel.watch_status();
    let mut last = Vec::new();
    let end = start + EVERY * SETS;
    loop {
        let changed = watch.wait_for(|status| {
            let ready = ready_ones(status);
            ready.len() == 2 && ready != last
        });
        let Ok(status) = timeout_at(end, changed).await else {
            return Ok(());
        };
        last = ready_ones(&status);
        let at = start.elapsed().as_secs_f64();
        println!(
            "{at:>7.2}s  {}    {}",
            last.join(" "),
            fifty_calls(&channel).await?
        );
    }
}

/// The backends that take calls, by the names that the source gave them.
fn ready_ones(status: &ChannelStatus) -> Vec<String> {
    let ready = status.backends().iter().filter(|b| b.state() == Ready);
    let mut labels: Vec<_> = ready.map(|b| b.label().to_owned()).collect();
    labels.sort();
    labels
}

/// Who answered how many.
async fn fifty_calls(channel: &Channel) -> Result<String> {
    let mut client = GreeterClient::new(channel.clone());
    let mut answered = BTreeMap::<_, usize>::new();
    for _ in 0..50 {
        let reply = client.say_hello(HelloRequest::default()).await?;
        *answered.entry(reply.into_inner().backend).or_default() += 1;
    }
    let counts: Vec<_> = answered
        .iter()
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    Ok(counts.join("  "))
}
