//! A request body of whose messages a trace is told.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use tonic::{Status, body::Body};

use super::{prefixes::MessageBytes, request_body::poll_contained};
use crate::{trace::AttemptWitness, util::contained::Contained};

/// The rest of a request body.
pub(super) struct WitnessedBody {
    body: Contained<Body>,
    messages: MessageBytes,
    witness: AttemptWitness,
}

impl WitnessedBody {
    /// Puts this layer around `body`. `messages` has counted what was read before.
    pub(super) fn wrap(
        body: &mut Contained<Body>,
        messages: MessageBytes,
        witness: AttemptWitness,
    ) {
        let inner = mem::replace(body, Contained::new(Body::empty()));
        *body = Contained::new(Body::new(Self {
            body: inner,
            messages,
            witness,
        }));
    }
}

impl http_body::Body for WitnessedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self {
            body,
            messages,
            witness,
        } = &mut *self;
        let frame = ready!(poll_contained(body, cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            messages.add_each(data, |n, prefix| witness.on_sent(prefix.message(n)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
