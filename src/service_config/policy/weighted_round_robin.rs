//! The config of `weighted_round_robin`.

use std::time::Duration;

use super::write;
use crate::{
    error::Error,
    service_config::{
        read::{boolean, duration, non_negative_number, string},
        value::{Field, Json, Object},
    },
};

/// `weighted_round_robin`: each backend gets calls by the load that it reports (gRFC A58).
///
/// A backend reports in the trailers of its responses, as `endpoint-load-metrics-bin` (gRFC A51).
/// Its weight is the calls per second that it serves, divided by the utilization that it names.
/// With fewer than 2 backends whose weight is known it is `round_robin`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WeightedRoundRobin {
    /// `enableOobLoadReport`: backends are to report apart from calls. `false` by default. It
    /// has no effect yet: the reports that come with calls count, whatever it says.
    pub enable_oob_load_report: bool,
    /// `oobReportingPeriod`: how often they report then. 10 s by default, and without effect.
    pub oob_reporting_period: Duration,
    /// `blackoutPeriod`: how long a backend has to report before its weight counts. 10 s by
    /// default, as the first reports after a start are of a server that is not warm. Zero is none.
    pub blackout_period: Duration,
    /// `weightExpirationPeriod`: how long a weight counts without another report. 180 s by default.
    pub weight_expiration_period: Duration,
    /// `weightUpdatePeriod`: how often the weights of calls are made anew. 1 s by default; less
    /// than 100 ms counts as 100 ms.
    pub weight_update_period: Duration,
    /// `errorUtilizationPenalty`: how much the share of failed calls counts as utilization: 0 or
    /// more, 1.0 by default. With 1.0, a backend of which each call fails has 100 % more.
    pub error_utilization_penalty: f64,
    /// `metricNamesForComputingUtilization`: of these metrics the largest is the utilization,
    /// such as `named_metrics.queue` or `cpu_utilization` (gRFC A114). Empty by default: then it
    /// is `application_utilization`, or `cpu_utilization` where that is not reported.
    pub metric_names_for_computing_utilization: Vec<String>,
}

/// Weights are not made more often (gRFC A58).
const SHORTEST_UPDATE: Duration = Duration::from_millis(100);

impl Default for WeightedRoundRobin {
    fn default() -> Self {
        Self {
            enable_oob_load_report: false,
            oob_reporting_period: Duration::from_secs(10),
            blackout_period: Duration::from_secs(10),
            weight_expiration_period: Duration::from_secs(180),
            weight_update_period: Duration::from_secs(1),
            error_utilization_penalty: 1.0,
            metric_names_for_computing_utilization: Vec::new(),
        }
    }
}

impl WeightedRoundRobin {
    pub(super) fn read(config: &Object<'_>) -> Result<Self, Error> {
        let default = Self::default();
        let period = |key, default| {
            let period = config.optional(key, duration)?;
            Ok::<_, Error>(period.unwrap_or(default))
        };
        let update = period("weightUpdatePeriod", default.weight_update_period)?;
        Ok(Self {
            enable_oob_load_report: config
                .optional("enableOobLoadReport", boolean)?
                .unwrap_or(default.enable_oob_load_report),
            oob_reporting_period: period("oobReportingPeriod", default.oob_reporting_period)?,
            blackout_period: period("blackoutPeriod", default.blackout_period)?,
            weight_expiration_period: period(
                "weightExpirationPeriod",
                default.weight_expiration_period,
            )?,
            weight_update_period: update.max(SHORTEST_UPDATE),
            error_utilization_penalty: config
                .optional("errorUtilizationPenalty", non_negative_number)?
                .unwrap_or(default.error_utilization_penalty),
            metric_names_for_computing_utilization: config
                .optional("metricNamesForComputingUtilization", strings)?
                .unwrap_or_default(),
        })
    }

    pub(super) fn write(&self) -> Json {
        let names = &self.metric_names_for_computing_utilization;
        write::object([
            (
                "enableOobLoadReport",
                Json::Bool(self.enable_oob_load_report),
            ),
            (
                "oobReportingPeriod",
                write::duration(self.oob_reporting_period),
            ),
            ("blackoutPeriod", write::duration(self.blackout_period)),
            (
                "weightExpirationPeriod",
                write::duration(self.weight_expiration_period),
            ),
            (
                "weightUpdatePeriod",
                write::duration(self.weight_update_period),
            ),
            (
                "errorUtilizationPenalty",
                write::number(self.error_utilization_penalty),
            ),
            (
                "metricNamesForComputingUtilization",
                write::strings(names.iter().map(String::as_str)),
            ),
        ])
    }
}

fn strings(field: &Field<'_>) -> Result<Vec<String>, Error> {
    let names = field.list()?;
    let names = names.iter().map(|name| string(name).map(str::to_owned));
    names.collect()
}
