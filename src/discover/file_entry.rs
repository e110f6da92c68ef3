//! An entry of a file that names backends: a URI, or an object with attributes.

use std::{fmt, num::NonZeroU32};

use serde::de::{
    self, Deserialize, Deserializer, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer,
};

use super::backend::Backend;
use crate::{attributes::Locality, transport::Endpoint};

/// The errors of one say where it stands.
pub(super) struct Entry(pub(super) Backend);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor).map(Self)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Backend;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a URI like "http://10.0.0.1:50051", or an object with a "uri""#)
    }

    fn visit_str<E: de::Error>(self, uri: &str) -> Result<Backend, E> {
        endpoint(uri).map(Backend::new)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Backend, A::Error> {
        let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
        let mut backend = Backend::new(fields.uri.0);
        if let Some(weight) = fields.weight {
            let weight = NonZeroU32::new(weight).ok_or_else(|| {
                let zero = Unexpected::Unsigned(0);
                de::Error::invalid_value(zero, &"a weight of at least 1")
            })?;
            backend = backend.weight(weight);
        }
        if let Some(locality) = fields.locality {
            backend = backend.locality(Locality {
                region: locality.region,
                zone: locality.zone,
                sub_zone: locality.sub_zone,
            });
        }
        if let Some(key) = fields.hash_key {
            backend = backend.hash_key(key);
        }
        Ok(backend.priority(fields.priority))
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    uri: Uri,
    weight: Option<u32>,
    #[serde(default)]
    priority: u32,
    locality: Option<Place>,
    hash_key: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct Place {
    region: String,
    zone: String,
    sub_zone: String,
}

struct Uri(Endpoint);

impl<'de> Deserialize<'de> for Uri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UriVisitor;
        impl Visitor<'_> for UriVisitor {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a URI like "http://10.0.0.1:50051""#)
            }

            fn visit_str<E: de::Error>(self, uri: &str) -> Result<Endpoint, E> {
                endpoint(uri)
            }
        }
        deserializer.deserialize_str(UriVisitor).map(Self)
    }
}

fn endpoint<E: de::Error>(uri: &str) -> Result<Endpoint, E> {
    Endpoint::from_shared(uri.to_owned()).map_err(|error| E::custom(error.message()))
}
