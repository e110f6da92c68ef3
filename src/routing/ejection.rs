//! Why outlier detection keeps calls from a backend, and until when.

use std::{fmt, time::Instant};

/// A backend gets no calls because it does worse than the others (gRFC A50).
///
/// The policy `outlier_detection_experimental` of a service config ejects backends, and takes
/// them back by itself. The backend keeps its connections, and its calls in flight go on.
///
/// ```no_run
/// use tonic_health_channel::Channel;
///
/// fn print_ejected(channel: &Channel) {
///     for backend in channel.backends() {
///         if let Some(ejection) = backend.ejection() {
///             println!("{}: {ejection}", backend.label());
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Ejection {
    pub(crate) since: Instant,
    pub(crate) until: Instant,
    pub(crate) multiplier: u32,
    pub(crate) outlier: Outlier,
}

/// The numbers by which a method has found a backend, in one interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outlier {
    pub(crate) method: DetectionMethod,
    /// Of the attempts, in percent.
    pub(crate) percentage: f64,
    /// The one that it missed.
    pub(crate) bound: f64,
    /// The attempts of the interval.
    pub(crate) volume: u64,
}

/// How outlier detection finds a backend that does worse than the others (gRFC A50).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DetectionMethod {
    /// Its success rate is too far below the mean of all backends: `successRateEjection`.
    SuccessRate,
    /// Too many of its calls fail: `failurePercentageEjection`.
    FailurePercentage,
}

impl Ejection {
    /// Since when it gets no calls.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// When it may get calls again at the earliest. It does at the end of the first interval
    /// that ends later.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// How many times the `baseEjectionTime` it lasts, up to the `maxEjectionTime`: once for
    /// the first ejection. It grows by 1 with each ejection, and falls by 1 with each interval
    /// without.
    pub fn multiplier(&self) -> u32 {
        self.multiplier
    }

    /// How the backend was found.
    pub fn method(&self) -> DetectionMethod {
        self.outlier.method
    }

    /// How many of its attempts succeeded or failed, as the [`method`](Self::method) says, in the
    /// interval before the ejection: from 0 to 100 %.
    pub fn percentage(&self) -> f64 {
        self.outlier.percentage
    }

    /// The percentage that the other one missed: a success rate is below it, a failure percentage
    /// above.
    pub fn bound(&self) -> f64 {
        self.outlier.bound
    }

    /// How many attempts ended in that interval, and count: see
    /// [`CallCounts`](crate::status::CallCounts) for `succeeded` and `failed`.
    pub fn volume(&self) -> u64 {
        self.outlier.volume
    }
}

/// No percentage is NaN, because an outlier has attempts.
impl Eq for Ejection {}

/// `success rate 50.00 % is below 71.25 % (120 attempts)`.
impl fmt::Display for Ejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outlier.fmt(f)
    }
}

impl fmt::Display for Outlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            percentage,
            bound,
            volume,
        } = self;
        let side = match method {
            DetectionMethod::SuccessRate => "below",
            DetectionMethod::FailurePercentage => "above",
        };
        let plural = if *volume == 1 { "" } else { "s" };
        write!(
            f,
            "{method} {percentage:.2} % is {side} {bound:.2} % ({volume} attempt{plural})"
        )
    }
}

impl DetectionMethod {
    /// As metrics call it (gRFC A91).
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
        }
    }
}

/// `success rate`, `failure percentage`.
impl fmt::Display for DetectionMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SuccessRate => "success rate",
            Self::FailurePercentage => "failure percentage",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{DetectionMethod, Ejection, Outlier};

    #[test]
    fn it_tells_what_was_found() {
        let now = Instant::now();
        let ejection = |method, percentage, bound| Ejection {
            since: now,
            until: now,
            multiplier: 1,
            outlier: Outlier {
                method,
                percentage,
                bound,
                volume: 120,
            },
        };
        let rate = ejection(DetectionMethod::SuccessRate, 50.0, 71.254);
        let text = "success rate 50.00 % is below 71.25 % (120 attempts)";
        assert_eq!(rate.to_string(), text);
        let failures = ejection(DetectionMethod::FailurePercentage, 100.0 / 3.0, 30.0);
        let text = "failure percentage 33.33 % is above 30.00 % (120 attempts)";
        assert_eq!(failures.to_string(), text);
    }
}
