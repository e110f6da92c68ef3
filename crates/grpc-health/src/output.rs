//! Writing to stdout and stderr, which may be closed: nobody who pipes the output
//! into `head` wants to hear of it.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
};

use crate::exit::Exit;

/// Writes a document to stdout.
pub(crate) fn print(text: &[u8]) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) => unwritable(&error),
        Ok(()) => Exit::Healthy,
    }
}

/// Nobody reads any more, which is no failure; or what else is wrong with stdout.
pub(crate) fn unwritable(error: &io::Error) -> Exit {
    match error.kind() {
        ErrorKind::BrokenPipe => Exit::Healthy,
        _ => Exit::bad_arguments(format_args!("cannot write to stdout: {error}")),
    }
}

/// A line to stderr, as far as anybody reads it.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
