//! An endpoint: how to reach one backend, and how to talk to it.
//!
//! [`options`] are what it may be told, as data; [`setters`] and `tls` tell it. It dials
//! nothing by itself.

mod endpoint;
mod executor;
mod options;
mod setters;
#[cfg(feature = "_tls-any")]
mod tls;
mod userinfo;

pub use endpoint::Endpoint;
pub(crate) use executor::{BoundExecutor, BoxTask, Executor};
pub(super) use options::{
    ConnectionConfig, Http2Options, KeepaliveOptions, LimitOptions, TcpOptions,
};
pub(crate) use userinfo::{USERINFO, hide_userinfo};
