//! The PINGs of a connection, and what comes from its peer.
//!
//! `h2` has 1 PING on its way at a time. Keepalive and silence share it: whatever the peer sends
//! is a sign of life for both.

use std::task::{Context, Poll};

use h2::{Ping, PingPong};

use crate::transport::io::ReadActivity;

pub(super) struct Pings {
    ping_pong: PingPong,
    is_on_its_way: bool,
    read_activity: ReadActivity,
}

/// The signs of life since the driver's last poll.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// Any byte.
    pub(super) has_read: bool,
    /// The ACK of a PING.
    pub(super) has_pong: bool,
}

impl Pings {
    pub(super) fn new(ping_pong: PingPong, read_activity: ReadActivity) -> Self {
        Self {
            ping_pong,
            is_on_its_way: false,
            read_activity,
        }
    }

    pub(super) fn hear(&mut self, cx: &mut Context<'_>) -> Heard {
        let has_pong =
            self.is_on_its_way && matches!(self.ping_pong.poll_pong(cx), Poll::Ready(Ok(_)));
        self.is_on_its_way &= !has_pong;
        Heard {
            has_read: self.read_activity.take(),
            has_pong,
        }
    }

    /// Sends one, unless there is one on its way. False if the connection has ended, of which its
    /// driver is to hear.
    pub(super) fn send(&mut self) -> bool {
        self.is_on_its_way = self.is_on_its_way || self.ping_pong.send_ping(Ping::opaque()).is_ok();
        self.is_on_its_way
    }
}
