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
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Exit::bad_arguments(format_args!("cannot write to stdout: {error}"))
        }
        _ => Exit::Healthy,
    }
}

/// A line to stderr, as far as anybody reads it.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
