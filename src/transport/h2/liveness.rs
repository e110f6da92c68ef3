//! Whether the peer of a connection is still there: keepalive and silence, which share its PINGs.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use h2::PingPong;
use tracing::warn;

use super::{keepalive::Keepalive, pings::Pings, silence_timer::SilenceTimer};
use crate::transport::{
    connection::{BackendContext, Connection, KeepaliveThrottle},
    endpoint::Endpoint,
    io::ReadActivity,
};

/// The target of what is logged here; see the crate's documentation.
const BACKEND: &str = "tonic_health_channel::backend";

pub(super) struct Liveness {
    pings: Pings,
    keepalive: Option<Keepalive>,
    silence: Option<SilenceTimer>,
    keepalive_throttle: KeepaliveThrottle,
    /// How often the time before a PING was doubled for this connection.
    doublings: u32,
}

impl Liveness {
    /// `None` if neither of both is asked for.
    pub(super) fn new(
        endpoint: &Endpoint,
        context: &BackendContext,
        read_activity: ReadActivity,
        ping_pong: Option<PingPong>,
    ) -> Option<Box<Self>> {
        let doublings = context.keepalive_throttle.doublings();
        let is_socket = endpoint.uses_sockets();
        let keepalive = Keepalive::new(&endpoint.keepalive, doublings, is_socket);
        let silence = context.silence.as_ref();
        let silence = silence.map(|rule| SilenceTimer::new(rule.limit(), doublings, is_socket));
        if keepalive.is_none() && silence.is_none() {
            return None;
        }
        Some(Box::new(Self {
            pings: Pings::new(ping_pong?, read_activity),
            keepalive,
            silence,
            keepalive_throttle: context.keepalive_throttle.clone(),
            doublings,
        }))
    }

    /// Polled by the driver, after each poll of `h2`, which has brought `came` bytes of DATA.
    /// Resolves to the reason why the connection is over, if the peer is gone.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        came: usize,
        connection: &Connection,
    ) -> Poll<String> {
        let heard = self.pings.hear(cx);
        if let Some(silence) = &mut self.silence {
            silence.poll(cx, heard, came, &mut self.pings, connection);
        }
        match &mut self.keepalive {
            Some(keepalive) => keepalive.poll(cx, connection.has_streams(), heard, &mut self.pings),
            None => Poll::Pending,
        }
    }

    /// The server says that PINGs come too often: its next connections wait twice as long before
    /// each.
    pub(super) fn calm_down(&self, connection: &Connection) {
        if !self.keepalive_throttle.double(self.doublings) {
            return;
        }
        let (channel, backend) = (connection.channel(), connection.address());
        let interval: Option<Duration> = self.keepalive.as_ref().map(Keepalive::interval);
        match interval {
            Some(interval) => warn!(
                target: BACKEND,
                channel,
                backend,
                ?interval,
                "the server closed the connection for too_many_pings; the keepalive interval is \
                 doubled"
            ),
            None => warn!(
                target: BACKEND,
                channel,
                backend,
                "the server closed the connection for too_many_pings; the time before the PING of \
                 a silent connection is doubled"
            ),
        }
    }
}
