//! What is to be shown, against whom.

mod calls;
mod ends;
mod health;
mod hedging;
mod pings;
mod retries;
mod silence;
mod sizes;
mod tls;
mod watchers;
mod words;

use std::pin::Pin;

use crate::{report::Verdict, stage::Target};

pub(crate) type Running = Pin<Box<dyn Future<Output = Verdict> + Send>>;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Target) -> Running,
    /// Seconds after which it counts as stuck.
    pub(crate) patience: u64,
    /// It mostly waits, and runs beside the others.
    pub(crate) slow: bool,
    /// It runs when asked for by name, or with `--long`.
    pub(crate) long: bool,
}

const fn quick(name: &'static str, run: fn(Target) -> Running) -> Scenario {
    Scenario {
        name,
        run,
        patience: 30,
        slow: false,
        long: false,
    }
}

/// In the order in which they run.
pub(crate) const ALL: [Scenario; 22] = [
    quick("initial", |target| Box::pin(health::initial(target))),
    quick("flips", |target| Box::pin(health::flips(target))),
    quick("names", |target| Box::pin(health::names(target))),
    quick("no_health", |target| Box::pin(health::absent(target))),
    quick("list", |target| Box::pin(health::list(target))),
    quick("kinds", |target| Box::pin(calls::kinds(target))),
    quick("deadlines", |target| Box::pin(calls::deadlines(target))),
    quick("cancelled", |target| Box::pin(calls::cancelled(target))),
    quick("large", |target| Box::pin(sizes::large(target))),
    quick("gzip", |target| Box::pin(sizes::gzip(target))),
    quick("metadata", |target| Box::pin(words::metadata(target))),
    quick("details", |target| Box::pin(words::details(target))),
    quick("retries", |target| Box::pin(retries::retries(target))),
    quick("hedging", |target| Box::pin(hedging::hedging(target))),
    quick("tls", |target| Box::pin(tls::defaults(target))),
    quick("graceful_stop", |target| {
        Box::pin(ends::graceful_stop(target))
    }),
    quick("max_age", |target| Box::pin(ends::max_age(target))),
    quick("watchers", |target| Box::pin(watchers::watchers(target))),
    quick("probe", |target| Box::pin(watchers::probe(target))),
    Scenario {
        patience: 120,
        slow: true,
        ..quick("silence", |target| Box::pin(silence::silence(target)))
    },
    Scenario {
        patience: 180,
        slow: true,
        ..quick("pings", |target| Box::pin(pings::too_many(target)))
    },
    Scenario {
        patience: 480,
        slow: true,
        long: true,
        ..quick("idle", |target| Box::pin(pings::idle(target)))
    },
];

pub(crate) fn named(name: &str) -> Result<&'static Scenario, String> {
    let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
    let found = ALL.iter().find(|scenario| scenario.name == name);
    found.ok_or_else(|| format!("scenario `{name}`: there are {}", names.join(", ")))
}
