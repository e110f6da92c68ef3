//! The moment that a timeout leads to, and the requests that carry it.

use std::time::{Duration, Instant};

use tonic::{Request, Status};

use crate::{transport::timeout_header, util::clock::now};

/// When a call, and all that is done for it, has to be over; or never.
///
/// Of a server's request by [`from`]. It is a moment, so it may be kept, copied, and
/// [put into](Self::put_into) requests that are made later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Option<Instant>,
}

/// The deadline of a request that has come in: what its `grpc-timeout` leaves, counted from
/// now, or from where it was [stamped](stamp).
///
/// A request without a `grpc-timeout`, or with one that cannot be read, has none: it never
/// ends, as for tonic's server. So has one whose time is too long to have an end.
///
/// Call it first of all in a handler: later, what was done meanwhile counts for nothing.
///
/// ```
/// use std::time::Duration;
/// use tonic_health_channel::deadline;
///
/// let mut request = tonic::Request::new(());
/// assert_eq!(deadline::from(&request).left(), None);
/// request.set_timeout(Duration::from_secs(2));
/// let left = deadline::from(&request).left().expect("a deadline");
/// assert!(left > Duration::from_secs(1) && left <= Duration::from_secs(2));
/// ```
pub fn from<T>(request: &Request<T>) -> Deadline {
    let stamped = request.extensions().get::<Deadline>();
    stamped.copied().unwrap_or_else(|| from_now(request))
}

/// What the `grpc-timeout` of a request leads to.
fn from_now<T>(request: &Request<T>) -> Deadline {
    let timeout = timeout_header::of(request.metadata().as_ref());
    Deadline {
        at: timeout.and_then(|timeout| now().checked_add(timeout.time)),
    }
}

/// An interceptor for servers: notes when the request came, so that [`from`] counts from there.
///
/// # Errors
///
/// None: it lets every request pass.
///
/// ```
/// # mod greeter_server {
/// #     use tonic::{Request, Status};
/// #     pub struct GreeterServer;
/// #     impl GreeterServer {
/// #         pub fn with_interceptor<S>(
/// #             _: S,
/// #             _: impl FnMut(Request<()>) -> Result<Request<()>, Status>,
/// #         ) -> Self { Self }
/// #     }
/// # }
/// # use greeter_server::GreeterServer;
/// # struct MyGreeter;
/// use tonic_health_channel::deadline;
///
/// let greeter = GreeterServer::with_interceptor(MyGreeter, deadline::stamp);
/// ```
pub fn stamp(mut request: Request<()>) -> Result<Request<()>, Status> {
    let deadline = from(&request);
    request.extensions_mut().insert(deadline);
    Ok(request)
}

impl Deadline {
    /// The moment, by tokio's clock. `None` is never.
    pub fn instant(self) -> Option<Instant> {
        self.at
    }

    /// What is left until then: zero once it has passed. `None` is without end.
    pub fn left(self) -> Option<Duration> {
        Some(self.at?.saturating_duration_since(now()))
    }

    /// Bounds the call that `request` is for. Where the request has a timeout already, or gets
    /// one later, the sooner counts.
    ///
    /// It says what is left in `grpc-timeout`, which any channel sends, and leaves the moment
    /// with the request, which a [`Channel`](crate::Channel) goes by: the time in which the
    /// request was kept is not given twice, and a call that is made too late fails with
    /// DEADLINE_EXCEEDED before it is sent.
    ///
    /// A deadline that is never does nothing.
    pub fn put_into<T>(self, request: &mut Request<T>) {
        let Some(at) = self.at else { return };
        let own = [from(request).at, from_now(request).at];
        let sooner = own.into_iter().flatten().fold(at, Instant::min);
        let left = sooner.saturating_duration_since(now());
        timeout_header::set(request.metadata_mut().as_mut(), left);
        request.extensions_mut().insert(Self { at: Some(sooner) });
    }
}
