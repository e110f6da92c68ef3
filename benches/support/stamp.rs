//! When a server wrote what.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use testing::Tap;
use tokio::sync::watch;

use super::clock;

/// Tells when the message that was marked has been written. Right for a server
/// of one thread that has one Watch: what it hands over is in its next write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamp {
    marked: Arc<AtomicBool>,
    written: watch::Sender<u64>,
}

impl Stamp {
    /// A message was handed over, and is in the next write.
    pub(crate) fn mark(&self) {
        self.marked.store(true, SeqCst);
    }

    /// The times of the writes, by [`clock::now`].
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }
}

impl<T> Tap<T> for Stamp {
    fn on_written(&mut self) {
        if self.marked.swap(false, SeqCst) {
            self.written.send_replace(clock::now());
        }
    }
}
