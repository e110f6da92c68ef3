//! What the bench `pick` is made of.

#![allow(dead_code, reason = "not every bench uses every part")]

pub(crate) mod arguments;
pub(crate) mod clock;
pub(crate) mod table;

/// Why a bench stopped: one sentence.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
