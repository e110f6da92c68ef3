//! What a config says that is probably meant otherwise.
//!
//! Fields that are not known are ignored, so that a config may be newer than its reader. One that
//! differs from a known one by its case alone is taken for it, as Go's JSON does. One that is
//! written in another way is ignored like the others, and named here.

use super::{
    policy,
    value::{Field, Object},
};

/// Every field that a channel reads, or checks.
const KNOWN: [&str; 54] = [
    "backoffMultiplier",
    "baseEjectionTime",
    "blackoutPeriod",
    "childPolicy",
    "choiceCount",
    "connectionScaling",
    "enableOobLoadReport",
    "enforcementPercentage",
    "errorUtilizationPenalty",
    "failurePercentageEjection",
    "healthCheckConfig",
    "hedgingDelay",
    "hedgingPolicy",
    "initialBackoff",
    "interval",
    "loadBalancingConfig",
    "loadBalancingPolicy",
    "maxAttempts",
    "maxBackoff",
    "maxConnectionsPerSubchannel",
    "maxEjectionPercent",
    "maxEjectionTime",
    "maxRequestMessageBytes",
    "maxResponseMessageBytes",
    "maxRingSize",
    "maxTokens",
    "method",
    "methodConfig",
    "metricNamesForComputingUtilization",
    "minRingSize",
    "minimumHosts",
    "name",
    "nonFatalStatusCodes",
    "onlyBelowPercentage",
    "oobReportingPeriod",
    "perAttemptRecvTimeout",
    "requestHashHeader",
    "requestVolume",
    "retryPolicy",
    "retryThrottling",
    "retryableStatusCodes",
    "serverErrorsOnly",
    "service",
    "serviceName",
    "shuffleAddressList",
    "stdevFactor",
    "subsetSize",
    "successRateEjection",
    "threshold",
    "timeout",
    "tokenRatio",
    "waitForReady",
    "weightExpirationPeriod",
    "weightUpdatePeriod",
];

/// A hint for each key that is nearly a known one, with its path.
pub(super) fn of(config: &Object<'_>) -> Vec<String> {
    let mut hints = Vec::new();
    look_into(config, &mut hints);
    hints
}

fn look_into(object: &Object<'_>, hints: &mut Vec<String>) {
    for (key, field) in object.members() {
        if let Some(known) = nearly(key) {
            let path = field.path();
            hints.push(match key.eq_ignore_ascii_case(known) {
                true => format!("{path} is read as \"{known}\""),
                false => format!("{path} has no effect: the field is \"{known}\""),
            });
        }
        if is_list_of_policies(key) {
            look_into_policies(&field, hints);
        } else {
            look_into_field(&field, hints);
        }
    }
}

fn is_list_of_policies(key: &str) -> bool {
    let lists = ["loadBalancingConfig", "childPolicy"];
    lists.iter().any(|list| key.eq_ignore_ascii_case(list))
}

/// A key is the name of a policy there. Fields of an unknown policy are its own.
fn look_into_policies(list: &Field<'_>, hints: &mut Vec<String>) {
    for entry in list.list().into_iter().flatten() {
        for (name, config) in entry.object().iter().flat_map(Object::members) {
            if policy::is_known(name) {
                look_into_field(&config, hints);
            }
        }
    }
}

fn look_into_field(field: &Field<'_>, hints: &mut Vec<String>) {
    if let Ok(object) = field.object() {
        look_into(&object, hints);
    }
    for item in field.list().into_iter().flatten() {
        look_into_field(&item, hints);
    }
}

/// The known key that this one differs from by case, `_` or `-` alone.
fn nearly(key: &str) -> Option<&'static str> {
    let letters = |key: &str| -> String {
        let letters = key.chars().filter(|c| !matches!(c, '_' | '-'));
        letters.map(|c| c.to_ascii_lowercase()).collect()
    };
    if KNOWN.contains(&key) {
        return None;
    }
    let written = letters(key);
    KNOWN.into_iter().find(|known| letters(known) == written)
}
