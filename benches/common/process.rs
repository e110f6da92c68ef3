//! Servers in a process of their own: this very executable, started again with
//! other arguments.
//!
//! ```text
//! parent ── stdin: flips a second, a line for each change ──► child
//! parent ◄─ stdout: one address a line, then an empty line ── child
//! ```
//!
//! No child outlives its parent, however that ends: it is killed when its
//! [`Servers`] is dropped, and it stops by itself when its stdin closes.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::{Result, lean, real};

/// The first argument that turns a bench into its servers.
const ROLE: &str = "--as-servers";

/// What answers the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ready-made bytes; see [`lean`].
    Lean,
    /// tonic and its health service; see [`real`].
    Tonic,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lean => "lean",
            Self::Tonic => "tonic",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Lean, Self::Tonic]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Serves, if the arguments of this process say so, and then ends the process. The
/// first thing a bench does.
pub(crate) fn take_role() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [role, kind, backends, core] = &arguments[..] else {
        return Ok(());
    };
    if role != ROLE {
        return Ok(());
    }
    if let Ok(core) = core.parse() {
        pin(core)?;
    }
    let flips = Arc::new(AtomicU32::new(0));
    let ordered = flips.clone();
    thread::spawn(move || {
        for order in io::stdin().lines().map_while(|line| line.ok()) {
            ordered.store(order.parse().unwrap_or(0), Relaxed);
        }
        // The end of the parent.
        std::process::exit(0);
    });
    let backends = backends.parse()?;
    match Kind::named(kind).ok_or("no such server")? {
        Kind::Lean => lean::serve(backends, &flips, tell)?,
        Kind::Tonic => real::serve(backends, tell)?,
    }
    std::process::exit(0)
}

fn tell(addresses: &[SocketAddr]) {
    for address in addresses {
        println!("{address}");
    }
    println!();
}

/// Keeps this thread, and those it starts, on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// Servers that listen on ports of their own, all in one process.
#[derive(Debug)]
pub(crate) struct Servers {
    child: Child,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Servers {
    /// Starts them, on one core if told to, and waits until they listen.
    pub(crate) fn start(kind: Kind, backends: usize, core: Option<usize>) -> Result<Self> {
        let core = core.map_or("any".to_owned(), |core| core.to_string());
        let mut child = Command::new(env::current_exe()?)
            .args([ROLE, kind.name(), &backends.to_string(), &core])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take().expect("stdout is piped");
        let mut servers = Self {
            child,
            addresses: Vec::new(),
        };
        for line in BufReader::new(said).lines() {
            match line?.as_str() {
                "" => return Ok(servers),
                address => servers.addresses.push(address.parse()?),
            }
        }
        Err("the servers ended before they listened".into())
    }

    /// Has so many flips of health a second, over all backends, each with one `Watch`.
    /// Only lean servers have any.
    pub(crate) fn flip(&mut self, per_second: u32) -> Result<()> {
        let orders = self.child.stdin.as_mut().expect("stdin is piped");
        Ok(writeln!(orders, "{per_second}")?)
    }

    pub(crate) fn uris(&self) -> Vec<String> {
        let uri = |address| format!("http://{address}");
        self.addresses.iter().map(uri).collect()
    }

    /// User and system time of the process so far, where the system tells, in
    /// steps of a hundredth of a second.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // The name in front may hold anything, and ends with the last bracket.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map_while(|field| field.parse::<u64>().ok()).sum();
        Some(Duration::from_millis(10 * ticks))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Fails only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
