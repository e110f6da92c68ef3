//! The `grpc-timeout` header (gRPC over HTTP/2, "Timeout").

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::transport::GRPC_TIMEOUT;

/// The units of the header from fine to coarse. Its number has at most eight
/// digits.
const UNITS: [(u8, Duration); 6] = [
    (b'n', Duration::from_nanos(1)),
    (b'u', Duration::from_micros(1)),
    (b'm', Duration::from_millis(1)),
    (b'S', Duration::from_secs(1)),
    (b'M', Duration::from_secs(60)),
    (b'H', Duration::from_secs(3_600)),
];
const MAX_NUMBER: u128 = 99_999_999;

/// The timeout a caller put on the request. One that cannot be read is none,
/// as for a server.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    // There are two or three headers, and a look at each costs less than a look-up.
    let (_, timeout) = headers.iter().find(|(name, _)| *name == GRPC_TIMEOUT)?;
    let (unit, digits) = timeout.as_bytes().split_last()?;
    let (_, unit) = UNITS.iter().find(|(name, _)| name == unit)?;
    // Eight digits fit.
    let append = |number: u32, digit: &u8| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(number * 10 + digit)
    };
    let number = (1..=8)
        .contains(&digits.len())
        .then(|| digits.iter().try_fold(0, append))??;
    Some(*unit * number)
}

/// Puts the time that is left on the request, in the finest unit that holds it,
/// rounded down: the server must not outlive the caller.
pub(super) fn set(headers: &mut HeaderMap, left: Duration) {
    let number = |unit: &Duration| left.as_nanos() / unit.as_nanos();
    let (name, unit) = UNITS
        .into_iter()
        .find(|(_, unit)| number(unit) <= MAX_NUMBER)
        .unwrap_or(UNITS[5]);
    let text = format!("{}{}", number(&unit).min(MAX_NUMBER), char::from(name));
    let value = HeaderValue::try_from(text).expect("digits and a letter");
    headers.insert(GRPC_TIMEOUT, value);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::{GRPC_TIMEOUT, of, set};

    fn read(text: &str) -> Option<Duration> {
        of(&HeaderMap::from_iter([(
            GRPC_TIMEOUT,
            text.parse().expect("a header value"),
        )]))
    }

    #[test]
    fn reads_every_unit() {
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read("7m"), Some(Duration::from_millis(7)));
        assert_eq!(read("7S"), Some(Duration::from_secs(7)));
        assert_eq!(read("7M"), Some(Duration::from_secs(7 * 60)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
    }

    #[test]
    fn takes_what_is_malformed_for_no_timeout() {
        for text in ["", "7", "m", "-7m", "+7m", "7x", "123456789m", "7 m"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[track_caller]
    fn writes(left: Duration, text: &str) {
        let mut headers = HeaderMap::new();
        set(&mut headers, left);
        assert_eq!(headers[GRPC_TIMEOUT], text);
    }

    #[test]
    fn writes_the_finest_unit_that_holds_it_and_never_more_than_is_left() {
        writes(Duration::ZERO, "0n");
        writes(Duration::from_millis(1), "1000000n");
        writes(Duration::from_nanos(99_999_999), "99999999n");
        writes(Duration::from_millis(100), "100000u");
        writes(Duration::new(100, 999_999), "100000m");
        writes(Duration::from_secs(100_000_000), "1666666M");
        writes(Duration::MAX, "99999999H");
    }
}
