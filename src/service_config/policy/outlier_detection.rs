//! The config of `outlier_detection_experimental`.

use std::time::Duration;

use super::write;
use crate::{
    error::Error,
    service_config::{
        read::{boolean, duration, uint32},
        value::{Field, Json, Object},
    },
};

/// `outlier_detection_experimental`: a backend whose calls fail more than those of the others gets
/// none for a while (gRFC A50).
///
/// Health checks find what a server knows of itself; this finds what its callers see. At the end
/// of each [`interval`](Self::interval) the channel looks at how the calls of each backend ended,
/// and ejects those that an algorithm names. An ejected backend keeps its connections and the
/// calls in flight. [`BackendStatus::ejection`](crate::status::BackendStatus::ejection) says why
/// it is ejected, and until when.
///
/// A call counts when its stream has ended. Calls that their caller drops do not count, nor do
/// streams that the server refuses.
///
/// Without an algorithm it does nothing; [`Default`] has both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OutlierDetection {
    /// `interval`: 10 s by default. Less than 10 ms counts as 10 ms.
    pub interval: Duration,
    /// `baseEjectionTime`: how long the first ejection takes. 30 s by default. Each further one
    /// takes as much longer; each interval without one takes as much off.
    pub base_ejection_time: Duration,
    /// `maxEjectionTime`: how long any takes at most, if it is more than the base. 300 s by default.
    pub max_ejection_time: Duration,
    /// `maxEjectionPercent`: how many of the backends may be ejected at once, and at least 1
    /// unless it is 0. 10 by default, at most 100.
    pub max_ejection_percent: u32,
    /// `serverErrorsOnly`: a call counts as failed only with UNAVAILABLE, UNKNOWN, INTERNAL,
    /// DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED or DATA_LOSS. `false` by default: then with each
    /// status but OK (gRFC A50). Other gRPC clients do not know the field.
    pub server_errors_only: bool,
    /// `successRateEjection`: off where a config does not name it.
    pub success_rate_ejection: Option<SuccessRateEjection>,
    /// `failurePercentageEjection`: off where a config does not name it.
    pub failure_percentage_ejection: Option<FailurePercentageEjection>,
}

/// Ejects backends whose success rate is far below the mean of all (gRFC A50).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SuccessRateEjection {
    /// `stdevFactor`: how far below is too far, in thousandths of the standard deviation. 1900
    /// by default.
    pub stdev_factor: u32,
    /// `enforcementPercentage`: how likely an outlier is ejected. 100 by default, and at most.
    pub enforcement_percentage: u32,
    /// `minimumHosts`: with fewer backends that have the volume, none is ejected. 5 by default.
    pub minimum_hosts: u32,
    /// `requestVolume`: a backend with fewer calls in an interval is not looked at. 100 by default.
    pub request_volume: u32,
    /// `onlyBelowPercentage`: a backend is ejected only if its success rate is also below this
    /// percentage. 100 by default, which is the rule of gRFC A50 alone. By that rule a backend
    /// with 99 % is far below 4 others that have 100 %. Other gRPC clients do not know the field.
    pub only_below_percentage: u32,
}

/// Ejects backends of which more than a percentage of calls fail (gRFC A50).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FailurePercentageEjection {
    /// `threshold`: a backend is ejected when more than this percentage of its calls fails. 85
    /// by default, at most 100.
    pub threshold: u32,
    /// `enforcementPercentage`: how likely an outlier is ejected. 100 by default, and at most.
    pub enforcement_percentage: u32,
    /// `minimumHosts`: with fewer backends that have the volume, none is ejected. 5 by default.
    pub minimum_hosts: u32,
    /// `requestVolume`: a backend with fewer calls in an interval is not looked at. 50 by default.
    pub request_volume: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            success_rate_ejection: Some(SuccessRateEjection::default()),
            failure_percentage_ejection: Some(FailurePercentageEjection::default()),
            ..Self::without_algorithm()
        }
    }
}

impl Default for SuccessRateEjection {
    fn default() -> Self {
        Self {
            stdev_factor: 1900,
            enforcement_percentage: 100,
            minimum_hosts: 5,
            request_volume: 100,
            only_below_percentage: 100,
        }
    }
}

impl Default for FailurePercentageEjection {
    fn default() -> Self {
        Self {
            threshold: 85,
            enforcement_percentage: 100,
            minimum_hosts: 5,
            request_volume: 50,
        }
    }
}

impl OutlierDetection {
    /// The meaning of an empty config.
    fn without_algorithm() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 10,
            server_errors_only: false,
            success_rate_ejection: None,
            failure_percentage_ejection: None,
        }
    }

    pub(super) fn read(config: &Object<'_>) -> Result<Self, Error> {
        let default = Self::without_algorithm();
        let time = |key, default| {
            let time = config.optional(key, duration)?;
            Ok::<_, Error>(time.unwrap_or(default))
        };
        Ok(Self {
            interval: time("interval", default.interval)?,
            base_ejection_time: time("baseEjectionTime", default.base_ejection_time)?,
            max_ejection_time: time("maxEjectionTime", default.max_ejection_time)?,
            max_ejection_percent: config
                .optional("maxEjectionPercent", percentage)?
                .unwrap_or(default.max_ejection_percent),
            server_errors_only: config
                .optional("serverErrorsOnly", boolean)?
                .unwrap_or(default.server_errors_only),
            success_rate_ejection: config
                .optional("successRateEjection", SuccessRateEjection::read)?,
            failure_percentage_ejection: config
                .optional("failurePercentageEjection", FailurePercentageEjection::read)?,
        })
    }

    pub(super) fn write(&self, child: Json) -> Json {
        write::object([
            ("interval", write::duration(self.interval)),
            ("baseEjectionTime", write::duration(self.base_ejection_time)),
            ("maxEjectionTime", write::duration(self.max_ejection_time)),
            (
                "maxEjectionPercent",
                write::integer(self.max_ejection_percent),
            ),
            ("serverErrorsOnly", Json::Bool(self.server_errors_only)),
            (
                "successRateEjection",
                write::optional(self.success_rate_ejection, SuccessRateEjection::write),
            ),
            (
                "failurePercentageEjection",
                write::optional(
                    self.failure_percentage_ejection,
                    FailurePercentageEjection::write,
                ),
            ),
            ("childPolicy", child),
        ])
    }
}

impl SuccessRateEjection {
    fn read(field: &Field<'_>) -> Result<Self, Error> {
        let (config, default) = (field.object()?, Self::default());
        Ok(Self {
            stdev_factor: number(&config, "stdevFactor", default.stdev_factor)?,
            enforcement_percentage: enforcement(&config)?,
            minimum_hosts: number(&config, "minimumHosts", default.minimum_hosts)?,
            request_volume: number(&config, "requestVolume", default.request_volume)?,
            only_below_percentage: config
                .optional("onlyBelowPercentage", percentage)?
                .unwrap_or(default.only_below_percentage),
        })
    }

    fn write(self) -> Json {
        write::object([
            ("stdevFactor", write::integer(self.stdev_factor)),
            (
                "enforcementPercentage",
                write::integer(self.enforcement_percentage),
            ),
            ("minimumHosts", write::integer(self.minimum_hosts)),
            ("requestVolume", write::integer(self.request_volume)),
            (
                "onlyBelowPercentage",
                write::integer(self.only_below_percentage),
            ),
        ])
    }
}

impl FailurePercentageEjection {
    fn read(field: &Field<'_>) -> Result<Self, Error> {
        let (config, default) = (field.object()?, Self::default());
        Ok(Self {
            threshold: config
                .optional("threshold", percentage)?
                .unwrap_or(default.threshold),
            enforcement_percentage: enforcement(&config)?,
            minimum_hosts: number(&config, "minimumHosts", default.minimum_hosts)?,
            request_volume: number(&config, "requestVolume", default.request_volume)?,
        })
    }

    fn write(self) -> Json {
        write::object([
            ("threshold", write::integer(self.threshold)),
            (
                "enforcementPercentage",
                write::integer(self.enforcement_percentage),
            ),
            ("minimumHosts", write::integer(self.minimum_hosts)),
            ("requestVolume", write::integer(self.request_volume)),
        ])
    }
}

fn number(config: &Object<'_>, key: &str, default: u32) -> Result<u32, Error> {
    let number = config.optional(key, uint32)?;
    Ok(number.unwrap_or(default))
}

fn enforcement(config: &Object<'_>) -> Result<u32, Error> {
    let percentage = config.optional("enforcementPercentage", percentage)?;
    Ok(percentage.unwrap_or(100))
}

fn percentage(field: &Field<'_>) -> Result<u32, Error> {
    let percentage = field.as_u32().filter(|percentage| *percentage <= 100);
    percentage.ok_or_else(|| field.rejected("must be an integer from 0 to 100"))
}
