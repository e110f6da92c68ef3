//! One lookup.

use std::time::Duration;

use tokio::time;

use super::found::{Families, Found, MAX_ADDRESSES};
#[cfg(feature = "hickory")]
use super::hickory::{ConfigUpdates, Hickory};
#[cfg(test)]
use super::tests::Script;
use super::{
    system,
    target::{DnsTarget, Host},
};
use crate::error::Error;
#[cfg(not(feature = "hickory"))]
use crate::error::ErrorKind;

/// Who is asked.
#[derive(Clone)]
pub(super) enum Resolver {
    /// `getaddrinfo`, on a thread.
    System,
    #[cfg(feature = "hickory")]
    Hickory(Box<Hickory>),
    #[cfg(test)]
    Scripted(Script),
}

impl Resolver {
    /// Who can be asked for `target`: SRV records are beyond the system's resolver.
    pub(super) fn of(target: &DnsTarget) -> Result<Self, Error> {
        match target.host {
            Host::Address(_) | Host::Name(_) => Ok(Self::System),
            #[cfg(feature = "hickory")]
            Host::Service { .. } => Ok(Self::Hickory(Box::default())),
            #[cfg(not(feature = "hickory"))]
            Host::Service { .. } => Err(Error::new(
                ErrorKind::InvalidEndpoint,
                format!("target `{target}`: SRV records need the feature `hickory`"),
            )),
        }
    }

    /// The addresses of `target`, at least one, or what became of it: the text goes on
    /// where the name ends. `known` is what there was before.
    pub(super) async fn look_up(
        &mut self,
        target: &DnsTarget,
        default_port: u16,
        known: Families,
        limit: Duration,
    ) -> Result<Found, String> {
        let port = target.port.unwrap_or(default_port);
        let lookup = async {
            match (&target.host, self) {
                (Host::Address(address), _) => address.at(port).map(|address| Found {
                    addresses: vec![address],
                    ..Found::default()
                }),
                (Host::Name(name), Self::System) => system::ask(name, port, known).await,
                (Host::Service { .. }, Self::System) => {
                    Err("needs a name server, because it has SRV records".to_owned())
                }
                #[cfg(feature = "hickory")]
                (_, Self::Hickory(hickory)) => hickory.look_up(target, port, limit).await,
                #[cfg(test)]
                (_, Self::Scripted(script)) => script.look_up().await,
            }
        };
        match time::timeout(limit, lookup).await {
            Ok(Ok(found)) if found.addresses.is_empty() => {
                Err("produced zero addresses".to_owned())
            }
            Ok(Ok(found)) if found.addresses.len() > MAX_ADDRESSES => {
                Err(format!("has more than {MAX_ADDRESSES} addresses"))
            }
            Ok(outcome) => outcome,
            Err(_) => Err(format!("was not looked up within {limit:?}")),
        }
    }
}

#[cfg(feature = "hickory")]
impl Resolver {
    /// Asks name servers from now on, with this change.
    pub(super) fn ask_name_servers(&mut self, change: impl FnOnce(&mut Hickory)) {
        match self {
            Self::Hickory(hickory) => change(hickory),
            other => {
                let mut hickory = Box::<Hickory>::default();
                change(&mut hickory);
                *other = Self::Hickory(hickory);
            }
        }
    }

    pub(super) fn config_updates(&mut self) -> Option<ConfigUpdates> {
        match self {
            Self::Hickory(hickory) => hickory.config_updates(),
            _ => None,
        }
    }
}
