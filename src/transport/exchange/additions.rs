//! The headers that one attempt adds to its request: of call credentials, and of a trace.

use std::mem;

use http::HeaderMap;

use crate::trace::AttemptWitness;

/// The headers that the next attempt adds, and the trace that is told of it.
#[derive(Default)]
pub(super) struct Additions {
    pub(super) credentials: HeaderMap,
    pub(super) witness: Option<AttemptWitness>,
}

impl Additions {
    /// The headers are on their way to `backend`.
    #[cold]
    pub(super) fn add_to(&mut self, headers: &mut HeaderMap, backend: &str) {
        add_all(headers, mem::take(&mut self.credentials));
        if let Some(witness) = &self.witness {
            witness.on_headers(backend, headers);
        }
    }
}

/// Adds headers beside those that are there, of the same name too.
fn add_all(headers: &mut HeaderMap, added: HeaderMap) {
    let mut last = None;
    for (name, value) in added {
        // A name is given once, with the first of its values.
        last = name.or(last);
        if let Some(name) = &last {
            headers.append(name, value);
        }
    }
}
