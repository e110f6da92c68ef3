//! Calls, attempts and messages, as a trace is told of them.

use std::{borrow::Cow, fmt};

use http::Extensions;
use tonic::{Code, GrpcMethod};

use crate::error::CODES;

/// The method of a call that no generated client has made.
const OTHER: &str = "other";

/// A call that begins.
#[derive(Clone, Copy, Debug)]
pub struct CallInfo<'a> {
    path: &'a str,
    target: &'a str,
    extensions: &'a Extensions,
}

impl<'a> CallInfo<'a> {
    pub(crate) fn new(path: &'a str, target: &'a str, extensions: &'a Extensions) -> Self {
        Self {
            path,
            target,
            extensions,
        }
    }

    /// The path of the request: `/shop.Orders/Get`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The path without its first slash: `shop.Orders/Get`. It is `other` unless a client that
    /// tonic has generated makes the call, as with metrics (gRFC A66). So a proxy has no name of a
    /// span for each path that a client makes up.
    pub fn method(&self) -> &'a str {
        match self.extensions.get::<GrpcMethod<'static>>() {
            Some(_) => self.path.trim_start_matches('/'),
            None => OTHER,
        }
    }

    /// The channel's target, as metrics have it (`grpc.target`): `dns:///shop.example:50051`.
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The extensions of the request.
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

/// An attempt that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptInfo {
    previous: u32,
    is_transparent: bool,
}

impl AttemptInfo {
    pub(super) fn new(previous: u32, is_transparent: bool) -> Self {
        Self {
            previous,
            is_transparent,
        }
    }

    /// How many attempts of the call began before it. Transparent retries do not count (gRFC A72,
    /// `previous-rpc-attempts`).
    pub fn previous_attempts(&self) -> u32 {
        self.previous
    }

    /// Whether it sends again what no backend has looked at, outside any policy (gRFC A6).
    pub fn is_transparent_retry(&self) -> bool {
        self.is_transparent
    }
}

/// A message that is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageInfo {
    number: u64,
    size: u32,
    is_compressed: bool,
}

impl MessageInfo {
    pub(crate) fn new(number: u64, size: u32, is_compressed: bool) -> Self {
        Self {
            number,
            size,
            is_compressed,
        }
    }

    /// From 0, for each attempt and direction.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// In bytes, as it is on the wire, without its prefix of 5 bytes.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Whether the prefix says that it is compressed. Then its other size is not known here.
    pub fn is_compressed(&self) -> bool {
        self.is_compressed
    }
}

/// How a call or an attempt has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStatus<'a> {
    code: Code,
    message: Cow<'a, str>,
}

impl<'a> TraceStatus<'a> {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'a, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The code that the caller sees, or would see if the attempt were the last.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Its name, as gRPC spells it: `UNAVAILABLE`.
    pub fn code_name(&self) -> &'static str {
        CODES[self.code as usize]
    }

    /// The text with it, in 1 line of at most 256 bytes if it is a peer's. Empty with OK.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// As gRFC A72 describes an error: `UNAVAILABLE, connection refused`, or the code alone.
impl fmt::Display for TraceStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code_name())?;
        match self.message() {
            "" => Ok(()),
            message => write!(f, ", {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::TraceStatus;

    // Q06
    #[test]
    fn a_status_without_a_text_is_its_code() {
        let status = |message| TraceStatus::new(Code::Unavailable, message).to_string();
        assert_eq!(
            status("connection refused"),
            "UNAVAILABLE, connection refused"
        );
        assert_eq!(status(""), "UNAVAILABLE");
    }
}
