//! Load clients of many kinds, each a process of its own, against the same lean
//! servers, by turns. `run` beside builds them all and starts this;
//! `docs/benchmarks.md` tells the method and the results.

mod channels;
mod client;
#[path = "../../common/mod.rs"]
mod common;
mod options;
mod peer;
mod proof;
mod report;

use common::{
    Result,
    process::{Kind, Servers},
};
use options::Options;
use peer::{Peer, Threads};
use report::Report;

const BACKENDS: usize = 4;
/// So many that calls are made fast, whatever the load is that is measured later.
const WARM_UP_CALLERS: usize = 64;

fn main() -> Result<()> {
    common::process::take_role()?;
    if channels::take_role()? {
        return Ok(());
    }
    let options = Options::read()?;
    let mut report = Report::default();
    for &threads in &options.threads {
        for &concurrency in &options.concurrency {
            measure(&options, threads, concurrency, &mut report)?;
        }
    }
    match &options.csv {
        Some(path) => report.write_csv(path),
        None => Ok(()),
    }
}

/// One load on all clients, whose processes live no longer than that.
fn measure(
    options: &Options,
    threads: Threads,
    concurrency: usize,
    report: &mut Report,
) -> Result<()> {
    // The first core is the clients', the second the servers'.
    let servers_core = (threads == Threads::Current).then_some(1);
    let mut servers = Servers::start(Kind::Lean, BACKENDS, servers_core)?;
    let mut peers = Vec::new();
    for subject in &options.subjects {
        let channels = match subject.a_channel_per_thread {
            true => threads.count(),
            false => 1,
        };
        // With one thread it is what the others are.
        if subject.a_channel_per_thread && channels == 1 {
            continue;
        }
        let before = servers.seen()?;
        let mut peer = Peer::start(subject, &servers.addresses, threads)?;
        proof::connections(&mut peer, channels, &mut servers, &before)?;
        peers.push(peer);
    }
    proof::health(&mut peers, &mut servers)?;
    for peer in &mut peers {
        let mut calls = 0;
        while calls < options.warm_up {
            calls += peer.run(WARM_UP_CALLERS, options.slice)?.calls;
        }
    }
    for peer in &mut peers {
        peer.run(concurrency, options.slice)?;
    }
    for round in 0..options.rounds {
        let mut turn: Vec<_> = peers.iter_mut().collect();
        if round % 2 == 1 {
            turn.reverse();
        }
        for peer in turn {
            let before = servers.cpu_time();
            let slice = peer.run(concurrency, options.slice)?;
            let busy = before
                .zip(servers.cpu_time())
                .map(|(before, now)| now - before);
            report.add((threads, concurrency, round), peer, slice, busy);
        }
    }
    report.print(threads, concurrency);
    Ok(())
}
