//! The deadline of a call, as its headers tell it; pure.

use std::time::Duration;

use http::HeaderMap;

/// The header `grpc-timeout`: at most 8 digits and a unit, as gRPC's protocol has it. `None` if
/// there is none, or if it cannot be read.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at(text.len().checked_sub(1)?);
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Duration>) {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().expect("ASCII"));
        assert_eq!(timeout(&headers), expected, "{text}");
    }

    #[test]
    fn each_unit_is_read_and_nothing_else() {
        check("2H", Some(Duration::from_secs(7200)));
        check("2M", Some(Duration::from_secs(120)));
        check("2S", Some(Duration::from_secs(2)));
        check("99999999m", Some(Duration::from_millis(99_999_999)));
        check("2u", Some(Duration::from_micros(2)));
        check("2n", Some(Duration::from_nanos(2)));
        for broken in ["", "S", "2", "2x", "+2S", "-2S", "123456789S"] {
            check(broken, None);
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
