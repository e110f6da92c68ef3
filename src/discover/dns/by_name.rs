//! A host that is one backend, and looked up when it is dialled.

use super::target::{DnsTarget, Host};
use crate::{
    error::{Error, ErrorKind},
    transport::Endpoint,
};

/// The endpoint at `target`, `host` or `host:port`, with the scheme and the options of
/// `template`.
///
/// # Errors
///
/// [`ErrorKind::InvalidEndpoint`] if `target` is no such thing, or names SRV records.
pub(crate) fn by_name(target: &str, template: &Endpoint) -> Result<Endpoint, Error> {
    let parsed = DnsTarget::parse(target)?;
    let endpoint = template.with_authority(parsed.authority());
    let invalid = |why: String| {
        let text = format!("target `{target}`: {why}");
        Error::new(ErrorKind::InvalidEndpoint, text)
    };
    match parsed.host {
        Host::Name(_) => Ok(endpoint),
        Host::Service { full, .. } => Err(invalid(format!(
            "this name is looked up as SRV records by `dns:///{full}`"
        ))),
        // The authority has no zone.
        Host::Address(address) => {
            let port = parsed.port.unwrap_or(template.default_port());
            Ok(endpoint.with_address(address.at(port).map_err(invalid)?))
        }
    }
}
