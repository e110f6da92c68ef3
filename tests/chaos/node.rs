//! A backend's process and the line to it, as the parent has them.
//!
//! ```text
//! channel ──► front, always at the same address ── weather ──► process, wherever it is
//! channel ───────────────── filters of packets ──────────────► process, always at the same address
//! ```

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use socket2::SockRef;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, Command},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use testing::fleet::{Fault, Host, Result, Weather, join};
use tonic_health_channel::Endpoint;

use crate::{
    backend::ROLE,
    netns::{self, Filters},
};

/// How long a process may take to listen, and to end after its last call.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Node {
    number: usize,
    ledger: PathBuf,
    process: Option<Process>,
    /// Where the channel finds it.
    address: SocketAddr,
    line: Line,
    /// A call takes up to 15 times as long.
    unit: Duration,
}

/// What is between the channel and the process.
#[derive(Debug)]
enum Line {
    /// This program.
    Front {
        upstream: watch::Sender<Option<SocketAddr>>,
        weather: watch::Sender<Weather>,
        front: JoinHandle<()>,
    },
    /// Only what the kernel does to packets.
    Filters(Filters),
}

#[derive(Debug)]
struct Process {
    child: Child,
    orders: ChildStdin,
}

impl Node {
    /// Behind a front. Its calls are noted in a file in `folder`.
    pub(crate) async fn start(number: usize, folder: &Path, unit: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (upstream, weather) = (watch::Sender::new(None), watch::Sender::default());
        let front = front(listener, upstream.subscribe(), weather.subscribe());
        let front = tokio::spawn(front);
        let line = Line::Front {
            upstream,
            weather,
            front,
        };
        Self::start_behind(line, address, number, folder, unit).await
    }

    /// The same with nothing before it but filters, in a namespace of the network that
    /// nobody else uses.
    pub(crate) async fn start_filtered(
        filters: Filters,
        number: usize,
        folder: &Path,
        unit: Duration,
    ) -> Result<Self> {
        let line = Line::Filters(filters);
        Self::start_behind(line, netns::address(number)?, number, folder, unit).await
    }

    async fn start_behind(
        line: Line,
        address: SocketAddr,
        number: usize,
        folder: &Path,
        unit: Duration,
    ) -> Result<Self> {
        let mut node = Self {
            number,
            ledger: folder.join(format!("{number}.calls")),
            process: None,
            address,
            line,
            unit,
        };
        node.restart().await?;
        Ok(node)
    }

    /// Fails half of its calls from now on, and says SERVING.
    pub(crate) async fn fall_sick(&mut self) -> Result<()> {
        self.order("sick").await
    }

    fn found_at(&self, place: Option<SocketAddr>) {
        if let Line::Front { upstream, .. } = &self.line {
            upstream.send_replace(place);
        }
    }

    async fn order(&mut self, order: &str) -> Result<()> {
        let Some(process) = &mut self.process else {
            return Err(format!("backend {} is not there", self.number).into());
        };
        let line = format!("{order}\n");
        Ok(process.orders.write_all(line.as_bytes()).await?)
    }
}

impl Host for Node {
    fn endpoint(&self) -> Result<Endpoint> {
        Ok(Endpoint::from_shared(format!("http://{}", self.address))?)
    }

    fn ledger(&self) -> Result<Vec<u64>> {
        let bytes = std::fs::read(&self.ledger)?;
        let numbers = bytes.chunks_exact(8).map(|number| number.try_into());
        let numbers = numbers.map(|number| number.map(u64::from_le_bytes));
        Ok(numbers.collect::<std::result::Result<_, _>>()?)
    }

    async fn restart(&mut self) -> Result<()> {
        let number = self.number;
        let listens = match &self.line {
            Line::Front { .. } => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            Line::Filters(_) => self.address,
        };
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .arg(&self.ledger)
            .arg(listens.to_string())
            .arg(self.unit.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut words = BufReader::new(stdout).lines();
        let silent = |_| format!("backend {number} did not say where it listens");
        let word = timeout(PATIENCE, words.next_line()).await.map_err(silent)?;
        let word = word?.ok_or_else(|| format!("backend {number} ended before it listened"))?;
        self.found_at(Some(word.parse()?));
        self.process = Some(Process { child, orders });
        Ok(())
    }

    /// SIGKILL, and its end.
    async fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            self.found_at(None);
            process.child.kill().await?;
        }
        Ok(())
    }

    /// A graceful end: GOAWAY, the calls that it has, and then the process.
    async fn stop(&mut self) -> Result<()> {
        self.order("stop").await?;
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let number = self.number;
        let late = |_| format!("backend {number} did not end within {PATIENCE:?} of its stop");
        let ended = timeout(PATIENCE, process.child.wait())
            .await
            .map_err(late)??;
        self.found_at(None);
        match ended.success() {
            true => Ok(()),
            false => Err(format!("backend {number} ended with {ended}").into()),
        }
    }

    fn pause(&mut self, pause: bool) -> Result<()> {
        let id = self.process.as_ref().and_then(|p| p.child.id());
        let id = id.and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| format!("backend {} is not there", self.number))?;
        let signal = if pause { Signal::STOP } else { Signal::CONT };
        Ok(kill_process(id, signal)?)
    }

    async fn serve(&mut self, serving: bool) -> Result<()> {
        let order = if serving { "serving" } else { "not_serving" };
        self.order(order).await
    }

    async fn disturb(&mut self, fault: Fault) -> Result<()> {
        match &self.line {
            Line::Front { weather, .. } => {
                weather.send_modify(|weather| weather.worsen(fault));
                Ok(())
            }
            Line::Filters(filters) => filters.disturb(self.number, fault).await,
        }
    }

    async fn mend(&mut self, fault: Fault) -> Result<()> {
        match &self.line {
            Line::Front { weather, .. } => {
                weather.send_modify(Weather::clear);
                Ok(())
            }
            Line::Filters(filters) => filters.mend(self.number, fault).await,
        }
    }

    fn afterwards(&self, silence: Duration) -> Duration {
        match &self.line {
            Line::Front { .. } => Duration::ZERO,
            // TCP doubles the time until it sends again, so that is at most as long again.
            Line::Filters(_) => silence + Duration::from_millis(500),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Line::Front { front, .. } = &self.line {
            front.abort();
        }
    }
}

async fn front(
    listener: TcpListener,
    upstream: watch::Receiver<Option<SocketAddr>>,
    weather: watch::Receiver<Weather>,
) {
    loop {
        // Out of descriptors, or a client that has gone: it asks again.
        if let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, *upstream.borrow(), weather.clone()));
        }
        tokio::task::yield_now().await;
    }
}

/// Where nobody is, the client is refused by a reset.
async fn carry(
    mut client: TcpStream,
    upstream: Option<SocketAddr>,
    weather: watch::Receiver<Weather>,
) {
    let server = match upstream {
        Some(address) => TcpStream::connect(address).await.ok(),
        None => None,
    };
    let Some(mut server) = server else {
        return reset(&client);
    };
    for stream in [&client, &server] {
        // Delays are the weather's to make.
        let _ = stream.set_nodelay(true);
    }
    if !join(&mut client, &mut server, weather).await {
        reset(&client);
        reset(&server);
    }
}

/// The drop of the stream says RST instead of FIN.
fn reset(stream: &TcpStream) {
    // It may be gone already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
