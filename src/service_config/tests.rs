//! Tables of what a service config may say and what it may not.
//!
//! A rejected text is compared whole: path, rule and value are the contract.

use std::time::Duration;

use tonic::Code;

use super::{LoadBalancingPolicy, MethodConfig, ServiceConfig};
use crate::error::ErrorKind;

/// The policies that choose by themselves, as an error lists them.
const LEAVES: &str = "a policy that this channel knows (pick_first, round_robin, \
                      least_request_experimental, weighted_round_robin, ring_hash_experimental)";

#[track_caller]
fn parsed(json: &str) -> ServiceConfig {
    json.parse()
        .unwrap_or_else(|error| panic!("{json} was rejected: {error}"))
}

#[track_caller]
fn accepts(json: &str, check: impl FnOnce(ServiceConfig)) {
    check(parsed(json));
}

#[track_caller]
fn rejects(json: &str, expected: &str) {
    match json.parse::<ServiceConfig>() {
        Ok(config) => panic!("{json} was accepted as {config:?}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidServiceConfig);
            assert_eq!(error.code(), Code::InvalidArgument);
            assert_eq!(error.message(), format!("service config: {expected}"));
        }
    }
}

/// Looks at the entry for every method, which has these fields.
#[track_caller]
fn accepts_method(fields: &str, check: impl FnOnce(&MethodConfig)) {
    let config = parsed(&format!(
        r#"{{"methodConfig": [{{"name": [{{}}], {fields}}}]}}"#
    ));
    check(config.method_config("/any.Service/Method").unwrap());
}

#[track_caller]
fn rejects_method(fields: &str, expected: &str) {
    rejects(
        &format!(r#"{{"methodConfig": [{{"name": [{{}}], {fields}}}]}}"#),
        &format!("methodConfig[0].{expected}"),
    );
}

/// A valid retryPolicy but for one field: `None` leaves it out.
fn retry_policy(changed: &str, value: Option<&str>) -> String {
    with_change(
        "retryPolicy",
        &[
            ("maxAttempts", "4"),
            ("initialBackoff", r#""0.1s""#),
            ("maxBackoff", r#""1s""#),
            ("backoffMultiplier", "2"),
            ("retryableStatusCodes", r#"["UNAVAILABLE"]"#),
        ],
        changed,
        value,
    )
}

fn hedging_policy(changed: &str, value: Option<&str>) -> String {
    with_change(
        "hedgingPolicy",
        &[("maxAttempts", "3"), ("hedgingDelay", r#""0.5s""#)],
        changed,
        value,
    )
}

fn with_change(policy: &str, fields: &[(&str, &str)], name: &str, value: Option<&str>) -> String {
    let unchanged = fields.iter().filter(|(field, _)| *field != name);
    let fields: Vec<_> = unchanged
        .copied()
        .chain(value.map(|value| (name, value)))
        .map(|(name, value)| format!(r#""{name}": {value}"#))
        .collect();
    format!(r#""{policy}": {{{}}}"#, fields.join(", "))
}

#[test]
fn the_empty_config_is_the_default() {
    accepts("{}", |config| {
        assert_eq!(config, ServiceConfig::default());
        assert_eq!(config.policy(), &LoadBalancingPolicy::RoundRobin);
        assert_eq!(config.health_check_service(), None);
        assert_eq!(config.method_config("/a/b"), None);
        assert_eq!(config.retry_throttling(), None);
        assert_eq!(config.max_connections_per_subchannel(), None);
        assert!(config.fields_without_effect().is_empty());
    });
    accepts(" \n{\t}\r ", |config| {
        assert_eq!(config, ServiceConfig::default())
    });
}

#[test]
fn the_root_is_an_object() {
    rejects("", "(root): must be an object, got an empty text");
    rejects(" \n", "(root): must be an object, got an empty text");
    rejects("[]", "(root): must be an object, got []");
    rejects("null", "(root): must be an object, got null");
    rejects("\"{}\"", r#"(root): must be an object, got "{}""#);
}

#[test]
fn malformed_json_is_named_by_line_and_column() {
    for (json, what) in [
        ("{", "EOF while parsing an object at line 1 column 1"),
        ("{}x", "trailing characters at line 1 column 3"),
        ("{\n \"a\": }", "expected value at line 2 column 7"),
        ("{\"a\": 1,}", "trailing comma at line 1 column 9"),
        ("// none\n{}", "expected value at line 1 column 1"),
    ] {
        rejects(json, &format!("malformed JSON: {what}"));
    }
    rejects(
        &"[".repeat(1000),
        "malformed JSON: recursion limit exceeded at line 1 column 128",
    );
}

#[test]
fn unknown_fields_are_ignored_at_every_level() {
    accepts(
        r#"{
            "later": [1, null, {"x": -2.5}],
            "healthCheckConfig": {"serviceName": "a", "later": {}},
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1, "later": 1},
            "connectionScaling": {"later": 1},
            "methodConfig": [{
                "name": [{"service": "a", "later": 5}],
                "later": true,
                "retryPolicy": {
                    "maxAttempts": 2, "initialBackoff": "1s", "maxBackoff": "1s",
                    "backoffMultiplier": 1, "retryableStatusCodes": [14], "later": ""
                }
            }]
        }"#,
        |config| {
            assert_eq!(config.health_check_service(), Some("a"));
            assert!(config.method_config("/a/b").is_some());
        },
    );
}

/// As Go's JSON takes them.
// D290
#[test]
fn field_names_may_differ_by_case() {
    accepts(
        r#"{"LoadBalancingPolicy": "pick_first", "healthcheckConfig": {"ServiceName": "a"},
            "methodConfig": [{"name": [{"Service": "a"}], "RetryPolicy": {
                "MaxAttempts": 3, "initialbackoff": "1s", "maxBackoff": "1s",
                "backoffMultiplier": 1, "retryableStatusCodes": [14]
            }}]}"#,
        |config| {
            assert_eq!(config.health_check_service(), Some("a"));
            let method = config.method_config("/a/b").expect("it is named");
            let attempts = method.retry_policy().expect("a policy").max_attempts();
            assert_eq!(attempts, 3);
            assert_eq!(config.hints().len(), 7, "{:?}", config.hints());
            let taken = r#"healthcheckConfig is read as "healthCheckConfig""#;
            assert_eq!(config.hints()[1], taken);
        },
    );
    rejects(
        r#"{"healthcheckConfig": 1}"#,
        "healthcheckConfig: must be an object, got 1",
    );
    accepts(
        r#"{"healthCheckConfig": {"serviceName": "a"}, "healthcheckConfig": 1}"#,
        |config| assert_eq!(config.health_check_service(), Some("a")),
    );
}

// D289
#[test]
fn fields_that_are_nearly_right_are_named() {
    for (json, hint) in [
        (
            r#"{"health_check_config": 1}"#,
            r#"health_check_config has no effect: the field is "healthCheckConfig""#,
        ),
        (
            r#"{"methodConfig": [{"name": [{}], "wait-for-ready": 1}]}"#,
            r#"methodConfig[0].wait-for-ready has no effect: the field is "waitForReady""#,
        ),
        (
            r#"{"healthCheckConfig": {}}"#,
            "healthCheckConfig names no service: health checks are off; \
             \"serviceName\": \"\" is the whole server",
        ),
    ] {
        accepts(json, |config| {
            assert_eq!(config.hints(), [hint]);
            assert_eq!(config.health_check_service(), None);
        });
    }
    for json in [
        "{}",
        r#"{"later": {"Later": 1}}"#,
        r#"{"healthCheckConfig": null}"#,
        r#"{"loadBalancingConfig": [{"other": {"service_name": 1}}, {"round_robin": {}}]}"#,
    ] {
        accepts(json, |config| assert!(config.hints().is_empty(), "{json}"));
    }
}

#[test]
fn null_is_absent() {
    accepts(
        r#"{"loadBalancingConfig": null, "loadBalancingPolicy": null, "healthCheckConfig": null,
            "methodConfig": null, "retryThrottling": null, "connectionScaling": null}"#,
        |config| assert_eq!(config, ServiceConfig::default()),
    );
    accepts_method(
        r#""waitForReady": null, "timeout": null, "maxRequestMessageBytes": null,
           "maxResponseMessageBytes": null, "retryPolicy": null, "hedgingPolicy": null"#,
        |method| {
            assert_eq!(method.wait_for_ready(), None);
            assert_eq!(method.timeout(), None);
            assert_eq!(method.max_request_message_bytes(), None);
            assert_eq!(method.max_response_message_bytes(), None);
            assert_eq!(method.retry_policy(), None);
            assert_eq!(method.hedging_policy(), None);
        },
    );
}

#[test]
fn a_key_stands_once_in_its_object() {
    rejects(
        r#"{"healthCheckConfig": {"serviceName": "a", "serviceName": "b"}}"#,
        r#"healthCheckConfig.serviceName: must not be a duplicate key, got "b""#,
    );
    rejects(
        r#"{"methodConfig": [], "methodConfig": []}"#,
        "methodConfig: must not be a duplicate key, got []",
    );
    rejects(
        r#"{"x": [0, {"a b": 1, "a b": 1}]}"#,
        r#"x[1]["a b"]: must not be a duplicate key, got 1"#,
    );
    rejects(
        r#"{"": 1, "\u0000": 1, "": null}"#,
        r#"[""]: must not be a duplicate key, got null"#,
    );
    accepts(r#"{"x": {"a": 1}, "y": {"a": 1}, "X": 1}"#, |_| {});
}

#[test]
fn long_values_and_keys_are_shortened() {
    let long = "é".repeat(100);
    rejects(
        &format!(r#"{{"loadBalancingPolicy": "{long}"}}"#),
        &format!(
            "loadBalancingPolicy: must name {LEAVES}, \
             got \"{}…",
            &long[..2 * 79]
        ),
    );
    rejects(
        &format!(r#"{{"{long}": 1, "{long}": 2}}"#),
        &format!("{}…: must not be a duplicate key, got 2", &long[..2 * 80]),
    );
}

#[test]
fn the_first_known_policy_of_the_list_wins() {
    for list in [
        r#"[{"round_robin": {}}]"#,
        r#"[{"round_robin": {"anything": ["at", "all"]}}]"#,
        r#"[{"xds_experimental": 5}, {"round_robin": {}}]"#,
        r#"[{"round_robin": {}}, {"round_robin": "not looked at"}]"#,
        r#"[{"round_robin": {}}, {"unknown": null}]"#,
    ] {
        accepts(&format!(r#"{{"loadBalancingConfig": {list}}}"#), |config| {
            assert_eq!(config.policy(), &LoadBalancingPolicy::RoundRobin)
        });
    }
}

#[test]
fn pick_first_is_named_with_its_own_config() {
    let pick_first = |shuffle_address_list| LoadBalancingPolicy::PickFirst {
        shuffle_address_list,
    };
    for (config, expected) in [
        (r#""loadBalancingConfig": [{"pick_first": {}}]"#, false),
        (
            r#""loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}, {"round_robin": {}}]"#,
            true,
        ),
        (
            r#""loadBalancingConfig": [{"pick_first": {"shuffleAddressList": null, "new": 1}}]"#,
            false,
        ),
        (r#""loadBalancingPolicy": "PICK_FIRST""#, false),
    ] {
        accepts(&format!("{{{config}}}"), |config| {
            assert_eq!(config.policy(), &pick_first(expected))
        });
    }
    rejects(
        r#"{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": "yes"}}]}"#,
        r#"loadBalancingConfig[0].pick_first.shuffleAddressList: must be true or false, got "yes""#,
    );
}

#[test]
fn a_list_without_a_known_policy_is_invalid() {
    let rule = "must name a policy that this channel knows (pick_first, round_robin, \
                least_request_experimental, weighted_round_robin, ring_hash_experimental, \
                outlier_detection_experimental, random_subsetting_experimental)";
    for (list, got) in [
        ("[]", "[]"),
        (
            r#"[{"grpclb": {"a": 1}}, {"xds": {}}]"#,
            r#"["grpclb","xds"]"#,
        ),
        (r#"[{"Round_Robin": {}}]"#, r#"["Round_Robin"]"#),
        (r#"[{"": {}}]"#, r#"[""]"#),
    ] {
        let expected = format!("loadBalancingConfig: {rule}, got {got}");
        rejects(&format!(r#"{{"loadBalancingConfig": {list}}}"#), &expected);
        rejects(
            &format!(r#"{{"loadBalancingConfig": {list}, "loadBalancingPolicy": "round_robin"}}"#),
            &expected,
        );
    }
}

#[test]
fn every_entry_of_the_list_has_one_key() {
    for (list, expected) in [
        (
            r#"{"round_robin": {}}"#,
            r#": must be a list, got {"round_robin":{}}"#,
        ),
        (r#""round_robin""#, r#": must be a list, got "round_robin""#),
        (
            r#"["round_robin"]"#,
            r#"[0]: must be an object, got "round_robin""#,
        ),
        ("[null]", "[0]: must be an object, got null"),
        (
            "[{}]",
            "[0]: must have exactly one key, the name of a policy, got {}",
        ),
        (
            r#"[{"round_robin": {}, "x": {}}]"#,
            r#"[0]: must have exactly one key, the name of a policy, got {"round_robin":{},"x":{}}"#,
        ),
        (
            r#"[{"round_robin": {}}, {}]"#,
            "[1]: must have exactly one key, the name of a policy, got {}",
        ),
        (
            r#"[{"round_robin": []}]"#,
            "[0].round_robin: must be an object, got []",
        ),
        (
            r#"[{"x": {}}, {"round_robin": null}, {"round_robin": {}}]"#,
            "[1].round_robin: must be an object, got null",
        ),
    ] {
        rejects(
            &format!(r#"{{"loadBalancingConfig": {list}}}"#),
            &format!("loadBalancingConfig{expected}"),
        );
    }
}

#[test]
fn the_deprecated_policy_counts_without_a_list() {
    for name in ["round_robin", "ROUND_ROBIN", "Round_Robin"] {
        accepts(&format!(r#"{{"loadBalancingPolicy": "{name}"}}"#), |c| {
            assert_eq!(c.policy(), &LoadBalancingPolicy::RoundRobin)
        });
    }
    for name in ["grpclb", "", " round_robin"] {
        rejects(
            &format!(r#"{{"loadBalancingPolicy": "{name}"}}"#),
            &format!(
                "loadBalancingPolicy: must name {LEAVES}, \
                 got \"{name}\""
            ),
        );
    }
    let list = r#""loadBalancingConfig": [{"round_robin": {}}]"#;
    accepts(
        &format!(r#"{{"loadBalancingPolicy": "grpclb", {list}}}"#),
        |config| assert_eq!(config.policy(), &LoadBalancingPolicy::RoundRobin),
    );
    let expected = "loadBalancingPolicy: must be a string, got 1";
    rejects(r#"{"loadBalancingPolicy": 1}"#, expected);
    rejects(
        &format!(r#"{{"loadBalancingPolicy": 1, {list}}}"#),
        expected,
    );
}

#[test]
fn health_is_checked_only_when_a_service_is_named() {
    for (health, service) in [
        ("null", None),
        ("{}", None),
        (r#"{"serviceName": null}"#, None),
        (r#"{"ServiceName": "x"}"#, Some("x")),
        (r#"{"service_name": "x"}"#, None),
        (r#"{"serviceName": ""}"#, Some("")),
        (r#"{"serviceName": "x"}"#, Some("x")),
        (r#"{"serviceName": "a/b é"}"#, Some("a/b é")),
    ] {
        accepts(&format!(r#"{{"healthCheckConfig": {health}}}"#), |config| {
            assert_eq!(config.health_check_service(), service, "{health}")
        });
    }
    rejects(
        r#"{"healthCheckConfig": {"serviceName": 5}}"#,
        "healthCheckConfig.serviceName: must be a string, got 5",
    );
    rejects(
        r#"{"healthCheckConfig": "x"}"#,
        r#"healthCheckConfig: must be an object, got "x""#,
    );
}

#[test]
fn the_most_specific_entry_is_found() {
    let config = parsed(
        r#"{"methodConfig": [
            {"name": [{}], "timeout": "1s"},
            {"name": [{"service": "a.S"}, {"service": "b.S", "method": null}], "timeout": "2s"},
            {"name": [{"service": "a.S", "method": "M"}], "timeout": "3s"},
            {"name": [], "timeout": "4s"},
            {"timeout": "5s"}
        ]}"#,
    );
    for (path, seconds) in [
        ("/a.S/M", 3),
        ("/a.S/Other", 2),
        ("/b.S/M", 2),
        ("/c.S/M", 1),
        ("/a.S", 1),
        ("/", 1),
        ("", 1),
        ("a.S/M", 1),
    ] {
        let found = config.method_config(path).and_then(|m| m.timeout());
        assert_eq!(found, Some(Duration::from_secs(seconds)), "{path}");
    }
}

#[test]
fn without_a_default_entry_other_methods_have_none() {
    let config = parsed(r#"{"methodConfig": [{"name": [{"service": "a", "method": "M"}]}]}"#);
    assert!(config.method_config("/a/M").is_some());
    for path in ["/a/N", "/a/", "/b/M", "/", ""] {
        assert_eq!(config.method_config(path), None, "{path}");
    }
}

#[test]
fn an_empty_name_is_for_every_method() {
    for name in [
        "{}",
        r#"{"service": null}"#,
        r#"{"service": ""}"#,
        r#"{"service": "", "method": ""}"#,
        r#"{"method": null}"#,
    ] {
        accepts(
            &format!(r#"{{"methodConfig": [{{"name": [{name}]}}]}}"#),
            |config| assert!(config.method_config("/a/b").is_some(), "{name}"),
        );
    }
}

#[test]
fn names_are_rejected() {
    for (names, expected) in [
        (
            r#"[{"method": "Bar"}]"#,
            r#".name[0]: must name the service of its method, got {"method":"Bar"}"#,
        ),
        (
            r#"[{"service": "a"}, {"service": "", "method": "Bar"}]"#,
            r#".name[1]: must name the service of its method, got {"service":"","method":"Bar"}"#,
        ),
        (
            r#"[{"service": 1}]"#,
            ".name[0].service: must be a string, got 1",
        ),
        (
            r#"[{"service": "a", "method": []}]"#,
            ".name[0].method: must be a string, got []",
        ),
        ("{}", ".name: must be a list, got {}"),
        ("[null]", ".name[0]: must be an object, got null"),
    ] {
        rejects(
            &format!(r#"{{"methodConfig": [{{"name": {names}}}]}}"#),
            &format!("methodConfig[0]{expected}"),
        );
    }
}

#[test]
fn a_name_stands_once_in_the_config() {
    for (names, again) in [
        (
            r#"{"service": "s", "method": "m"}"#,
            r#"{"service":"s","method":"m"}"#,
        ),
        (r#"{"service": "s"}"#, r#"{"service":"s"}"#),
        ("{}", "{}"),
    ] {
        rejects(
            &format!(r#"{{"methodConfig": [{{}}, {{"name": [{names}]}}, {{"name": [{names}]}}]}}"#),
            &format!(
                "methodConfig[2].name[0]: must not repeat a name that methodConfig[1] has, \
                 got {again}"
            ),
        );
    }
    rejects(
        r#"{"methodConfig": [{"name": [{}, {"service": "s"}, {"service": ""}]}]}"#,
        "methodConfig[0].name[2]: must not repeat a name that methodConfig[0] has, \
         got {\"service\":\"\"}",
    );
}

#[test]
fn an_entry_without_a_name_is_checked_too() {
    for name in ["", r#""name": null, "#, r#""name": [], "#] {
        rejects(
            &format!(r#"{{"methodConfig": [{{{name}"timeout": "5m"}}]}}"#),
            r#"methodConfig[0].timeout: must be a duration like "1.5s", got "5m""#,
        );
    }
}

#[test]
fn method_config_is_a_list_of_objects() {
    rejects(
        r#"{"methodConfig": {}}"#,
        "methodConfig: must be a list, got {}",
    );
    rejects(
        r#"{"methodConfig": [{}, 7]}"#,
        "methodConfig[1]: must be an object, got 7",
    );
}

#[test]
fn wait_for_ready_is_a_boolean() {
    for value in [true, false] {
        accepts_method(&format!(r#""waitForReady": {value}"#), |method| {
            assert_eq!(method.wait_for_ready(), Some(value))
        });
    }
    rejects_method(
        r#""waitForReady": "true""#,
        r#"waitForReady: must be true or false, got "true""#,
    );
    rejects_method(
        r#""waitForReady": 1"#,
        "waitForReady: must be true or false, got 1",
    );
    rejects(
        r#"{"methodConfig": [{"waitForReady": fall}, {"waitForReady": true}]}"#,
        "malformed JSON: expected ident at line 1 column 39",
    );
}

#[test]
fn durations_are_read_to_the_nanosecond() {
    for (text, seconds, nanos) in [
        ("1s", 1, 0),
        ("0s", 0, 0),
        ("1.5s", 1, 500_000_000),
        ("0.000000001s", 0, 1),
        ("3.123456789s", 3, 123_456_789),
        (".5s", 0, 500_000_000),
        ("1.s", 1, 0),
        ("007s", 7, 0),
        ("315576000000s", 315_576_000_000, 0),
        ("315575999999.999999999s", 315_575_999_999, 999_999_999),
    ] {
        accepts_method(&format!(r#""timeout": "{text}""#), |method| {
            let expected = Duration::new(seconds, nanos);
            assert_eq!(method.timeout(), Some(expected), "{text}");
        });
    }
}

#[test]
fn durations_are_rejected() {
    let form = r#"must be a duration like "1.5s""#;
    let negative = "must not be negative";
    let too_long = "must be at most 315576000000s";
    let digits = "must have at most 9 digits after the point";
    for (value, rule) in [
        (r#""3c""#, form),
        (r#""5m""#, form),
        (r#""5""#, form),
        (r#""""#, form),
        (r#""s""#, form),
        (r#"".s""#, form),
        (r#""-s""#, form),
        (r#""5.3.2s""#, form),
        (r#""+1s""#, form),
        (r#"" 1s""#, form),
        (r#""1 s""#, form),
        (r#""1e3s""#, form),
        (r#""1S""#, form),
        (r#""1ss""#, form),
        (r#""--1s""#, form),
        (r#""1.-5s""#, form),
        (r#""٣s""#, form),
        ("5", form),
        ("true", form),
        (r#"{"seconds":1}"#, form),
        (r#""-1s""#, negative),
        (r#""-.001s""#, negative),
        (r#""-0s""#, negative),
        (r#""3.1234567890s""#, digits),
        (r#""315576000001s""#, too_long),
        (r#""315576000000.000000001s""#, too_long),
        (r#""18446744073709551616s""#, too_long),
    ] {
        rejects_method(
            &format!(r#""timeout": {value}"#),
            &format!("timeout: {rule}, got {value}"),
        );
    }
    rejects(
        r#"{"methodConfig": [{"timeout": "3c"}, {"timeout": "1s"}]}"#,
        r#"methodConfig[0].timeout: must be a duration like "1.5s", got "3c""#,
    );
}

#[test]
fn integers_may_be_written_in_any_way_of_json() {
    for (value, expected) in [
        ("0", 0),
        ("-0", 0),
        ("1024", 1024),
        (r#""2048""#, 2048),
        ("5.0", 5),
        ("1e3", 1000),
        (r#""1E3""#, 1000),
        ("4294967295", u32::MAX),
    ] {
        let fields =
            format!(r#""maxRequestMessageBytes": {value}, "maxResponseMessageBytes": {value}"#);
        accepts_method(&fields, |method| {
            assert_eq!(method.max_request_message_bytes(), Some(expected));
            assert_eq!(method.max_response_message_bytes(), Some(expected));
        });
    }
}

#[test]
fn integers_are_rejected() {
    for value in [
        "-1",
        "1.5",
        "4294967296",
        "99999999999",
        r#""18446744073709551616""#,
        r#""1e300""#,
        r#""1e999""#,
        r#""""#,
        r#"" 5""#,
        r#""+5""#,
        r#""0x10""#,
        r#""NaN""#,
        r#""Infinity""#,
        "true",
        "[1]",
    ] {
        for field in ["maxRequestMessageBytes", "maxResponseMessageBytes"] {
            rejects_method(
                &format!(r#""{field}": {value}"#),
                &format!("{field}: must be an integer from 0 to 4294967295, got {value}"),
            );
        }
    }
}

/// The form in which `arbitrary_precision` of serde_json hands numbers over.
#[test]
fn disguised_numbers_are_numbers() {
    accepts_method(
        r#""maxRequestMessageBytes": {"$serde_json::private::Number": "77"}"#,
        |method| assert_eq!(method.max_request_message_bytes(), Some(77)),
    );
}

#[test]
fn a_retry_policy_is_read() {
    let fields = r#""retryPolicy": {
        "maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 1.5,
        "retryableStatusCodes": ["UNAVAILABLE", "aborted", 14, 8, "Cancelled"],
        "perAttemptRecvTimeout": "2s"
    }"#;
    accepts_method(fields, |method| {
        let retry = method.retry_policy().unwrap();
        assert_eq!(retry.max_attempts(), 4);
        assert_eq!(retry.initial_backoff(), Duration::from_millis(100));
        assert_eq!(retry.max_backoff(), Duration::from_secs(1));
        assert_eq!(retry.backoff_multiplier(), 1.5);
        assert_eq!(
            retry.retryable_status_codes(),
            [
                Code::Unavailable,
                Code::Aborted,
                Code::ResourceExhausted,
                Code::Cancelled
            ]
        );
        assert_eq!(
            retry.per_attempt_recv_timeout(),
            Some(Duration::from_secs(2))
        );
        assert_eq!(method.hedging_policy(), None);
    });
}

#[test]
fn attempts_are_what_the_config_says() {
    for (value, attempts) in [("2", 2), ("5", 5), ("1000", 1_000), (r#""3""#, 3)] {
        accepts_method(&retry_policy("maxAttempts", Some(value)), |method| {
            assert_eq!(method.retry_policy().unwrap().max_attempts(), attempts)
        });
        accepts_method(&hedging_policy("maxAttempts", Some(value)), |method| {
            assert_eq!(method.hedging_policy().unwrap().max_attempts(), attempts)
        });
    }
}

#[test]
fn retry_policies_are_rejected() {
    let attempts = "must be an integer of at least 2";
    let form = r#"must be a duration like "1.5s""#;
    let positive = "must be longer than 0s";
    for (field, value, rule) in [
        ("maxAttempts", Some("-1"), attempts),
        ("maxAttempts", Some("0"), attempts),
        ("maxAttempts", Some("1"), attempts),
        ("maxAttempts", Some("2.5"), attempts),
        ("maxAttempts", Some("null"), attempts),
        ("maxAttempts", None, attempts),
        ("initialBackoff", Some(r#""0s""#), positive),
        ("initialBackoff", Some("1"), form),
        ("initialBackoff", Some(r#""-1s""#), "must not be negative"),
        ("initialBackoff", None, form),
        ("maxBackoff", Some(r#"".0s""#), positive),
        ("maxBackoff", None, form),
        ("backoffMultiplier", Some("0"), "must be a number above 0"),
        ("backoffMultiplier", Some("-1"), "must be a number above 0"),
        (
            "backoffMultiplier",
            Some(r#""x""#),
            "must be a number above 0",
        ),
        ("backoffMultiplier", None, "must be a number above 0"),
        (
            "retryableStatusCodes",
            Some("[]"),
            "must list at least one status code",
        ),
        (
            "retryableStatusCodes",
            None,
            "must list at least one status code",
        ),
        (
            "retryableStatusCodes",
            Some(r#""ABORTED""#),
            "must be a list",
        ),
        ("perAttemptRecvTimeout", Some(r#""0s""#), positive),
        (
            "perAttemptRecvTimeout",
            Some(r#""-1s""#),
            "must not be negative",
        ),
    ] {
        let got = value.unwrap_or("nothing");
        rejects_method(
            &retry_policy(field, value),
            &format!("retryPolicy.{field}: {rule}, got {got}"),
        );
    }
    rejects_method(
        r#""retryPolicy": []"#,
        "retryPolicy: must be an object, got []",
    );
}

#[test]
fn a_receive_timeout_makes_the_codes_optional() {
    for codes in ["[]", "null"] {
        let fields = retry_policy("retryableStatusCodes", Some(codes));
        let fields = fields.replace(
            "\"maxAttempts\"",
            r#""perAttemptRecvTimeout": "1s", "maxAttempts""#,
        );
        accepts_method(&fields, |method| {
            let retry = method.retry_policy().unwrap();
            assert!(retry.retryable_status_codes().is_empty());
        });
    }
}

#[test]
fn every_status_code_has_its_name_and_number() {
    for number in 1..=16 {
        let code = Code::from_i32(number);
        let name = crate::error::CODES[number as usize];
        assert_eq!(name.replace('_', ""), format!("{code:?}").to_uppercase());
        for spelling in [
            number.to_string(),
            format!("{name:?}"),
            format!("{:?}", name.to_lowercase()),
        ] {
            let fields = retry_policy("retryableStatusCodes", Some(&format!("[{spelling}]")));
            accepts_method(&fields, |method| {
                let retry = method.retry_policy().unwrap();
                assert_eq!(retry.retryable_status_codes(), [code], "{spelling}");
            });
        }
    }
}

#[test]
fn status_codes_are_rejected() {
    let form = r#"must be the name of a status code like "UNAVAILABLE" or its number from 0 to 16"#;
    let not_ok = "must not be OK, which does not count as a failure";
    for (value, rule) in [
        (r#""OK""#, not_ok),
        (r#""ok""#, not_ok),
        ("0", not_ok),
        ("17", form),
        ("-1", form),
        ("1.5", form),
        ("null", form),
        (r#""14""#, form),
        (r#""CANCELED""#, form),
        (r#""""#, form),
    ] {
        let codes = format!("[1, {value}]");
        rejects_method(
            &retry_policy("retryableStatusCodes", Some(&codes)),
            &format!("retryPolicy.retryableStatusCodes[1]: {rule}, got {value}"),
        );
        rejects_method(
            &hedging_policy("nonFatalStatusCodes", Some(&codes)),
            &format!("hedgingPolicy.nonFatalStatusCodes[1]: {rule}, got {value}"),
        );
    }
}

#[test]
fn a_hedging_policy_is_read() {
    accepts_method(r#""hedgingPolicy": {"maxAttempts": 3}"#, |method| {
        let hedging = method.hedging_policy().unwrap();
        assert_eq!(hedging.max_attempts(), 3);
        assert_eq!(hedging.hedging_delay(), Duration::ZERO);
        assert!(hedging.non_fatal_status_codes().is_empty());
        assert_eq!(method.retry_policy(), None);
    });
    accepts_method(
        r#""hedgingPolicy": {
            "maxAttempts": 3, "hedgingDelay": "0.5s", "nonFatalStatusCodes": ["UNAVAILABLE"]
        }"#,
        |method| {
            let hedging = method.hedging_policy().unwrap();
            assert_eq!(hedging.hedging_delay(), Duration::from_millis(500));
            assert_eq!(hedging.non_fatal_status_codes(), [Code::Unavailable]);
        },
    );
}

#[test]
fn hedging_policies_are_rejected() {
    for (field, value, rule) in [
        ("maxAttempts", Some("1"), "must be an integer of at least 2"),
        ("maxAttempts", None, "must be an integer of at least 2"),
        ("hedgingDelay", Some(r#""-1s""#), "must not be negative"),
        (
            "hedgingDelay",
            Some("1"),
            r#"must be a duration like "1.5s""#,
        ),
        ("nonFatalStatusCodes", Some("{}"), "must be a list"),
    ] {
        let got = value.unwrap_or("nothing");
        rejects_method(
            &hedging_policy(field, value),
            &format!("hedgingPolicy.{field}: {rule}, got {got}"),
        );
    }
}

#[test]
fn retrying_and_hedging_exclude_each_other() {
    let fields = format!("{}, {}", retry_policy("", None), hedging_policy("", None));
    let json = format!(r#"{{"methodConfig": [{{{fields}}}]}}"#);
    let error = json.parse::<ServiceConfig>().unwrap_err();
    assert!(
        error.message().starts_with(
            "service config: methodConfig[0]: \
             must not have both a retryPolicy and a hedgingPolicy, got {"
        ),
        "{error}"
    );
}

#[test]
fn retry_throttling_counts_thousandths() {
    for (tokens, ratio, max_tokens, token_ratio) in [
        ("10", "0.1", 10.0, 0.1),
        ("1000", "1", 1000.0, 1.0),
        (r#""0.5""#, r#""1.001""#, 0.5, 1.001),
        ("0.001", "0.5466", 0.001, 0.546),
        ("100", "0.0010009", 100.0, 0.001),
    ] {
        let json =
            format!(r#"{{"retryThrottling": {{"maxTokens": {tokens}, "tokenRatio": {ratio}}}}}"#);
        accepts(&json, |config| {
            let throttling = config.retry_throttling().unwrap();
            assert_eq!(throttling.max_tokens(), max_tokens);
            assert_eq!(throttling.token_ratio(), token_ratio);
        });
    }
}

#[test]
fn retry_throttling_is_rejected_also_without_methods() {
    let tokens = "maxTokens: must be a number above 0 and at most 1000";
    let ratio = "tokenRatio: must be a number of at least 0.001";
    for (throttling, expected) in [
        (r#"{"tokenRatio": 1}"#, format!("{tokens}, got nothing")),
        (
            r#"{"maxTokens": 0, "tokenRatio": 1}"#,
            format!("{tokens}, got 0"),
        ),
        (
            r#"{"maxTokens": -1, "tokenRatio": 1}"#,
            format!("{tokens}, got -1"),
        ),
        (
            r#"{"maxTokens": 1001, "tokenRatio": 1}"#,
            format!("{tokens}, got 1001"),
        ),
        (
            r#"{"maxTokens": [], "tokenRatio": 1}"#,
            format!("{tokens}, got []"),
        ),
        (r#"{"maxTokens": 10}"#, format!("{ratio}, got nothing")),
        (
            r#"{"maxTokens": 10, "tokenRatio": 0}"#,
            format!("{ratio}, got 0"),
        ),
        (
            r#"{"maxTokens": 10, "tokenRatio": 0.0009}"#,
            format!("{ratio}, got 0.0009"),
        ),
        (
            r#"{"maxTokens": 10, "tokenRatio": "x"}"#,
            format!("{ratio}, got \"x\""),
        ),
    ] {
        rejects(
            &format!(r#"{{"retryThrottling": {throttling}}}"#),
            &format!("retryThrottling.{expected}"),
        );
    }
    rejects(
        r#"{"retryThrottling": 1}"#,
        "retryThrottling: must be an object, got 1",
    );
}

#[test]
fn connection_scaling_is_read() {
    for (value, expected) in [
        ("2", Some(2)),
        (r#""20""#, Some(20)),
        ("0", Some(0)),
        ("null", None),
    ] {
        accepts(
            &format!(r#"{{"connectionScaling": {{"maxConnectionsPerSubchannel": {value}}}}}"#),
            |config| assert_eq!(config.max_connections_per_subchannel(), expected),
        );
    }
    rejects(
        r#"{"connectionScaling": {"maxConnectionsPerSubchannel": -1}}"#,
        "connectionScaling.maxConnectionsPerSubchannel: \
         must be an integer from 0 to 4294967295, got -1",
    );
    rejects(
        r#"{"connectionScaling": []}"#,
        "connectionScaling: must be an object, got []",
    );
}

/// One of each, so that there is something to break everywhere.
const RICH: &str = r#"{
    "loadBalancingPolicy": "round_robin",
    "loadBalancingConfig": [{"xds": {"a": [1, 2.5e3]}}, {"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "démo.Greeter"},
    "methodConfig": [
        {"name": [{}], "waitForReady": true, "timeout": "1.5s"},
        {
            "name": [{"service": "a", "method": "b"}, {"service": "c"}],
            "maxRequestMessageBytes": 1024, "maxResponseMessageBytes": "2048",
            "retryPolicy": {
                "maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "1s",
                "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", 10]
            }
        },
        {"name": [{"service": "d"}], "hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": "0s"}}
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    "connectionScaling": {"maxConnectionsPerSubchannel": 2}
}"#;

#[test]
fn fields_without_effect_are_named() {
    let per_attempt = retry_policy("perAttemptRecvTimeout", Some(r#""2s""#));
    let per_attempt = format!(r#"{{"methodConfig": [{{{per_attempt}}}]}}"#);
    accepts(&per_attempt, |config| {
        let field = "methodConfig.retryPolicy.perAttemptRecvTimeout";
        assert_eq!(config.fields_without_effect(), [field]);
    });
    let apart = r#"{"weighted_round_robin": {"enableOobLoadReport": true}}"#;
    let in_subset = format!(
        r#"{{"random_subsetting_experimental": {{"subsetSize": 2, "childPolicy": [{apart}]}}}}"#
    );
    for policy in [apart, &in_subset] {
        accepts(
            &format!(r#"{{"loadBalancingConfig": [{policy}]}}"#),
            |config| {
                let field = "loadBalancingConfig.weighted_round_robin.enableOobLoadReport";
                assert_eq!(config.fields_without_effect(), [field]);
            },
        );
    }
    accepts(RICH, |config| {
        assert_eq!(
            config.fields_without_effect(),
            ["connectionScaling.maxConnectionsPerSubchannel",]
        )
    });
    accepts(
        r#"{"methodConfig": [{"name": [{}]}, {"timeout": "1s"}], "connectionScaling": {}}"#,
        |config| assert!(config.fields_without_effect().is_empty()),
    );
    accepts(
        r#"{"loadBalancingPolicy": "round_robin", "healthCheckConfig": {"serviceName": ""}}"#,
        |config| assert!(config.fields_without_effect().is_empty()),
    );
}

#[test]
fn equal_configs_are_equal() {
    assert_eq!(parsed(RICH), parsed(RICH));
    assert_ne!(parsed(RICH), parsed(&RICH.replace("1.5s", "1.6s")));
}

#[test]
fn damaged_configs_are_read_or_explained() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..5_000 {
        let mut bytes = RICH.as_bytes().to_vec();
        for _ in 0..rng.usize(1..4) {
            damage(&mut bytes, &mut rng);
        }
        let json = String::from_utf8_lossy(&bytes);
        if let Err(error) = json.parse::<ServiceConfig>() {
            let text = error.message().strip_prefix("service config: ");
            let explained = |text: &str| {
                let (place, rule) = text.split_once(": ").unwrap_or_default();
                let in_value = rule.starts_with("must ") && rule.contains(", got ");
                let in_text = rule.contains(" at line ") && rule.contains(" column ");
                !place.is_empty() && (in_value || in_text)
            };
            assert!(
                text.is_some_and(explained),
                "{json} is rejected with {error}"
            );
        }
    }
}

/// Overwrites, removes, inserts or copies a few bytes somewhere.
fn damage(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    const LIKELY: &[u8] = b"{}[]\",:0123456789.-+eEs\\ntu \x00\xff";
    let at = rng.usize(..bytes.len());
    let byte = match rng.bool() {
        true => LIKELY[rng.usize(..LIKELY.len())],
        false => rng.u8(..),
    };
    match rng.u8(..4) {
        0 => bytes[at] = byte,
        1 => bytes.insert(at, byte),
        2 => drop(bytes.drain(at..bytes.len().min(at + 1 + rng.usize(..8)))),
        _ => {
            let piece = bytes[at..bytes.len().min(at + rng.usize(..40))].to_vec();
            let to = rng.usize(..bytes.len());
            bytes.splice(to..to, piece);
        }
    }
}
