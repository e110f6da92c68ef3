//! A health client of another language, in a process of its own.
//!
//! ```text
//! runner ◄─ stdout: "version grpc-go 1.85.0"
//!                   "demo.v1.Greeter watch SERVING"
//!                   "demo.v1.Greeter channel READY 0"
//! ```

use std::{
    collections::{HashMap, VecDeque},
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{languages::Language, server::PATIENCE};

pub(crate) struct Watcher {
    pub(crate) version: String,
    lines: Lines<BufReader<ChildStdout>>,
    /// By the first 2 words of a line, what follows them and was not asked for yet.
    unread: HashMap<String, VecDeque<String>>,
    /// It ends when its stdin closes, and is killed when it is dropped.
    _process: (Child, ChildStdin),
}

impl Watcher {
    /// Starts a watcher of `services` at the server with this address.
    pub(crate) async fn start(
        language: &Language,
        address: &str,
        services: &[&str],
    ) -> Result<Self, String> {
        let mut child = Command::new(&language.watch)
            .args(["--address", address, "--services", &services.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("watcher {}: {error}", language.name))?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut watcher = Self {
            version: language.name.to_owned(),
            lines: BufReader::new(stdout).lines(),
            unread: HashMap::new(),
            _process: (child, stdin),
        };
        let first = watcher.line().await?;
        let version = first.strip_prefix("version ");
        watcher.version = version
            .ok_or(format!("its first line is `{first}`"))?
            .into();
        Ok(watcher)
    }

    /// Takes the next line of a service and a way, and compares what follows them.
    pub(crate) async fn expect(
        &mut self,
        service: &str,
        way: &str,
        expected: &str,
    ) -> Result<(), String> {
        let key = format!("{service} {way}");
        let seen = self.next(&key).await;
        let version = &self.version;
        let seen = seen.map_err(|error| {
            format!("expected `{key} {expected}` of the watcher {version}; seen: {error}")
        })?;
        match seen == expected {
            true => Ok(()),
            false => Err(format!(
                "expected `{key} {expected}` of the watcher {version}; seen: `{seen}`"
            )),
        }
    }

    async fn next(&mut self, key: &str) -> Result<String, String> {
        loop {
            if let Some(seen) = self.unread.get_mut(key).and_then(VecDeque::pop_front) {
                return Ok(seen);
            }
            let line = self.line().await?;
            let words: Vec<_> = line.splitn(3, ' ').collect();
            let [service, way, seen] = words[..] else {
                return Err(format!("the line `{line}`"));
            };
            let of_key = self.unread.entry(format!("{service} {way}")).or_default();
            of_key.push_back(seen.to_owned());
        }
    }

    async fn line(&mut self) -> Result<String, String> {
        match timeout(PATIENCE, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err("its end".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no line in {PATIENCE:?}")),
        }
    }
}
