//! Tables of what a service config may say of a policy, in JSON and put together.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    FailurePercentageEjection, LeastRequest, LoadBalancingPolicy, OutlierDetection, RingHash,
    SuccessRateEjection, WeightedRoundRobin,
};
use crate::service_config::ServiceConfig;

const MAX: &str = "4294967295";

/// The meaning of an entry of `loadBalancingConfig`, or its error without the path to the entry.
fn read(entry: &str) -> Result<LoadBalancingPolicy, String> {
    let json = format!(r#"{{"loadBalancingConfig": [{entry}]}}"#);
    match json.parse::<ServiceConfig>() {
        Ok(config) => Ok(config.policy().clone()),
        Err(error) => {
            let path = "service config: loadBalancingConfig[0].";
            let text = error.message().strip_prefix(path);
            Err(text.unwrap_or_else(|| panic!("{error}")).to_owned())
        }
    }
}

fn policy(entry: &str) -> LoadBalancingPolicy {
    read(entry).unwrap_or_else(|error| panic!("{entry}: {error}"))
}

#[track_caller]
fn rejects(entry: &str, expected: &str) {
    match read(entry) {
        Ok(policy) => panic!("{entry} was accepted as {policy:?}"),
        Err(error) => assert_eq!(error, expected, "{entry}"),
    }
}

fn least_request(choice_count: u32) -> LoadBalancingPolicy {
    LoadBalancingPolicy::LeastRequest(LeastRequest { choice_count })
}

// L01
#[test]
fn choice_counts_are_2_to_10() {
    let of =
        |count: &str| format!(r#"{{"least_request_experimental": {{"choiceCount": {count}}}}}"#);
    let none = policy(r#"{"least_request_experimental": {}}"#);
    assert_eq!(none, least_request(2));
    for (count, expected) in [
        ("null", 2),
        ("2", 2),
        ("3", 3),
        ("\"4\"", 4),
        ("11", 10),
        (MAX, 10),
    ] {
        assert_eq!(policy(&of(count)), least_request(expected), "{count}");
    }
    for count in ["0", "1", "-1", "1.5", "\"x\""] {
        let rule = "choiceCount: must be an integer of at least 2";
        let expected = format!("least_request_experimental.{rule}, got {count}");
        rejects(&of(count), &expected);
    }
}

// W23
#[test]
fn weighted_round_robin_has_defaults_and_bounds() {
    let of = |fields: &str| format!(r#"{{"weighted_round_robin": {{{fields}}}}}"#);
    let default = WeightedRoundRobin::default();
    let weighted = |config| LoadBalancingPolicy::WeightedRoundRobin(Box::new(config));
    assert_eq!(policy(&of("")), weighted(default.clone()));
    let shortest = WeightedRoundRobin {
        weight_update_period: Duration::from_millis(100),
        ..default.clone()
    };
    for period in ["0.05s", "0s", "0.1s"] {
        let fields = format!(r#""weightUpdatePeriod": "{period}""#);
        assert_eq!(policy(&of(&fields)), weighted(shortest.clone()), "{period}");
    }
    let all = r#""enableOobLoadReport": true, "oobReportingPeriod": "1s", "blackoutPeriod": "0s",
        "weightExpirationPeriod": "2s", "weightUpdatePeriod": "3s", "errorUtilizationPenalty": 0,
        "metricNamesForComputingUtilization": ["named_metrics.a", "cpu_utilization"]"#;
    let expected = WeightedRoundRobin {
        enable_oob_load_report: true,
        oob_reporting_period: Duration::from_secs(1),
        blackout_period: Duration::ZERO,
        weight_expiration_period: Duration::from_secs(2),
        weight_update_period: Duration::from_secs(3),
        error_utilization_penalty: 0.0,
        metric_names_for_computing_utilization: vec![
            "named_metrics.a".to_owned(),
            "cpu_utilization".to_owned(),
        ],
    };
    assert_eq!(policy(&of(all)), weighted(expected));
    for (field, text) in [
        (
            r#""errorUtilizationPenalty": -1"#,
            "errorUtilizationPenalty: must be a number of at least 0, got -1",
        ),
        (
            r#""blackoutPeriod": "-1s""#,
            r#"blackoutPeriod: must not be negative, got "-1s""#,
        ),
        (
            r#""enableOobLoadReport": 1"#,
            "enableOobLoadReport: must be true or false, got 1",
        ),
        (
            r#""metricNamesForComputingUtilization": ["a", 1]"#,
            "metricNamesForComputingUtilization[1]: must be a string, got 1",
        ),
    ] {
        rejects(&of(field), &format!("weighted_round_robin.{text}"));
    }
}

// K22
#[test]
fn ring_sizes_and_headers_are_checked() {
    let of = |fields: &str| format!(r#"{{"ring_hash_experimental": {{{fields}}}}}"#);
    let ring = |min_ring_size, max_ring_size, header: Option<&str>| {
        LoadBalancingPolicy::RingHash(RingHash {
            min_ring_size,
            max_ring_size,
            request_hash_header: header.map(str::to_owned),
        })
    };
    for (fields, expected) in [
        ("", ring(1024, 4096, None)),
        (r#""minRingSize": 3, "maxRingSize": 20"#, ring(3, 20, None)),
        (r#""minRingSize": 4096"#, ring(4096, 4096, None)),
        (
            r#""minRingSize": 8388608, "maxRingSize": 8388608"#,
            ring(4096, 4096, None),
        ),
        (r#""maxRingSize": 5000"#, ring(1024, 4096, None)),
        (r#""requestHashHeader": """#, ring(1024, 4096, None)),
        (
            r#""requestHashHeader": "X-User_1.a""#,
            ring(1024, 4096, Some("x-user_1.a")),
        ),
    ] {
        assert_eq!(policy(&of(fields)), expected, "{fields}");
    }
    let size = "must be an integer from 1 to 8388608";
    let name = r#"must be the name of a header: letters, digits, "_", "-" and ".""#;
    for (fields, expected) in [
        (
            r#""minRingSize": 9, "maxRingSize": 8"#,
            "minRingSize: must not be more than maxRingSize, 8, got 9".to_owned(),
        ),
        (
            r#""minRingSize": 5000"#,
            "minRingSize: must not be more than maxRingSize, 4096, got 5000".to_owned(),
        ),
        (
            r#""maxRingSize": 1000"#,
            "maxRingSize: must not be less than minRingSize, 1024, got 1000".to_owned(),
        ),
        (r#""minRingSize": 0"#, format!("minRingSize: {size}, got 0")),
        (
            r#""maxRingSize": 8388609"#,
            format!("maxRingSize: {size}, got 8388609"),
        ),
        (
            r#""requestHashHeader": "x y""#,
            format!(r#"requestHashHeader: {name}, got "x y""#),
        ),
        (
            r#""requestHashHeader": "x-Bin""#,
            r#"requestHashHeader: must not be the name of a binary header, got "x-Bin""#.to_owned(),
        ),
    ] {
        rejects(&of(fields), &format!("ring_hash_experimental.{expected}"));
    }
}

// Z01
#[test]
fn a_subset_has_a_size_and_a_child() {
    let of = |fields: &str| format!(r#"{{"random_subsetting_experimental": {{{fields}}}}}"#);
    let child = r#""childPolicy": [{"unknown": 1}, {"round_robin": {}}]"#;
    assert_eq!(
        policy(&of(&format!(r#""subsetSize": 5, {child}"#))),
        LoadBalancingPolicy::RoundRobin.with_random_subsetting(5),
    );
    let size = "subsetSize: must be an integer of at least 1";
    for (fields, expected) in [
        (child.to_owned(), format!("{size}, got nothing")),
        (
            format!(r#""subsetSize": 0, {child}"#),
            format!("{size}, got 0"),
        ),
        (
            r#""subsetSize": 1"#.to_owned(),
            "childPolicy: must be a list of policies, got nothing".to_owned(),
        ),
    ] {
        rejects(
            &of(&fields),
            &format!("random_subsetting_experimental.{expected}"),
        );
    }
    for (child, got) in [("[]", "[]"), (r#"[{"a": {}}]"#, r#"["a"]"#)] {
        let error = read(&of(&format!(r#""subsetSize": 1, "childPolicy": {child}"#)));
        let error = error.expect_err("a child that is not known");
        let path = "random_subsetting_experimental.childPolicy: must name a policy";
        assert!(error.starts_with(path), "{error}");
        assert!(error.ends_with(&format!(", got {got}")), "{error}");
    }
}

// O21
#[test]
fn outlier_detection_has_defaults_and_bounds() {
    let of = |fields: &str| {
        let child = r#""childPolicy": [{"round_robin": {}}]"#;
        format!(r#"{{"outlier_detection_experimental": {{{fields} {child}}}}}"#)
    };
    let round_robin = |config| LoadBalancingPolicy::RoundRobin.with_outlier_detection(config);
    let neither = OutlierDetection {
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: 10,
        server_errors_only: false,
        success_rate_ejection: None,
        failure_percentage_ejection: None,
    };
    assert_eq!(policy(&of("")), round_robin(neither.clone()));
    let both = OutlierDetection {
        success_rate_ejection: Some(SuccessRateEjection {
            stdev_factor: 1900,
            enforcement_percentage: 100,
            minimum_hosts: 5,
            request_volume: 100,
            only_below_percentage: 100,
        }),
        failure_percentage_ejection: Some(FailurePercentageEjection {
            threshold: 85,
            enforcement_percentage: 100,
            minimum_hosts: 5,
            request_volume: 50,
        }),
        ..neither
    };
    let fields = r#""successRateEjection": {}, "failurePercentageEjection": {},"#;
    assert_eq!(policy(&of(fields)), round_robin(both.clone()));
    assert_eq!(both, OutlierDetection::default());
    let percentage = "must be an integer from 0 to 100";
    for (fields, expected) in [
        (
            r#""interval": "-1s","#,
            r#"interval: must not be negative, got "-1s""#.to_owned(),
        ),
        (
            r#""baseEjectionTime": "315576000001s","#,
            r#"baseEjectionTime: must be at most 315576000000s, got "315576000001s""#.to_owned(),
        ),
        (
            r#""maxEjectionTime": 5,"#,
            r#"maxEjectionTime: must be a duration like "1.5s", got 5"#.to_owned(),
        ),
        (
            r#""maxEjectionPercent": 101,"#,
            format!("maxEjectionPercent: {percentage}, got 101"),
        ),
        (
            r#""maxEjectionPercent": -1,"#,
            format!("maxEjectionPercent: {percentage}, got -1"),
        ),
        (
            r#""successRateEjection": {"enforcementPercentage": 101},"#,
            format!("successRateEjection.enforcementPercentage: {percentage}, got 101"),
        ),
        (
            r#""successRateEjection": {"onlyBelowPercentage": 101},"#,
            format!("successRateEjection.onlyBelowPercentage: {percentage}, got 101"),
        ),
        (
            r#""failurePercentageEjection": {"threshold": 101},"#,
            format!("failurePercentageEjection.threshold: {percentage}, got 101"),
        ),
        (
            r#""failurePercentageEjection": {"enforcementPercentage": -1},"#,
            format!("failurePercentageEjection.enforcementPercentage: {percentage}, got -1"),
        ),
    ] {
        rejects(
            &of(fields),
            &format!("outlier_detection_experimental.{expected}"),
        );
    }
    rejects(
        r#"{"outlier_detection_experimental": {}}"#,
        "outlier_detection_experimental.childPolicy: must be a list of policies, got nothing",
    );
}

#[test]
fn what_stands_around_a_policy_stands_there_once_in_any_order() {
    let round_robin = LoadBalancingPolicy::RoundRobin;
    let detection = OutlierDetection::default();
    let inner = round_robin.clone().with_random_subsetting(3);
    let one = inner.clone().with_outlier_detection(detection.clone());
    let inner = round_robin.with_outlier_detection(detection.clone());
    let other = inner.clone().with_random_subsetting(3);
    assert_eq!(one.parts(), other.parts());
    assert_eq!(one.parts().outlier_detection, Some(&detection));
    assert_eq!(one.parts().subset_size, Some(3));

    let twice = inner.with_outlier_detection(detection);
    let error = ServiceConfig::default().with_policy(twice);
    let error = error.expect_err("one in another").message().to_owned();
    let path = "outlier_detection_experimental.childPolicy[0].outlier_detection_experimental";
    let expected = format!("{path}: must not stand in another policy of its name, got ");
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn each_displays_its_name() {
    let all = LoadBalancingPolicy::LEAVES.map(|leaf| leaf().to_string());
    let expected = [
        "pick_first",
        "round_robin",
        "least_request_experimental",
        "weighted_round_robin",
        "ring_hash_experimental",
    ];
    assert_eq!(all, expected);
    let around = LoadBalancingPolicy::RoundRobin
        .with_random_subsetting(1)
        .with_outlier_detection(OutlierDetection::default());
    assert_eq!(
        around.to_string(),
        "outlier_detection_experimental(random_subsetting_experimental(round_robin))"
    );
}

#[test]
fn a_field_that_is_nearly_right_is_named() {
    let hints = |json: &str| {
        let config: ServiceConfig = json.parse().expect("a config");
        config.hints().to_vec()
    };
    let json = r#"{"loadBalancingConfig": [
        {"other": {"choice_count": 3}},
        {"outlier_detection_experimental": {
            "max_ejection_percent": 5,
            "childPolicy": [{"least_request_experimental": {"choice_count": 3}}]
        }}
    ]}"#;
    let path = "loadBalancingConfig[1].outlier_detection_experimental";
    assert_eq!(
        hints(json),
        [
            format!(
                "{path}.max_ejection_percent has no effect: the field is \"maxEjectionPercent\""
            ),
            format!(
                "{path}.childPolicy[0].least_request_experimental.choice_count has no effect: \
                 the field is \"choiceCount\""
            ),
        ]
    );
}

#[test]
fn a_number_that_is_none_is_refused_where_a_program_says_it() {
    let config = WeightedRoundRobin {
        error_utilization_penalty: f64::NAN,
        ..WeightedRoundRobin::default()
    };
    let policy = LoadBalancingPolicy::WeightedRoundRobin(Box::new(config));
    let error = ServiceConfig::default().with_policy(policy);
    let error = error.expect_err("not a number");
    let expected = "service config: loadBalancingConfig[0].weighted_round_robin.\
         errorUtilizationPenalty: must be a number of at least 0, got \"NaN\"";
    assert_eq!(error.message(), expected);
}

fn leaf() -> impl Strategy<Value = LoadBalancingPolicy> {
    let duration = (0..315_576_000_000_u64, 0..1_000_000_000_u32);
    let duration = duration.prop_map(|(seconds, nanos)| Duration::new(seconds, nanos));
    let names = proptest::collection::vec("[a-z._]{0,9}", 0..3);
    prop_oneof![
        Just(LoadBalancingPolicy::RoundRobin),
        any::<bool>().prop_map(|shuffle_address_list| LoadBalancingPolicy::PickFirst {
            shuffle_address_list
        }),
        (2..=10_u32).prop_map(least_request),
        (
            any::<bool>(),
            [(); 3].map(|()| duration.clone()),
            (0..72_u32).prop_map(|eighths| f64::from(eighths) / 8.0),
            names
        )
            .prop_map(|(oob, [period, blackout, expiration], penalty, names)| {
                LoadBalancingPolicy::WeightedRoundRobin(Box::new(WeightedRoundRobin {
                    enable_oob_load_report: oob,
                    oob_reporting_period: period,
                    blackout_period: blackout,
                    weight_expiration_period: expiration,
                    weight_update_period: period.max(Duration::from_millis(100)),
                    error_utilization_penalty: penalty,
                    metric_names_for_computing_utilization: names,
                }))
            }),
        (
            1..=2_000_u32,
            2_000..=4096_u32,
            proptest::option::of("[a-z]{1,9}")
        )
            .prop_map(|(min_ring_size, max_ring_size, request_hash_header)| {
                LoadBalancingPolicy::RingHash(RingHash {
                    min_ring_size,
                    max_ring_size,
                    request_hash_header,
                })
            }),
    ]
}

fn detection() -> impl Strategy<Value = OutlierDetection> {
    let percentages = [0..=100_u32, 0..=100, 0..=100, 0..=100, 0..=100];
    let numbers = any::<[u32; 5]>();
    (percentages, numbers, any::<[bool; 3]>(), 0..1_000_000_u64).prop_map(
        |([max, enforced, also, below, threshold], [a, b, c, d, e], [only, rate, failures], ms)| {
            OutlierDetection {
                interval: Duration::from_millis(ms),
                base_ejection_time: Duration::from_millis(ms * 3),
                max_ejection_time: Duration::from_nanos(ms),
                max_ejection_percent: max,
                server_errors_only: only,
                success_rate_ejection: rate.then_some(SuccessRateEjection {
                    stdev_factor: a,
                    enforcement_percentage: enforced,
                    minimum_hosts: b,
                    request_volume: c,
                    only_below_percentage: below,
                }),
                failure_percentage_ejection: failures.then_some(FailurePercentageEjection {
                    threshold,
                    enforcement_percentage: also,
                    minimum_hosts: d,
                    request_volume: e,
                }),
            }
        },
    )
}

proptest! {
    /// A policy means the same after it was written and read, with any policy around it.
    #[test]
    fn a_policy_that_is_written_is_read_as_itself(
        leaf in leaf(),
        detection in proptest::option::of(detection()),
        subset in proptest::option::of(1..u32::MAX),
        subset_is_inside in any::<bool>(),
    ) {
        let in_subset = |policy: LoadBalancingPolicy| match subset {
            Some(size) => policy.with_random_subsetting(size),
            None => policy,
        };
        let mut policy = leaf;
        if subset_is_inside {
            policy = in_subset(policy);
        }
        if let Some(detection) = detection {
            policy = policy.with_outlier_detection(detection);
        }
        if !subset_is_inside {
            policy = in_subset(policy);
        }
        let config = ServiceConfig::default().with_policy(policy.clone());
        let config = config.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(config.policy(), &policy);
        let json = super::written(&policy).to_string();
        prop_assert_eq!(read(&json), Ok(policy));
    }
}
