//! A request of which a trace is told.

use bytes::Bytes;
use http::HeaderMap;

use super::{
    prefixes::MessageBytes,
    request::{OutgoingRequest, Rest},
    witnessed_body::WitnessedBody,
};
use crate::trace::AttemptWitness;

impl OutgoingRequest {
    /// The call credentials add these on the connection of the next attempt. Those of the last are
    /// forgotten.
    pub(super) fn set_credentials(&mut self, headers: HeaderMap) {
        self.additions.get_or_insert_default().credentials = headers;
    }

    /// The next attempt tells this trace of itself, if there is one.
    pub(crate) fn set_witness(&mut self, witness: Option<AttemptWitness>) {
        if witness.is_some() || self.additions.is_some() {
            self.additions.get_or_insert_default().witness = witness;
        }
    }

    /// The messages of the request go out, and the trace is told of each if it asks for that.
    /// Those that are not read yet are told where they are read.
    #[cold]
    pub(super) fn witness_messages(&mut self) {
        let additions = self.additions.take();
        let witness = additions.and_then(|additions| additions.witness);
        let Some(witness) = witness.filter(AttemptWitness::wants_messages) else {
            return;
        };
        let mut messages = MessageBytes::default();
        let mut tell = |data: &Bytes| {
            messages.add_each(data, |n, prefix| {
                witness.on_sent(prefix.message(n));
            })
        };
        self.first.iter().for_each(&mut tell);
        match &mut self.rest {
            Rest::Nothing | Rest::Gone => {}
            Rest::Kept(replay) => replay.set_witness(witness),
            Rest::Unknown(body) => WitnessedBody::wrap(body, messages, witness),
            Rest::More(next, body) => {
                let next = next.as_ref().and_then(|next| next.data_ref());
                next.iter().copied().for_each(&mut tell);
                WitnessedBody::wrap(body, messages, witness);
            }
        }
    }
}
