//! A table on a terminal, drawn over itself.
//!
//! It takes the lines from where the cursor is, and leaves what stands above alone.
//! There is no raw mode: Ctrl-C is a signal, as always.

use std::io;

use crossterm::{
    cursor::{Hide, MoveTo, MoveToColumn, MoveUp, Show},
    queue,
    style::{Print, ResetColor},
    terminal::{
        self, BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
        EndSynchronizedUpdate,
    },
};

use super::table::Size;
use crate::{
    grid::Line,
    output::Stdout,
    report::{has_colours, painted},
};

/// Dropping it shows the cursor again, below the table.
pub(crate) struct Screen {
    stdout: Stdout,
    colours: bool,
    /// How many lines stand above the cursor.
    drawn: u16,
    /// Nobody knows where on the screen the table is.
    is_lost: bool,
}

/// For a terminal that does not know how large it is.
const USUAL: (u16, u16) = (80, 24);

impl Screen {
    pub(crate) fn open(stdout: Stdout) -> Self {
        stdout.try_bytes(bytes(|out| queue!(out, Hide)));
        Self {
            stdout,
            colours: has_colours(),
            drawn: 0,
            is_lost: false,
        }
    }

    /// What there is room for. The cursor stands in the last line.
    pub(crate) fn size(&self) -> Size {
        let known = |size: &(u16, u16)| size.0 > 0 && size.1 > 0;
        let (columns, lines) = terminal::size().ok().filter(known).unwrap_or(USUAL);
        Size {
            columns: columns.into(),
            lines: usize::from(lines).saturating_sub(1),
        }
    }

    /// The terminal has another size, and may have broken lines in two to fit it.
    pub(crate) fn on_resize(&mut self) {
        self.is_lost = true;
    }

    /// What draws `lines`, which fit, in place of what was drawn last.
    pub(crate) fn frame(&mut self, lines: &[Line]) -> Vec<u8> {
        // In one piece: half a table is not to be seen.
        let frame = bytes(|frame| {
            queue!(frame, BeginSynchronizedUpdate, DisableLineWrap)?;
            match (self.is_lost, self.drawn) {
                (true, _) => queue!(frame, MoveTo(0, 0), Clear(ClearType::All))?,
                (false, 0) => queue!(frame, MoveToColumn(0))?,
                (false, drawn) => queue!(frame, MoveToColumn(0), MoveUp(drawn))?,
            }
            for line in lines {
                let text = painted(line, self.colours);
                queue!(
                    frame,
                    Clear(ClearType::CurrentLine),
                    Print(text),
                    Print("\r\n")
                )?;
            }
            let clear = Clear(ClearType::FromCursorDown);
            queue!(frame, clear, EnableLineWrap, EndSynchronizedUpdate)
        });
        self.drawn = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        self.is_lost = false;
        frame
    }
}

fn bytes(queue: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Vec<u8> {
    let mut bytes = Vec::new();
    queue(&mut bytes).expect("memory takes what is written");
    bytes
}

impl Drop for Screen {
    fn drop(&mut self) {
        // What Ctrl-C has left there is `^C`.
        let clear = Clear(ClearType::FromCursorDown);
        let restore = |out: &mut Vec<u8>| {
            queue!(
                out,
                MoveToColumn(0),
                clear,
                ResetColor,
                EnableLineWrap,
                Show
            )
        };
        // A terminal that is gone, or stopped, needs no cursor.
        self.stdout.try_bytes(bytes(restore));
    }
}
