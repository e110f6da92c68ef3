//! The command line, and who does what it says.

use std::{env, ffi::OsString, future::Future, path::Path};

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime;

use crate::{
    channels::{self, ChannelsArgs},
    check::{self, CheckArgs},
    exit::{Exit, Message},
    generate::{self, CompletionsArgs, ManArgs},
    go, limits,
    list::{self, ListArgs},
    probe::{self, ProbeArgs},
    text::tame,
    watch::{self, WatchArgs},
};

/// What `--help` and `man` say at the end.
const EXIT_CODES: &str = "Exit codes: 0 healthy, 1 bad arguments, 2 no connection, \
    3 the call failed, timed out or found no health service, 4 not SERVING";

/// The end of `channels --help`.
const CHANNELS_CODES: &str = "Exit codes: 0 shown, 1 bad arguments, 2 no connection, \
    3 the call failed, timed out or found no channelz service";

/// What `probe --help` says at the end.
const PROBE_FLAGS: &str = "The forms of Go work: flags with one dash, and durations such as \
    500ms, 1.5s or 1m30s.\n\nExit codes: 0 healthy, 1 bad arguments, 2 no connection, 3 the call \
    failed, timed out or found no health service, 4 not SERVING";

/// The names that `grpc-health-probe` is installed by. Called by one of them, this
/// program is it.
const PROBE_NAMES: [&str; 2] = ["grpc-health-probe", "grpc_health_probe"];

/// Check the health of gRPC servers with the gRPC health checking protocol
#[derive(Parser, Debug)]
#[command(name = "grpc-health", version, propagate_version = true)]
#[command(after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Check a server once, with the flags of grpc-health-probe
    #[command(after_help = PROBE_FLAGS)]
    Probe(Box<ProbeArgs>),
    /// Print the shell completions of this command
    Completions(CompletionsArgs),
    /// Print a man page
    Man(ManArgs),
    #[command(after_help = EXIT_CODES)]
    Watch(Box<WatchArgs>),
    #[command(after_help = EXIT_CODES)]
    List(Box<ListArgs>),
    #[command(after_help = EXIT_CODES)]
    Check(Box<CheckArgs>),
    #[command(after_help = CHANNELS_CODES)]
    Channels(Box<ChannelsArgs>),
}

pub(crate) fn run() -> Exit {
    let line = arguments(env::args_os());
    match Cli::try_parse_from(&line).map_err(|error| tamed(&line, error)) {
        Ok(cli) => match cli.command {
            Command::Probe(args) => probe::run(*args),
            Command::Completions(args) => generate::completions(&args, Cli::command()),
            Command::Man(args) => generate::man(&args, Cli::command()),
            Command::Watch(args) => block_on(watch::run(*args)),
            Command::List(args) => block_on(list::run(*args)),
            Command::Check(args) => block_on(check::run(*args)),
            Command::Channels(args) => block_on(channels::run(*args)),
        },
        Err(error) => {
            let _ = error.print();
            match error.use_stderr() {
                true => Exit::BadArguments(Message::default()),
                false => Exit::Healthy,
            }
        }
    }
}

/// The command line as clap reads it, the program's name included.
fn arguments(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.peekable();
    let program = args.next().unwrap_or_default();
    let by_name = is_probe(&program);
    let mut line = vec![program];
    if !by_name && args.peek().is_none_or(|command| command != "probe") {
        line.extend(args);
        return line;
    }
    if !by_name {
        args.next();
    }
    line.push("probe".into());
    let cli = Cli::command();
    match cli.find_subcommand("probe") {
        Some(probe) => line.extend(go::to_clap(args, probe)),
        None => line.extend(args),
    }
    line
}

/// The same error about arguments that may be printed: clap repeats them.
fn tamed(line: &[OsString], error: clap::Error) -> clap::Error {
    let tamed = line.iter().map(|word| {
        let word = word.to_string_lossy();
        tame(&word).into_owned()
    });
    Cli::try_parse_from(tamed).err().unwrap_or(error)
}

fn is_probe(program: &OsString) -> bool {
    let name = Path::new(program).file_stem();
    name.is_some_and(|name| PROBE_NAMES.iter().any(|probe| name == *probe))
}

/// Runs a command that talks to servers. Either result says how the program ends.
fn block_on(command: impl Future<Output = Result<Exit, Exit>>) -> Exit {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::CallFailed(limits::no_runtime(&error)),
    };
    let exit = runtime.block_on(command).unwrap_or_else(|exit| exit);
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
    exit
}
