//! Frames of both directions through the IO under `h2`, twice: cut into other pieces, and asked
//! for in other pieces. Neither changes what `h2` is shown, nor what becomes of the streams.
//!
//! For a fuzz target, and for tests, which draw inputs by themselves and replay its corpus.

mod run;
mod script;
mod socket;

#[cfg(fuzzing)]
pub(crate) use run::check;
