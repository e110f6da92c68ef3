//! What a source of addresses is told, and what it brings.

use std::time::Duration;

use tower::discover::Change;

use super::{
    lookup::Resolver,
    machine::Pace,
    target::{DnsTarget, Host},
};
use crate::{discover::RefreshHandle, error::Error, transport::Endpoint};

pub(super) type Item = Result<Change<String, Endpoint>, Error>;

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

impl Options {
    /// Whether a proxy is told the name, and looks it up in this host's place (gRFC A1).
    pub(super) fn is_proxied(&self) -> bool {
        matches!(self.target.host, Host::Name(_)) && self.template.is_proxied()
    }

    /// The same for backends at the addresses of a name. Whether there is a proxy in between
    /// was a question of the name.
    pub(super) fn at_addresses(mut self) -> Self {
        if matches!(self.target.host, Host::Name(_)) {
            self.template = self.template.without_proxy();
        }
        self
    }
}
