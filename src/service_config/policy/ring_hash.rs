//! The config of `ring_hash_experimental`.

use super::write;
use crate::{
    error::Error,
    service_config::{
        read::string,
        value::{Field, Json, Object},
    },
};

/// `ring_hash_experimental`: calls with the same value of a header go to the same backend (gRFC
/// A42, A76).
///
/// Backends stand on a ring in as many places as the ring is large, each backend in its share of
/// them. A call goes to the backend of the next place after the hash of its header. When a
/// backend leaves, only its own calls move.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RingHash {
    /// `minRingSize`: from 1 to 8388608, and more than 4096 counts as 4096. 1024 by default.
    pub min_ring_size: u32,
    /// `maxRingSize`: from `min_ring_size` to 8388608, and more than 4096 counts as 4096, which
    /// is the default. A larger ring has more even shares, and takes more memory.
    pub max_ring_size: u32,
    /// `requestHashHeader`: the header whose value is hashed, in any case of letters. Unset by
    /// default. A call without it goes to a random place on the ring, and so does each call
    /// while no header is named.
    pub request_hash_header: Option<String>,
}

/// The most that a config may say.
const MAX_SIZE: u32 = 8_388_608;

/// The most that is built.
const CAP: u32 = 4096;

impl Default for RingHash {
    fn default() -> Self {
        Self {
            min_ring_size: 1024,
            max_ring_size: CAP,
            request_hash_header: None,
        }
    }
}

impl RingHash {
    pub(super) fn read(config: &Object<'_>) -> Result<Self, Error> {
        let default = Self::default();
        let min = config.optional("minRingSize", size)?;
        let max = config.optional("maxRingSize", size)?;
        let min = min.unwrap_or(default.min_ring_size);
        let max = max.unwrap_or(default.max_ring_size);
        if min > max {
            let field = config.get("minRingSize");
            return Err(match field.is_present() {
                true => field.rejected(format_args!("must not be more than maxRingSize, {max}")),
                false => {
                    let field = config.get("maxRingSize");
                    field.rejected(format_args!("must not be less than minRingSize, {min}"))
                }
            });
        }
        Ok(Self {
            min_ring_size: min.min(CAP),
            max_ring_size: max.min(CAP),
            request_hash_header: config.optional("requestHashHeader", header)?.flatten(),
        })
    }

    pub(super) fn write(&self) -> Json {
        write::object([
            ("minRingSize", write::integer(self.min_ring_size)),
            ("maxRingSize", write::integer(self.max_ring_size)),
            (
                "requestHashHeader",
                write::optional(self.request_hash_header.as_deref(), Json::from),
            ),
        ])
    }
}

fn size(field: &Field<'_>) -> Result<u32, Error> {
    let size = field.as_u32().filter(|size| (1..=MAX_SIZE).contains(size));
    size.ok_or_else(|| field.rejected(format_args!("must be an integer from 1 to {MAX_SIZE}")))
}

/// The name of a header, in lower case; an empty one is as good as none (gRFC A76).
fn header(field: &Field<'_>) -> Result<Option<String>, Error> {
    let name = string(field)?.to_ascii_lowercase();
    let is_legal = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'_' | b'-' | b'.');
    if !name.bytes().all(is_legal) {
        let rule = "must be the name of a header: letters, digits, \"_\", \"-\" and \".\"";
        return Err(field.rejected(rule));
    }
    if name.ends_with("-bin") {
        return Err(field.rejected("must not be the name of a binary header"));
    }
    Ok((!name.is_empty()).then_some(name))
}
