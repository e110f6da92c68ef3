//! What a source of addresses is told, and what it brings.

use std::{net::SocketAddr, time::Duration};

use tower::discover::Change;

use super::{lookup::Resolver, machine::Pace, target::DnsTarget};
use crate::{discover::RefreshHandle, error::Error, transport::Endpoint};

pub(super) type Item = Result<Change<SocketAddr, Endpoint>, Error>;

#[derive(Clone)]
pub(super) struct Options {
    pub(super) target: DnsTarget,
    /// With the authority of the target.
    pub(super) template: Endpoint,
    pub(super) refresh: RefreshHandle,
    pub(super) pace: Pace,
    pub(super) lookup_timeout: Duration,
    pub(super) resolver: Resolver,
}
