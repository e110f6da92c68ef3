//! A load client from the driver's side: a process that makes calls when it is told
//! to. It ends with its [`Peer`], and by itself when its stdin closes.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::common::{Result, process::pin};

/// How long a client may take to connect, and for a slice more than the slice.
const PATIENCE: Duration = Duration::from_secs(20);

/// Round robin over the backends that serve. Clients that have no service config do
/// not look at it.
const SERVICE_CONFIG: &str =
    r#"{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""}}"#;

/// What is measured, and how to start it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: String,
    /// The program and its first arguments.
    pub(crate) command: Vec<OsString>,
    pub(crate) checks_health: bool,
    /// Each of its threads has connections of its own.
    pub(crate) a_channel_per_thread: bool,
    /// Whether its calls go to all of them, or to the first.
    pub(crate) all_backends: bool,
}

/// The threads of every client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// One, and all that the client's process does is on the first core.
    Current,
    /// Two, anywhere.
    Multi,
}

impl Threads {
    pub(crate) const ALL: [Self; 2] = [Self::Current, Self::Multi];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Multi => "multi",
        }
    }

    pub(crate) fn count(self) -> u64 {
        match self {
            Self::Current => 1,
            Self::Multi => 2,
        }
    }
}

/// What one slice was.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Slice {
    pub(crate) calls: u64,
    failures: u64,
    elapsed_us: u64,
    cpu_us: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Slice {
    pub(crate) fn calls_per_second(&self) -> f64 {
        self.calls as f64 * 1e6 / self.elapsed_us as f64
    }

    pub(crate) fn cpu_per_call_us(&self) -> f64 {
        self.cpu_us as f64 / self.calls as f64
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us)
    }
}

/// What a client says when it is READY.
#[derive(Deserialize)]
struct Ready {
    version: String,
}

/// A load client that runs.
pub(crate) struct Peer {
    pub(crate) subject: Subject,
    pub(crate) version: String,
    child: Child,
    orders: ChildStdin,
    said: Receiver<String>,
}

impl Peer {
    /// Starts it and waits until it is connected.
    pub(crate) fn start(
        subject: &Subject,
        backends: &[SocketAddr],
        threads: Threads,
    ) -> Result<Self> {
        let addresses: Vec<_> = backends.iter().map(ToString::to_string).collect();
        let (program, first) = subject.command.split_first().ok_or("no program")?;
        let mut command = Command::new(program);
        command
            .args(first)
            .args([
                &addresses.join(","),
                &threads.count().to_string(),
                SERVICE_CONFIG,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // A process has the cores of the thread that starts it.
        let spawn = move || {
            if threads == Threads::Current {
                pin(0)?;
            }
            Result::Ok(command.spawn()?)
        };
        let spawned = thread::spawn(spawn).join();
        let mut child = spawned
            .expect("starting a process does not panic")
            .map_err(|error| format!("{}: {error}", subject.name))?;
        let orders = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (send, said) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(|line| line.ok());
            for line in lines {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut peer = Self {
            subject: subject.clone(),
            version: String::new(),
            child,
            orders,
            said,
        };
        peer.version = peer.listen::<Ready>(PATIENCE)?.version;
        Ok(peer)
    }

    /// Calls from so many callers for so long. A failed call is an error.
    pub(crate) fn run(&mut self, concurrency: usize, slice: Duration) -> Result<Slice> {
        let milliseconds = slice.as_millis();
        writeln!(self.orders, "run {concurrency} {milliseconds}")
            .map_err(|error| format!("{}: {error}", self.subject.name))?;
        let done: Slice = self.listen(slice + PATIENCE)?;
        match done {
            Slice { failures: 1.., .. } => {
                Err(format!("{}: {} calls failed", self.subject.name, done.failures).into())
            }
            Slice { calls: 0, .. } => Err(format!("{}: made no call", self.subject.name).into()),
            _ => Ok(done),
        }
    }

    fn listen<T: DeserializeOwned>(&self, patience: Duration) -> Result<T> {
        let name = &self.subject.name;
        match self.said.recv_timeout(patience) {
            Ok(line) => serde_json::from_str(&line)
                .map_err(|error| format!("{name} said `{line}`: {error}").into()),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("{name}: no answer within {patience:?}").into())
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("{name} has ended; its last words stand above").into())
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
