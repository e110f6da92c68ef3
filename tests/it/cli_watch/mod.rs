//! The command `grpc-health` as those use it who run services: `watch`, `check` and
//! `list`, run as programs against real servers.

mod bad_input;
mod check;
mod check_every;
mod list;
mod run;
#[cfg(unix)]
mod terminal;
mod watch;
mod watch_ends;
