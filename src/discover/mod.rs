//! Sources of backends.
//!
//! Any tower [`Discover`](tower::discover::Discover) whose services are
//! [`Endpoint`](crate::Endpoint)s names the backends of a channel: hand it to
//! [`Channel::balance`](crate::Channel::balance). This module has some of
//! them; a stream of `Result<Change<Key, Endpoint>, Error>` of your own is one too. So is one of
//! [`Backend`]s, which have a weight, a priority, a locality or a hash key besides.
//!
//! | source | for a set that |
//! |---|---|
//! | [`list`] | does not change |
//! | [`push`] | your code changes |
//! | [`file()`] | is in a file, and changes with it |
//! | [`dns()`] | is the addresses of a name |
//!
//! What a channel makes of a source:
//!
//! - Before the first item the channel is CONNECTING, and calls wait.
//! - `Insert` of a key that is there already, with an equal endpoint, changes
//!   nothing: sources that repeat themselves cost nothing. With another endpoint,
//!   the backend is replaced: the old connection is used until the new one is
//!   READY, or has failed.
//! - With the same endpoint and other attributes, the backend keeps its connection.
//! - `Remove` takes a backend out at once; calls in flight on it go on.
//! - A set that becomes empty is CONNECTING for 100 ms, in which calls wait, and then
//!   TRANSIENT_FAILURE, `no backends`. One that never had a backend is so at once.
//! - The end of the stream freezes the set. So does a panic, and the status says that it
//!   was one.
//! - An error is reported, and the source is asked again after a second, then
//!   two, up to thirty. What it named before stays.
//!
//! And the other way round: [`Channel::ready_backends`] is a `Discover` of the backends
//! that a channel has and could use now, for balancers that are not this crate's.
//!
//! [`Channel::ready_backends`]: crate::Channel::ready_backends

mod backend;
mod dns;
mod file;
mod file_entry;
mod links;
mod list;
mod push;
mod refresh;
mod source;
mod watched_file;

pub use crate::attributes::Locality;
pub use backend::Backend;
pub(crate) use dns::by_name;
pub use dns::{Dns, dns};
#[cfg(test)]
pub(crate) use dns::{Machine as DnsMachine, default_pace};
pub use file::{File, file};
pub use list::{List, list};
pub use push::{Push, push};
pub use refresh::RefreshHandle;
pub(crate) use source::{BackendChange, BackendChanges, assign_ids};
pub(crate) use watched_file::WatchedFile;
