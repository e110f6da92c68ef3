//! The texts of errors and causes.

use tonic::{Code, Status};

use super::{Cause, CauseKind, Error, ErrorKind, Origin, sanitize_peer_text};

#[track_caller]
fn check(said: &str, repeated: &str) {
    assert_eq!(sanitize_peer_text(said), repeated);
}

#[test]
fn what_a_peer_says_is_one_line_of_text() {
    check("it's \"down\" \\ for now", "it's \"down\" \\ for now");
    check("a\nERROR b\r\t\0", "a\\nERROR b\\r\\t\\0");
    check("\u{1b}[2J", "\\u{1b}[2J");
    // A change of the direction of writing, a line end of Unicode, a control character.
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

// D321
#[test]
fn what_may_be_told_to_anybody_is_the_kind_in_fixed_words() {
    use ErrorKind::*;
    for (kind, text) in [
        (InvalidEndpoint, "an endpoint cannot be used"),
        (InvalidServiceConfig, "a service config was rejected"),
        (InvalidOption, "an option is out of its range"),
        (Unavailable, "no backend can take the call"),
        (DeadlineExceeded, "the call exceeded its deadline"),
        (TooManyWaiting, "too many calls wait"),
        (Closed, "the channel is closed"),
        (Credentials, "the call credentials failed"),
        (InvalidRequest, "the request cannot be sent"),
        (MessageTooLarge, "a message is too large"),
        (CallFailed, "the call has failed"),
    ] {
        let error = Error::new(kind, "10.0.0.1:50051: `secret`");
        assert_eq!(error.public_message(), text);
        let status = Status::from(error);
        assert_eq!(status.message(), "10.0.0.1:50051: `secret`");
        let error = Error::of(&status).expect("it is ours");
        assert_eq!((error.kind(), error.public_message()), (kind, text));
    }
    assert!(Error::of(&Status::not_found("no such user")).is_none());
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
