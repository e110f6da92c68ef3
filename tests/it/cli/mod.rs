//! The command `grpc-health`: what it prints, and how it ends.

mod bad_input;
mod generated;
mod probe;
mod tls;

use std::{ffi::OsStr, net::SocketAddr, process::Stdio};

use tokio::process::Command;

use crate::support::within;

/// What a run of the command left behind.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Nothing is printed but why it ends so.
    #[track_caller]
    fn fails(&self, code: i32, why: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.contains(why), "no `{why}` in {self:?}");
    }

    #[track_caller]
    fn is_serving(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stdout, "status: SERVING\n");
    }
}

fn command(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grpc-health"));
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    ran(command(args)).await
}

async fn ran(mut command: Command) -> Ran {
    let output = within("the command to end", command.output()).await;
    let output = output.expect("the command runs");
    Ran {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

/// `grpc-health probe -addr ADDR` and the words of `more`.
async fn probe(addr: SocketAddr, more: &str) -> Ran {
    let addr = addr.to_string();
    let args = ["probe", "-addr", &addr];
    run(args.into_iter().chain(more.split_whitespace())).await
}
