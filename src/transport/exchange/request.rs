//! A request on its way out: its head, kept for another attempt, and its body.
//!
//! A unary request goes out whole from the caller's task. A body that is not
//! ready, or lacks window, goes through the [`RequestBodyPump`].

use std::{
    future::{Future, pending, poll_fn},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::SendStream;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header,
    uri::{self, PathAndQuery},
};
use http_body::Frame;
use tonic::body::Body;

use super::{
    additions::Additions,
    message_limit::MessageLimit,
    replay::{COPIED, Held, Replay, ReplayBudget},
    request_body::{LARGEST_PIECE, RequestBodyPump, poll_body},
};
use crate::{
    error::{Error, ErrorKind},
    util::contained::Contained,
};

/// Headers about one HTTP/1 hop; `h2` refuses a request that has them.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The time that a call has left, as its server is told (gRPC over HTTP/2, "Timeout").
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How many attempts of the call were made before this one (gRFC A6).
const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A copy up to this size is one allocation with the count of those that hold it: the request,
/// and `h2`.
const SMALL: usize = 120;

/// A request on its way out. It survives attempts to open a stream, and a unary
/// one can be sent again.
///
/// No larger than it has to be: it is most of a call's future, and `malloc` is
/// quick only up to a kilobyte.
pub(crate) struct OutgoingRequest {
    method: Method,
    path: Option<PathAndQuery>,
    headers: HeaderMap,
    /// What has to be put back into `headers`, while `h2` has the map.
    sent: Sent,
    renews_timeout: bool,
    /// What the next attempt adds. Most add nothing.
    pub(super) additions: Option<Box<Additions>>,
    /// What the caller says of itself, to stand before what we say.
    application: Option<HeaderValue>,
    /// The first DATA frame, kept when it is all there is.
    pub(super) first: Option<Bytes>,
    pub(super) rest: Rest,
    limit: Option<MessageLimit>,
    /// Of each message of the response, in bytes.
    max_response: Option<u32>,
}

/// The headers of a request that has gone out, for another attempt.
///
/// A list, because it is cheaper to make than another map and rarely needed; and
/// only of what not every call has, because most calls then have none.
#[derive(Default)]
struct Sent {
    te: bool,
    content_type: bool,
    others: Vec<(HeaderName, HeaderValue)>,
}

/// What follows the first frame.
pub(super) enum Rest {
    /// Not looked at: [`OutgoingRequest::prefetch`] has not run.
    Unknown(Contained<Body>),
    /// Nothing: the request is whole, and can be sent again.
    Nothing,
    /// More, some of it perhaps already taken from the body.
    More(Option<Box<Frame<Bytes>>>, Contained<Body>),
    /// All of it, as far as it is there: each attempt reads it from the beginning.
    Kept(Box<Replay>),
    /// It went into a stream and cannot be had again.
    Gone,
}

impl OutgoingRequest {
    pub(crate) fn new(request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        let CallerHeaders {
            te_trailers,
            user_agent,
            hop_by_hop,
        } = CallerHeaders::of(&headers);
        if hop_by_hop {
            for name in &HOP_BY_HOP {
                headers.remove(name);
            }
        }
        if !te_trailers {
            headers.insert(header::TE, TRAILERS);
        }
        let application = match user_agent {
            true => headers.remove(header::USER_AGENT),
            false => None,
        };
        Self {
            method: head.method,
            path: head.uri.into_parts().path_and_query,
            application,
            headers,
            sent: Sent::default(),
            renews_timeout: false,
            additions: None,
            first: None,
            rest: Rest::Unknown(Contained::new(body)),
            limit: None,
            max_response: None,
        }
    }

    /// The next attempt is given its [`GRPC_TIMEOUT`] anew: this one's is not kept.
    pub(crate) fn renew_timeout(&mut self) {
        self.renews_timeout = true;
    }

    /// Bounds each message of the body to `max` bytes, as it is on the wire: a
    /// compressed one counts compressed. With 0 only empty messages pass.
    ///
    /// For the whole body or none of it: once [`prefetch`](Self::prefetch) has
    /// looked at the body, this has no effect.
    pub(crate) fn limit_messages(&mut self, max: u32) {
        if matches!(self.rest, Rest::Unknown(_)) {
            self.limit = Some(MessageLimit::new(max));
        }
    }

    /// Bounds each message of the response, as it is on the wire.
    pub(crate) fn limit_response(&mut self, max: Option<u32>) {
        self.max_response = max;
    }

    pub(super) fn max_response(&self) -> Option<u32> {
        self.max_response
    }

    /// `/package.Service/Method`
    pub(crate) fn path(&self) -> &str {
        self.path.as_ref().map_or("", PathAndQuery::path)
    }

    #[inline]
    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.sent.put_back(&mut self.headers);
        &mut self.headers
    }

    /// Takes from the body what is ready, so that a unary request is known to
    /// be whole. Never waits.
    ///
    /// # Errors
    ///
    /// The body's own, or that of a message above the limit. Nothing is sent.
    pub(crate) async fn prefetch(&mut self) -> Result<(), Error> {
        poll_fn(|cx| Poll::Ready(self.look_ahead(cx))).await
    }

    /// Keeps the body for attempts to come, as far as the budget of `held` allows. A body
    /// that is [whole](Self::prefetch) already counts in `held`, one that streams by itself.
    pub(crate) fn keep(&mut self, budget: &Arc<ReplayBudget>, held: &mut Held) -> bool {
        if !matches!(self.rest, Rest::More(..)) {
            return match &self.rest {
                Rest::Kept(replay) => replay.is_kept(),
                _ => held.grow(self.ready_bytes()),
            };
        }
        let Rest::More(next, body) = std::mem::replace(&mut self.rest, Rest::Gone) else {
            unreachable!("it has more");
        };
        let mut chunks = Vec::from_iter(self.first.take());
        let mut trailers = None;
        match next.map(|next| next.into_data()) {
            None => {}
            Some(Ok(data)) => chunks.push(data),
            Some(Err(frame)) => trailers = frame.into_trailers().ok(),
        }
        let replay = Replay::new(budget, chunks, trailers, body);
        let is_kept = replay.is_kept();
        self.rest = Rest::Kept(Box::new(replay));
        is_kept
    }

    /// The same request, for the attempt with this number, beside this one. Only of one that is
    /// [kept](Self::keep) or whole.
    pub(crate) fn fork(&mut self, attempt: u32) -> Self {
        let rest = match &self.rest {
            Rest::Kept(replay) => Rest::Kept(Box::new(replay.fork(attempt))),
            Rest::Nothing => Rest::Nothing,
            Rest::Unknown(_) | Rest::More(..) | Rest::Gone => unreachable!("it is kept"),
        };
        Self {
            method: self.method.clone(),
            path: self.path.clone(),
            headers: self.headers_mut().clone(),
            sent: Sent::default(),
            renews_timeout: self.renews_timeout,
            additions: None,
            application: self.application.clone(),
            first: self.first.clone(),
            rest,
            limit: self.limit.as_ref().map(MessageLimit::restarted),
            max_response: self.max_response,
        }
    }

    /// The body, if it streams and is kept.
    fn replay(&self) -> Option<&Replay> {
        match &self.rest {
            Rest::Kept(replay) => Some(replay),
            Rest::Unknown(_) | Rest::Nothing | Rest::More(..) | Rest::Gone => None,
        }
    }

    /// Whether its body has failed by itself: another attempt would not help.
    pub(crate) fn body_has_failed(&self) -> bool {
        self.replay().is_some_and(Replay::has_failed)
    }

    /// The attempt has failed. Its stream is reset, if that is still open.
    pub(crate) fn end_attempt(&mut self) {
        if let Rest::Kept(replay) = &mut self.rest {
            replay.revoke();
        }
    }

    /// This attempt is the call from now on: nothing is kept any more.
    pub(crate) fn commit(&self) {
        if let Some(replay) = self.replay() {
            replay.commit();
        }
    }

    /// The number of the attempt that the call is committed to, as more of the body would have to
    /// be kept than is allowed.
    pub(crate) fn committed(&self) -> Option<u32> {
        self.replay().and_then(Replay::committed)
    }

    /// Says how many attempts were made before the next one. The name is the channel's: what the
    /// caller says by it is not sent.
    pub(crate) fn set_previous_attempts(&mut self, attempts: u32) {
        if attempts > 0 {
            let headers = self.headers_mut();
            headers.insert(PREVIOUS_ATTEMPTS, attempts.into());
        } else if self.headers.keys().any(|name| *name == PREVIOUS_ATTEMPTS) {
            // To compare a few names is cheaper than to look for one.
            self.headers.remove(&PREVIOUS_ATTEMPTS);
        }
    }

    /// Resolves once the call is committed to the attempt that has read most, as more of the
    /// body would have to be kept than is allowed.
    pub(crate) fn overflown(&self) -> impl Future<Output = ()> + Send + 'static {
        let overflown = self.replay().map(Replay::overflown);
        async move {
            match overflown {
                Some(overflown) => overflown.await,
                None => pending().await,
            }
        }
    }

    /// Whether the request can be sent again: it went out whole, from here, or is kept.
    pub(crate) fn is_replayable(&self) -> bool {
        match &self.rest {
            Rest::Nothing => true,
            Rest::Kept(replay) => replay.is_kept(),
            Rest::Unknown(_) | Rest::More(..) | Rest::Gone => false,
        }
    }

    /// Bytes of the body that go out with [`send`](Self::send).
    pub(super) fn ready_bytes(&self) -> usize {
        self.first.as_ref().map_or(0, Bytes::len)
    }

    /// Whether HEADERS are all there is.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && matches!(self.rest, Rest::Nothing)
    }

    /// Where the request goes: its path, at this backend.
    pub(super) fn uri(
        &self,
        scheme: &uri::Scheme,
        authority: &uri::Authority,
    ) -> Result<Uri, Error> {
        let mut uri = uri::Parts::default();
        uri.scheme = Some(scheme.clone());
        uri.authority = Some(authority.clone());
        uri.path_and_query = self.path.clone();
        Uri::from_parts(uri).map_err(|error| {
            let why = format!("HTTP/2 cannot carry a request without a path: {error}");
            Error::new(ErrorKind::InvalidRequest, why)
        })
    }

    /// The head as it goes to this backend. Ours stays, for the next attempt.
    #[inline]
    pub(super) fn head(
        &mut self,
        uri: Uri,
        user_agent: &HeaderValue,
        backend: &str,
    ) -> Request<()> {
        let user_agent = match &self.application {
            None => user_agent.clone(),
            Some(application) => {
                let both = [application.as_bytes(), b" ", user_agent.as_bytes()].concat();
                HeaderValue::from_bytes(&both).expect("2 header values and a space")
            }
        };
        self.headers_mut().insert(header::USER_AGENT, user_agent);
        let mut head = Request::new(());
        *head.method_mut() = self.method.clone();
        *head.uri_mut() = uri;
        *head.version_mut() = http::Version::HTTP_2;
        std::mem::swap(head.headers_mut(), &mut self.headers);
        self.sent.keep(head.headers(), self.renews_timeout);
        if let Some(additions) = &mut self.additions {
            additions.add_to(head.headers_mut(), backend);
        }
        head
    }

    /// Sends what follows the HEADERS. What cannot go out at once becomes a
    /// pump, in a box: most calls have none. A stream that has failed meanwhile says so
    /// in its response.
    pub(super) fn send(&mut self, mut stream: SendStream<Bytes>) -> Option<Box<RequestBodyPump>> {
        if self.additions.is_some() {
            self.witness_messages();
        }
        if let Rest::Nothing = self.rest {
            let all = self.first.clone()?;
            if all.len() > LARGEST_PIECE {
                return Some(RequestBodyPump::new(stream, all, None, None, None));
            }
            let _ = stream.send_data(all, true);
            return None;
        }
        match std::mem::replace(&mut self.rest, Rest::Gone) {
            Rest::More(next, body) => {
                let chunk = self.first.take().unwrap_or_default();
                Some(RequestBodyPump::new(
                    stream,
                    chunk,
                    next,
                    Some(body),
                    self.limit.take(),
                ))
            }
            Rest::Unknown(body) => Some(RequestBodyPump::new(
                stream,
                Bytes::new(),
                None,
                Some(body),
                self.limit.take(),
            )),
            Rest::Kept(mut replay) => {
                let body = replay.read();
                self.rest = Rest::Kept(replay);
                let limit = self.limit.as_ref().map(MessageLimit::restarted);
                Some(RequestBodyPump::new(
                    stream,
                    Bytes::new(),
                    None,
                    Some(body),
                    limit,
                ))
            }
            Rest::Nothing | Rest::Gone => {
                unreachable!("only a replayable request is sent again")
            }
        }
    }

    fn look_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        // A policy has looked at it, or an attempt that could not be sent. A known rest stays
        // where it is, because to move it costs as much as the look.
        if !matches!(self.rest, Rest::Unknown(_)) {
            return Ok(());
        }
        let Rest::Unknown(mut body) = std::mem::replace(&mut self.rest, Rest::Gone) else {
            unreachable!("it was not looked at");
        };
        let limit = &mut self.limit;
        self.rest = match poll_body(&mut body, limit, cx)? {
            Poll::Pending => Rest::More(None, body),
            Poll::Ready(None) => Rest::Nothing,
            Poll::Ready(Some(frame)) => match frame.into_data() {
                Err(trailers) => Rest::More(Some(Box::new(trailers)), body),
                Ok(data) => {
                    self.first = Some(match data.len() {
                        length @ ..=SMALL => {
                            let mut bytes = [0; SMALL];
                            bytes[..length].copy_from_slice(&data);
                            Bytes::from_owner(SmallMessage { bytes, length })
                        }
                        ..=COPIED => Bytes::copy_from_slice(&data),
                        _ => data,
                    });
                    match poll_body(&mut body, limit, cx)? {
                        Poll::Pending => Rest::More(None, body),
                        Poll::Ready(None) => Rest::Nothing,
                        Poll::Ready(Some(frame)) => Rest::More(Some(Box::new(frame)), body),
                    }
                }
            },
        };
        Ok(())
    }
}

/// A message of at most [`SMALL`] bytes.
struct SmallMessage {
    bytes: [u8; SMALL],
    length: usize,
}

impl AsRef<[u8]> for SmallMessage {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Sent {
    /// Keeps these. It is empty before: [`put_back`](Self::put_back) has emptied it.
    fn keep(&mut self, headers: &HeaderMap, without_timeout: bool) {
        for (name, value) in headers {
            match *name {
                header::TE if value == "trailers" => self.te = true,
                header::CONTENT_TYPE if value == "application/grpc" => self.content_type = true,
                // Said anew on every connection.
                header::USER_AGENT => {}
                _ if without_timeout && *name == GRPC_TIMEOUT => {}
                _ => self.others.push((name.clone(), value.clone())),
            }
        }
    }

    #[inline]
    fn put_back(&mut self, headers: &mut HeaderMap) {
        let Self {
            te,
            content_type,
            others,
        } = self;
        if std::mem::take(te) {
            headers.append(header::TE, TRAILERS);
        }
        if std::mem::take(content_type) {
            headers.append(header::CONTENT_TYPE, GRPC);
        }
        if !others.is_empty() {
            for (name, value) in others.drain(..) {
                headers.append(name, value);
            }
        }
    }
}

/// What of a caller's headers is looked at, in one pass: a generated client sends two or
/// three, and asking for each by its name costs more.
#[derive(Default)]
struct CallerHeaders {
    te_trailers: bool,
    user_agent: bool,
    hop_by_hop: bool,
}

impl CallerHeaders {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            match *name {
                header::TE => seen.te_trailers |= value == "trailers",
                header::USER_AGENT => seen.user_agent = true,
                _ => seen.hop_by_hop |= HOP_BY_HOP.contains(name),
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request, uri};
    use tonic::body::Body;

    use super::OutgoingRequest;

    #[test]
    fn the_head_is_the_same_for_every_attempt() {
        let request = Request::post("/demo.v1.Greeter/SayHello")
            .header("key", "one")
            .header("user-agent", "app")
            .header("key", "two");
        let mut request = OutgoingRequest::new(request.body(Body::empty()).expect("a request"));
        let mut attempt = || {
            let authority = uri::Authority::from_static("10.0.0.1:50051");
            let uri = request.uri(&uri::Scheme::HTTP, &authority);
            let agent = HeaderValue::from_static("channel");
            request.head(uri.expect("a path"), &agent, "10.0.0.1:50051")
        };
        let first = attempt();
        let second = attempt();
        assert_eq!(
            first.uri(),
            "http://10.0.0.1:50051/demo.v1.Greeter/SayHello"
        );
        assert_eq!(first.uri(), second.uri());
        assert_eq!(first.headers(), second.headers());
        assert_eq!(second.headers()["user-agent"], "app channel");
        let keys: Vec<_> = second.headers().get_all("key").iter().collect();
        assert_eq!(keys, ["one", "two"]);
    }

    #[test]
    fn credentials_are_for_one_attempt_and_stand_beside_what_the_caller_says() {
        let request = Request::post("/demo.v1.Greeter/SayHello").header("key", "own");
        let mut request = OutgoingRequest::new(request.body(Body::empty()).expect("a request"));
        let mut attempt = |credentials: &[&'static str]| {
            let given = credentials.iter().map(|value| {
                let name = http::HeaderName::from_static("key");
                (name, HeaderValue::from_static(value))
            });
            let mut headers = http::HeaderMap::new();
            for (name, value) in given {
                headers.append(name, value);
            }
            request.set_credentials(headers);
            let authority = uri::Authority::from_static("10.0.0.1:50051");
            let uri = request.uri(&uri::Scheme::HTTPS, &authority);
            let agent = HeaderValue::from_static("channel");
            let head = request.head(uri.expect("a path"), &agent, "10.0.0.1:50051");
            let keys = head.headers().get_all("key").iter().cloned();
            keys.collect::<Vec<_>>()
        };
        assert_eq!(attempt(&["one", "two"]), ["own", "one", "two"]);
        assert_eq!(attempt(&["three"]), ["own", "three"]);
        assert_eq!(attempt(&[]), ["own"]);
    }
}
