//! What can go wrong, in two types: [`Error`] is what a caller gets, [`Cause`]
//! is why a backend or the whole channel cannot take calls just now.
//!
//! An [`Error`] always carries a [`tonic::Status`], and this file is the only
//! place that makes one from our own failures.
//!
//! ```text
//!   tonic's Status ──► Error ──► Status ──► Origin ──► io::Error, or a connector's own
//!   of a generated     its       code and   "the transport failed"
//!   client             kind      message
//! ```
//!
//! No link repeats its source, so that a program may print all of them.

mod attempts;

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use tonic::{Code, Status};
use tower::BoxError;

pub(crate) use attempts::CODES;
pub use attempts::{CallAttempts, FailedAttempt};

/// An error of the channel, of its construction or of one call.
///
/// The error of a call displays its [`kind`](Self::kind) in short. Its text is
/// [`message`](Self::message), and so that of the [`tonic::Status`] in
/// [`source()`](std::error::Error::source), which generated clients turn it into. If the
/// transport failed, the chain goes on to the [`io::Error`](std::io::Error) of the socket, or
/// to the error of the connector.
///
/// Any other error, such as that of a constructor, displays its text, and its source is what
/// it comes from.
pub struct Error {
    kind: ErrorKind,
    /// Boxed, because results with an error are in the future of every call.
    text: Box<Text>,
    is_of_call: bool,
    may_have_been_sent: bool,
}

/// The text of an error, and its attempts.
struct Text {
    status: Status,
    /// Where the call has a policy for them.
    attempts: Option<CallAttempts>,
}

/// What a caller could do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An endpoint or a list of endpoints cannot be used as given. Correct it.
    InvalidEndpoint,
    /// A service config was rejected; nothing of it applies. Correct it.
    InvalidServiceConfig,
    /// An option is out of its range. Correct it.
    InvalidOption,
    /// No backend can take the call now. It was not sent: try again later.
    Unavailable,
    /// The deadline passed. If that was while waiting, the text says what for.
    DeadlineExceeded,
    /// Too many calls wait already. It was not sent.
    TooManyWaiting,
    /// The channel is closed.
    Closed,
    /// The call credentials could not be had, or must not be sent in plaintext. The
    /// call was not sent. The code is that of who failed to give them.
    Credentials,
    /// The request itself cannot be sent over HTTP/2. Correct it.
    InvalidRequest,
    /// A message is larger than the service config allows. A unary request was not
    /// sent; of one that streams, the backend may have acted on what came before.
    MessageTooLarge,
    /// The call was sent and its stream failed: the backend may have acted on it.
    CallFailed,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::with_status(kind, Status::new(kind.code(), message))
    }

    /// An error whose code is not the usual one of its kind.
    pub(crate) fn with_status(kind: ErrorKind, status: Status) -> Self {
        Self {
            kind,
            text: Box::new(Text {
                status,
                attempts: None,
            }),
            is_of_call: !kind.is_of_constructor(),
            may_have_been_sent: false,
        }
    }

    /// The same where there is no call, and so nothing that looks for its status.
    pub(crate) fn outside_calls(self) -> Self {
        Self {
            is_of_call: false,
            ..self
        }
    }

    /// The same of a call that has a stream. A peer may guarantee that it was not looked at.
    pub(crate) fn after_sending(self, unprocessed: bool) -> Self {
        Self {
            may_have_been_sent: !unprocessed,
            ..self
        }
    }

    /// The failure of a response whose headers have come, so its backend may have acted.
    pub(crate) fn in_response(status: Status) -> Self {
        let kind = match status.code() {
            Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            _ => ErrorKind::CallFailed,
        };
        Self::with_status(kind, status).after_sending(false)
    }

    /// The same of a call with these attempts, of which the last had this error. More than one
    /// are named in its text, together with the reason why there is no other one.
    pub(crate) fn after_attempts(self, attempts: CallAttempts, why_no_more: &str) -> Self {
        match attempts.made() {
            0 | 1 => self.with_attempts(attempts),
            _ => self.naming_attempts(attempts, why_no_more),
        }
    }

    /// The same of a call that ended between attempts: those before are named in its text.
    pub(crate) fn naming_attempts(mut self, attempts: CallAttempts, why_no_more: &str) -> Self {
        let own = &self.text.status;
        let (made, message) = (attempts.made(), own.message());
        let plural = if made == 1 { "" } else { "s" };
        let mut text = format!("{message} ({made} attempt{plural}, {why_no_more}");
        for failed in attempts.failed() {
            text.push_str(&format!("; {failed}"));
        }
        text.push(')');
        let details = Bytes::copy_from_slice(own.details());
        let metadata = own.metadata().clone();
        let origin = std::error::Error::source(own);
        let origin = origin.and_then(|source| source.downcast_ref::<Origin>());
        let origin = origin.cloned();
        let status = Status::with_details_and_metadata(own.code(), text, details, metadata);
        self.text.status = status;
        self.caused_by(origin).with_attempts(attempts)
    }

    fn with_attempts(mut self, attempts: CallAttempts) -> Self {
        self.may_have_been_sent |= attempts.may_have_been_sent();
        self.text.attempts = Some(attempts);
        self
    }

    /// With the error of the transport that it comes from, if there is one.
    pub(crate) fn caused_by(mut self, origin: Option<Origin>) -> Self {
        if let Some(origin) = origin {
            self.text.status.set_source(Arc::new(origin));
        }
        self
    }

    /// What a caller could do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether a backend may have acted on the call. `false` is certain: the call was not
    /// sent, or its peer guarantees not to have looked at it (gRFC A6, "Transparent Retries").
    /// It may then be repeated, whatever it does.
    ///
    /// ```
    /// use tonic_health_channel::{Error, ErrorKind};
    ///
    /// /// Whether to repeat a call that may be made only once.
    /// fn may_repeat(error: &Error) -> bool {
    ///     !error.may_have_been_sent() && error.kind() == ErrorKind::Unavailable
    /// }
    /// ```
    pub fn may_have_been_sent(&self) -> bool {
        self.may_have_been_sent
    }

    /// The attempts of a call whose method has a retry or hedging policy in the service config
    /// (gRFC A6); `None` for any other call.
    ///
    /// ```
    /// use tonic_health_channel::Error;
    ///
    /// fn log(status: &tonic::Status) {
    ///     let attempts = Error::of(status).and_then(|error| error.attempts());
    ///     for failed in attempts.into_iter().flat_map(|attempts| attempts.failed()) {
    ///         eprintln!("{failed}");
    ///     }
    /// }
    /// # log(&tonic::Status::internal(""));
    /// ```
    pub fn attempts(&self) -> Option<&CallAttempts> {
        self.text.attempts.as_ref()
    }

    /// The channel's error behind a status that a generated client returned. `None` if the
    /// status is the server's own, or of tonic's encoding.
    ///
    /// It looks through [`source()`](std::error::Error::source), so it works for as long as the
    /// status is the client's, or a clone of that.
    pub fn of(status: &Status) -> Option<&Self> {
        let first = std::error::Error::source(status);
        let mut chain = std::iter::successors(first, |error| error.source());
        chain.find_map(|error| error.downcast_ref())
    }

    /// What a program may tell its own clients of this error: its [`kind`](Self::kind), in
    /// fixed words. It has no address, name, certificate, cause, or text of a peer.
    ///
    /// [`message`](Self::message) has all of these, and so has the status of a generated client.
    /// A handler that returns that status with `?` hands them on, so exchange it before:
    ///
    /// ```
    /// use tonic::Status;
    /// use tonic_health_channel::Error;
    ///
    /// /// The status of a call to a backend, for clients that are to see nothing of backends.
    /// fn public(status: Status) -> Status {
    ///     eprintln!("{status}"); // all of it, for the log
    ///     match Error::of(&status) {
    ///         Some(error) => Status::new(error.code(), error.public_message()),
    ///         // The backend's own words. They may be meant for your clients, or not.
    ///         None => Status::new(status.code(), "the backend has refused the call"),
    ///     }
    /// }
    ///
    /// # async fn say_hello() -> Result<tonic::Response<()>, Status> { Err(Status::not_found("")) }
    /// # async fn handler() -> Result<tonic::Response<()>, Status> {
    /// say_hello().await.map_err(public)
    /// # }
    /// ```
    ///
    /// No option of the channel shortens each status. The log of the handler needs the reason,
    /// and only the handler knows its clients.
    pub fn public_message(&self) -> &'static str {
        self.kind.text()
    }

    /// The gRPC status code a generated client reports.
    pub fn code(&self) -> Code {
        self.text.status.code()
    }

    /// What failed, where, and what happens next.
    pub fn message(&self) -> &str {
        self.text.status.message()
    }
}

impl ErrorKind {
    fn code(self) -> Code {
        match self {
            Self::InvalidEndpoint | Self::InvalidServiceConfig | Self::InvalidOption => {
                Code::InvalidArgument
            }
            Self::Unavailable | Self::Closed => Code::Unavailable,
            Self::Credentials => Code::Unauthenticated,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::TooManyWaiting | Self::MessageTooLarge => Code::ResourceExhausted,
            Self::InvalidRequest => Code::Internal,
            Self::CallFailed => Code::Unknown,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::InvalidEndpoint => "an endpoint cannot be used",
            Self::InvalidServiceConfig => "a service config was rejected",
            Self::InvalidOption => "an option is out of its range",
            Self::Unavailable => "no backend can take the call",
            Self::DeadlineExceeded => "the call exceeded its deadline",
            Self::TooManyWaiting => "too many calls wait",
            Self::Closed => "the channel is closed",
            Self::Credentials => "the call credentials failed",
            Self::InvalidRequest => "the request cannot be sent",
            Self::MessageTooLarge => "a message is too large",
            Self::CallFailed => "the call has failed",
        }
    }

    /// Whether a constructor or a setter has failed, and no call.
    fn is_of_constructor(self) -> bool {
        match self {
            Self::InvalidEndpoint | Self::InvalidServiceConfig | Self::InvalidOption => true,
            Self::Unavailable
            | Self::DeadlineExceeded
            | Self::TooManyWaiting
            | Self::Closed
            | Self::Credentials
            | Self::InvalidRequest
            | Self::MessageTooLarge
            | Self::CallFailed => false,
        }
    }
}

/// `no backend can take the call`, …
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// How many characters of a message are in the `Debug` of an error.
const MAX_IN_DEBUG: usize = 200;

/// Short, with the beginning of the message: a [`Status`] shows the `Debug` of its source behind
/// its own message, which is this one.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message();
        let end = message.char_indices().nth(MAX_IN_DEBUG).map(|(at, _)| at);
        let shown = match end {
            Some(end) => format!("{}…", &message[..end]),
            None => message.to_owned(),
        };
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("code", &self.code())
            .field("message", &shown)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_of_call {
            true => self.kind.fmt(f),
            false => f.write_str(self.message()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.is_of_call {
            true => Some(&self.text.status),
            false => self.text.status.source(),
        }
    }
}

/// As tonic converts what a channel fails with: the error is the source.
impl From<Error> for Status {
    fn from(mut error: Error) -> Self {
        // The status has the text.
        error.is_of_call = true;
        let own = &error.text.status;
        let details = Bytes::copy_from_slice(own.details());
        let metadata = own.metadata().clone();
        let mut status =
            Self::with_details_and_metadata(own.code(), own.message(), details, metadata);
        status.set_source(Arc::new(error));
        status
    }
}

/// The error of the transport that a failure comes from: of a socket, of TLS, or of a
/// connector. A link of its own in the chain, whose text repeats nothing.
#[derive(Clone)]
pub(crate) struct Origin(Arc<dyn AsRef<AnyError> + Send + Sync>);

type AnyError = dyn std::error::Error + Send + Sync;

impl Origin {
    pub(crate) fn new(error: impl Into<BoxError>) -> Self {
        Self::of(error.into())
    }

    /// An error in what it is kept in.
    pub(crate) fn of(error: impl AsRef<AnyError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin")
            .field(&self.0.as_ref().as_ref())
            .finish()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the transport failed")
    }
}

impl std::error::Error for Origin {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref().as_ref())
    }
}

/// An error of the application's in a line: one of ours tells its message.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<Error>() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

/// Why a backend, or the channel as a whole, cannot take calls.
///
/// Cheap to clone, comparable, and free of time: when it happened stands beside
/// it, in [`BackendStatus`](crate::status::BackendStatus). Two are equal if they say the same.
#[derive(Clone, Debug)]
pub struct Cause {
    kind: CauseKind,
    text: Arc<str>,
    /// What the chain of an error leads to that this is the reason of.
    origin: Option<Origin>,
    /// Of a connection that has ended (gRFC A94).
    disconnect_error: &'static str,
}

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.text) == (other.kind, &other.text)
    }
}

impl Eq for Cause {}

/// Which part of the way to a backend a [`Cause`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CauseKind {
    /// A connection could not be made.
    Connect,
    /// A connection that was up ended.
    Disconnected,
    /// The connection is up; the health check says no, or cannot be done.
    Health,
    /// The backend is ejected, because more of its calls fail than of those of the others (gRFC
    /// A50).
    Ejected,
    /// The connection is up, and brings no bytes: see
    /// [`BackendStatus::silence`](crate::status::BackendStatus::silence).
    Silent,
    /// The source of backends reported an error.
    NameResolver,
    /// There is no backend to connect to.
    NoBackends,
    /// The service config that its source gave is invalid.
    ServiceConfig,
    /// The channel is closed.
    Shutdown,
}

/// The most that a text of ours repeats of what a peer says, in bytes: a status, a log
/// and `backends()` are for people.
const LONGEST_WORD_OF_A_PEER: usize = 256;

/// The most that a status quotes of the body of an HTTP error, in bytes.
pub(crate) const LONGEST_QUOTE: usize = 1 << 10;

/// The longest text of a [`Cause`], in bytes: a status names up to 3 of them.
const LONGEST_CAUSE: usize = 1 << 10;

/// What a peer says, as part of a text of ours: one line, not too long, and nothing in
/// it that a terminal or a log takes for more than text.
pub(crate) fn sanitize_peer_text(text: &str) -> Cow<'_, str> {
    escape_peer_text(text, LONGEST_WORD_OF_A_PEER)
}

/// The same for the body of an HTTP error, which may be longer. One that `is_cut` ends in `…`.
pub(crate) fn sanitize_peer_quote(text: &str, is_cut: bool) -> String {
    let mut quote = escape_peer_text(text, LONGEST_QUOTE).into_owned();
    if is_cut && !quote.ends_with('…') {
        quote.push('…');
    }
    quote
}

/// `text` of a peer as one line that a terminal, a log or a person can read.
///
/// Control characters (C0, DEL, C1), line ends, and characters that turn the direction of
/// writing or have no width become escapes, such as `\\n` and `\\u{202e}`. Beyond `longest`
/// bytes the text is cut, and ends in `…`. The errors of this crate are escaped already; use
/// this for the messages of a [`tonic::Status`] and for names from responses.
///
/// ```
/// use tonic_health_channel::status::escape_peer_text;
///
/// assert_eq!(escape_peer_text("no\u{1b}[2J\nOK", 64), r"no\u{1b}[2J\nOK");
/// assert_eq!(escape_peer_text("größe", 64), "größe");
/// assert_eq!(escape_peer_text("a long story", 6), "a long…");
/// ```
pub fn escape_peer_text(text: &str, longest: usize) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if text.len() <= longest && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut tamed = String::new();
    for letter in text.chars() {
        let before = tamed.len();
        match letter {
            '"' | '\'' | '\\' => tamed.push(letter),
            letter => tamed.extend(letter.escape_debug()),
        }
        if tamed.len() > longest {
            tamed.truncate(before);
            tamed.push('…');
            break;
        }
    }
    Cow::Owned(tamed)
}

impl Cause {
    /// Whatever is in `text`, a cause is one line of text, and not too long.
    pub(crate) fn new(kind: CauseKind, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let text = match escape_peer_text(&text, LONGEST_CAUSE) {
            Cow::Borrowed(_) => text,
            Cow::Owned(tamed) => tamed.into(),
        };
        Self {
            kind,
            text,
            origin: None,
            disconnect_error: "unknown",
        }
    }

    /// With the error of the transport that it comes from, if there is one.
    pub(crate) fn caused_by(self, origin: Option<Origin>) -> Self {
        Self { origin, ..self }
    }

    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// The same with what metrics call it.
    pub(crate) fn with_disconnect_error(self, disconnect_error: &'static str) -> Self {
        Self {
            disconnect_error,
            ..self
        }
    }

    pub(crate) fn disconnect_error(&self) -> &'static str {
        self.disconnect_error
    }

    /// Which part of the way it is about.
    pub fn kind(&self) -> CauseKind {
        self.kind
    }

    /// The bare reason, without the part that [`kind`](Self::kind) names.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// `connect`, `health check`, …: what a [`Cause`] of this kind begins with.
impl fmt::Display for CauseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Disconnected => "disconnected",
            Self::Health => "health check",
            Self::Ejected => "ejected by outlier detection",
            Self::Silent => "silent",
            Self::NameResolver => "name resolver error",
            Self::ServiceConfig => "service config error",
            Self::NoBackends => "no backends",
            Self::Shutdown => "shutdown",
        })
    }
}

/// `connect: connection refused`, `health check: NOT_SERVING`, …
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            // Their texts say it.
            CauseKind::NoBackends | CauseKind::Shutdown => f.write_str(&self.text),
            kind => write!(f, "{kind}: {}", self.text),
        }
    }
}

#[cfg(test)]
mod tests;
