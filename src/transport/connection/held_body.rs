//! What a connection asks of a response, and does to it.

use tonic::Status;

/// A response that its connection can end, however little its reader does.
pub(in crate::transport) trait HeldBody: Send + Sync {
    /// How far it is read. None if nothing is left of it.
    fn progress(&self) -> Option<Progress>;

    /// Cancels the call, and keeps the status for its reader. Does nothing if it has ended.
    fn end(&self, status: Status);
}

/// How far a response is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) struct Progress {
    /// Bytes that are here, and not read.
    pub(in crate::transport) unread: usize,
    /// Frames that were read.
    pub(in crate::transport) frames: u32,
}
