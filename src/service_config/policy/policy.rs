//! The load balancing policies that there are, and their names.

use std::fmt;

use super::{
    least_request::LeastRequest, outlier_detection::OutlierDetection, ring_hash::RingHash,
    weighted_round_robin::WeightedRoundRobin,
};

/// How calls are spread over the backends (gRFC A24).
///
/// A service config names one in JSON. A program may also put one together, and
/// [`ServiceConfig::with_policy`](crate::ServiceConfig::with_policy) checks it:
///
/// ```
/// use tonic_health_channel::ServiceConfig;
/// use tonic_health_channel::service_config::{LeastRequest, LoadBalancingPolicy, OutlierDetection};
///
/// let mut detection = OutlierDetection::default();
/// detection.max_ejection_percent = 20;
/// let policy = LoadBalancingPolicy::LeastRequest(LeastRequest::default());
/// let config = ServiceConfig::default().with_policy(policy.with_outlier_detection(detection))?;
///
/// let json = r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {
///     "maxEjectionPercent": 20,
///     "successRateEjection": {},
///     "failurePercentageEjection": {},
///     "childPolicy": [{"least_request_experimental": {}}]
/// }}]}"#;
/// assert_eq!(config, json.parse()?);
/// # Ok::<(), tonic_health_channel::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum LoadBalancingPolicy {
    /// `round_robin`: a connection to every backend, calls in strict rotation
    /// over those that are ready and healthy.
    ///
    /// Also what a config without a policy gets. Other gRPC clients take
    /// `pick_first` then, where a health check silently never runs.
    #[default]
    RoundRobin,
    /// `pick_first`: one connection, to the first backend that can be connected to
    /// (gRFC A61, A62). Health is not checked, even if the config asks (gRFC A17, "LB Policies
    /// Can Disable Health Checking When Needed"). An unhealthy backend would only be left for a
    /// reconnect, perhaps to the same.
    PickFirst {
        /// Try the backends in random order, drawn anew for every set.
        shuffle_address_list: bool,
    },
    /// `least_request_experimental`: the least loaded of a few that are drawn.
    LeastRequest(LeastRequest),
    /// `weighted_round_robin`: by the load that backends report.
    WeightedRoundRobin(Box<WeightedRoundRobin>),
    /// `ring_hash_experimental`: by the hash of a header.
    RingHash(RingHash),
    /// `random_subsetting_experimental`: another policy over some of the backends, which this
    /// channel chooses at random (gRFC A68). Many clients of many backends then have fewer
    /// connections, and each backend about as many as the others.
    RandomSubsetting {
        /// `subsetSize`: how many backends: at least 1. With fewer, all are used.
        subset_size: u32,
        /// `childPolicy`.
        child: Box<Self>,
    },
    /// `outlier_detection_experimental`: another policy over the backends that are not ejected.
    /// Over [`PickFirst`](Self::PickFirst) it has no effect, as in other gRPC clients.
    OutlierDetection {
        /// When backends are ejected.
        config: Box<OutlierDetection>,
        /// `childPolicy`.
        child: Box<Self>,
    },
}

/// A policy, taken apart: what stands around others can stand in one order only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PolicyParts<'a> {
    pub(crate) leaf: LeafPolicy<'a>,
    pub(crate) outlier_detection: Option<&'a OutlierDetection>,
    pub(crate) subset_size: Option<u32>,
}

/// A policy that chooses a backend by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LeafPolicy<'a> {
    RoundRobin,
    PickFirst { shuffle_address_list: bool },
    LeastRequest(&'a LeastRequest),
    WeightedRoundRobin(&'a WeightedRoundRobin),
    RingHash(&'a RingHash),
}

/// Its name in a service config: `round_robin`, …; with that of a policy inside:
/// `outlier_detection_experimental(round_robin)`.
impl fmt::Display for LoadBalancingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::RandomSubsetting { child, .. } | Self::OutlierDetection { child, .. } => {
                write!(f, "({child})")
            }
            Self::RoundRobin
            | Self::PickFirst { .. }
            | Self::LeastRequest(_)
            | Self::WeightedRoundRobin(_)
            | Self::RingHash(_) => Ok(()),
        }
    }
}

impl LoadBalancingPolicy {
    /// Policies that choose a backend by themselves, each with its default config.
    pub(super) const LEAVES: [fn() -> Self; 5] = [
        || Self::PickFirst {
            shuffle_address_list: false,
        },
        || Self::RoundRobin,
        || Self::LeastRequest(LeastRequest::default()),
        || Self::WeightedRoundRobin(Box::default()),
        || Self::RingHash(RingHash::default()),
    ];

    pub(super) const OUTLIER_DETECTION: &str = "outlier_detection_experimental";
    pub(super) const RANDOM_SUBSETTING: &str = "random_subsetting_experimental";

    /// The same policy, and backends whose calls fail more than those of the others are left out.
    pub fn with_outlier_detection(self, config: OutlierDetection) -> Self {
        Self::OutlierDetection {
            config: Box::new(config),
            child: Box::new(self),
        }
    }

    /// The same policy over `subset_size` of the backends.
    pub fn with_random_subsetting(self, subset_size: u32) -> Self {
        Self::RandomSubsetting {
            subset_size,
            child: Box::new(self),
        }
    }

    /// Whether backends are to report their load apart from calls.
    pub(in crate::service_config) fn wants_reports_apart_from_calls(&self) -> bool {
        match self.parts().leaf {
            LeafPolicy::WeightedRoundRobin(config) => config.enable_oob_load_report,
            LeafPolicy::RoundRobin
            | LeafPolicy::PickFirst { .. }
            | LeafPolicy::LeastRequest(_)
            | LeafPolicy::RingHash(_) => false,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::PickFirst { .. } => "pick_first",
            Self::LeastRequest(_) => "least_request_experimental",
            Self::WeightedRoundRobin(_) => "weighted_round_robin",
            Self::RingHash(_) => "ring_hash_experimental",
            Self::RandomSubsetting { .. } => Self::RANDOM_SUBSETTING,
            Self::OutlierDetection { .. } => Self::OUTLIER_DETECTION,
        }
    }

    /// Its parts.
    pub(crate) fn parts(&self) -> PolicyParts<'_> {
        let leaf = match self {
            Self::RandomSubsetting { subset_size, child } => {
                return PolicyParts {
                    subset_size: Some(*subset_size),
                    ..child.parts()
                };
            }
            Self::OutlierDetection { config, child } => {
                return PolicyParts {
                    outlier_detection: Some(config),
                    ..child.parts()
                };
            }
            Self::RoundRobin => LeafPolicy::RoundRobin,
            Self::PickFirst {
                shuffle_address_list,
            } => LeafPolicy::PickFirst {
                shuffle_address_list: *shuffle_address_list,
            },
            Self::LeastRequest(config) => LeafPolicy::LeastRequest(config),
            Self::WeightedRoundRobin(config) => LeafPolicy::WeightedRoundRobin(config),
            Self::RingHash(config) => LeafPolicy::RingHash(config),
        };
        PolicyParts {
            leaf,
            outlier_detection: None,
            subset_size: None,
        }
    }
}
