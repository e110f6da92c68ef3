//! The metrics of what a channel is told by its source, its configs and its policy.

use std::sync::Arc;

use super::{instruments as all, names, recorder::Recorder};

/// Records these events, if the channel has metrics.
#[derive(Clone, Default)]
pub(crate) struct EventMeter(Option<Arc<Recorder>>);

impl EventMeter {
    pub(crate) fn new(recorder: Option<&Arc<Recorder>>) -> Self {
        Self(recorder.cloned())
    }

    /// The source has named a change, or has failed.
    pub(crate) fn on_source(&self, is_error: bool) {
        if let Some(recorder) = &self.0 {
            let instrument = match is_error {
                true => &all::DISCOVER_ERRORS,
                false => &all::DISCOVER_UPDATES,
            };
            recorder.add(instrument, &[]);
        }
    }

    /// A service config has come.
    pub(crate) fn on_config(&self, is_valid: bool) {
        if let Some(recorder) = &self.0 {
            let result = match is_valid {
                true => "applied",
                false => "invalid",
            };
            recorder.add(&all::CONFIG_UPDATES, &[(names::RESULT, result)]);
        }
    }

    /// An outlier was found by `method`. It is ejected, unless there is a reason not to.
    pub(crate) fn on_outlier(&self, method: &'static str, unenforced: Option<&str>) {
        let Some(recorder) = &self.0 else { return };
        let method = (names::DETECTION_METHOD, method);
        match unenforced {
            None => recorder.add(&all::EJECTIONS_ENFORCED, &[method]),
            Some(reason) => {
                let reason = (names::UNENFORCED_REASON, reason);
                recorder.add(&all::EJECTIONS_UNENFORCED, &[method, reason]);
            }
        }
    }

    /// Weights were looked at (gRFC A78): those of all READY backends, 0 without a usable one.
    pub(crate) fn on_weights(&self, weights: &[f64], not_yet_usable: usize, stale: usize) {
        let Some(recorder) = &self.0 else { return };
        let usable = weights.iter().filter(|weight| **weight > 0.0);
        if usable.count() < 2 {
            recorder.add(&all::WRR_FALLBACK, &[]);
        }
        (0..not_yet_usable).for_each(|_| recorder.add(&all::WRR_NOT_YET_USABLE, &[]));
        (0..stale).for_each(|_| recorder.add(&all::WRR_STALE, &[]));
        for weight in weights {
            recorder.record(&all::WRR_WEIGHTS, &[], *weight);
        }
    }
}
