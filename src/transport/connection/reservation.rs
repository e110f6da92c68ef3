//! A slot that a connection keeps for its `Watch`.

use super::connection::{CallSlot, Connection};

/// A slot kept for as long as the connection lives, so that the `Watch` can
/// always be started again.
pub(crate) struct Reservation(Connection);

impl Connection {
    /// A slot for the connection's own use, whether it is pickable or
    /// not. Waits while the peer allows no stream at all, or calls have them all;
    /// for ever, if the connection takes no new streams.
    ///
    /// # Cancel safety
    ///
    /// Nothing is held when the future is dropped.
    pub(crate) async fn reserve(&self) -> Reservation {
        let _turn = ReservationTurn::start(self);
        self.0.slots.reserve().await;
        Reservation(self.clone())
    }
}

/// A reservation that waits. When it has ended, so has its precedence.
struct ReservationTurn<'a>(&'a Connection);

impl<'a> ReservationTurn<'a> {
    fn start(connection: &'a Connection) -> Self {
        connection.0.slots.start_reserving();
        Self(connection)
    }
}

impl Drop for ReservationTurn<'_> {
    fn drop(&mut self) {
        self.0.0.slots.end_reserving();
        self.0.serve_queue();
    }
}

impl Reservation {
    /// The right to open a stream on the reserved slot. One at a time.
    pub(crate) fn lend(&self) -> CallSlot {
        CallSlot::lent_by(self.0.clone())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.release_slot();
    }
}
