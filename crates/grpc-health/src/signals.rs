//! What ends a command that would go on for ever.

use std::io;

use crate::exit::Exit;

/// Ctrl-C, and the request to end.
#[cfg(unix)]
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn new() -> Result<Self, Exit> {
        use tokio::signal::unix::{SignalKind, signal};
        let taken = |kind| signal(kind).map_err(refused);
        Ok(Self {
            interrupt: taken(SignalKind::interrupt())?,
            terminate: taken(SignalKind::terminate())?,
        })
    }

    /// Waits for one, and says how the program then ends. Cancel safe.
    pub(crate) async fn next(&mut self) -> Exit {
        const SIGINT: u8 = 2;
        const SIGTERM: u8 = 15;
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Signal(SIGINT),
            _ = self.terminate.recv() => Exit::Signal(SIGTERM),
        }
    }
}

#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> Result<Self, Exit> {
        Ok(Self)
    }

    /// Waits for Ctrl-C, and says how the program then ends. Cancel safe.
    pub(crate) async fn next(&mut self) -> Exit {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Exit::Signal(2),
            Err(error) => refused(error),
        }
    }
}

fn refused(error: io::Error) -> Exit {
    Exit::CallFailed(format!("error: cannot handle signals: {error}").into())
}

/// The terminal has another size.
pub(crate) struct Resizes {
    #[cfg(unix)]
    changed: tokio::signal::unix::Signal,
}

impl Resizes {
    pub(crate) fn new() -> Result<Self, Exit> {
        Ok(Self {
            #[cfg(unix)]
            changed: {
                use tokio::signal::unix::{SignalKind, signal};
                signal(SignalKind::window_change()).map_err(refused)?
            },
        })
    }

    /// Waits for the next time. For ever where there is no such signal. Cancel safe.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if self.changed.recv().await.is_some() {
            return;
        }
        std::future::pending().await
    }
}
