//! A request body whose messages are counted.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use tonic::{Status, body::Body};

use super::{prefixes::MessageBytes, request_body::poll_contained};
use crate::util::contained::Contained;

/// The rest of a request body, of which `total` tells the bytes of the messages so far.
pub(super) struct CountedBody {
    body: Contained<Body>,
    bytes: MessageBytes,
    total: Arc<AtomicU64>,
}

impl CountedBody {
    /// This body. `bytes` has counted what was read before.
    pub(super) fn of(
        body: Contained<Body>,
        bytes: MessageBytes,
        total: Arc<AtomicU64>,
    ) -> Contained<Body> {
        total.store(bytes.total(), Relaxed);
        Contained::new(Body::new(Self { body, bytes, total }))
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = ready!(poll_contained(&mut this.body, cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.bytes.add(data);
            this.total.store(this.bytes.total(), Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
