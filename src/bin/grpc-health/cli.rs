//! The command line, and who does what it says.

use clap::{Parser, Subcommand};

use crate::exit::Exit;

#[derive(Parser, Debug)]
#[command(name = "grpc-health", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {}

pub(crate) fn run() -> Exit {
    match Cli::try_parse() {
        Ok(cli) => match cli.command {},
        Err(error) => {
            let _ = error.print();
            match error.use_stderr() {
                true => Exit::BadArguments(String::new()),
                false => Exit::Healthy,
            }
        }
    }
}
