//! Callers who call without end, and do not forgive.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::task::JoinSet;
use tonic_health_channel::Channel;

use crate::{greeter::HelloRequest, stage::client};

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Result<BTreeMap<String, u64>, String>>,
}

impl Load {
    /// `callers` that greet `name`, each as soon as it has the reply to the last.
    pub(crate) fn start(channel: &Channel, callers: usize, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..callers).map(|_| {
            let (mut client, stop) = (client(channel), stop.clone());
            async move {
                let mut replies = BTreeMap::new();
                while !stop.load(Relaxed) {
                    let request = HelloRequest {
                        name: name.to_owned(),
                        count: 1,
                    };
                    let before: u64 = replies.values().sum();
                    let reply = client.say_hello(request).await;
                    let reply = reply.map_err(|status| {
                        format!("expected no failed call; seen, after {before}: {status:?}")
                    })?;
                    *replies.entry(reply.into_inner().backend).or_default() += 1;
                }
                Ok(replies)
            }
        });
        Self {
            callers: callers.collect(),
            stop,
        }
    }

    /// How many calls each backend answered. Fails if one call did.
    pub(crate) async fn stop(mut self) -> Result<BTreeMap<String, u64>, String> {
        self.stop.store(true, Relaxed);
        let mut all = BTreeMap::new();
        while let Some(caller) = self.callers.join_next().await {
            for (backend, calls) in caller.map_err(|panic| panic.to_string())?? {
                *all.entry(backend).or_default() += calls;
            }
        }
        Ok(all)
    }
}
