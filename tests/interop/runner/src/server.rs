//! A backend in a process of its own, and the wire on which it takes orders.
//!
//! ```text
//! runner ◄─ stdout: {"grpc": 40123, "control": 40124, "version": "grpc-go 1.85.0"}
//! runner ── control: "not_serving demo.v1.Greeter" ──► backend, which answers "ok"
//! ```
//!
//! None outlives the runner: each is killed when its [`Server`] is dropped, and ends
//! by itself when its stdin closes.

use std::{collections::BTreeMap, fmt, process::Stdio, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, ChildStdin, Command},
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use crate::languages::Language;

/// How long a backend may take to say where it listens; the JVM has two cores here.
const START: Duration = Duration::from_secs(30);
/// How long anything else may take that ought to happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Where a backend listens, in its own words.
#[derive(Deserialize)]
struct Ports {
    grpc: u16,
    control: u16,
    version: String,
}

/// What a backend saw of the greeter's calls. Deadline and metadata are those of the
/// call that began last.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    pub(crate) calls: u64,
    pub(crate) cancelled: u64,
    pub(crate) connections: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Calls by their `grpc-previous-rpc-attempts`, `""` without one. Backends that cannot be
    /// scripted do not tell.
    #[serde(default)]
    pub(crate) attempts: BTreeMap<String, u64>,
}

pub(crate) struct Server {
    pub(crate) language: Language,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) version: String,
    child: Mutex<Child>,
    control: Mutex<BufReader<TcpStream>>,
    _stdin: ChildStdin,
}

impl Server {
    pub(crate) async fn start(
        language: &Language,
        name: String,
        arguments: &[String],
    ) -> Result<Self, String> {
        let broken = |what: &str, why: &dyn fmt::Display| format!("backend {name}: {what}: {why}");
        let mut child = Command::new(&language.serve)
            .args(["--name", &name])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| broken("does not start", &error))?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut words = BufReader::new(stdout).lines();
        let word = timeout(START, words.next_line()).await;
        let word = word.map_err(|_| broken("says nothing", &"for 30 s"))?;
        let word = word.map_err(|error| broken("says", &error))?;
        let word = word.ok_or_else(|| broken("ended", &"before it listened"))?;
        let ports: Ports = serde_json::from_str(&word).map_err(|error| broken(&word, &error))?;
        let control = TcpStream::connect(("127.0.0.1", ports.control)).await;
        let control = control.map_err(|error| broken("no control", &error))?;
        Ok(Self {
            language: language.clone(),
            port: ports.grpc,
            version: ports.version,
            child: Mutex::new(child),
            control: Mutex::new(BufReader::new(control)),
            _stdin: stdin,
            name,
        })
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Gives an order, and returns the answer.
    async fn ask(&self, order: &str) -> Result<String, String> {
        let mut control = self.control.lock().await;
        let mut answer = String::new();
        let exchange = async {
            control.write_all(format!("{order}\n").as_bytes()).await?;
            control.read_line(&mut answer).await
        };
        match timeout(PATIENCE, exchange).await {
            Ok(Ok(_)) => Ok(answer.trim().to_owned()),
            Ok(Err(error)) => Err(format!("{}: order `{order}`: {error}", self.name)),
            Err(_) => Err(format!("{}: order `{order}` is not answered", self.name)),
        }
    }

    pub(crate) async fn order(&self, order: &str) -> Result<(), String> {
        match self.ask(order).await?.as_str() {
            "ok" => Ok(()),
            other => Err(format!("{}: order `{order}`: `{other}`", self.name)),
        }
    }

    /// Sends its process a signal by name: `STOP` pauses it, `CONT` lets it go on.
    pub(crate) async fn signal(&self, name: &str) -> Result<(), String> {
        let Some(id) = self.child.lock().await.id() else {
            return Err(format!("{}: it has ended", self.name));
        };
        let mut kill = Command::new("kill");
        let sent = kill
            .arg(format!("-{name}"))
            .arg(id.to_string())
            .status()
            .await;
        match sent {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{}: signal {name}: {status}", self.name)),
            Err(error) => Err(format!("{}: signal {name}: {error}", self.name)),
        }
    }

    pub(crate) async fn set_serving(&self, service: &str, serving: bool) -> Result<(), String> {
        let order = if serving { "serving" } else { "not_serving" };
        self.order(&format!("{order} {service}")).await
    }

    pub(crate) async fn seen(&self) -> Result<Seen, String> {
        let answer = self.ask("seen").await?;
        serde_json::from_str(&answer).map_err(|error| format!("{}: {answer}: {error}", self.name))
    }

    /// What it saw as soon as `condition` is true of it. Asked again and again, as a
    /// backend tells nothing unasked.
    pub(crate) async fn sees(
        &self,
        what: &str,
        condition: impl Fn(&Seen) -> bool,
    ) -> Result<Seen, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.seen().await?;
            if condition(&seen) {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "expected that {} sees {what}; seen: {seen:?}",
                    self.name
                ));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until it has ended by itself, and how long that took.
    pub(crate) async fn ends(&self) -> Result<Duration, String> {
        let began = Instant::now();
        match timeout(PATIENCE, self.child.lock().await.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(began.elapsed()),
            Ok(Ok(status)) => Err(format!(
                "expected that {} ends well; seen: {status}",
                self.name
            )),
            Ok(Err(error)) => Err(format!("{}: {error}", self.name)),
            Err(_) => Err(format!(
                "expected that {} stops; seen: it still runs after {PATIENCE:?}",
                self.name
            )),
        }
    }
}
