//! An entry of a file that names backends: a URI, or an object with attributes.

use std::{fmt, num::NonZeroU32};

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

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

const FIELDS: &[&str] = &["uri", "weight", "priority", "locality", "hashKey"];

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Backend;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a URI like "http://10.0.0.1:50051", or an object with a "uri""#)
    }

    fn visit_str<E: de::Error>(self, uri: &str) -> Result<Backend, E> {
        endpoint(uri).map(Backend::new)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Backend, A::Error> {
        let (mut uri, mut weight, mut priority) = (None, None, None);
        let (mut locality, mut hash_key) = (None, None);
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "uri" => once(&mut uri, "uri", &mut map)?,
                "weight" => once::<NonZeroU32, _>(&mut weight, "weight", &mut map)?,
                "priority" => once::<u32, _>(&mut priority, "priority", &mut map)?,
                "locality" => once(&mut locality, "locality", &mut map)?,
                "hashKey" => once::<String, _>(&mut hash_key, "hashKey", &mut map)?,
                other => return Err(de::Error::unknown_field(other, FIELDS)),
            }
        }
        let Uri(endpoint) = uri.ok_or_else(|| de::Error::missing_field("uri"))?;
        let mut backend = Backend::new(endpoint).priority(priority.unwrap_or_default());
        if let Some(weight) = weight {
            backend = backend.weight(weight);
        }
        if let Some(Place(locality)) = locality {
            backend = backend.locality(locality);
        }
        if let Some(key) = hash_key {
            backend = backend.hash_key(key);
        }
        Ok(backend)
    }
}

/// The value of a field that is not there twice.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    value: &mut Option<T>,
    field: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    match value.replace(map.next_value()?) {
        None => Ok(()),
        Some(_) => Err(de::Error::duplicate_field(field)),
    }
}

struct Uri(Endpoint);

impl<'de> Deserialize<'de> for Uri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        endpoint(&String::deserialize(deserializer)?).map(Self)
    }
}

fn endpoint<E: de::Error>(uri: &str) -> Result<Endpoint, E> {
    Endpoint::from_shared(uri.to_owned()).map_err(|error| E::custom(error.message()))
}

struct Place(Locality);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PlaceVisitor).map(Self)
    }
}

struct PlaceVisitor;

impl<'de> Visitor<'de> for PlaceVisitor {
    type Value = Locality;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an object like {"zone": "eu-1a"}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Locality, A::Error> {
        let (mut region, mut zone, mut sub_zone) = (None, None, None);
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "region" => once(&mut region, "region", &mut map)?,
                "zone" => once(&mut zone, "zone", &mut map)?,
                "subZone" => once(&mut sub_zone, "subZone", &mut map)?,
                other => {
                    let fields = &["region", "zone", "subZone"];
                    return Err(de::Error::unknown_field(other, fields));
                }
            }
        }
        Ok(Locality {
            region: region.unwrap_or_default(),
            zone: zone.unwrap_or_default(),
            sub_zone: sub_zone.unwrap_or_default(),
        })
    }
}
