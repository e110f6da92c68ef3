//! JSON values that know where they stand.
//!
//! [`Json`] is the document with all of its keys, also those that come twice:
//! `serde_json::Value` would have dropped all but the last. [`Field`] is one
//! place in it, and the only maker of the errors about that place.

use std::{collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::error::{Error, ErrorKind};

#[derive(Clone, Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// A value, or the place where one could have been, with the path to it.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    path: String,
    value: Option<&'a Json>,
}

/// A [`Field`] that is an object.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    path: String,
    members: &'a [(String, Json)],
}

/// How much of a value or of a key an error text repeats, in characters.
const SHOWN: usize = 80;

pub(super) fn invalid(what: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::InvalidServiceConfig,
        format!("service config: {what}"),
    )
}

impl<'a> Field<'a> {
    pub(super) fn root(value: &'a Json) -> Self {
        Self {
            path: String::new(),
            value: Some(value),
        }
    }

    /// A value that stands at `path`.
    pub(super) fn new(path: &str, value: &'a Json) -> Self {
        Self {
            path: path.to_owned(),
            value: Some(value),
        }
    }

    /// The error that this value breaks `rule`.
    pub(super) fn rejected(&self, rule: impl fmt::Display) -> Error {
        match self.value {
            Some(value) => self.rejected_with(rule, value),
            None => self.rejected_with(rule, "nothing"),
        }
    }

    /// Like [`rejected`](Self::rejected), for what of the value is worth showing.
    pub(super) fn rejected_with(&self, rule: impl fmt::Display, got: impl fmt::Display) -> Error {
        let path = match self.path.as_str() {
            "" => "(root)",
            path => path,
        };
        let got = shortened(&got.to_string());
        invalid(format_args!("{path}: {rule}, got {got}"))
    }

    /// Where it stands.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Protobuf's JSON does not tell `null` from a field that is not there.
    pub(super) fn is_present(&self) -> bool {
        !matches!(self.value, None | Some(Json::Null))
    }

    pub(super) fn object(&self) -> Result<Object<'a>, Error> {
        match self.value {
            Some(Json::Object(members)) => Ok(Object {
                path: self.path.clone(),
                members,
            }),
            _ => Err(self.rejected("must be an object")),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<Self>, Error> {
        match self.value {
            Some(Json::List(items)) => Ok(items
                .iter()
                .enumerate()
                .map(|(position, item)| Self {
                    path: format!("{}[{position}]", self.path),
                    value: Some(item),
                })
                .collect()),
            _ => Err(self.rejected("must be a list")),
        }
    }

    pub(super) fn as_str(&self) -> Option<&'a str> {
        match self.value? {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        match self.value? {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A finite number, or a string that holds one and nothing else.
    pub(super) fn as_f64(&self) -> Option<f64> {
        match self.value? {
            Json::Number(number) => number.as_f64(),
            Json::String(text) => text.parse::<Number>().ok()?.as_f64(),
            _ => None,
        }
    }

    /// An integer in range, also in the spellings `1.0` and `1e0`.
    pub(super) fn as_u32(&self) -> Option<u32> {
        let number = self.as_f64()?;
        let fits = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
        fits.then_some(number as u32)
    }

    /// Looks for a key that its object has twice, at any depth.
    pub(super) fn refuse_duplicate_keys(&self) -> Result<(), Error> {
        match self.value {
            Some(Json::List(_)) => self
                .list()?
                .iter()
                .try_for_each(Self::refuse_duplicate_keys),
            Some(Json::Object(_)) => {
                let mut seen = HashSet::new();
                self.object()?.members().try_for_each(|(key, field)| {
                    if !seen.insert(key) {
                        return Err(field.rejected("must not be a duplicate key"));
                    }
                    field.refuse_duplicate_keys()
                })
            }
            _ => Ok(()),
        }
    }
}

impl<'a> Object<'a> {
    pub(super) fn members(&self) -> impl ExactSizeIterator<Item = (&'a str, Field<'a>)> {
        self.members
            .iter()
            .map(|(key, value)| (key.as_str(), self.at(key, Some(value))))
    }

    /// The field of this name. One that differs by its case alone is taken where there is
    /// no better, as Go's JSON does.
    pub(super) fn get(&self, key: &str) -> Field<'a> {
        let member = |is_it: fn(&str, &str) -> bool| {
            let mut members = self.members.iter();
            members.find(|(name, _)| is_it(name, key))
        };
        let member = member(|name, key| name == key).or_else(|| member(str::eq_ignore_ascii_case));
        match member {
            Some((name, value)) => self.at(name, Some(value)),
            None => self.at(key, None),
        }
    }

    /// What `read` makes of a field, if it is [present](Field::is_present).
    pub(super) fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Field<'a>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let field = self.get(key);
        field.is_present().then(|| read(&field)).transpose()
    }

    fn at(&self, key: &str, value: Option<&'a Json>) -> Field<'a> {
        let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let path = if key.is_empty() || !key.chars().all(plain) {
            format!("{}[{}]", self.path, shortened(&quoted(key)))
        } else if self.path.is_empty() {
            shortened(key)
        } else {
            format!("{}.{}", self.path, shortened(key))
        };
        Field { path, value }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::String(text) => f.write_str(&quoted(text)),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(","))
            }
            Self::Object(members) => {
                let member = |(key, value): &(String, Self)| format!("{}:{value}", quoted(key));
                let members: Vec<_> = members.iter().map(member).collect();
                write!(f, "{{{}}}", members.join(","))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(disguised_number(&object).map_or(Json::Object(object), Json::Number))
    }
}

/// Another crate of the build may switch on serde_json's `arbitrary_precision`,
/// and then every number comes as an object with this one key.
fn disguised_number(object: &[(String, Json)]) -> Option<Number> {
    match object {
        [(key, Json::String(text))] if key == "$serde_json::private::Number" => text.parse().ok(),
        _ => None,
    }
}
