//! A backend, as a source names it.

use std::num::NonZeroU32;

use crate::{
    attributes::{Attributes, Locality},
    transport::Endpoint,
};

/// An [`Endpoint`] and what else its source says of it.
///
/// A source whose services are these, and not bare endpoints, gives its backends
/// attributes. To name a key again with the same endpoint and other attributes changes them, and
/// keeps the connection.
///
/// ```
/// use std::num::NonZeroU32;
/// use tonic_health_channel::{Channel, Endpoint, channel::Change, discover};
/// use discover::{Backend, Locality};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let (backends, source) = discover::push(16);
/// let here = Locality { zone: "eu-1a".to_owned(), ..Locality::default() };
/// let channel = Channel::balance(source).locality(here.clone()).build();
///
/// let near = Backend::new(Endpoint::from_static("http://10.1.0.1:50051")).locality(here);
/// let spare = Backend::new(Endpoint::from_static("http://10.2.0.1:50051")).priority(1);
/// backends.send(Change::Insert("near", near)).await?;
/// backends.send(Change::Insert("spare", spare)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a backend does nothing until a source names it"]
pub struct Backend {
    endpoint: Endpoint,
    attributes: Attributes,
}

impl Backend {
    /// A backend without attributes, as from a source that names endpoints alone.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            attributes: Attributes::default(),
        }
    }

    /// How many times the share of a backend with weight 1 it gets. 1 by default.
    ///
    /// | policy | what it does |
    /// |---|---|
    /// | `weighted_round_robin` | the weight by reported load is multiplied by it; before there are 2 of those, it alone counts |
    /// | `ring_hash_experimental` | it has as many times more entries on the ring (gRFC A42) |
    /// | `random_subsetting_experimental` | it is as many times more likely to be a member |
    /// | the others | none: `round_robin` and `least_request_experimental` have no weights in gRPC |
    pub fn weight(mut self, weight: NonZeroU32) -> Self {
        self.attributes.weight = weight;
        self
    }

    /// Its priority: 0, the default, is the first that has calls, and 1 the next. Numbers may be
    /// left out.
    ///
    /// Calls go to a later priority as far as the healthy backends of the earlier ones are too
    /// few: see [`overprovisioning_factor`](crate::ChannelBuilder::overprovisioning_factor).
    pub fn priority(mut self, priority: u32) -> Self {
        self.attributes.priority = priority;
        self
    }

    /// Where it is. It counts for channels that know
    /// [their own](crate::ChannelBuilder::locality). Unknown by default, which is far from
    /// everywhere.
    pub fn locality(mut self, locality: Locality) -> Self {
        self.attributes.locality = Some(locality);
        self
    }

    /// The text that stands for it where backends are hashed: on the ring of
    /// `ring_hash_experimental` (gRFC A76) and in `random_subsetting_experimental`. Its address by
    /// default.
    ///
    /// A key that outlives the address, such as the name of a pod in a StatefulSet, keeps the
    /// calls of that place on the ring when the pod moves.
    pub fn hash_key(mut self, key: impl Into<String>) -> Self {
        self.attributes.hash_key = Some(key.into().into());
        self
    }

    /// How it is reached.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The same, reached as `template` says.
    pub(super) fn reached_as(self, template: &Endpoint) -> Self {
        Self {
            endpoint: template.with_target_of(&self.endpoint),
            ..self
        }
    }

    pub(super) fn into_parts(self) -> (Endpoint, Attributes) {
        (self.endpoint, self.attributes)
    }
}

impl From<Endpoint> for Backend {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(endpoint)
    }
}
