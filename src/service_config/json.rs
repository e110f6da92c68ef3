//! The rules of the service config, from JSON to the types of this module.
//!
//! One function for each concept, in the order of the document. Each is handed
//! the place to read and rejects it there, so that path and value of an error
//! are never put together by hand.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use tonic::Code;

use super::{
    config::{RetryThrottling, ServiceConfig},
    hints,
    method::{AttemptPolicy, HedgingPolicy, MethodConfig, MethodName, RetryPolicy},
    policy::{self, LoadBalancingPolicy},
    read::{boolean, duration, positive_duration, positive_number, string, uint32},
    value::{Field, Json, Object, invalid},
};
use crate::error::{CODES, Error};

type Result<T, E = Error> = std::result::Result<T, E>;

impl FromStr for ServiceConfig {
    type Err = Error;

    /// Reads a config from JSON.
    ///
    /// # Errors
    ///
    /// [`InvalidServiceConfig`](crate::ErrorKind::InvalidServiceConfig), whose
    /// text names the first offending value: the path to it, the rule it breaks
    /// and the value, shortened if it is long. Text that is not JSON is named by
    /// line and column instead.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text)
    }
}

fn parse(text: &str) -> Result<ServiceConfig> {
    if text.trim().is_empty() {
        return Err(invalid("(root): must be an object, got an empty text"));
    }
    let json: Json = serde_json::from_str(text)
        .map_err(|error| invalid(format_args!("malformed JSON: {error}")))?;
    let root = Field::root(&json);
    root.refuse_duplicate_keys()?;
    service_config(&root.object()?)
}

fn service_config(config: &Object<'_>) -> Result<ServiceConfig> {
    let (methods, mut methods_by_name) = config
        .optional("methodConfig", method_configs)?
        .unwrap_or_default();
    let health = config.optional("healthCheckConfig", health_check_service)?;
    let mut hints = hints::of(config);
    if health == Some(None) {
        let text = "healthCheckConfig names no service: health checks are off; \
                    \"serviceName\": \"\" is the whole server";
        hints.push(text.to_owned());
    }
    Ok(ServiceConfig {
        policy: policy(config)?,
        health_check_service: health,
        hints,
        methods,
        any_method: methods_by_name.remove(MethodName::ANY),
        methods_by_name,
        retry_throttling: config.optional("retryThrottling", retry_throttling)?,
        max_connections_per_subchannel: config
            .optional("connectionScaling", max_connections)?
            .flatten(),
    })
}

/// The list wins over the deprecated field, whose type is checked all the same.
fn policy(config: &Object<'_>) -> Result<LoadBalancingPolicy> {
    let listed = config.optional("loadBalancingConfig", policy::listed)?;
    let deprecated = config.optional("loadBalancingPolicy", string)?;
    match (listed, deprecated) {
        (Some(policy), _) => Ok(policy),
        (None, Some(name)) => {
            let field = config.get("loadBalancingPolicy");
            policy::named(&field, &name.to_ascii_lowercase())
        }
        (None, None) => Ok(LoadBalancingPolicy::default()),
    }
}

impl ServiceConfig {
    /// The same config with another policy, which is checked as if it stood in JSON.
    ///
    /// A value above its maximum counts as the maximum, where its field says so.
    ///
    /// # Errors
    ///
    /// [`InvalidServiceConfig`](crate::ErrorKind::InvalidServiceConfig), with the path to the
    /// field, the rule that it breaks, and its value:
    ///
    /// ```
    /// use tonic_health_channel::ServiceConfig;
    /// use tonic_health_channel::service_config::LoadBalancingPolicy;
    ///
    /// let policy = LoadBalancingPolicy::RoundRobin.with_random_subsetting(0);
    /// let error = ServiceConfig::default().with_policy(policy).unwrap_err();
    /// assert_eq!(
    ///     error.message(),
    ///     "service config: loadBalancingConfig[0].random_subsetting_experimental.subsetSize: \
    ///      must be an integer of at least 1, got 0",
    /// );
    /// ```
    pub fn with_policy(mut self, policy: LoadBalancingPolicy) -> Result<Self> {
        let list = Json::List(vec![policy::written(&policy)]);
        self.policy = policy::listed(&Field::new("loadBalancingConfig", &list))?;
        Ok(self)
    }
}

fn health_check_service(field: &Field<'_>) -> Result<Option<String>> {
    let name = field.object()?.optional("serviceName", string)?;
    Ok(name.map(str::to_owned))
}

fn max_connections(field: &Field<'_>) -> Result<Option<u32>> {
    field
        .object()?
        .optional("maxConnectionsPerSubchannel", uint32)
}

/// The entries, and where each name is found among them.
type Methods = (Vec<MethodConfig>, BTreeMap<MethodName, usize>);

fn method_configs(field: &Field<'_>) -> Result<Methods> {
    let (mut methods, mut by_name) = Methods::default();
    for (position, entry) in field.list()?.iter().enumerate() {
        let config = entry.object()?;
        let names = config.optional("name", Field::list)?;
        for name in names.unwrap_or_default() {
            if let Some(first) = by_name.insert(method_name(&name)?, position) {
                let rule = format!("must not repeat a name that methodConfig[{first}] has");
                return Err(name.rejected(rule));
            }
        }
        methods.push(method_config(entry, &config)?);
    }
    Ok((methods, by_name))
}

fn method_name(field: &Field<'_>) -> Result<MethodName> {
    let name = field.object()?;
    let service = name.optional("service", string)?.unwrap_or_default();
    let method = name.optional("method", string)?.unwrap_or_default();
    MethodName::new(service, method)
        .ok_or_else(|| field.rejected("must name the service of its method"))
}

fn method_config(entry: &Field<'_>, config: &Object<'_>) -> Result<MethodConfig> {
    let retry = config.optional("retryPolicy", retry_policy)?;
    let hedging = config.optional("hedgingPolicy", hedging_policy)?;
    Ok(MethodConfig {
        wait_for_ready: config.optional("waitForReady", boolean)?,
        timeout: config.optional("timeout", duration)?,
        max_request_message_bytes: config.optional("maxRequestMessageBytes", uint32)?,
        max_response_message_bytes: config.optional("maxResponseMessageBytes", uint32)?,
        attempts: match (retry, hedging) {
            (Some(_), Some(_)) => {
                let rule = "must not have both a retryPolicy and a hedgingPolicy";
                return Err(entry.rejected(rule));
            }
            (Some(policy), None) => Some(AttemptPolicy::Retry(Arc::new(policy))),
            (None, policy) => policy.map(|policy| AttemptPolicy::Hedging(Arc::new(policy))),
        },
    })
}

fn retry_policy(field: &Field<'_>) -> Result<RetryPolicy> {
    let policy = field.object()?;
    let per_attempt = policy.optional("perAttemptRecvTimeout", positive_duration)?;
    let codes = policy.optional("retryableStatusCodes", status_codes)?;
    let codes = codes.unwrap_or_default();
    if codes.is_empty() && per_attempt.is_none() {
        let field = policy.get("retryableStatusCodes");
        return Err(field.rejected("must list at least one status code"));
    }
    Ok(RetryPolicy {
        max_attempts: max_attempts(&policy.get("maxAttempts"))?,
        initial_backoff: positive_duration(&policy.get("initialBackoff"))?,
        max_backoff: positive_duration(&policy.get("maxBackoff"))?,
        backoff_multiplier: positive_number(&policy.get("backoffMultiplier"))?,
        retryable_status_codes: codes,
        per_attempt_recv_timeout: per_attempt,
    })
}

fn hedging_policy(field: &Field<'_>) -> Result<HedgingPolicy> {
    let policy = field.object()?;
    let codes = policy.optional("nonFatalStatusCodes", status_codes)?;
    Ok(HedgingPolicy {
        max_attempts: max_attempts(&policy.get("maxAttempts"))?,
        hedging_delay: policy
            .optional("hedgingDelay", duration)?
            .unwrap_or_default(),
        non_fatal_status_codes: codes.unwrap_or_default(),
    })
}

fn retry_throttling(field: &Field<'_>) -> Result<RetryThrottling> {
    let throttling = field.object()?;
    let max_tokens = throttling.get("maxTokens");
    let token_ratio = throttling.get("tokenRatio");
    Ok(RetryThrottling {
        max_tokens_thousandths: thousandths(&max_tokens)
            .filter(|tokens| (1..=1_000_000).contains(tokens))
            .ok_or_else(|| max_tokens.rejected("must be a number above 0 and at most 1000"))?,
        token_ratio_thousandths: thousandths(&token_ratio)
            .filter(|ratio| *ratio > 0)
            .ok_or_else(|| token_ratio.rejected("must be a number of at least 0.001"))?,
    })
}

/// Rounds down, except that what binary fractions lose is given back: `1.001`
/// is 1001 thousandths. The largest value stands for all that are larger.
fn thousandths(field: &Field<'_>) -> Option<u32> {
    field.as_f64().map(|number| (number * 1000.0 + 1e-9) as u32)
}

fn max_attempts(field: &Field<'_>) -> Result<u32> {
    let attempts = field.as_u32().filter(|attempts| *attempts >= 2);
    attempts.ok_or_else(|| field.rejected("must be an integer of at least 2"))
}

fn status_codes(field: &Field<'_>) -> Result<Vec<Code>> {
    let mut codes = Vec::new();
    for code in field.list()?.iter().map(status_code) {
        let code = code?;
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    Ok(codes)
}

/// A failure, by name or by number (gRFC A6).
fn status_code(field: &Field<'_>) -> Result<Code> {
    let number = match field.as_str() {
        Some(name) => CODES
            .iter()
            .position(|code| code.eq_ignore_ascii_case(name)),
        None => field.as_u32().map(|number| number as usize),
    };
    match number.filter(|number| *number < CODES.len()) {
        Some(0) => Err(field.rejected("must not be OK, which does not count as a failure")),
        Some(number) => Ok(Code::from_i32(number as i32)),
        None => Err(field.rejected(
            r#"must be the name of a status code like "UNAVAILABLE" or its number from 0 to 16"#,
        )),
    }
}
