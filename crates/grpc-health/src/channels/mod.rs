//! `grpc-health channels`: the channels of a program, by its channelz (gRFC A14).
//!
//! ```text
//!   args ──► channels.rs ──► walk.rs    asks for each channel, subchannel and socket
//!                        ├─► view.rs    2 tables for people: the tree, and its events
//!                        └─► record.rs  a JSON object for each of them
//! ```

mod channels;
mod record;
mod tree;
mod view;
mod walk;

pub(crate) use channels::{ChannelsArgs, run};
