//! The load balancing policies that there are, and their names.

use std::fmt;

/// How calls are spread over the backends (gRFC A24).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
    /// (gRFC A61, A62). Health is not checked, whatever the config says: an unhealthy
    /// backend would only be left for a reconnect, perhaps to the same (gRFC A17, "LB
    /// Policies Can Disable Health Checking When Needed").
    PickFirst {
        /// Try the backends in random order, drawn anew for every set.
        shuffle_address_list: bool,
    },
}

/// Its name in a service config: `round_robin`, …
impl fmt::Display for LoadBalancingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "round_robin",
            Self::PickFirst { .. } => "pick_first",
        })
    }
}

impl LoadBalancingPolicy {
    /// Every policy there is, as it is without a config of its own. A new one needs
    /// a variant and a line here.
    const KNOWN: &[(&str, Self)] = &[
        ("pick_first", Self::PICK_FIRST),
        ("round_robin", Self::RoundRobin),
    ];

    const PICK_FIRST: Self = Self::PickFirst {
        shuffle_address_list: false,
    };

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::KNOWN
            .iter()
            .find_map(|(known, policy)| (*known == name).then_some(*policy))
    }

    /// The names for an error text: `a, b, c`.
    pub(super) fn known_names() -> String {
        let names: Vec<_> = Self::KNOWN.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::LoadBalancingPolicy;

    #[test]
    fn each_displays_its_name() {
        for (name, policy) in LoadBalancingPolicy::KNOWN {
            assert_eq!(policy.to_string(), *name);
        }
    }
}
