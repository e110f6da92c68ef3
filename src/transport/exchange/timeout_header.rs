//! The `grpc-timeout` header (gRPC over HTTP/2, "Timeout").

use std::{io::Write, time::Duration};

use http::{HeaderMap, HeaderValue};

use super::request::GRPC_TIMEOUT;

/// The units of the header from fine to coarse, in nanoseconds. The number before a unit has
/// at most 8 digits.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3_600 * 1_000_000_000),
];
const MAX_NUMBER: u64 = 99_999_999;

/// How many digits a server is told.
const DIGITS: u32 = 3;

/// The timeout that a caller put on its request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timeout {
    pub(crate) time: Duration,
    /// The server is told the same time in other words.
    pub(crate) is_retold: bool,
}

/// The timeout that a caller put on the request. As for a server, a text that cannot be read
/// does not count.
pub(crate) fn of(headers: &HeaderMap) -> Option<Timeout> {
    // There are 2 or 3 headers, and a look at each costs less than a look-up.
    let (_, timeout) = headers.iter().find(|(name, _)| *name == GRPC_TIMEOUT)?;
    let (unit, digits) = timeout.as_bytes().split_last()?;
    let (_, unit) = UNITS.iter().find(|(name, _)| name == unit)?;
    // 8 digits fit.
    let append = |number: u32, digit: &u8| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(number * 10 + digit)
    };
    let number = (1..=8)
        .contains(&digits.len())
        .then(|| digits.iter().try_fold(0, append))??;
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0');
    Some(Timeout {
        time: Duration::from_nanos(*unit) * number,
        is_retold: digits.len() - zeros.count() > DIGITS as usize,
    })
}

/// Puts the time that is left on the request, to 3 digits and rounded up, as gRPC's C core
/// does. A server then has less than 1 % more, and is cancelled in time anyway.
///
/// HPACK sends a value that it has sent before as 1 byte. A value that differs with each call
/// is written out and remembered, and pushes another header out of the table. The time that a
/// server has left for its own calls would be such a value.
pub(crate) fn set(headers: &mut HeaderMap, left: Duration) {
    // 584 years, if it is more.
    let nanos = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
    let places = nanos.checked_ilog10().unwrap_or(0);
    let step = 10_u64.pow(places.saturating_sub(DIGITS - 1));
    let nanos = nanos.div_ceil(step).saturating_mul(step);
    let (unit, number) = UNITS
        .into_iter()
        .map(|(name, unit)| (name, nanos.div_ceil(unit)))
        .find(|(_, number)| *number <= MAX_NUMBER)
        .expect("600 years in hours have at most 7 digits");
    // Digits over units, of which the first that is left ends the text.
    let mut text = [unit; 9];
    let mut units = &mut text[..];
    write!(units, "{number}").expect("at most 8 digits");
    let length = 10 - units.len();
    let value = HeaderValue::from_bytes(&text[..length]).expect("digits and a letter");
    match headers.iter_mut().find(|(name, _)| *name == GRPC_TIMEOUT) {
        Some((_, told)) => *told = value,
        None => {
            headers.insert(GRPC_TIMEOUT, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::{GRPC_TIMEOUT, Timeout, of, set};

    fn read(text: &str) -> Option<Timeout> {
        of(&HeaderMap::from_iter([(
            GRPC_TIMEOUT,
            text.parse().expect("a header value"),
        )]))
    }

    #[track_caller]
    fn reads(text: &str, time: Duration) {
        assert_eq!(read(text).map(|timeout| timeout.time), Some(time));
    }

    #[test]
    fn reads_every_unit() {
        reads("7n", Duration::from_nanos(7));
        reads("7u", Duration::from_micros(7));
        reads("7m", Duration::from_millis(7));
        reads("7S", Duration::from_secs(7));
        reads("7M", Duration::from_secs(7 * 60));
        reads("99999999H", Duration::from_secs(99_999_999 * 3600));
    }

    #[test]
    fn takes_what_is_malformed_for_no_timeout() {
        for text in ["", "7", "m", "-7m", "+7m", "7x", "123456789m", "7 m"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    // D224
    #[test]
    fn three_digits_are_told_as_they_came() {
        for (text, is_retold) in [
            ("0m", false),
            ("7S", false),
            ("250m", false),
            ("10000000u", false),
            ("12300000n", false),
            ("1001m", true),
            ("1234S", true),
            ("9873421u", true),
            ("10010000n", true),
        ] {
            let timeout = read(text).expect("a timeout");
            assert_eq!(timeout.is_retold, is_retold, "{text}");
        }
    }

    fn told(left: Duration) -> HeaderMap {
        let mut headers = HeaderMap::new();
        set(&mut headers, left);
        headers
    }

    #[track_caller]
    fn tells(left: Duration, text: &str) {
        assert_eq!(told(left)[GRPC_TIMEOUT], text);
    }

    // D224
    #[test]
    fn tells_three_digits_in_the_finest_unit_that_holds_them() {
        tells(Duration::ZERO, "0n");
        tells(Duration::from_nanos(1), "1n");
        tells(Duration::from_nanos(1_001), "1010n");
        tells(Duration::from_millis(1), "1000000n");
        tells(Duration::from_nanos(99_900_000), "99900000n");
        tells(Duration::from_nanos(99_900_001), "100000u");
        tells(Duration::from_micros(9_873_421), "9880000u");
        tells(Duration::new(100, 999_999), "101000m");
        tells(Duration::from_secs(100_000_000), "1666667M");
        tells(Duration::MAX, "5124096H");
    }

    // D224
    #[test]
    fn tells_less_than_a_hundredth_more_than_is_left_and_never_less() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..10_000 {
            let left = Duration::from_nanos(rng.u64(..) >> rng.u32(1..64));
            let told = of(&told(left)).expect("a timeout").time;
            let most = left + left / 100;
            assert!(left <= told && told <= most, "{told:?} of {left:?}");
        }
    }

    #[test]
    fn the_time_left_replaces_what_a_caller_wrote() {
        let mut headers = told(Duration::from_secs(8));
        set(&mut headers, Duration::from_secs(7));
        let values: Vec<_> = headers.get_all(GRPC_TIMEOUT).iter().collect();
        assert_eq!(values, ["7000000u"]);
    }
}
