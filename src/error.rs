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

use std::{borrow::Cow, fmt, sync::Arc};

use tonic::{Code, Status};
use tower::BoxError;

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
    status: Box<Status>,
    is_of_call: bool,
    may_have_been_sent: bool,
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
            status: Box::new(status),
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

    /// With the error of the transport that it comes from, if there is one.
    pub(crate) fn caused_by(mut self, origin: Option<Origin>) -> Self {
        if let Some(origin) = origin {
            self.status.set_source(Arc::new(origin));
        }
        self
    }

    /// What a caller could do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether a backend may have acted on the call. `false` is certain: the call was not
    /// sent, or its peer guarantees not to have looked at it, so that it may be repeated
    /// whatever it does (gRFC A6, "Transparent Retries").
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

    /// The gRPC status code a generated client reports.
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// What failed, where, and what happens next.
    pub fn message(&self) -> &str {
        self.status.message()
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
        f.write_str(match self {
            Self::InvalidEndpoint => "an endpoint cannot be used",
            Self::InvalidServiceConfig => "a service config was rejected",
            Self::InvalidOption => "an option is out of its range",
            Self::Unavailable => "no backend can take the call",
            Self::DeadlineExceeded => "the call ran out of time",
            Self::TooManyWaiting => "too many calls wait",
            Self::Closed => "the channel takes no calls any more",
            Self::Credentials => "the call has no credentials",
            Self::InvalidRequest => "the request cannot be sent",
            Self::MessageTooLarge => "a message is too large",
            Self::CallFailed => "the call has failed",
        })
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("status", &self.status)
            .finish()
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
            true => Some(&*self.status),
            false => self.status.source(),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        *error.status
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
        }
    }

    /// With the error of the transport that it comes from, if there is one.
    pub(crate) fn caused_by(self, origin: Option<Origin>) -> Self {
        Self { origin, ..self }
    }

    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
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
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, repeated: &str) {
        assert_eq!(sanitize_peer_text(said), repeated);
    }

    #[test]
    fn what_a_peer_says_is_one_line_of_text() {
        check("it's \"down\" \\ for now", "it's \"down\" \\ for now");
        check("a\nERROR b\r\t\0", "a\\nERROR b\\r\\t\\0");
        check("\u{1b}[2J", "\\u{1b}[2J");
        // What turns the direction of writing, a line of Unicode's, what is no letter.
        check("a\u{202e}b\u{2028}c\u{85}", "a\\u{202e}b\\u{2028}c\\u{85}");
        check("größe 大小", "größe 大小");
    }

    #[test]
    fn characters_without_a_shape_are_escaped() {
        let control = ('\0'..'\u{20}').chain('\u{7f}'..='\u{9f}');
        let bidi = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let marks = ('\u{200b}'..='\u{200f}').chain(['\u{61c}', '\u{2060}', '\u{feff}']);
        let tags = [
            '\u{ad}',
            '\u{2028}',
            '\u{2029}',
            '\u{180e}',
            '\u{e0001}',
            '\u{e0061}',
        ];
        for letter in control.chain(bidi).chain(marks).chain(tags) {
            let escaped = sanitize_peer_text(&letter.to_string()).into_owned();
            let is_shown = |byte: u8| byte.is_ascii_graphic();
            assert!(escaped.bytes().all(is_shown), "{letter:?}: {escaped:?}");
            assert!(escaped.starts_with('\\'), "{letter:?}: {escaped:?}");
        }
    }

    #[test]
    fn what_a_peer_says_is_cut() {
        check(&"x".repeat(256), &"x".repeat(256));
        check(&"x".repeat(257), &format!("{}…", "x".repeat(256)));
        check(&"é".repeat(200), &format!("{}…", "é".repeat(128)));
        let escaped = sanitize_peer_text(&"\n".repeat(1 << 20)).into_owned();
        assert_eq!(escaped, format!("{}…", "\\n".repeat(128)));
    }

    // D288
    #[test]
    fn an_error_of_a_call_is_its_kind_and_its_text_is_in_its_status() {
        let error = Error::new(ErrorKind::CallFailed, "stream to a: reset");
        assert_eq!(error.to_string(), "the call has failed");
        let status = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
        let status: &Status = status.expect("generated clients look for it");
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unknown, error.message())
        );

        let error = error.outside_calls();
        assert_eq!(error.to_string(), "stream to a: reset");
        assert!(std::error::Error::source(&error).is_none());
    }

    // D287
    #[test]
    fn causes_are_equal_if_they_say_the_same() {
        let cause = || Cause::new(CauseKind::Connect, "refused");
        let caused = |text: &str| cause().caused_by(Some(Origin::new(text)));
        assert_eq!(caused("one"), caused("another"));
        assert_eq!(caused("one"), cause());
        assert_ne!(cause(), Cause::new(CauseKind::Connect, "reset"));
    }

    #[test]
    fn a_cause_is_one_line_and_not_too_long() {
        let cause = Cause::new(CauseKind::Connect, "a\nb");
        assert_eq!(cause.to_string(), "connect: a\\nb");
        let cause = Cause::new(CauseKind::NameResolver, "x".repeat(5_000));
        assert_eq!(cause.text(), format!("{}…", "x".repeat(1_024)));
    }
}
