//! That what is measured is what it is called: calls go to the backends they should,
//! and health checking is in force where it is said to be.

use std::time::Duration;

use crate::{
    common::{
        Result,
        process::{Seen, Servers},
    },
    peer::Peer,
};

const CALLERS: usize = 8;
const SLICE: Duration = Duration::from_millis(50);
/// Slices until something has to be true.
const PATIENCE: usize = 100;

/// Of a client that has just been started, while `before` is what the backends had
/// seen: each of its `channels` has one Watch open at each of them, or none; its calls
/// go to all of them, or to the first.
pub(crate) fn connections(
    peer: &mut Peer,
    channels: u64,
    servers: &mut Servers,
    before: &[Seen],
) -> Result<()> {
    let watches = channels * u64::from(peer.subject.checks_health);
    let all = peer.subject.all_backends;
    until(peer, servers, "is not connected as it should be", |seen| {
        let calls = seen
            .iter()
            .enumerate()
            .all(|(backend, change)| (change.calls > 0) == (all || backend == 0));
        let watched = seen
            .iter()
            .zip(before)
            .all(|(now, before)| now.watches == before.watches + watches);
        calls && watched
    })
}

/// One backend says NOT_SERVING. Who checks health does not call it, and who does not
/// check still does: so it is the check that keeps the calls away. Then all is well
/// again.
pub(crate) fn health(peers: &mut [Peer], servers: &mut Servers) -> Result<()> {
    servers.set_serving(0, false)?;
    for peer in &mut *peers {
        let checks = peer.subject.checks_health;
        let wrong = match checks {
            true => "calls a backend that is NOT_SERVING",
            false => "does not check health, and leaves out a backend that is NOT_SERVING",
        };
        until(peer, servers, wrong, |seen| (seen[0].calls == 0) == checks)?;
    }
    servers.set_serving(0, true)?;
    for peer in &mut *peers {
        let all = peer.subject.all_backends;
        until(peer, servers, "does not call a backend again", |seen| {
            seen[0].calls > 0 && (!all || seen.iter().all(|backend| backend.calls > 0))
        })?;
    }
    Ok(())
}

/// Runs slices until what the backends saw in one of them is as it should be. `calls`
/// are those of the slice.
fn until(
    peer: &mut Peer,
    servers: &mut Servers,
    wrong: &str,
    holds: impl Fn(&[Seen]) -> bool,
) -> Result<()> {
    let mut before = servers.seen()?;
    for _ in 0..PATIENCE {
        peer.run(CALLERS, SLICE)?;
        let now = servers.seen()?;
        let change = |(now, before): (&Seen, &Seen)| Seen {
            calls: now.calls - before.calls,
            ..*now
        };
        let seen: Vec<_> = now.iter().zip(&before).map(change).collect();
        if holds(&seen) {
            return Ok(());
        }
        before = now;
    }
    let name = &peer.subject.name;
    Err(format!("{name} {wrong}: backends have seen {before:?}").into())
}
