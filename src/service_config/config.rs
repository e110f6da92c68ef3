//! A service config that was read: what it says, and for which calls.

use std::collections::BTreeMap;

use super::{
    method::{MethodConfig, MethodName},
    policy::LoadBalancingPolicy,
};

/// How a channel treats its calls, as gRPC's service config says it.
///
/// Parse one from JSON. [`Default`] is the empty config, `{}`: `round_robin`
/// without health checks, and no rule for any method.
///
/// ```
/// use tonic_health_channel::{ServiceConfig, service_config::LoadBalancingPolicy};
///
/// let config: ServiceConfig = r#"{
///     "loadBalancingConfig": [{"round_robin": {}}],
///     "healthCheckConfig": {"serviceName": "demo.Greeter"}
/// }"#.parse()?;
/// assert_eq!(config.policy(), &LoadBalancingPolicy::RoundRobin);
/// assert_eq!(config.health_check_service(), Some("demo.Greeter"));
///
/// let error = r#"{"methodConfig": [{"timeout": "5m"}]}"#.parse::<ServiceConfig>().unwrap_err();
/// assert_eq!(
///     error.message(),
///     r#"service config: methodConfig[0].timeout: must be a duration like "1.5s", got "5m""#,
/// );
/// # Ok::<(), tonic_health_channel::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceConfig {
    pub(super) policy: LoadBalancingPolicy,
    /// Of a `healthCheckConfig`: the service, if it names one.
    pub(super) health_check_service: Option<Option<String>>,
    pub(super) methods: Vec<MethodConfig>,
    /// Positions in `methods`; entries without a name are in none. In order, because a few
    /// comparisons cost each call less than hashes do.
    pub(super) methods_by_name: BTreeMap<MethodName, usize>,
    /// The position of the one with the empty name. Apart, because many configs have no other.
    pub(super) any_method: Option<usize>,
    pub(super) retry_throttling: Option<RetryThrottling>,
    pub(super) max_connections_per_subchannel: Option<u32>,
    pub(super) hints: Vec<String>,
}

/// When to stop retrying because too many calls fail (gRFC A6, "Throttling
/// Retry Attempts and Hedged RPCs").
///
/// Both numbers count to the third decimal; further ones are cut off. The tokens are those of 1
/// channel. A new config takes over their share of its maximum, and an equal one changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryThrottling {
    pub(super) max_tokens_thousandths: u32,
    pub(super) token_ratio_thousandths: u32,
}

impl ServiceConfig {
    /// The config that names a policy, and nothing else.
    pub(crate) fn of_policy(policy: LoadBalancingPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// The policy in force: the first entry of `loadBalancingConfig` that this
    /// channel knows; without that list `loadBalancingPolicy`, in any letter
    /// case; without either, [`LoadBalancingPolicy::default`].
    ///
    /// Lists of which nothing is known do not get here, they are errors (A24).
    pub fn policy(&self) -> &LoadBalancingPolicy {
        &self.policy
    }

    /// The service whose health every backend is asked for (gRFC A17).
    ///
    /// `None`, the default, switches health checks off; so do a `null` or absent
    /// `healthCheckConfig` and one without a `serviceName`. `Some("")` is not
    /// the same: it asks for the health of the whole server.
    pub fn health_check_service(&self) -> Option<&str> {
        self.health_check_service.as_ref()?.as_deref()
    }

    /// Whether it has a `healthCheckConfig`, with a service or without.
    pub(crate) fn speaks_of_health(&self) -> bool {
        self.health_check_service.is_some()
    }

    /// The entry of `methodConfig` for a call's HTTP/2 path, such as
    /// `/pkg.Service/Method`.
    ///
    /// The most specific entry is taken alone, nothing is merged into it: one
    /// that names service and method, else one that names the service, else the
    /// one with the empty name `{}`. An entry whose `name` is absent or empty is
    /// checked like the others, yet it applies to no call.
    pub fn method_config(&self, path: &str) -> Option<&MethodConfig> {
        let position = self.named_method(path).or(self.any_method)?;
        self.methods.get(position)
    }

    fn named_method(&self, path: &str) -> Option<usize> {
        if self.methods_by_name.is_empty() {
            return None;
        }
        // By bytes: a method is short, and its slash near the end.
        let slash = path.bytes().rposition(|byte| byte == b'/');
        let service = slash.map_or("", |slash| &path[..=slash]);
        let names = [path, service].into_iter();
        names
            .filter_map(|name| self.methods_by_name.get(name))
            .next()
            .copied()
    }

    /// When the channel sends no retries and no hedges (gRFC A6). Unset by default.
    pub fn retry_throttling(&self) -> Option<&RetryThrottling> {
        self.retry_throttling.as_ref()
    }

    /// How many connections a backend may have at once when one has no free
    /// streams left (gRFC A105). Unset by default; 0 is kept as it was written. It has no
    /// effect: what has is
    /// [`connections_per_backend`](crate::ChannelBuilder::connections_per_backend).
    pub fn max_connections_per_subchannel(&self) -> Option<u32> {
        self.max_connections_per_subchannel
    }

    /// What in this config is probably meant otherwise, each in a sentence: a field that is
    /// written in another way than the one that has an effect, or a `healthCheckConfig`
    /// without a service. A channel logs each as a WARN when the config comes into force.
    ///
    /// ```
    /// use tonic_health_channel::ServiceConfig;
    ///
    /// let config: ServiceConfig = r#"{"healthCheckConfig": {"service_name": "a.B"}}"#.parse()?;
    /// assert_eq!(
    ///     config.hints()[0],
    ///     r#"healthCheckConfig.service_name has no effect: the field is "serviceName""#,
    /// );
    /// # Ok::<(), tonic_health_channel::Error>(())
    /// ```
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// What this config asks for and the channel does not do.
    ///
    /// These fields were checked and can be read here, but a call is not treated
    /// differently because of them. Empty means that all of the config applies.
    pub fn fields_without_effect(&self) -> Vec<&'static str> {
        let some_method = |has: fn(&MethodConfig) -> bool| self.methods.iter().any(has);
        [
            (
                "methodConfig.retryPolicy.perAttemptRecvTimeout",
                some_method(|m| {
                    let policy = m.retry_policy();
                    policy.is_some_and(|policy| policy.per_attempt_recv_timeout().is_some())
                }),
            ),
            (
                "connectionScaling.maxConnectionsPerSubchannel",
                self.max_connections_per_subchannel.is_some(),
            ),
        ]
        .into_iter()
        .filter_map(|(field, present)| present.then_some(field))
        .collect()
    }
}

impl RetryThrottling {
    /// The tokens at the start, and the most there can be: above 0, at most 1000.
    /// A failed attempt with a listed code costs one, and so does a server that stops retries.
    /// Retries and hedges stop while half or fewer are left.
    pub fn max_tokens(&self) -> f64 {
        f64::from(self.max_tokens_thousandths) / 1000.0
    }

    /// The tokens that each call of the channel gives back that ends with OK: above 0.
    pub fn token_ratio(&self) -> f64 {
        f64::from(self.token_ratio_thousandths) / 1000.0
    }

    pub(crate) fn max_tokens_thousandths(&self) -> u32 {
        self.max_tokens_thousandths
    }

    pub(crate) fn token_ratio_thousandths(&self) -> u32 {
        self.token_ratio_thousandths
    }
}
