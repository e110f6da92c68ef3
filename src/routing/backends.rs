//! The backends of a channel, as a collection.

use std::{fmt, ops::Index, slice, sync::Arc, vec};

use super::snapshot::{BackendId, BackendStatus, Backends};

impl Backends {
    pub(crate) fn new(backends: Arc<[Arc<BackendStatus>]>) -> Self {
        Self(backends)
    }

    /// Each in the order in which the source named them.
    pub fn iter(&self) -> slice::Iter<'_, Arc<BackendStatus>> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that the source named first: the only one, where there is one endpoint.
    pub fn first(&self) -> Option<&Arc<BackendStatus>> {
        self.0.first()
    }

    /// The one with this id, while its source keeps it.
    pub fn get(&self, id: BackendId) -> Option<&Arc<BackendStatus>> {
        let position = self.0.binary_search_by_key(&id, |backend| backend.id());
        Some(&self.0[position.ok()?])
    }

    /// Whether both were published as one. It is quicker than to compare each backend.
    pub(crate) fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0)
    }
}

/// The `n`th, in the order in which the source named them.
///
/// # Panics
///
/// If there are no more than `n`.
impl Index<usize> for Backends {
    type Output = Arc<BackendStatus>;

    fn index(&self, n: usize) -> &Arc<BackendStatus> {
        &self.0[n]
    }
}

impl<'a> IntoIterator for &'a Backends {
    type Item = &'a Arc<BackendStatus>;
    type IntoIter = slice::Iter<'a, Arc<BackendStatus>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Backends {
    type Item = Arc<BackendStatus>;
    type IntoIter = vec::IntoIter<Arc<BackendStatus>>;

    fn into_iter(self) -> Self::IntoIter {
        Vec::from(&*self.0).into_iter()
    }
}

/// A list of what each backend displays.
impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Displayed)).finish()
    }
}

struct Displayed<'a>(&'a Arc<BackendStatus>);

impl fmt::Debug for Displayed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }
}
