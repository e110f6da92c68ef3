//! The inputs that a subchannel's task waits for.

use super::{
    active_connections::{ActiveConnections, ConnectionEvent},
    machine::Control,
};
use crate::{error::Cause, health::Event};

pub(super) enum Input {
    Dialled(Result<ActiveConnections, Cause>),
    Connection(ConnectionEvent),
    Control(Control),
    Health(Option<Event>),
    Deadline,
}
