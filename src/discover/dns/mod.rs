//! The addresses of a name, looked up again and again.
//!
//! ```text
//!             asked, or the timer           answers               differences
//!   machine.rs ────────────────► lookup.rs ─────────► machine.rs ─────────────► Stream
//!   (when to look)               (the system, or hickory.rs)                  (task.rs)
//! ```

mod by_name;
mod found;
#[cfg(feature = "hickory")]
mod hickory;
mod lookup;
mod machine;
mod options;
mod source;
mod system;
mod target;
mod task;
#[cfg(test)]
mod tests;
#[cfg(feature = "hickory")]
mod txt;

pub(crate) use by_name::by_name;
#[cfg(test)]
pub(crate) use machine::Machine;
#[cfg(test)]
pub(crate) use source::default_pace;
pub use source::{Dns, dns};
