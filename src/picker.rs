//! Chooses a connection for one call.

/// Immutable; one is published for every change.
#[derive(Debug)]
pub(crate) enum Picker<C> {
    Ready(Box<[C]>),
}
