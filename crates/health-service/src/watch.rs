//! The stream of one `Watch`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{Status, codegen::tokio_stream::Stream};

use crate::{
    pb::HealthCheckResponse,
    registry::{Next, Ticket, TooManyWatchers},
    shared::Shared,
    wire,
};

#[derive(Debug)]
pub(crate) struct WatchStream {
    shared: Arc<Shared>,
    /// `None` after the end.
    ticket: Option<Ticket>,
}

impl WatchStream {
    pub(crate) fn new(shared: &Arc<Shared>, name: &str) -> Result<Self, TooManyWatchers> {
        Ok(Self {
            shared: Arc::clone(shared),
            ticket: Some(shared.watch(name)?),
        })
    }
}

impl Stream for WatchStream {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(ticket) = self.ticket else {
            return Poll::Ready(None);
        };
        match self.shared.poll(ticket, cx) {
            Next::Send(status) => Poll::Ready(Some(Ok(wire::response(status)))),
            Next::Wait(left) => {
                drop(left);
                Poll::Pending
            }
            Next::End => {
                self.ticket = None;
                self.shared.leave(ticket);
                Poll::Ready(Some(Err(wire::stopping())))
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.leave(ticket);
        }
    }
}
