//! Texts of peers, as lines that only show: pure.
//!
//! [`tame`] decides for the whole command which characters are printed as they are. Tables,
//! lines, errors and JSON ask it, so that a new text cannot miss it.

use std::{borrow::Cow, io};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use tonic_health_channel::status::escape_peer_text;

/// A status message has no end of its own. The library quotes up to 1 KiB of an HTTP body.
const LONGEST_MESSAGE: usize = 2 << 10;

/// `text` without line ends, and without what would move a cursor or turn letters round.
pub(crate) fn tame(text: &str) -> Cow<'_, str> {
    escape_peer_text(text, usize::MAX)
}

/// The same for a message of a peer, which is cut.
pub(crate) fn message(text: &str) -> Cow<'_, str> {
    escape_peer_text(text, LONGEST_MESSAGE)
}

/// `value` on a line. A program reads back each text as it was; a terminal sees escapes.
pub(crate) fn json(value: &impl Serialize) -> String {
    let mut line = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut line, Tame);
    value
        .serialize(&mut serializer)
        .expect("text, numbers and nulls are JSON");
    String::from_utf8(line).expect("JSON is UTF-8")
}

/// Compact, and each character that is not printed as it is by its number.
struct Tame;

impl Formatter for Tame {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut plain = CompactFormatter;
        let mut shown = 0;
        for (at, letter) in fragment.char_indices() {
            let end = at + letter.len_utf8();
            if letter.is_ascii_graphic() || tame(&fragment[at..end]) == fragment[at..end] {
                continue;
            }
            plain.write_string_fragment(writer, &fragment[shown..at])?;
            for unit in letter.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            shown = end;
        }
        plain.write_string_fragment(writer, &fragment[shown..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_speak_to_the_terminal() {
        assert_eq!(tame("no\r\n\u{1b}[2Jway"), "no\\r\\n\\u{1b}[2Jway");
        assert_eq!(tame(&"größe ".repeat(9_999)), "größe ".repeat(9_999));
        assert!(message(&"x".repeat(1 << 20)).len() < 3 << 10);
    }

    #[test]
    fn json_is_the_same_text_and_has_no_raw_characters() {
        let text = "a\"\\/\n\u{1b}\u{7f}\u{9b}\u{202e}b\u{feff}größe大😀\u{e0001}\u{200d}";
        let line = json(&[text]);
        let expected = concat!(
            r#"["a\"\\/\n\u001b\u007f\u009b\u202eb\ufeffgröße大😀"#,
            r#"\udb40\udc01\u200d"]"#
        );
        assert_eq!(line, expected);
        let back: Vec<String> = serde_json::from_str(&line).expect("JSON");
        assert_eq!(back, [text]);
    }
}
