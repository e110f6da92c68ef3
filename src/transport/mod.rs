//! HTTP/2 connections.

/// A handle to one HTTP/2 connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection;
