//! Ways to a backend, and bounds on what it gets.

mod connectors;
mod keepalive;
mod limits;
mod proxies;
#[cfg(unix)]
mod unix;
mod userinfo;
