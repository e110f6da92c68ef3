//! The streams of calls that are open, and which of their sides are over.
//!
//! A stream is free at the peer when both its sides are over, whether the program reads the
//! rest of its answer or not. Then its slot is free here too. The driver says when the peer's
//! side is over, because it sees every frame.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use crate::util::lock::lock;

/// In the order of their numbers (RFC 9113 §5.1.1), in which they are opened.
#[derive(Default)]
pub(super) struct OpenStreams(Mutex<VecDeque<OpenStream>>);

/// The right to open the next stream.
pub(in crate::transport) struct Opening<'a>(MutexGuard<'a, VecDeque<OpenStream>>);

impl Opening<'_> {
    /// It is open. Our side may be over with that.
    pub(in crate::transport) fn opened(mut self, number: u32, request_over: bool) {
        self.0.push_back(OpenStream {
            number,
            request_over,
            response_over: false,
        });
    }
}

struct OpenStream {
    number: u32,
    request_over: bool,
    response_over: bool,
}

impl OpenStreams {
    /// For a stream that is about to be opened. Others wait meanwhile: numbers are then in
    /// order here, and the driver does not see the end of a stream that is not here yet.
    pub(super) fn opening(&self) -> Opening<'_> {
        Opening(self.lock())
    }

    /// Our side is over. Whether the stream is.
    pub(super) fn on_request_over(&self, number: u32) -> bool {
        let mut streams = self.lock();
        let Some(at) = position(&streams, number) else {
            return false;
        };
        streams[at].request_over = true;
        let is_over = streams[at].response_over;
        if is_over {
            streams.remove(at);
        }
        is_over
    }

    /// The peer's side of these is over, with END_STREAM. How many are over with that.
    pub(super) fn on_responses_over(&self, numbers: impl Iterator<Item = u32>) -> usize {
        let mut streams = self.lock();
        let mut over = 0;
        for number in numbers {
            let Some(at) = position(&streams, number) else {
                continue;
            };
            streams[at].response_over = true;
            if streams[at].request_over {
                streams.remove(at);
                over += 1;
            }
        }
        over
    }

    /// Whether the peer's side of a stream is over.
    pub(super) fn is_response_over(&self, number: u32) -> bool {
        let streams = self.lock();
        position(&streams, number).is_none_or(|at| streams[at].response_over)
    }

    /// The stream is over, both sides. Whether it was open here until now.
    pub(super) fn remove(&self, number: u32) -> bool {
        let mut streams = self.lock();
        let at = position(&streams, number);
        at.and_then(|at| streams.remove(at)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<OpenStream>> {
        lock(&self.0)
    }
}

fn position(streams: &VecDeque<OpenStream>, number: u32) -> Option<usize> {
    streams
        .binary_search_by_key(&number, |stream| stream.number)
        .ok()
}

#[cfg(test)]
mod tests {
    use std::iter::once;

    use super::OpenStreams;

    fn opened(request_over: bool) -> OpenStreams {
        let streams = OpenStreams::default();
        streams.opening().opened(1, request_over);
        streams
    }

    #[test]
    fn a_stream_is_over_when_both_sides_are() {
        let streams = opened(false);
        assert_eq!(streams.on_responses_over(once(1)), 0);
        assert!(streams.on_request_over(1));
        assert!(!streams.remove(1), "it is over already");
        let streams = opened(false);
        assert!(!streams.on_request_over(1));
        assert_eq!(streams.on_responses_over(once(1)), 1);
    }

    #[test]
    fn a_request_may_be_over_from_the_start() {
        assert_eq!(opened(true).on_responses_over(once(1)), 1);
    }

    #[test]
    fn streams_that_are_not_open_have_no_end() {
        let streams = opened(true);
        assert_eq!(streams.on_responses_over([3, 5].into_iter()), 0);
        assert!(streams.remove(1));
        assert_eq!(streams.on_responses_over(once(1)), 0);
    }

    #[test]
    fn a_stream_that_was_not_opened_is_not_open() {
        let streams = OpenStreams::default();
        drop(streams.opening());
        assert!(!streams.remove(1));
    }

    #[test]
    fn many_end_in_any_order() {
        let streams = OpenStreams::default();
        for number in (1..200).step_by(2) {
            streams.opening().opened(number, true);
        }
        let mut numbers: Vec<_> = (1..200).step_by(2).collect();
        fastrand::Rng::with_seed(7).shuffle(&mut numbers);
        for number in &numbers[..50] {
            assert!(streams.remove(*number));
        }
        assert_eq!(streams.on_responses_over(numbers.into_iter()), 50);
    }
}
