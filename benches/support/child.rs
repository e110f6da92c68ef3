//! Parts of a bench that run in processes of their own: this very executable,
//! started again in another role.
//!
//! ```text
//! parent ── stdin: orders, one a line ──► child
//! parent ◄─ stdout: words, one a line ─── child
//! ```
//!
//! No child outlives its parent: it is killed when its [`Child`] is dropped, and
//! exits by itself when its stdin closes.

use std::{io, process::Stdio, thread, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    sync::mpsc,
    time::timeout,
};

use super::Result;

/// The first argument that makes a process a child; its role follows.
const ROLE: &str = "--role";

/// The role of this process, if it is a child, and what belongs to the role.
pub(crate) fn role() -> Option<Vec<String>> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == ROLE).then(|| arguments.collect())
}

/// In a child: what the parent orders. Ends the process when the parent is gone,
/// from a thread of its own, so that no busy runtime is in the way.
pub(crate) fn orders() -> mpsc::UnboundedReceiver<String> {
    let (orders_in, orders) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for order in io::stdin().lines().map_while(|line| line.ok()) {
            // A child that takes no orders still has to notice the end.
            let _ = orders_in.send(order);
        }
        std::process::exit(0);
    });
    orders
}

/// A child, as its parent has it.
#[derive(Debug)]
pub(crate) struct Child {
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
    /// Dropping it kills the process.
    _process: tokio::process::Child,
}

impl Child {
    pub(crate) fn start(role: &[&str]) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().expect("stdout is piped");
        Ok(Self {
            orders: process.stdin.take().expect("stdin is piped"),
            words: BufReader::new(stdout).lines(),
            _process: process,
        })
    }

    pub(crate) async fn order(&mut self, order: &str) -> Result<()> {
        let line = format!("{order}\n");
        Ok(self.orders.write_all(line.as_bytes()).await?)
    }

    /// The next line of what it says, word by word.
    pub(crate) async fn hear(&mut self, patience: Duration) -> Result<Vec<String>> {
        let line = timeout(patience, self.words.next_line());
        let line = line
            .await
            .map_err(|_| format!("a child said nothing for {patience:?}"))?;
        let line = line?.ok_or("a child ended early; its error is above")?;
        Ok(line.split_whitespace().map(str::to_owned).collect())
    }
}
