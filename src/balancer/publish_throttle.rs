//! How often news of subchannels are published. Pure.

use std::time::{Duration, Instant};

/// A publication costs as much as there are backends, some 50 ns for each, and slows down the
/// calls beside it by more than that. With this much time for each between two of them, it
/// takes a quarter of a hundredth of a core by itself.
const REST_PER_BACKEND: Duration = Duration::from_micros(20);

/// What is less is not worth a timer, so few backends are never put off.
const LEAST_REST: Duration = Duration::from_millis(4);

/// However many there are, news of them are no older.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// When what subchannels have reported is due for publication. It can wait: a
/// subchannel takes its connections out of use by itself.
#[derive(Debug)]
pub(crate) struct PublishThrottle {
    is_behind: bool,
    next: Instant,
}

impl PublishThrottle {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            is_behind: false,
            next: now,
        }
    }

    /// There is something that is not published yet. What makes the channel another does
    /// not wait: calls may wait for it.
    pub(crate) fn on_news(&mut self, now: Instant, is_another: bool) {
        self.is_behind = true;
        if is_another {
            self.next = now;
        }
    }

    /// Everything is published, which is about so many backends.
    pub(crate) fn on_published(&mut self, now: Instant, backends: usize) {
        let backends = u32::try_from(backends).unwrap_or(u32::MAX);
        let rest = REST_PER_BACKEND.saturating_mul(backends).min(LONGEST_REST);
        self.is_behind = false;
        self.next = match rest < LEAST_REST {
            true => now,
            false => now + rest,
        };
    }

    /// When to publish, if there is something.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.is_behind.then_some(self.next)
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::PublishThrottle;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_is_due_without_news() {
        let now = Instant::now();
        let mut throttle = PublishThrottle::new(now);
        assert_eq!(throttle.due(), None);
        throttle.on_news(now, false);
        assert!(throttle.is_due(now), "nothing was published before");
        throttle.on_published(now, 1_000);
        assert_eq!(throttle.due(), None);
    }

    #[test]
    fn news_of_many_backends_wait_longer_the_more_there_are() {
        let now = Instant::now();
        let mut throttle = PublishThrottle::new(now);
        for (backends, rest) in [(199, 0), (200, 4), (1_000, 20), (10_000, 100)] {
            throttle.on_published(now, backends);
            throttle.on_news(now, false);
            assert_eq!(throttle.due(), Some(now + rest * MS), "{backends} backends");
            assert!(throttle.is_due(now + rest * MS));
        }
    }

    #[test]
    fn news_that_come_later_do_not_wait() {
        let now = Instant::now();
        let mut throttle = PublishThrottle::new(now);
        throttle.on_published(now, 1_000);
        let later = now + 60 * MS;
        throttle.on_news(later, false);
        assert!(throttle.is_due(later));
        assert!(!throttle.is_due(now + 19 * MS));
    }

    #[test]
    fn news_that_make_the_channel_another_do_not_wait() {
        let now = Instant::now();
        let mut throttle = PublishThrottle::new(now);
        throttle.on_published(now, 1_000);
        throttle.on_news(now, false);
        throttle.on_news(now + MS, true);
        throttle.on_news(now + MS, false);
        assert!(throttle.is_due(now + MS));
    }
}
