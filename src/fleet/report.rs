//! Numbers over time, and over many.

use std::time::{Duration, Instant};

/// How often something happened in each part of the time.
#[derive(Clone, Debug)]
pub(super) struct Bins {
    began: Instant,
    length: Duration,
    counts: Vec<u32>,
}

impl Bins {
    pub(super) fn new(began: Instant, length: Duration) -> Self {
        Self {
            began,
            length,
            counts: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, at: Instant) {
        let bin = self.bin(at);
        if bin >= self.counts.len() {
            self.counts.resize(bin + 1, 0);
        }
        self.counts[bin] += 1;
    }

    fn bin(&self, at: Instant) -> usize {
        (at.saturating_duration_since(self.began).as_nanos() / self.length.as_nanos()) as usize
    }

    /// How often between these.
    pub(super) fn between(&self, from: Instant, to: Instant) -> u64 {
        let bins = self.bin(from)..self.bin(to);
        bins.map(|bin| u64::from(self.counts.get(bin).copied().unwrap_or(0)))
            .sum()
    }

    /// The most that happened within `window`, from then on.
    pub(super) fn peak(&self, from: Instant, window: Duration) -> u64 {
        let width = (window.as_nanos() / self.length.as_nanos()) as usize;
        let counts = self.counts.get(self.bin(from)..).unwrap_or_default();
        let (mut sum, mut peak) = (0, 0);
        for (at, count) in counts.iter().enumerate() {
            sum += u64::from(*count);
            if at >= width {
                sum -= u64::from(counts[at - width]);
            }
            peak = peak.max(sum);
        }
        peak
    }
}

/// Values in their order.
#[derive(Clone, Debug)]
pub(super) struct Sorted(Vec<f64>);

impl Sorted {
    pub(super) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    pub(super) fn of_times(times: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(times.into_iter().map(|time| time.as_secs_f64()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that this part of them does not exceed. 0 if there are none.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        let at = (self.0.len() as f64 * part).ceil() as usize;
        self.0.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    pub(super) fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(0.0)
    }

    pub(super) fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(0.0)
    }

    pub(super) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// How many are 0.
    pub(super) fn zeros(&self) -> f64 {
        self.0.partition_point(|value| *value <= 0.0) as f64
    }

    /// By how much the largest is above the mean.
    pub(super) fn max_to_mean(&self) -> f64 {
        self.max() / self.mean()
    }
}
