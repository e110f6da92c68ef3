//! Writing to stdout and stderr, which may be closed, or open and never read.
//!
//! ```text
//!   a command ──► queue of 64 ──► a thread ──► stdout
//! ```
//!
//! The thread may block for ever, and the command goes on: it hears signals and timers
//! meanwhile, and ends without the thread.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::channel,
    },
    thread,
    time::Duration,
};

use tokio::{
    select,
    sync::{mpsc, watch},
    time,
};

use crate::{exit::Exit, signals::Signals, text::tame};

/// Writes that wait for stdout.
const QUEUE: usize = 64;

/// What a reader has to take the last lines of a command that ends anyway.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// What a reader of stderr has to take one text.
const PATIENCE: Duration = Duration::from_secs(1);

/// Stdout, behind a thread of its own.
#[derive(Clone)]
pub(crate) struct Stdout {
    queue: mpsc::Sender<Vec<u8>>,
    sent: Arc<AtomicU64>,
    written: watch::Receiver<Written>,
}

/// How far the thread is.
#[derive(Clone, Debug, Default)]
struct Written {
    writes: u64,
    failed: Option<Arc<io::Error>>,
}

/// Plays a command that writes through the thread. A signal ends it, whatever it waits for.
pub(crate) async fn run(
    command: impl AsyncFnOnce(Stdout) -> Result<Exit, Exit>,
) -> Result<Exit, Exit> {
    let mut signals = Signals::new()?;
    let stdout = Stdout::open()?;
    let exit = select! {
        biased;
        exit = signals.next() => Ok(exit),
        exit = command(stdout.clone()) => exit,
        exit = stdout.failed() => Err(exit),
    };
    let _ = time::timeout(LAST_WORDS, stdout.drained()).await;
    exit
}

impl Stdout {
    fn open() -> Result<Self, Exit> {
        let (queue, writes) = mpsc::channel(QUEUE);
        let (told, written) = watch::channel(Written::default());
        let thread = thread::Builder::new().name("stdout".to_owned());
        let spawned = thread.spawn(move || write_all(writes, &told));
        spawned.map_err(|error| {
            Exit::CallFailed(format!("error: cannot start a thread: {error}").into())
        })?;
        Ok(Self {
            queue,
            sent: Arc::new(AtomicU64::new(0)),
            written,
        })
    }

    /// A line, as soon as there is room for it.
    pub(crate) async fn line(&self, line: String) -> Result<(), Exit> {
        let mut bytes = line.into_bytes();
        bytes.push(b'\n');
        self.bytes(bytes).await
    }

    pub(crate) async fn bytes(&self, bytes: Vec<u8>) -> Result<(), Exit> {
        match self.queue.reserve().await {
            Ok(room) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                room.send(bytes);
                Ok(())
            }
            Err(_) => self.failure(),
        }
    }

    /// The same without waiting. It is lost if there is no room.
    pub(crate) fn try_bytes(&self, bytes: Vec<u8>) {
        if self.queue.try_send(bytes).is_ok() {
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written.
    pub(crate) async fn drained(&self) -> Result<(), Exit> {
        let mut written = self.written.clone();
        let is_done = |written: &Written| {
            written.failed.is_some() || written.writes >= self.sent.load(Ordering::Relaxed)
        };
        // The thread ends with an error, or after the last handle.
        let _ = written.wait_for(is_done).await;
        self.failure()
    }

    /// Plays `write`, and waits until everything is written. Gives up if stdout takes nothing
    /// at all within `timeout`: a pager that reads on later has taken something.
    pub(crate) async fn all_within(
        &self,
        timeout: Duration,
        write: impl AsyncFnOnce() -> Result<(), Exit>,
    ) -> Result<(), Exit> {
        let mut written = self.written.clone();
        let nothing_taken = async {
            let has_begun = written.wait_for(|written| written.writes > 0);
            if time::timeout(timeout, has_begun).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        let all = async {
            write().await?;
            self.drained().await
        };
        select! {
            biased;
            written = all => written,
            () = nothing_taken => Err(Exit::CallFailed(
                format!(
                    "error: stdout is blocked: its reader read nothing within {}",
                    humantime::format_duration(timeout)
                )
                .into(),
            )),
        }
    }

    /// Waits for an error of stdout. For ever, if there is none.
    async fn failed(&self) -> Exit {
        let mut written = self.written.clone();
        let _ = written.wait_for(|written| written.failed.is_some()).await;
        match self.failure() {
            Err(exit) => exit,
            Ok(()) => std::future::pending().await,
        }
    }

    fn failure(&self) -> Result<(), Exit> {
        match &self.written.borrow().failed {
            Some(error) => Err(unwritable(error)),
            None => Ok(()),
        }
    }
}

fn write_all(mut writes: mpsc::Receiver<Vec<u8>>, told: &watch::Sender<Written>) {
    let mut stdout = io::stdout().lock();
    while let Some(bytes) = writes.blocking_recv() {
        if let Err(error) = stdout.write_all(&bytes).and_then(|()| stdout.flush()) {
            told.send_modify(|written| written.failed = Some(Arc::new(error)));
            return;
        }
        told.send_modify(|written| written.writes += 1);
    }
}

/// Writes a document to stdout, however long its reader takes.
pub(crate) fn print(text: &[u8]) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) => unwritable(&error),
        Ok(()) => Exit::Healthy,
    }
}

/// A closed pipe is not a failure: its reader has seen enough.
fn unwritable(error: &io::Error) -> Exit {
    match error.kind() {
        ErrorKind::BrokenPipe => Exit::Healthy,
        _ => Exit::bad_arguments(format_args!("cannot write to stdout: {error}")),
    }
}

/// A line to stdout, unless its reader takes too long.
pub(crate) fn say_soon(line: &str) {
    static STUCK: AtomicBool = AtomicBool::new(false);
    let line = format!("{line}\n");
    write_soon(&STUCK, move || {
        let mut stdout = io::stdout().lock();
        let _ = stdout
            .write_all(line.as_bytes())
            .and_then(|()| stdout.flush());
    });
}

/// A line to stderr, whatever texts of peers are in it.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    tell_lines(&[tame(&line.to_string())]);
}

/// Lines to stderr that are [`tame`], unless their reader takes too long.
pub(crate) fn tell_lines(lines: &[impl AsRef<str>]) {
    static STUCK: AtomicBool = AtomicBool::new(false);
    let lines = lines.iter().map(|line| format!("{}\n", line.as_ref()));
    let text: String = lines.collect();
    write_soon(&STUCK, move || {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    });
}

/// Plays `write` in a thread, which is left behind if it blocks. Then later writes to the
/// same pipe are not even begun.
fn write_soon(stuck: &'static AtomicBool, write: impl FnOnce() + Send + 'static) {
    if stuck.load(Ordering::Relaxed) {
        return;
    }
    let (done, is_done) = channel();
    let thread = thread::Builder::new().spawn(move || {
        write();
        let _ = done.send(());
    });
    if thread.is_ok() && is_done.recv_timeout(PATIENCE).is_err() {
        stuck.store(true, Ordering::Relaxed);
    }
}
