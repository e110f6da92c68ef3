//! The routing in force: the balancer writes it, calls read it, handles follow it.
//!
//! ```text
//!   balancer ──publish──► board ──► Routing { Picker, … }  ──► calls
//!                              └──► ChannelStatus                 ──► handles
//! ```
//!
//! Three others meet here and know nothing of each other, so this is a room of its own.

mod backends;
mod board;
mod by_level;
mod choice;
mod ejection;
mod least_request;
mod pick_half;
mod picker;
mod priority;
mod retry_settings;
mod retry_throttle;
mod ring;
mod ring_hash;
mod rotation;
mod snapshot;
mod standstill;
mod stride;
#[cfg(test)]
mod tests;

pub(crate) use board::{Board, Command, End};
pub(crate) use by_level::{ByLevel, LevelChoice};
pub(crate) use choice::Choice;
pub(crate) use ejection::Outlier;
pub use ejection::{DetectionMethod, Ejection};
pub(crate) use least_request::LeastRequest;
pub(crate) use pick_half::{PickHalf, PickInfo};
pub(crate) use picker::{Candidates, Pick, Picker};
pub use priority::PriorityStatus;
pub(crate) use retry_settings::RetrySettings;
pub(crate) use retry_throttle::RetryThrottle;
pub(crate) use ring::Ring;
pub(crate) use ring_hash::{RingHash, RingMember};
pub(crate) use rotation::{Cursor, Rotation};
pub use snapshot::{BackendId, BackendStatus, Backends, ChannelStatus};
pub(crate) use stride::Stride;
