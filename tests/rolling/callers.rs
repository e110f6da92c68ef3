//! Callers on a channel of this crate.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use testing::{GREETER, balanced_at, greeter, request, within};
use tokio::task::JoinSet;
use tonic_health_channel::{Channel, ConnectivityState::Ready, status::ChannelStatus};

use crate::roll::Calls;

/// Each calls again when it has its answer.
pub(crate) const CALLERS: usize = 16;

pub(crate) struct Callers {
    channel: Channel,
    stop: Arc<AtomicBool>,
    numbers: Arc<AtomicU64>,
    /// Each returns why its calls failed.
    callers: JoinSet<Vec<String>>,
}

impl Callers {
    pub(crate) fn start(addresses: Vec<SocketAddr>) -> Self {
        let uris = addresses.iter().map(|address| format!("http://{address}"));
        let channel = balanced_at(uris, Some(GREETER)).build();
        let (stop, numbers) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let callers = (0..CALLERS).map(|_| call(channel.clone(), stop.clone(), numbers.clone()));
        Self {
            callers: callers.collect(),
            channel,
            stop,
            numbers,
        }
    }

    /// The calls that were made until all backends were READY again.
    pub(crate) async fn end_when_all_ready(self) -> Calls {
        let all_ready = |status: &ChannelStatus| {
            let mut backends = status.backends().iter();
            backends.all(|backend| backend.state() == Ready)
        };
        let mut status = self.channel.watch_status();
        within("all backends to be READY", status.wait_for(all_ready)).await;
        self.stop.store(true, Relaxed);
        let lost = within("all callers to end", self.callers.join_all()).await;
        Calls {
            made: self.numbers.load(Relaxed),
            lost: lost.into_iter().flatten().collect(),
        }
    }
}

async fn call(channel: Channel, stop: Arc<AtomicBool>, numbers: Arc<AtomicU64>) -> Vec<String> {
    let mut client = greeter(&channel);
    let mut lost = Vec::new();
    while !stop.load(Relaxed) {
        let number = numbers.fetch_add(1, Relaxed).to_string();
        let reply = within("an answer", client.say_hello(request(&number))).await;
        match reply {
            Ok(reply) => assert_eq!(reply.into_inner().message, number),
            Err(status) => lost.push(format!("call {number}: {status}")),
        }
    }
    lost
}
