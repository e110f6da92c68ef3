//! What a lookup finds.

use std::{net::SocketAddr, time::Duration};

/// The most addresses that are taken from a name: each is a backend with a connection of
/// its own, and who forges an answer is not to choose how many we make. Two and a half
/// times what one answer can hold.
pub(super) const MAX_ADDRESSES: usize = 10_000;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<SocketAddr>,
    /// For how long, if it was said.
    pub(super) valid: Option<Duration>,
}
