//! Traces of calls and attempts (gRFC A66, A72).

mod calls;
mod headers;
mod notebook;
mod spans;
