//! Instants that may lie beyond all time.

use std::time::{Duration, Instant};

/// Stands for "never" where a time does not fit into an [`Instant`].
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The instant that is `by` after `from`; 30 years after it, if there is none.
pub(crate) fn after(from: Instant, by: Duration) -> Instant {
    from.checked_add(by).unwrap_or_else(|| from + FAR)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{FAR, after};

    #[test]
    fn what_does_not_fit_is_far_off() {
        let now = Instant::now();
        assert_eq!(after(now, FAR * 2), now + FAR * 2);
        assert_eq!(after(now, Duration::MAX), now + FAR);
    }
}
