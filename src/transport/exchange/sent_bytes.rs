//! How many bytes of messages a request sends.

use std::{mem, sync::Arc};

use tonic::body::Body;

use super::{
    counted_body::CountedBody,
    prefixes::MessageBytes,
    request::{OutgoingRequest, Rest},
};
use crate::{metrics::SentBytes, util::contained::Contained};

impl OutgoingRequest {
    /// Adds up the bytes of the messages that the next attempt sends. The body was
    /// [looked at](Self::prefetch). `counted` has those of an attempt that could not be sent.
    pub(crate) fn count_sent(&mut self, counted: Option<SentBytes>) -> SentBytes {
        let mut bytes = MessageBytes::default();
        let total = match &mut self.rest {
            Rest::Nothing | Rest::Unknown(_) | Rest::Gone => {
                bytes.add(self.first.as_deref().unwrap_or_default());
                return SentBytes::Whole(bytes.total());
            }
            Rest::Kept(replay) => {
                let total = Arc::default();
                replay.count(&total);
                total
            }
            Rest::More(next, body) => {
                if let Some(counted) = counted {
                    return counted;
                }
                let total = Arc::default();
                let next = next.as_ref().and_then(|next| next.data_ref());
                let read = [self.first.as_ref(), next].into_iter().flatten();
                read.for_each(|data| bytes.add(data));
                let inner = mem::replace(body, Contained::new(Body::empty()));
                *body = CountedBody::of(inner, bytes, Arc::clone(&total));
                total
            }
        };
        SentBytes::Counted(total)
    }
}
