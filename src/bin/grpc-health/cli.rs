//! The command line, and who does what it says.

use std::future::Future;

use clap::{Parser, Subcommand};
use tokio::runtime;

use crate::{
    check::{self, CheckArgs},
    exit::Exit,
    list::{self, ListArgs},
    watch::{self, WatchArgs},
};

#[derive(Parser, Debug)]
#[command(name = "grpc-health", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Watch(WatchArgs),
    Check(CheckArgs),
    List(ListArgs),
}

pub(crate) fn run() -> Exit {
    match Cli::try_parse() {
        Ok(cli) => match cli.command {
            Command::Watch(args) => block_on(watch::run(args)),
            Command::Check(args) => block_on(check::run(args)),
            Command::List(args) => block_on(list::run(args)),
        },
        Err(error) => {
            let _ = error.print();
            match error.use_stderr() {
                true => Exit::BadArguments(String::new()),
                false => Exit::Healthy,
            }
        }
    }
}

/// Runs a command that talks to servers. Either result says how the program ends.
fn block_on(command: impl Future<Output = Result<Exit, Exit>>) -> Exit {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::CallFailed(format!("error: no runtime: {error}")),
    };
    let exit = runtime.block_on(command).unwrap_or_else(|exit| exit);
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
    exit
}
