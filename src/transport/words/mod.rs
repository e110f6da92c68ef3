//! What an error of the connection is called, in the words of this crate.

pub(super) mod body;
pub(super) mod disconnect;
pub(super) mod failure;
pub(super) mod h2_error;
pub(super) mod io_error;
#[cfg(feature = "_tls-any")]
pub(super) mod tls;
