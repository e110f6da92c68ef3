//! The signals that ask a process to stop.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC as Signal, ctrl_c};

/// A future that is ready at SIGTERM or Ctrl-C; on Windows at Ctrl-C alone.
///
/// The signals are caught from the call on, not only from the first poll. A process that has
/// called it does not end by them any more.
///
/// # Errors
///
/// The system refuses the handler of a signal.
///
/// # Panics
///
/// Outside of a tokio runtime with IO.
///
/// # Cancel safety
///
/// If the future is dropped, the process still does not end by the signals.
pub fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    #[cfg(unix)]
    let mut signals = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    ];
    #[cfg(windows)]
    let mut signals = [ctrl_c()?];
    Ok(poll_fn(move |cx| poll_signals(&mut signals, cx)))
}

fn poll_signals(signals: &mut [Signal], cx: &mut Context<'_>) -> Poll<()> {
    // Each that is not ready has been polled, so that each wakes.
    match signals.iter_mut().any(|it| it.poll_recv(cx).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    }
}
