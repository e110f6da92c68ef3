//! The command `grpc-health`, run as a program against real servers: what it prints, and
//! how it ends.

mod bad_input;
mod channels;
mod check;
mod check_every;
mod conveniences;
mod generated;
mod hostile;
#[cfg(unix)]
mod limits;
mod list;
mod misuse;
mod probe;
mod run;
#[cfg(unix)]
mod stuck;
#[cfg(unix)]
mod terminal;
mod tls;
mod watch;
mod watch_ends;
