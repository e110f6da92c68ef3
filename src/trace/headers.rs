//! The headers that a trace may add.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Of HTTP/2 and of this crate.
const RESERVED: [HeaderName; 10] = [
    header::TE,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::USER_AGENT,
    header::HOST,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The headers of an attempt that is about to go out.
pub struct AttemptHeaders<'a>(&'a mut HeaderMap);

impl<'a> AttemptHeaders<'a> {
    pub(crate) fn new(headers: &'a mut HeaderMap) -> Self {
        Self(headers)
    }

    /// The value of a header, the first if there are several.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.get(name)
    }

    /// Sets a header of this attempt, in the place of all that have the name. Another attempt of
    /// the call does not have it.
    ///
    /// Returns whether it is set. Names that begin with `grpc-` are
    /// not to be set. Nor are those with a meaning for HTTP/2 or the channel, such as `te`.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) -> bool {
        let is_free = !name.as_str().starts_with("grpc-") && !RESERVED.contains(&name);
        if is_free {
            self.0.insert(name, value);
        }
        is_free
    }
}

/// The names alone: a value may be a credential.
impl fmt::Debug for AttemptHeaders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::AttemptHeaders;

    // Q10
    #[test]
    fn names_with_a_meaning_are_not_to_be_set() {
        let mut headers = HeaderMap::new();
        headers.insert("te", HeaderValue::from_static("trailers"));
        let mut attempt = AttemptHeaders::new(&mut headers);
        for name in [
            "grpc-timeout",
            "grpc-anything",
            "te",
            "content-type",
            "user-agent",
            "host",
        ] {
            let value = HeaderValue::from_static("1S");
            assert!(
                !attempt.insert(HeaderName::from_static(name), value),
                "{name}"
            );
        }
        let name = HeaderName::from_static("traceparent");
        for value in ["00-a", "00-b"] {
            assert!(attempt.insert(name.clone(), HeaderValue::from_static(value)));
        }
        assert_eq!(attempt.get(&name).expect("it is set"), "00-b");
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["te"], "trailers");
    }

    // D437
    #[test]
    fn debug_shows_no_value() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer secret"));
        let text = format!("{:?}", AttemptHeaders::new(&mut headers));
        assert_eq!(text, r#"{"authorization"}"#);
    }
}
