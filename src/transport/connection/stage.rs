//! How far a connection is.

use crate::error::Cause;

/// How far a connection is in its life. It only moves down this list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stage {
    /// New streams can be opened, this many at a time.
    Open { limit: usize },
    /// The peer said GOAWAY: streams that are open go on, no new ones.
    Draining(Cause),
    /// It is gone.
    Closed(Cause),
}

impl Stage {
    /// Why no new streams can be opened, if that is so.
    pub(crate) fn ended(&self) -> Option<&Cause> {
        match self {
            Self::Open { .. } => None,
            Self::Draining(why) | Self::Closed(why) => Some(why),
        }
    }
}
