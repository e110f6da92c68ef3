//! A source says this of a backend besides its endpoint.

use std::{fmt, num::NonZeroU32, sync::Arc};

/// None of it is about connections, so a change of it dials nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) weight: NonZeroU32,
    pub(crate) priority: u32,
    pub(crate) locality: Option<Locality>,
    pub(crate) hash_key: Option<Arc<str>>,
}

/// Where a backend or a client is, in the terms of gRPC and Envoy: `topology.kubernetes.io/region`
/// and `topology.kubernetes.io/zone` of a node, for example. A field that is empty is not known.
///
/// ```
/// use tonic_health_channel::discover::Locality;
///
/// let here = Locality {
///     region: "eu-central-1".to_owned(),
///     zone: "eu-central-1a".to_owned(),
///     ..Locality::default()
/// };
/// let label = r#"{region="eu-central-1", zone="eu-central-1a", sub_zone=""}"#;
/// assert_eq!(here.to_string(), label);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// A part of the world.
    pub region: String,
    /// A part of the region that fails by itself, such as a data centre.
    pub zone: String,
    /// A part of the zone, such as a rack.
    pub sub_zone: String,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            weight: NonZeroU32::MIN,
            priority: 0,
            locality: None,
            hash_key: None,
        }
    }
}

impl Locality {
    /// How far the backends of `other` are from here: the number of this locality's known fields
    /// from the first on that differs. 0 is the same place.
    pub(crate) fn distance(&self, other: Option<&Self>) -> u32 {
        let fields = |of: &Self| [of.region.clone(), of.zone.clone(), of.sub_zone.clone()];
        let theirs = other.map(fields).unwrap_or_default();
        let named = fields(self).into_iter().zip(theirs);
        let named = named.filter(|(ours, _)| !ours.is_empty());
        named.skip_while(|(ours, theirs)| ours == theirs).count() as u32
    }
}

/// As gRPC's label `grpc.lb.locality` (gRFC A78).
impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            region,
            zone,
            sub_zone,
        } = self;
        write!(
            f,
            "{{region={region:?}, zone={zone:?}, sub_zone={sub_zone:?}}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Locality;

    fn at(region: &str, zone: &str, sub_zone: &str) -> Locality {
        Locality {
            region: region.to_owned(),
            zone: zone.to_owned(),
            sub_zone: sub_zone.to_owned(),
        }
    }

    // D424
    #[test]
    fn a_backend_is_as_far_as_the_fields_that_differ() {
        let here = at("eu", "a", "1");
        let distance = |region, zone, sub_zone| here.distance(Some(&at(region, zone, sub_zone)));
        assert_eq!(distance("eu", "a", "1"), 0);
        assert_eq!(distance("eu", "a", "2"), 1);
        assert_eq!(distance("eu", "b", "1"), 2, "another rack of the same name");
        assert_eq!(distance("us", "a", "1"), 3);
        assert_eq!(here.distance(None), 3, "it may be anywhere");

        let zone = at("", "a", "");
        assert_eq!(
            zone.distance(Some(&at("eu", "a", "1"))),
            0,
            "what is known is equal"
        );
        assert_eq!(zone.distance(Some(&at("eu", "b", "1"))), 1);
        assert_eq!(Locality::default().distance(Some(&here)), 0);
    }
}
