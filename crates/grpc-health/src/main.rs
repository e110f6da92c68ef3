//! `grpc-health`: the health of gRPC servers, from the command line.
//!
//! ```text
//!   main ──► cli ──► probe          asks once, as `grpc-health-probe` does
//!                ├─► watch          follows many backends through the channel
//!                ├─► check, list    ask once, or again and again
//!                └─► completions, man
//! ```
//!
//! Every part ends in an [`Exit`](exit::Exit); nothing else decides the exit code.

mod answer;
mod ask;
mod check;
mod cli;
mod connect;
mod exit;
mod generate;
mod go;
mod grid;
mod list;
mod output;
mod pb;
mod probe;
mod report;
mod signals;
mod targets;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = cli::run();
    if let Some(text) = exit.message() {
        output::tell(format_args!("{text}"));
    }
    exit.code()
}
