//! Text in columns: pure.
//!
//! A cell never ends a line and never speaks to the terminal, whatever a peer has
//! put into an error.

use std::time::Duration;

/// What a piece of text is about; a terminal has a colour for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Heading,
    Good,
    Waiting,
    Bad,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

/// Cells beside each other, with what is between them.
pub(crate) type Line = Vec<Cell>;

/// Rows below a heading. The last column takes what is left of a line.
#[derive(Debug)]
pub(crate) struct Grid {
    rows: Vec<Line>,
}

const GAP: usize = 2;

/// A column but the last has at most this part of the width, so that a long name does
/// not push out what one wants to know of it.
const SHARE: usize = 3;

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self {
            text: printable(text.as_ref()),
            tone,
        }
    }

    pub(crate) fn plain(text: impl AsRef<str>) -> Self {
        Self::new(text, Tone::Plain)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl Grid {
    pub(crate) fn new(heading: &[&str]) -> Self {
        let heading = heading.iter().map(|text| Cell::new(text, Tone::Heading));
        Self {
            rows: vec![heading.collect()],
        }
    }

    pub(crate) fn push(&mut self, row: Line) {
        self.rows.push(row);
    }

    /// The heading and the rows, each cut to `width` characters if one is given.
    pub(crate) fn lines(&self, width: Option<usize>) -> Vec<Line> {
        let most = width.map_or(usize::MAX, |width| (width / SHARE).max(GAP));
        let columns = self.rows[0].len();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let widest = self.rows.iter().map(|row| row[column].width()).max();
                widest.unwrap_or(0).min(most)
            })
            .collect();
        self.rows
            .iter()
            .map(|row| match width {
                None => padded(row, &widths),
                Some(width) => cut_line(padded(row, &widths), width),
            })
            .collect()
    }
}

/// Every cell as wide as its column and the gap after it, up to the end of the text.
fn padded(row: &Line, widths: &[usize]) -> Line {
    let columns = row.iter().zip(widths).enumerate();
    let mut line: Line = columns
        .map(|(at, (cell, width))| {
            let is_last = at + 1 == row.len();
            let text = match is_last {
                true => cell.text.clone(),
                false => format!("{:<1$}", shortened(&cell.text, *width), width + GAP),
            };
            Cell { text, ..*cell }
        })
        .collect();
    while line
        .pop_if(|cell| cell.text.trim_end().is_empty())
        .is_some()
    {}
    if let Some(last) = line.last_mut() {
        last.text.truncate(last.text.trim_end().len());
    }
    line
}

/// `line` in at most `width` characters.
pub(crate) fn cut_line(line: Line, width: usize) -> Line {
    let mut left = width;
    let mut kept = Line::new();
    for cell in line {
        let text = cut(&cell.text, left);
        left -= text.chars().count();
        kept.push(Cell { text, ..cell });
        if left == 0 {
            break;
        }
    }
    kept
}

/// `text` in at most `width` characters, the last of which says that there is more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain((width > 0).then_some('…')).collect()
}

/// `text` in at most `width` characters, without its middle: names differ at either end.
fn shortened(text: &str, width: usize) -> String {
    let letters = text.chars().count();
    if letters <= width {
        return text.to_owned();
    }
    let tail = width.saturating_sub(1) / 2;
    let head = cut(text, width - tail);
    head.chars()
        .chain(text.chars().skip(letters - tail))
        .collect()
}

/// `text` without what would move a cursor, or change a colour.
pub(crate) fn printable(text: &str) -> String {
    let visible = |letter: char| match letter {
        '\n' | '\r' | '\t' => ' ',
        letter if letter.is_control() => char::REPLACEMENT_CHARACTER,
        letter => letter,
    };
    text.chars().map(visible).collect()
}

/// In one unit, rounded down: `12s`, `5m`, `3h`, `2d`.
pub(crate) fn age(duration: Duration) -> String {
    match duration.as_secs() {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3_600 => format!("{}m", s / 60),
        s @ 3_600..86_400 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &Line) -> String {
        line.iter().map(|cell| cell.text.as_str()).collect()
    }

    fn grid(rows: &[[&str; 3]]) -> Grid {
        let mut grid = Grid::new(&["BACKEND", "STATE", "ERROR"]);
        for row in rows {
            grid.push(row.map(Cell::plain).to_vec());
        }
        grid
    }

    #[track_caller]
    fn check(rows: &[[&str; 3]], width: Option<usize>, expected: &[&str]) {
        let lines = grid(rows).lines(width);
        assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        check(
            &[["a", "READY", ""], ["10.0.0.1:1", "IDLE", "refused"]],
            None,
            &[
                "BACKEND     STATE  ERROR",
                "a           READY",
                "10.0.0.1:1  IDLE   refused",
            ],
        );
    }

    #[test]
    fn a_line_that_does_not_fit_ends_in_an_ellipsis() {
        let row = ["a", "READY", "connection refused"];
        check(
            &[row],
            Some(27),
            &["BACKEND  STATE  ERROR", "a        READY  connection…"],
        );
        // Nothing is said to be left out where nothing is.
        check(
            &[["a", "READY", ""]],
            Some(21),
            &["BACKEND  STATE  ERROR", "a        READY"],
        );
    }

    #[test]
    fn a_long_name_leaves_room_for_the_rest() {
        check(
            &[["a-very-long-name", "READY", "no"]],
            Some(30),
            &["BACKEND     STATE  ERROR", "a-ver…name  READY  no"],
        );
    }

    #[test]
    fn no_width_is_too_small() {
        for width in 0..20 {
            for line in grid(&[["name", "READY", "error"]]).lines(Some(width)) {
                assert!(text(&line).chars().count() <= width, "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn a_peer_cannot_speak_to_the_terminal() {
        assert_eq!(printable("no\r\n\u{1b}[2Jway"), "no  \u{fffd}[2Jway");
    }

    #[test]
    fn time_is_told_in_one_unit() {
        for (seconds, text) in [(59, "59s"), (119, "1m"), (7_200, "2h"), (200_000, "2d")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
