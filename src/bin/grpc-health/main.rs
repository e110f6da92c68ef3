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

mod cli;
#[allow(dead_code, reason = "its flags are for commands that follow targets")]
mod connect;
mod exit;
mod generate;
mod go;
mod output;
mod pb;
mod probe;

use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = cli::run();
    if let Some(text) = exit.message() {
        output::tell(format_args!("{text}"));
    }
    exit.code()
}
