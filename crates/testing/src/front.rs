//! The way of a call to its service: it is counted, held and delayed.

use std::{
    convert::Infallible,
    fmt,
    future::{pending, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tonic::{Status, body::Body};
use tower_service::Service;

use crate::{
    counter::{Counter, Entered},
    deadline,
    health::Health,
};

/// How the paths of health calls begin.
const HEALTH: &str = "/grpc.health.v1.Health/";

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// The services of the test, as one function.
pub(crate) struct Services(Box<dyn Fn(Request<Body>) -> Answer + Send + Sync>);

/// The part of a backend that answers health calls.
#[derive(Debug)]
pub(crate) enum HealthKind {
    Kit(Health),
    /// Each call stays open, without an answer.
    Silent,
    /// The services of the test, or else none.
    Service,
}

#[derive(Debug)]
pub(crate) struct Front {
    services: Services,
    pub(crate) health: HealthKind,
    /// Calls that are not about health.
    pub(crate) calls: Counter,
    pub(crate) open_calls: Counter,
    /// Open `Watch` streams.
    pub(crate) watchers: Counter,
    pace: Mutex<Pace>,
    /// Wakes calls in the order in which they came.
    released: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    held: bool,
    delay: Duration,
}

impl Services {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        Self(Box::new(move |request| {
            let mut service = service.clone();
            Box::pin(async move {
                let ready = poll_fn(|cx| service.poll_ready(cx)).await;
                let answer = match ready {
                    Ok(()) => service.call(request).await,
                    Err(never) => match never {},
                };
                match answer {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            })
        }))
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Services")
    }
}

impl HealthKind {
    /// The health service whose statuses a test sets.
    pub(crate) fn kit(&self) -> &Health {
        match self {
            Self::Kit(health) => health,
            Self::Silent | Self::Service => {
                panic!("this backend has no health service whose statuses can be set")
            }
        }
    }
}

impl Front {
    pub(crate) fn new(services: Services, health: HealthKind) -> Self {
        Self {
            services,
            health,
            calls: Counter::new("calls"),
            open_calls: Counter::new("open calls"),
            watchers: Counter::new("open Watch calls"),
            pace: Mutex::new(Pace {
                held: false,
                delay: Duration::ZERO,
            }),
            released: Notify::new(),
        }
    }

    pub(crate) fn hold(&self) {
        self.pace().held = true;
    }

    pub(crate) fn release(&self) {
        self.pace().held = false;
        self.released.notify_waiters();
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        self.pace().delay = delay;
    }

    /// The answer, within the deadline of the call. tonic's server keeps it in the same way.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Infallible> {
        let deadline = deadline::timeout(request.headers());
        let answer = self.route(request);
        let Some(deadline) = deadline else {
            return Ok(answer.await);
        };
        match timeout(deadline, answer).await {
            Ok(response) => Ok(response),
            Err(_) => Ok(Status::cancelled("Timeout expired").into_http()),
        }
    }

    async fn route(&self, request: Request<Body>) -> Response<Body> {
        match request.uri().path().strip_prefix(HEALTH) {
            Some("Watch") => {
                let open = self.watchers.enter();
                until_ended(open, self.answer_health(request).await)
            }
            Some(_) => self.answer_health(request).await,
            None => {
                let open = self.open_calls.enter();
                self.calls.add();
                self.wait().await;
                until_ended(open, (self.services.0)(request).await)
            }
        }
    }

    async fn answer_health(&self, request: Request<Body>) -> Response<Body> {
        match &self.health {
            HealthKind::Kit(health) => health.answer(request).await,
            HealthKind::Silent => pending().await,
            HealthKind::Service => (self.services.0)(request).await,
        }
    }

    async fn wait(&self) {
        let delay = loop {
            // It takes notifications from here on, so that no release is missed.
            let released = self.released.notified();
            let pace = *self.pace();
            if !pace.held {
                break pace.delay;
            }
            released.await;
        };
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        // A panic leaves no half change behind.
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a gauge up until the response is sent or dropped.
fn until_ended(open: Entered, response: Response<Body>) -> Response<Body> {
    response.map(|body| Body::new(Guarded { body, _open: open }))
}

struct Guarded {
    body: Body,
    _open: Entered,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
