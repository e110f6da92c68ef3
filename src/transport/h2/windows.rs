//! What streams may send ahead of their readers, as their connection has it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep};

use super::{limits, wire::Http2Connection};
use crate::transport::{
    connection::{A_WHILE, UnreadCap},
    endpoint::Http2Options,
};

/// The window of a stream while too much waits to be read: HTTP/2's own (RFC 9113 §6.9.2).
const NARROW: u32 = (1 << 16) - 1;

pub(super) struct Windows {
    pub(super) cap: UnreadCap,
    /// What a stream may send ahead while little waits.
    wide: u32,
    /// What the peer was told last.
    told: u32,
    /// Until the next count, while the windows are small.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Windows {
    pub(super) fn new(options: &Http2Options) -> Self {
        let wide = limits::stream_window(options);
        Self {
            cap: UnreadCap::new(limits::unread_cap(options) as usize),
            wide,
            told: wide,
            pause: None,
        }
    }

    /// This much DATA has come. Whether what is not read is to be counted.
    pub(super) fn is_due(&mut self, cx: &mut Context<'_>, came: usize) -> bool {
        if came > 0 && self.cap.on_came(came) {
            return true;
        }
        if !self.cap.is_narrow() {
            self.pause = None;
            return false;
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(A_WHILE)));
        match pause.as_mut().poll(cx) {
            Poll::Ready(()) => {
                pause.as_mut().reset(Instant::now() + A_WHILE);
                // Registers the waker.
                pause.as_mut().poll(cx).is_pending()
            }
            Poll::Pending => false,
        }
    }

    /// Tells the peer the window of a stream, if it is another. One SETTINGS at a time: while
    /// one is not acknowledged, the next waits. Whether there is something to be written.
    pub(super) fn follow_cap(&mut self, h2: &mut Http2Connection) -> bool {
        let window = match self.cap.is_narrow() {
            true => self.wide.min(NARROW),
            false => self.wide,
        };
        let is_told = window != self.told && h2.set_initial_window_size(window).is_ok();
        if is_told {
            self.told = window;
        }
        is_told
    }

    /// Tells the peer the same window once more, which it has to acknowledge.
    pub(super) fn repeat(&self, h2: &mut Http2Connection) -> bool {
        h2.set_initial_window_size(self.told).is_ok()
    }
}
