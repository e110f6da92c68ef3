//! Running the command: to its end, or while something happens to its servers.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    process::{Output, Stdio},
};

use serde_json::Value;
use testing::{PATIENCE, within};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

pub(super) const COMMAND: &str = env!("CARGO_BIN_EXE_grpc-health");

/// A name that does not exist is not asked about for long, where name servers are out of
/// reach.
pub(super) const ASK_SHORTLY: (&str, &str) = ("RES_OPTIONS", "timeout:1 attempts:1");

/// How a run ended, and what it said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs the command to its end. Nobody writes to a terminal here.
pub(super) async fn run(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    run_command(command(arguments)).await
}

/// The same, with something about the command changed.
pub(super) async fn run_command(mut command: Command) -> Ended {
    let output = within("the command to end", command.output()).await;
    Ended::from(output.expect("the command can be run"))
}

/// `grpc-health probe -addr ADDR` and the words of `more`.
pub(super) async fn probe(addr: SocketAddr, more: &str) -> Ended {
    let addr = addr.to_string();
    let arguments = ["probe", "-addr", &addr];
    run(arguments.into_iter().chain(more.split_whitespace())).await
}

pub(super) fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(COMMAND);
    command.env(ASK_SHORTLY.0, ASK_SHORTLY.1);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: output.status.code().expect("it ends by itself"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ended {
    /// Nothing is printed but why it ends so.
    #[track_caller]
    pub(super) fn fails(&self, code: i32, why: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:?}");
        assert!(self.stderr.contains(why), "no `{why}` in {self:?}");
    }

    /// It says what a probe says of a server that is well.
    #[track_caller]
    pub(super) fn is_serving(&self) {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.stdout, "status: SERVING\n");
    }

    /// The words of each line but the first, which is the heading.
    pub(super) fn rows(&self) -> Vec<Vec<&str>> {
        let lines = self.stdout.lines().skip(1);
        lines
            .map(|line| line.split_whitespace().collect())
            .collect()
    }

    #[track_caller]
    pub(super) fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(object).collect()
    }
}

#[track_caller]
pub(super) fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The command while it runs.
pub(super) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(super) fn start(arguments: &[&str]) -> Self {
        let mut command = command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command can be run");
        let stdout = child.stdout.take().expect("stdout is piped");
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// The next line.
    pub(super) async fn line(&mut self) -> String {
        let line = within("a line of the command", self.lines.next_line()).await;
        line.expect("UTF-8").expect("stdout is open")
    }

    /// The first line from here on that ends like this.
    #[track_caller]
    pub(super) fn until_ending(&mut self, end: &str) -> impl Future<Output = String> {
        self.until(format!("a line with the end `{end}`"), move |line| {
            line.ends_with(end)
        })
    }

    /// The first JSON object from here on of which `is_it` is true.
    #[track_caller]
    pub(super) fn until_object(
        &mut self,
        what: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        let line = self.until(what.to_owned(), move |line| is_it(&object(line)));
        async { object(&line.await) }
    }

    async fn until(&mut self, what: String, is_it: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        let found = async {
            while let Some(line) = self.lines.next_line().await.expect("UTF-8") {
                if is_it(&line) {
                    return Some(line);
                }
                seen.push(line);
            }
            None
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(Some(line)) => line,
            Ok(None) => panic!("the command ended without {what}; it said {seen:#?}"),
            Err(_) => panic!("waited {PATIENCE:?} for {what}; the command said {seen:#?}"),
        }
    }

    #[cfg(unix)]
    pub(super) fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = self.child.id().expect("it runs");
        let id = nix::unistd::Pid::from_raw(id.try_into().expect("a small number"));
        nix::sys::signal::kill(id, signal).expect("a signal can be sent");
    }

    /// Nobody reads what it says any more. Its end, with what else it said.
    pub(super) async fn unread(self) -> Ended {
        drop(self.lines);
        ended(self.child, String::new()).await
    }

    /// Its end, with what it says until then.
    pub(super) async fn ended(mut self) -> Ended {
        let mut stdout = String::new();
        let read = async {
            while let Some(line) = self.lines.next_line().await.expect("UTF-8") {
                stdout += &line;
                stdout.push('\n');
            }
        };
        within("the command to close stdout", read).await;
        ended(self.child, stdout).await
    }
}

async fn ended(mut child: Child, stdout: String) -> Ended {
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().expect("stderr is piped");
    let read = pipe.read_to_string(&mut stderr);
    within("the command to close stderr", read)
        .await
        .expect("UTF-8");
    let status = within("the command to end", child.wait()).await;
    Ended {
        code: status
            .expect("it was started")
            .code()
            .expect("it ends by itself"),
        stdout,
        stderr,
    }
}
