//! The beginning of the body of an HTTP error, as its status quotes it.

use crate::error::{LONGEST_QUOTE, sanitize_peer_quote};

/// Whether a body is text, by its content type: `text/…` or some JSON.
pub(super) fn is_text(content_type: &[u8]) -> bool {
    let end = content_type.iter().position(|byte| *byte == b';');
    let essence = content_type[..end.unwrap_or(content_type.len())].trim_ascii();
    let essence = essence.to_ascii_lowercase();
    essence.starts_with(b"text/") || essence == b"application/json" || essence.ends_with(b"+json")
}

/// Takes what comes first of a body.
#[derive(Debug, Default)]
pub(super) struct Quote {
    bytes: Vec<u8>,
    /// More has come than is kept.
    is_full: bool,
    has_ended: bool,
}

impl Quote {
    pub(super) fn on_data(&mut self, data: &[u8]) {
        let room = LONGEST_QUOTE - self.bytes.len();
        self.is_full = data.len() > room;
        self.bytes.extend_from_slice(&data[..data.len().min(room)]);
    }

    pub(super) fn on_end(&mut self) {
        self.has_ended = true;
    }

    /// Whether nothing that could still come would change it.
    pub(super) fn is_whole(&self) -> bool {
        self.is_full || self.has_ended
    }

    /// One line, at most 1 KB long. `…` at its end stands for what is not quoted.
    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes[..self.end_of_letters()]);
        let is_cut = self.is_full || !self.has_ended;
        sanitize_peer_quote(text.trim(), is_cut && !self.bytes.is_empty())
    }

    /// Where the last letter ends that is there whole.
    fn end_of_letters(&self) -> usize {
        let last = self.bytes.utf8_chunks().last();
        let invalid = last.map_or(&[][..], |chunk| chunk.invalid());
        let is_begun = str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        self.bytes.len() - if is_begun { invalid.len() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{Quote, is_text};

    #[track_caller]
    fn check(pieces: &[&[u8]], ends: bool, text: &str) {
        let mut quote = Quote::default();
        for piece in pieces {
            assert!(!quote.is_whole());
            quote.on_data(piece);
        }
        if ends {
            quote.on_end();
            assert!(quote.is_whole());
        }
        assert_eq!(quote.text(), text);
    }

    // D284
    #[test]
    fn text_is_what_its_content_type_says() {
        for text in [
            "text/html",
            "text/plain; charset=utf-8",
            "TEXT/HTML",
            "application/json",
            "Application/JSON ;charset=utf-8",
            "application/problem+json",
        ] {
            assert!(is_text(text.as_bytes()), "{text}");
        }
        for other in ["", "text", "application/jsonp", "image/png", "a/b; c=text/"] {
            assert!(!is_text(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_body_is_quoted_in_one_line_without_spaces_around_it() {
        check(&[b"no ", b"upstream"], true, "no upstream");
        check(&[b"\r\n a\n\tb \n"], true, "a\\n\\tb");
        check(&[b"\x1b[2J\0"], true, "\\u{1b}[2J\\0");
        check(&[b"a\xffb"], true, "a\u{fffd}b");
        check(&[], true, "");
        check(&[b" \n"], true, "");
    }

    #[test]
    fn what_has_not_ended_is_cut_off() {
        check(&[b"no up"], false, "no up…");
        check(&[], false, "");
        check(&["grö".as_bytes(), &"ß".as_bytes()[..1]], false, "grö…");
    }

    #[test]
    fn a_kilobyte_is_quoted_and_cut_behind_a_letter() {
        let all = "x".repeat(1_024);
        check(&[all.as_bytes()], true, &all);
        check(&[all.as_bytes(), b"x"], false, &format!("{all}…"));
        let letters = ["x", &"é".repeat(600)].concat();
        let kept = ["x", &"é".repeat(511), "…"].concat();
        check(&[letters.as_bytes()], false, &kept);
        let escaped = format!("{}…", "\\0".repeat(512));
        check(&[&[0; 1_024]], true, &escaped);
    }

    /// Whatever comes, and however it is cut into frames.
    #[test]
    fn the_quote_does_not_depend_on_where_frames_end() {
        let pieces = vec(vec(any::<u8>(), 0..400), 0..8);
        proptest!(|(pieces in pieces)| {
            let whole = pieces.concat();
            let mut at_once = Quote::default();
            at_once.on_data(&whole);
            at_once.on_end();
            let mut quote = Quote::default();
            for piece in &pieces {
                if !quote.is_whole() {
                    quote.on_data(piece);
                }
            }
            quote.on_end();
            prop_assert_eq!(quote.text(), at_once.text());
            prop_assert!(quote.text().len() <= 1_024 + "…".len());
            prop_assert!(!quote.text().chars().any(char::is_control));
        });
    }
}
