//! Looks up when the machine says so, and tells what it makes of the answers.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures_util::{Stream, stream};
use tokio::select;
use tower::discover::Change;
use tracing::warn;

use super::{
    found::{Families, Found},
    machine::Machine,
    options::{Item, Options},
};
use crate::{
    error::{Error, ErrorKind},
    util::clock::{now, sleep_until},
};

/// The target of what is logged here; see the crate's documentation.
const DISCOVER: &str = "tonic_health_channel::discover";

/// The one backend that there is behind a proxy.
pub(super) fn name_proxy_backend(options: Options) -> impl Stream<Item = Item> + Send {
    stream::once(async move {
        let Options {
            target, template, ..
        } = options;
        warn!(
            target: DISCOVER,
            name = %target,
            "the proxy resolves this name, so the channel has 1 backend for it"
        );
        Ok(Change::Insert(target.to_string(), template))
    })
}

/// The changes of the set, without end.
pub(super) fn run(options: Options) -> impl Stream<Item = Item> + Send {
    let options = options.at_addresses();
    let task = Task {
        machine: Machine::new(now(), options.pace.clone(), fastrand::u64(..)),
        untold: VecDeque::new(),
        options,
    };
    stream::unfold(task, async |mut task| {
        let item = task.next().await;
        Some((item, task))
    })
}

struct Task {
    options: Options,
    machine: Machine<SocketAddr>,
    untold: VecDeque<Item>,
}

impl Task {
    async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.untold.pop_front() {
                return item;
            }
            self.until_due().await;
            self.look_up().await;
        }
    }

    async fn until_due(&mut self) {
        loop {
            select! {
                () = sleep_until(self.machine.due()) => return,
                () = self.options.refresh.requested() => self.machine.on_request(now()),
            }
        }
    }

    async fn look_up(&mut self) {
        self.machine.on_start(now());
        let Options {
            target,
            template,
            lookup_timeout,
            resolver,
            ..
        } = &mut self.options;
        let known = Families::of(self.machine.known());
        let lookup = resolver.look_up(target, template.default_port(), known, *lookup_timeout);
        match lookup.await {
            Ok(found) => self.on_answer(found),
            Err(why) => {
                self.machine.on_failure(now());
                let error = format!("name `{target}` {why}");
                let error = Error::new(ErrorKind::Unavailable, error);
                self.untold.push_back(Err(error.outside_calls()));
            }
        }
    }

    fn on_answer(&mut self, found: Found) {
        let unknown = found.unknown;
        // It is looked up again as soon as it may be.
        let valid = if unknown.any() {
            Some(Duration::ZERO)
        } else {
            found.valid
        };
        let stays = |address: &SocketAddr| unknown.includes(address);
        let changes = self.machine.on_answer(now(), found.addresses, valid, stays);
        let at = |address| self.options.template.clone().with_address(address);
        let insert = |address: SocketAddr| Ok(Change::Insert(address.to_string(), at(address)));
        self.untold.extend(changes.insert.into_iter().map(insert));
        let remove = |address: SocketAddr| Ok(Change::Remove(address.to_string()));
        self.untold.extend(changes.remove.into_iter().map(remove));
    }
}
