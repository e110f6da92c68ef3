//! One attempt of a call: from a slot to the headers of the response.
//!
//! ```text
//!   prefetch ──► authorize ──► open ──► answer
//!   the first    credentials,  the      the headers,
//!   message      if any        stream   or the deadline
//! ```
//!
//! Calls, health checks and the connections that other balancers get are all sent here.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Poll, ready},
};

use http::Response;
use tokio::time::Instant;
use tonic::Code;

use super::{
    body::{BodyBounds, ResponseBody},
    deadline::{Deadline, Limit},
    open::SendError,
    request::OutgoingRequest,
    response::{Exchange, Failed},
};
use crate::{
    error::Error,
    transport::connection::CallSlot,
    util::clock::{poll_timer, timer_on},
};

impl CallSlot {
    /// Sends `request` and waits for the headers of the response, as long as `deadline` says.
    /// `wrap` makes the body that the caller gets.
    ///
    /// A [`ResponseBody`] is large, and a response is moved some times more. So the body goes into
    /// its box here.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the attempt.
    // An async fn would keep its arguments twice in the future of every call.
    #[expect(clippy::manual_async_fn, reason = "for the size of the future")]
    pub(crate) fn send<B>(
        self,
        request: &mut OutgoingRequest,
        deadline: &mut Deadline,
        wrap: impl FnOnce(ResponseBody, BodyBounds) -> B + Send,
    ) -> impl Future<Output = Result<Response<B>, SendError>> + Send {
        async move {
            request.prefetch().await.map_err(SendError::Refused)?;
            let limit = deadline.limit_on(self.connection().call_timeout());
            if limit.is_some_and(Limit::is_zero) {
                return Err(SendError::Refused(Deadline::without_time()));
            }
            if self.needs_credentials() {
                // Boxed to keep it out of the future of calls that need none.
                let authorized = Box::pin(self.authorize_within(request, deadline, limit));
                authorized.await.map_err(SendError::Refused)?;
            }
            deadline.tell_time_left(request);
            let mut exchange = self.open(request)?;
            exchange.set_bounds(BodyBounds {
                deadline: deadline.end(),
                max_message: request.max_response(),
            });
            answer(&mut exchange, limit, wrap).await
        }
    }

    async fn authorize_within(
        &self,
        request: &mut OutgoingRequest,
        deadline: &mut Deadline,
        limit: Option<Limit>,
    ) -> Result<(), Error> {
        let runtime = || Some(self.connection().runtime());
        let authorized = deadline.wait(|| limit, runtime, self.authorize(request));
        let authorized = authorized.await;
        authorized.unwrap_or_else(|limit| Err(limit.expired("for call credentials")))
    }
}

/// Waits for the response, within the limit if there is one.
///
/// One way for calls with and without a limit, for it is in the future of every call. A failure
/// is made here, so that the response is not moved from one result to the next.
async fn answer<B>(
    exchange: &mut Exchange,
    limit: Option<Limit>,
    wrap: impl FnOnce(ResponseBody, BodyBounds) -> B,
) -> Result<Response<B>, SendError> {
    let mut wrap = Some(wrap);
    let mut timer = pin!(limit.map(|limit| timer_on(exchange.connection().runtime(), limit.at)));
    poll_fn(|cx| {
        let failed = match Pin::new(&mut *exchange).poll(cx) {
            Poll::Ready(Ok(response)) => {
                let wrap = wrap.take().expect("there is 1 response");
                let bounds = exchange.bounds();
                return Poll::Ready(Ok(response.map(|body| wrap(body, bounds))));
            }
            Poll::Ready(Err(failed)) => Some(failed),
            Poll::Pending => match timer.as_mut().as_pin_mut() {
                None => return Poll::Pending,
                Some(timer) => {
                    ready!(poll_timer(timer, cx));
                    None
                }
            },
        };
        Poll::Ready(Err(fail(exchange, limit, failed)))
    })
    .await
}

/// The end of an attempt that has `failed`, or whose limit came first.
#[cold]
fn fail(exchange: &mut Exchange, limit: Option<Limit>, failed: Option<Failed>) -> SendError {
    let is_late = |limit: &Limit| match &failed {
        None => true,
        // The server has the same deadline, and says so by cancelling the call.
        Some(failed) => failed.error.code() == Code::Cancelled && Instant::now() >= limit.at,
    };
    let Failed { error, unprocessed } = match limit.filter(is_late) {
        // The part of the response that is here tells more than that the rest is late.
        Some(limit) => Failed {
            error: exchange.http_error().unwrap_or_else(|| {
                let address = exchange.connection().address();
                limit.expired(&format!("for the response of {address}"))
            }),
            unprocessed: false,
        },
        None => failed.expect("only a timer ends the wait without one"),
    };
    let error = error.after_sending(unprocessed);
    let failed = Failed { error, unprocessed };
    exchange.end(&failed);
    SendError::Failed(failed)
}
