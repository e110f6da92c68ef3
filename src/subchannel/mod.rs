//! Our side of one backend: its connection, its backoff and its health.

mod machine;

pub(crate) use machine::Report;
