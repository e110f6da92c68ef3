//! A backend in a process of its own: this very executable, started again with
//! other arguments.
//!
//! ```text
//! parent ── stdin: "serving" | "not_serving" ──► child
//! parent ◄─ stdout: "127.0.0.1:40123"  ───────── child
//! ```
//!
//! No child outlives its parent, however that ends: it is killed when its
//! [`Process`] is dropped, and it stops by itself when its stdin closes.

use std::{fmt, net::SocketAddr, process::Stdio, time::Duration};

use grpc_health_service::ServingStatus;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use super::{
    Result,
    backend::{self, Control, GreeterService},
};

/// The first argument that turns an example into a backend.
const ROLE: &str = "--as-backend";

/// How long a child may take to say where it listens.
const PATIENCE: Duration = Duration::from_secs(5);

/// The backend that this process shall be, if its arguments say so: name and
/// address.
pub(crate) fn role() -> Result<Option<(String, SocketAddr)>> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(ROLE) {
        return Ok(None);
    }
    match (arguments.next(), arguments.next()) {
        (Some(name), Some(address)) => Ok(Some((name, address.parse()?))),
        _ => Err(format!("{ROLE} takes a name and an address").into()),
    }
}

/// The child's life: serves, and obeys its stdin.
pub(crate) async fn be_backend(name: String, address: SocketAddr, takes: Duration) -> Result<()> {
    let listener = backend::listen(address).await?;
    println!("{}", listener.local_addr()?);
    let control = Control::new();
    let greeter = GreeterService::new(name).takes(takes);
    tokio::select! {
        served = backend::serve(listener, greeter, &control) => served,
        obeyed = obey(&control) => obeyed,
    }
}

/// Until the parent is gone.
async fn obey(control: &Control) -> Result<()> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        match order.as_str() {
            "serving" => control.set(None, ServingStatus::Serving),
            "not_serving" => control.set(None, ServingStatus::NotServing),
            other => return Err(format!("the parent said `{other}`").into()),
        }
    }
    Ok(())
}

/// A child, as its parent has it.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    pub(crate) address: SocketAddr,
    id: u32,
    child: Child,
    orders: ChildStdin,
}

impl Process {
    /// Starts a backend and waits until it listens.
    pub(crate) async fn start(name: &'static str, address: SocketAddr) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([ROLE, name, &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut words = BufReader::new(stdout).lines();
        let silent = |_| format!("backend {name} did not say where it listens");
        let word = timeout(PATIENCE, words.next_line()).await.map_err(silent)?;
        let Some(word) = word? else {
            return Err(format!("backend {name} ended before it listened").into());
        };
        Ok(Self {
            name,
            address: word.parse()?,
            id: child.id().unwrap_or_default(),
            child,
            orders,
        })
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells it the health it shall report.
    pub(crate) async fn tell_health(&mut self, serving: bool) -> Result<()> {
        let order: &[u8] = if serving {
            b"serving\n"
        } else {
            b"not_serving\n"
        };
        self.orders
            .write_all(order)
            .await
            .map_err(|error| format!("backend {} is gone: {error}", self.name).into())
    }

    /// SIGKILL, without waiting for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        Ok(self.child.start_kill()?)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.id, self.address)
    }
}
