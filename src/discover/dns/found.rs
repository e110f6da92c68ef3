//! What a lookup finds.

use std::{net::SocketAddr, time::Duration};

/// The most addresses that are taken from a name: each is a backend with a connection of
/// its own, and who forges an answer is not to choose how many we make. Two and a half
/// times what one answer can hold.
pub(super) const MAX_ADDRESSES: usize = 10_000;

/// What a name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<SocketAddr>,
    /// For how long, if it was said.
    pub(super) valid: Option<Duration>,
    /// Of these the lookup could not learn whether there are any addresses, or which.
    pub(super) unknown: Families,
}

/// Families of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl Families {
    /// Those of the addresses.
    pub(super) fn of<'a>(addresses: impl IntoIterator<Item = &'a SocketAddr>) -> Self {
        let mut families = Self::default();
        for address in addresses {
            families.v4 |= address.is_ipv4();
            families.v6 |= address.is_ipv6();
        }
        families
    }

    pub(super) fn includes(self, address: &SocketAddr) -> bool {
        match address {
            SocketAddr::V4(_) => self.v4,
            SocketAddr::V6(_) => self.v6,
        }
    }

    pub(super) fn any(self) -> bool {
        self.v4 || self.v6
    }

    #[cfg(feature = "hickory")]
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            v4: self.v4 || other.v4,
            v6: self.v6 || other.v6,
        }
    }
}
