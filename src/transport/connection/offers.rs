//! The slots that were offered to calls and not taken, for the driver.

use super::connection::{CallSlot, Connection, Reserved, Shared};

/// How many slots had been offered at one moment: by the channel's queue, and by the
/// connection's own.
pub(in crate::transport) struct Offers {
    to_calls: u64,
    reserved: u64,
}

impl Connection {
    /// The offers so far, if there is a slot that is offered and not taken.
    pub(in crate::transport) fn offers(&self) -> Option<Offers> {
        let Shared { door, context, .. } = &*self.0;
        (door.has_offers() || context.queue.has_offers()).then(|| Offers {
            to_calls: context.queue.offers(),
            reserved: door.offers(),
        })
    }

    /// Takes back the slots here that are among these offers and not taken, for the next
    /// calls that wait. A program may never poll again what they were offered to.
    pub(in crate::transport) fn pass_on(&self, offers: Offers) {
        let here = |slot: &CallSlot| slot.connection() == self;
        let reserved_here = |slot: &Reserved| slot.as_ref().is_ok_and(here);
        let reserved = self.0.door.take_back(offers.reserved, reserved_here);
        let slots = self.0.context.queue.take_back(offers.to_calls, here);
        slots
            .into_iter()
            .chain(reserved.into_iter().flatten())
            .for_each(CallSlot::give_back_unused);
    }
}

impl CallSlot {
    /// Drops it. No call was made, so none counts against the endpoint's rate.
    fn give_back_unused(self) {
        if let Some(limits) = &self.connection().0.context.limits {
            limits.refund();
        }
    }
}
