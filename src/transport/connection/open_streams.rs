//! The streams of calls that are open, and which of their sides are over.
//!
//! A stream is free at the peer when both its sides are over, whether the program reads the
//! rest of its answer or not. Then its slot is free here too. The driver says when the peer's
//! side is over, because it sees every frame.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// By number (RFC 9113 §5.1.1).
#[derive(Default)]
pub(super) struct OpenStreams(Mutex<HashMap<u32, Sides, BuildHasherDefault<Spread>>>);

/// How far a stream is.
#[derive(Clone, Copy)]
struct Sides {
    request_over: bool,
    response_over: bool,
}

impl OpenStreams {
    /// Opens a stream by `open`, which gives its number. Its request may be over with that.
    ///
    /// The lock is held meanwhile, so that the driver does not see the end of a stream that
    /// is not here yet.
    pub(super) fn open<T, E>(
        &self,
        request_over: bool,
        open: impl FnOnce() -> Result<(u32, T), E>,
    ) -> Result<(u32, T), E> {
        let mut streams = self.lock();
        let (number, opened) = open()?;
        streams.insert(
            number,
            Sides {
                request_over,
                response_over: false,
            },
        );
        Ok((number, opened))
    }

    /// Our side is over. Whether the stream is.
    pub(super) fn on_request_over(&self, number: u32) -> bool {
        self.on_over(number, |sides| sides.request_over = true)
    }

    /// The peer's side is over, with END_STREAM. Whether the stream is.
    pub(super) fn on_response_over(&self, number: u32) -> bool {
        self.on_over(number, |sides| sides.response_over = true)
    }

    /// Whether the peer's side of an open stream is over.
    pub(super) fn is_response_over(&self, number: u32) -> bool {
        let sides = self.lock().get(&number).copied();
        sides.is_none_or(|sides| sides.response_over)
    }

    /// The stream is over, both sides. Whether it was open here until now.
    pub(super) fn remove(&self, number: u32) -> bool {
        self.lock().remove(&number).is_some()
    }

    fn on_over(&self, number: u32, set: impl FnOnce(&mut Sides)) -> bool {
        let mut streams = self.lock();
        let Some(sides) = streams.get_mut(&number) else {
            return false;
        };
        set(sides);
        let is_over = sides.request_over && sides.response_over;
        if is_over {
            streams.remove(&number);
        }
        is_over
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Sides, BuildHasherDefault<Spread>>> {
        // What panics while it is held has opened no stream.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hash for numbers that we choose: they differ in their low bits, and the table looks at
/// the high ones too.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0.rotate_left(5) ^ u64::from(number)).wrapping_mul(GOLDEN);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::OpenStreams;

    fn opened(request_over: bool) -> OpenStreams {
        let streams = OpenStreams::default();
        let opened = streams.open(request_over, || Ok::<_, ()>((1, ())));
        assert_eq!(opened, Ok((1, ())));
        streams
    }

    #[test]
    fn a_stream_is_over_when_both_sides_are() {
        let streams = opened(false);
        assert!(!streams.on_response_over(1));
        assert!(streams.is_response_over(1));
        assert!(streams.on_request_over(1));
        assert!(!streams.remove(1), "it is over already");
        let streams = opened(false);
        assert!(!streams.on_request_over(1));
        assert!(!streams.is_response_over(1));
        assert!(streams.on_response_over(1));
    }

    #[test]
    fn a_request_may_be_over_from_the_start() {
        assert!(opened(true).on_response_over(1));
    }

    #[test]
    fn streams_that_are_not_open_have_no_end() {
        let streams = opened(true);
        assert!(!streams.on_response_over(3));
        assert!(streams.remove(1));
        assert!(!streams.on_response_over(1));
    }

    #[test]
    fn a_stream_that_was_not_opened_is_not_open() {
        let streams = OpenStreams::default();
        assert_eq!(streams.open(true, || Err::<(u32, ()), _>("no")), Err("no"));
        assert!(!streams.remove(1));
    }
}
