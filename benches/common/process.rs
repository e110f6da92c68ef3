//! Servers in a process of their own: this very executable, started again with
//! other arguments.
//!
//! ```text
//! parent ── stdin: open for as long as the parent lives ──► child
//! parent ◄─ stdout: one address a line, then an empty line ─ child
//! ```
//!
//! The lean ones also take orders, a line each; see [`lean`].
//!
//! No child outlives its parent, however that ends: it is killed when its
//! [`Servers`] is dropped, and it stops by itself when its stdin closes.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
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
    let backends = backends.parse()?;
    match Kind::named(kind).ok_or("no such server")? {
        Kind::Lean => lean::serve(backends, tell)?,
        Kind::Tonic => {
            thread::spawn(|| {
                // The parent says nothing; the end of its silence is the end of it.
                let _ = io::stdin().read(&mut [0]);
                std::process::exit(0);
            });
            real::serve(backends, tell)?;
        }
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
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// What the lean server has seen of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Streams of Watch that are open.
    pub(crate) watches: u64,
    /// Calls that were answered, ever.
    pub(crate) calls: u64,
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
        let orders = child.stdin.take().expect("stdin is piped");
        let mut servers = Self {
            child,
            orders,
            said: BufReader::new(said),
            addresses: Vec::new(),
        };
        for line in servers.paragraph()? {
            servers.addresses.push(line.parse()?);
        }
        Ok(servers)
    }

    /// The lines until an empty one.
    fn paragraph(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.said.read_line(&mut line)? == 0 {
                return Err("the servers have ended".into());
            }
            match line.trim_end() {
                "" => return Ok(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }

    fn order(&mut self, order: &str) -> Result<Vec<String>> {
        writeln!(self.orders, "{order}")?;
        self.paragraph()
    }

    /// What each backend has seen. Only lean ones tell.
    pub(crate) fn seen(&mut self) -> Result<Vec<Seen>> {
        let lines = self.order("tell")?;
        let seen = |line: &String| {
            let (watches, calls) = line.split_once(' ').ok_or("not two numbers")?;
            Ok(Seen {
                watches: watches.parse()?,
                calls: calls.parse()?,
            })
        };
        lines.iter().map(seen).collect()
    }

    /// Has one backend say to every Watch how it is, and returns when its sockets
    /// have it: when it was told, and when they had it, by `clock::now`. Only lean
    /// ones do.
    pub(crate) fn set_serving(&mut self, backend: usize, serving: bool) -> Result<[u64; 2]> {
        let word = if serving { "serving" } else { "not_serving" };
        let lines = self.order(&format!("{word} {backend}"))?;
        let times = lines.first().and_then(|line| line.split_once(' '));
        let (told, sent) = times.ok_or("not two times")?;
        Ok([told.parse()?, sent.parse()?])
    }

    /// Has so many flips of health a second, over all backends, each with one `Watch`.
    /// Only lean servers have any.
    pub(crate) fn flip(&mut self, per_second: u32) -> Result<()> {
        self.order(&format!("flip {per_second}"))?;
        Ok(())
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
