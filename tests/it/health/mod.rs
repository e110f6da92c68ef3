//! What backends say about their health, and what becomes of it.
//!
//! A test cannot await that something does *not* happen. Where one has to show
//! that a backend is left alone, it awaits the third or fourth Watch of another,
//! whose Watches fail and are repeated: a [`metronome`].

mod absent;
mod attacked;
mod configured;
mod ends;
mod flips;
mod narrow;
mod polled;
mod reconfigured;
mod retried;
mod silent;
mod table;

use std::time::Duration;

use testing::{Backend, LogLine, Logs, WatchScript, quick_health, until_that};
use tonic::Code;
use tonic_health_channel::{Channel, HealthOptions, channel::BackoffConfig, health::HealthStatus};
use tracing::Level;

/// No two Watches of one backend start closer together than this.
const FLOOR: Duration = Duration::from_millis(100);

/// Backoff that no test could wait for: what is repeated, is so without it.
fn hourly() -> HealthOptions {
    let hour = Duration::from_secs(3600);
    let backoff = BackoffConfig::default()
        .initial(hour)
        .and_then(|backoff| backoff.jitter(0.0))
        .expect("a valid backoff")
        .max(hour);
    quick_health().backoff(backoff)
}

/// A backend whose Watches fail at once and are repeated for ever.
async fn metronome() -> Backend {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(ends_with(Code::Aborted));
    backend
}

/// A Watch that ends before it said anything.
fn ends_with(code: Code) -> WatchScript {
    WatchScript::EndWith {
        code,
        after_messages: 0,
    }
}

/// Awaits what is known of the backends' health, in the order of the source.
async fn until_health(channel: &Channel, health: &[HealthStatus]) {
    let what = format!("the backends' health to be {health:?}");
    until_that(channel, &what, |status| {
        let now = status.backends().iter().map(|backend| backend.health());
        now.eq(health.iter().copied())
    })
    .await;
}

/// The states that the channel went through, as its log tells them.
fn states(logs: &Logs) -> Vec<String> {
    let is_told = |line: &LogLine| [Level::INFO, Level::WARN].contains(&line.level);
    let lines = logs.all().into_iter().filter(is_told);
    lines
        .filter_map(|line| {
            let (_, to) = line.text.strip_prefix("channel ")?.split_once(" to=")?;
            Some(to.split(' ').next()?.to_owned())
        })
        .collect()
}

fn errors(logs: &Logs) -> Vec<String> {
    logs.at(Level::ERROR, "tonic_health_channel")
}

/// But for those of the channel's state.
fn warnings(logs: &Logs) -> Vec<String> {
    let mut warnings = logs.at(Level::WARN, "tonic_health_channel");
    warnings.retain(|text| !text.starts_with("channel "));
    warnings
}
