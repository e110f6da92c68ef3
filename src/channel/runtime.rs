//! The runtime that a channel belongs to, and what that has to bring.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tokio::{runtime::Handle, time};

/// The runtime in context.
///
/// # Panics
///
/// If there is none, or it cannot do what a channel needs.
#[track_caller]
pub(super) fn runtime_in_context(needs_io: bool) -> Handle {
    let Ok(runtime) = Handle::try_current() else {
        panic!(
            "there is no reactor running: a channel must be built from the context of a tokio \
             runtime, in a task, in `Runtime::block_on` or after `Runtime::enter`"
        );
    };
    for (is_there, missing, method) in [
        (has_time(), "timers", "enable_time"),
        (!needs_io || has_io(), "IO", "enable_io"),
    ] {
        assert!(
            is_there,
            "a channel needs {missing}, but its tokio runtime has none: call `{method}` or \
             `enable_all` on the runtime's `Builder`"
        );
    }
    runtime
}

/// tokio answers this question by a panic alone.
fn has_time() -> bool {
    catch_unwind(|| drop(time::sleep(Duration::ZERO))).is_ok()
}

/// As [`has_time`]. Where the system has no socket to spare, that is for a dial to tell.
fn has_io() -> bool {
    catch_unwind(AssertUnwindSafe(|| drop(socket()))).is_ok()
}

#[cfg(unix)]
fn socket() -> io::Result<tokio::net::UnixDatagram> {
    tokio::net::UnixDatagram::unbound()
}

#[cfg(not(unix))]
fn socket() -> io::Result<tokio::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}
