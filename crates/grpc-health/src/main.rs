//! `grpc-health`: the health of gRPC servers, from the command line.
//!
//! ```text
//!   main ──► cli ──► probe          asks once, as `grpc-health-probe` does
//!                ├─► watch          follows many backends through the channel
//!                ├─► check, list    ask once, or again and again
//!                ├─► channels       asks a program for its own channels
//!                └─► completions, man
//! ```
//!
//! Every part ends in an [`Exit`](exit::Exit); nothing else decides the exit code.

mod answer;
mod ask;
mod channels;
mod check;
mod cli;
mod connect;
mod exit;
mod generate;
mod go;
mod grid;
mod limits;
mod list;
mod no_verify;
mod output;
mod pb;
mod probe;
mod report;
mod signals;
mod spelling;
mod targets;
mod text;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    limits::raise_open_files();
    connect::choose_provider();
    let exit = cli::run();
    if !exit.lines().is_empty() {
        output::tell_lines(exit.lines());
    }
    exit.code()
}
