//! Flips of lean servers: what the client alone takes to act upon one.
//!
//! The server notes when its socket had the message, and when the last call of the
//! flipped backend was there. That is later than its pick by the way to the server, and
//! counts calls that were on that way already: a bound from above.

use std::sync::{Arc, Mutex, atomic::Ordering::Relaxed};

use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use crate::{
    AFTERWARDS, BACKENDS, CALLERS, PATIENCE, TURN, Tally, WARM_UP,
    common::process::{Kind, Servers, pin},
    row_of,
    support::{
        Result, runtime,
        sides::{HandMade, Ours, Side},
        table::Table,
    },
};

const CLIENT_CORE: usize = 0;
const SERVERS_CORE: usize = 1;

pub(crate) fn compare(flips: usize, table: &mut Table) -> Result<()> {
    pin(CLIENT_CORE)?;
    let servers = Servers::start(Kind::Lean, BACKENDS, Some(SERVERS_CORE))?;
    let uris = servers.uris();
    let servers = Arc::new(Mutex::new(servers));
    runtime(1)?.block_on(async {
        for callers in CALLERS {
            let (mut of_ours, mut of_hand_made) = (Vec::new(), Vec::new());
            while of_ours.len() < flips {
                let turn = TURN.min(flips - of_ours.len());
                let side = Ours::connect(&uris).await?;
                of_ours.extend(flip(side, &servers, callers, turn).await?);
                let side = HandMade::connect(&uris).await?;
                of_hand_made.extend(flip(side, &servers, callers, turn).await?);
            }
            for (side, latencies) in [("ours", of_ours), ("hand_made", of_hand_made)] {
                let mut row = row_of("lean", side, callers, &latencies);
                row.extend(["-".to_owned(), "-".to_owned()]);
                table.row(row);
            }
        }
        Ok(())
    })
}

/// Flips the servers in turn, `flips` times, while `callers` call. Latencies in
/// nanoseconds.
async fn flip<S: Side>(
    mut side: S,
    servers: &Arc<Mutex<Servers>>,
    callers: usize,
    flips: usize,
) -> Result<Vec<u64>> {
    let tally = Arc::new(Tally::new(callers));
    let mut calling = JoinSet::new();
    for caller in 0..callers {
        calling.spawn(call_in_a_loop(side.clone(), caller, tally.clone()));
    }
    let flips = async {
        tally.until_everybody_called(WARM_UP).await;
        let mut all = Vec::new();
        for backend in (0..BACKENDS).cycle().take(flips) {
            let once = flip_once(&mut side, servers, backend, &tally);
            let stuck = |_| format!("a flip under {callers} callers took over {PATIENCE:?}");
            all.push(timeout(PATIENCE, once).await.map_err(stuck)??);
        }
        Ok(all)
    };
    tokio::select! {
        flips = flips => flips,
        // Callers never end but by an error.
        Some(ended) = calling.join_next() => Err(ended?.unwrap_err()),
    }
}

async fn flip_once<S: Side>(
    side: &mut S,
    servers: &Arc<Mutex<Servers>>,
    backend: usize,
    tally: &Tally,
) -> Result<u64> {
    order(servers, move |servers| servers.set_serving(backend, false)).await?;
    side.until(backend, false).await;
    // Whatever was under way to it has been answered by then.
    tally.until_everybody_called(AFTERWARDS).await;
    let seen = order(servers, Servers::seen).await?;
    let calls = seen[backend].calls;
    order(servers, move |servers| servers.set_serving(backend, true)).await?;
    side.until(backend, true).await;
    while order(servers, Servers::seen).await?[backend].calls == calls {
        sleep(Tally::LOOK_EVERY).await;
    }
    Ok(u64::try_from(seen[backend].late.as_nanos())?)
}

/// Has it done on a thread beside the servers, so that nothing keeps the client.
async fn order<T: Send + 'static>(
    servers: &Arc<Mutex<Servers>>,
    what: impl FnOnce(&mut Servers) -> Result<T> + Send + 'static,
) -> Result<T> {
    let servers = servers.clone();
    let done = spawn_blocking(move || {
        pin(SERVERS_CORE)?;
        what(&mut servers.lock().expect("no order panics"))
    });
    done.await?
}

async fn call_in_a_loop<S: Side>(mut side: S, caller: usize, tally: Arc<Tally>) -> Result<()> {
    loop {
        side.call().await?;
        tally.calls[caller].fetch_add(1, Relaxed);
    }
}
