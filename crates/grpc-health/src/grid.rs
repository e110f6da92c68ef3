//! Text in columns: pure.
//!
//! A cell never ends a line and never speaks to the terminal, whatever a peer has
//! put into an error.

use std::time::Duration;

use crate::text::tame;

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

/// Where there is no width to fit, a longer cell pushes the rest of its own row only.
const LONGEST_PADDING: usize = 100;

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self {
            text: tame(text.as_ref()).into_owned(),
            tone,
        }
    }

    pub(crate) fn plain(text: impl AsRef<str>) -> Self {
        Self::new(text, Tone::Plain)
    }

    fn width(&self) -> usize {
        width_of(&self.text)
    }
}

impl Grid {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self {
            rows: vec![heading_of(heading)],
        }
    }

    pub(crate) fn push(&mut self, row: Line) {
        self.rows.push(row);
    }

    /// The heading and the rows, each cut to `width` if one is given.
    pub(crate) fn lines(&self, width: Option<usize>) -> impl Iterator<Item = Line> {
        let most = width.map(|width| (width / SHARE).max(GAP));
        let mut columns = Columns::of(&self.rows[0]);
        self.rows[1..].iter().for_each(|row| columns.widen(row));
        columns.bound(most);
        self.rows.iter().map(move |row| match width {
            None => columns.padded(row),
            Some(width) => cut_line(columns.padded(row), width),
        })
    }
}

pub(crate) fn heading_of(names: &[&str]) -> Line {
    let cells = names.iter().map(|text| Cell::new(text, Tone::Heading));
    cells.collect()
}

/// How wide columns are. It takes rows twice, and keeps none: once to widen the columns,
/// once to pad the cells.
#[derive(Debug)]
pub(crate) struct Columns {
    widths: Vec<usize>,
    /// Whether a cell that is wider loses its middle, or pushes the rest of its row.
    is_bound: bool,
}

impl Columns {
    /// As wide as a heading.
    pub(crate) fn of(heading: &Line) -> Self {
        Self {
            widths: heading.iter().map(Cell::width).collect(),
            is_bound: false,
        }
    }

    pub(crate) fn widen(&mut self, row: &Line) {
        for (width, cell) in self.widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }

    /// No column is wider than `most`. Without that, none makes the others' rows long.
    fn bound(&mut self, most: Option<usize>) {
        self.is_bound = most.is_some();
        let most = most.unwrap_or(LONGEST_PADDING);
        for width in &mut self.widths {
            *width = most.min(*width);
        }
    }

    /// The widest columns give way until a line fits `width`.
    pub(crate) fn fit(&mut self, width: Option<usize>) {
        let Some(width) = width else {
            return self.bound(None);
        };
        self.is_bound = true;
        let gaps = GAP * self.widths.len().saturating_sub(1);
        let room = width.saturating_sub(gaps);
        loop {
            let total: usize = self.widths.iter().sum();
            let mut widths: Vec<_> = self.widths.iter_mut().collect();
            widths.sort_unstable_by_key(|width| std::cmp::Reverse(**width));
            let excess = total.saturating_sub(room);
            let [widest, rest @ ..] = widths.as_mut_slice() else {
                return;
            };
            if excess == 0 || **widest <= GAP {
                return;
            }
            // Down to the next narrower one, and then both.
            let next = rest.first().map_or(0, |next| **next);
            let step = excess.min((**widest - next).max(1));
            **widest -= step;
        }
    }

    /// Every cell as wide as its column and the gap after it, up to the end of the text.
    pub(crate) fn padded(&self, row: &Line) -> Line {
        let columns = row.iter().zip(&self.widths).enumerate();
        let mut line: Line = columns
            .map(|(at, (cell, width))| {
                let is_last = at + 1 == row.len();
                let mut text = match is_last || !self.is_bound {
                    true => cell.text.clone(),
                    false => shortened(&cell.text, *width),
                };
                if !is_last {
                    // Not by `format!`, which panics for a width above 65,535.
                    let padding = width.saturating_sub(width_of(&text)) + GAP;
                    text.extend(std::iter::repeat_n(' ', padding));
                }
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
}

/// `line` in at most `width` columns.
pub(crate) fn cut_line(line: Line, width: usize) -> Line {
    let mut left = width;
    let mut kept = Line::new();
    for cell in line {
        let text = cut(&cell.text, left);
        left = left.saturating_sub(width_of(&text));
        kept.push(Cell { text, ..cell });
        if left == 0 {
            break;
        }
    }
    kept
}

/// `text` in at most `width` columns, the last of which says that there is more.
fn cut(text: &str, width: usize) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let kept = fitting(text.chars(), width.saturating_sub(1));
    kept.chain((width > 0).then_some('…')).collect()
}

/// `text` in at most `width` columns, without its middle: names differ at either end.
fn shortened(text: &str, width: usize) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let tail: Vec<_> = fitting(text.chars().rev(), width.saturating_sub(1) / 2).collect();
    let tail_width: usize = tail.iter().map(|letter| columns(*letter)).sum();
    let head = cut(text, width - tail_width);
    head.chars().chain(tail.into_iter().rev()).collect()
}

/// The first letters that fit `width` columns.
fn fitting(letters: impl Iterator<Item = char>, width: usize) -> impl Iterator<Item = char> {
    letters.scan(width, |left, letter| {
        *left = left.checked_sub(columns(letter))?;
        Some(letter)
    })
}

fn width_of(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The columns that a terminal gives a letter. Those of East Asia and pictures are wide; those
/// without a width have been escaped.
fn columns(letter: char) -> usize {
    match letter {
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
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
        let grid = grid(rows);
        let lines = grid.lines(width);
        assert_eq!(lines.map(|line| text(&line)).collect::<Vec<_>>(), expected);
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
            let grid = grid(&[["name", "READY", "error"]]);
            for line in grid.lines(Some(width)) {
                assert!(text(&line).chars().count() <= width, "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn a_very_long_cell_leaves_the_other_rows_short() {
        let long = "x".repeat(70_000);
        let rows = [[long.as_str(), "READY", "no"], ["a", "READY", "no"]];
        let grid = grid(&rows);
        let lengths: Vec<_> = grid.lines(None).map(|line| text(&line).len()).collect();
        assert_eq!(lengths[1], 70_000 + GAP + 5 + GAP + 2);
        assert_eq!(lengths[2], LONGEST_PADDING + GAP + 5 + GAP + 2);
    }

    #[test]
    fn wide_letters_take_two_columns() {
        check(
            &[["大小", "READY", "no"], ["a", "READY", "no"]],
            Some(30),
            &[
                "BACKEND  STATE  ERROR",
                "大小     READY  no",
                "a        READY  no",
            ],
        );
        for width in 0..12 {
            let text = "大a小b大c小d";
            assert!(width_of(&cut(text, width)) <= width, "{width}");
            assert!(width_of(&shortened(text, width)) <= width, "{width}");
        }
        assert_eq!(shortened("大小大小大小", 7), "大小…小");
    }

    #[test]
    fn the_widest_columns_give_way() {
        let heading = heading_of(&["BACKEND", "SERVICE", "STATUS"]);
        for (cells, width, expected) in [
            (["ab", "service", "SERVING"], 80, [7, 7, 7]),
            (["b:1", &"s".repeat(900), "SERVING"], 40, [7, 22, 7]),
            (
                [&"b".repeat(30), &"s".repeat(20), "SERVING"],
                40,
                [14, 15, 7],
            ),
            (["b:1", "service", "SERVING"], 0, [2, 2, 2]),
        ] {
            let mut columns = Columns::of(&heading);
            columns.widen(&cells.map(Cell::plain).to_vec());
            columns.fit(Some(width));
            assert_eq!(columns.widths, expected, "{cells:?}");
        }
    }

    #[test]
    fn time_is_told_in_one_unit() {
        for (seconds, text) in [(59, "59s"), (119, "1m"), (7_200, "2h"), (200_000, "2d")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
