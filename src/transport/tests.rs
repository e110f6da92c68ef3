//! Over in-memory IO.
