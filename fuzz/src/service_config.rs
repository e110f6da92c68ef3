//! Text to a service config.
//!
//! An input that is not UTF-8 is text in which each byte above ASCII stands for one
//! of [`WORDS`], so that a change of one byte is another config rather than another
//! typing error.

use serde_json::Value;
use tonic_health_channel::ServiceConfig;

/// What the parser knows.
const WORDS: [&str; 96] = [
    r#""methodConfig":["#,
    r#""name":["#,
    r#""service":"#,
    r#""method":"#,
    r#""waitForReady":"#,
    r#""timeout":"#,
    r#""maxRequestMessageBytes":"#,
    r#""maxResponseMessageBytes":"#,
    r#""retryPolicy":{"#,
    r#""maxAttempts":"#,
    r#""initialBackoff":"#,
    r#""maxBackoff":"#,
    r#""backoffMultiplier":"#,
    r#""retryableStatusCodes":["#,
    r#""perAttemptRecvTimeout":"#,
    r#""hedgingPolicy":{"#,
    r#""hedgingDelay":"#,
    r#""nonFatalStatusCodes":["#,
    r#""retryThrottling":{"#,
    r#""maxTokens":"#,
    r#""tokenRatio":"#,
    r#""healthCheckConfig":{"#,
    r#""serviceName":"#,
    r#""loadBalancingConfig":["#,
    r#""loadBalancingPolicy":"#,
    r#""round_robin":{"#,
    r#""pick_first":{"#,
    r#""shuffleAddressList":"#,
    r#""connectionScaling":{"#,
    r#""maxConnectionsPerSubchannel":"#,
    r#""round_robin""#,
    r#""PICK_FIRST""#,
    r#""a.B""#,
    r#""C""#,
    r#""""#,
    r#""1s""#,
    r#""0.000000001s""#,
    r#""315576000000s""#,
    r#""-1s""#,
    r#"".5s""#,
    r#""UNAVAILABLE""#,
    r#""unavailable""#,
    r#""14""#,
    r#""1e3""#,
    "14",
    "4294967295",
    "1e400",
    "1e-400",
    "0.0009999999999",
    "1000.0000001",
    "-0",
    "2.0",
    "true",
    "false",
    "null",
    "{",
    "}",
    "[",
    "]",
    ",",
    "},",
    "}]",
    "]}",
    "\\u0000",
    r#""weighted_round_robin":{"#,
    r#""least_request_experimental":{"#,
    r#""ring_hash_experimental":{"#,
    r#""random_subsetting_experimental":{"#,
    r#""outlier_detection_experimental":{"#,
    r#""childPolicy":["#,
    r#""subsetSize":"#,
    r#""choiceCount":"#,
    r#""minRingSize":"#,
    r#""maxRingSize":"#,
    r#""requestHashHeader":"#,
    r#""interval":"#,
    r#""baseEjectionTime":"#,
    r#""maxEjectionTime":"#,
    r#""maxEjectionPercent":"#,
    r#""serverErrorsOnly":"#,
    r#""successRateEjection":{"#,
    r#""failurePercentageEjection":{"#,
    r#""stdevFactor":"#,
    r#""threshold":"#,
    r#""enforcementPercentage":"#,
    r#""minimumHosts":"#,
    r#""requestVolume":"#,
    r#""onlyBelowPercentage":"#,
    r#""enableOobLoadReport":"#,
    r#""blackoutPeriod":"#,
    r#""weightExpirationPeriod":"#,
    r#""weightUpdatePeriod":"#,
    r#""errorUtilizationPenalty":"#,
    r#""metricNamesForComputingUtilization":["#,
    r#""x-User""#,
    r#"{"round_robin":{}}"#,
];

/// A key that is not in the protocol.
const UNKNOWN: &str = "not a field of a service config";

/// What serde_json makes of a number where another crate wants all of its digits.
const PRIVATE: &str = "$serde_json::private";

pub fn check(data: &[u8]) {
    let text = text(data);
    // As it may be part of any text, and would then stand for a number.
    if text.contains(PRIVATE) || text.contains(UNKNOWN) {
        return;
    }
    let parsed = text.parse::<ServiceConfig>();
    let json = serde_json::from_str::<Value>(&text);
    match &parsed {
        Ok(config) => {
            let json = json.as_ref().expect("a config is JSON");
            assert_means(config, json);
        }
        Err(error) => {
            let message = error.message();
            assert!(message.starts_with("service config: "), "{message}");
            // The path to the value, at most 128 keys, each shortened, and the value.
            assert!(message.len() < 64 << 10, "{} bytes", message.len());
        }
    }
    if json.is_ok() {
        let padded = padded(&text);
        let again = padded.parse::<ServiceConfig>();
        assert_eq!(
            parsed.as_ref().ok(),
            again.as_ref().ok(),
            "{text}\nand {padded}"
        );
    }
}

fn text(data: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(data) {
        return text.to_owned();
    }
    let mut text = String::new();
    for byte in data {
        match byte {
            0..128 => text.push(char::from(*byte)),
            word => text.push_str(WORDS[usize::from(word - 128) % WORDS.len()]),
        }
    }
    text
}

/// The config says what the document says, as far as that can be told in few words.
fn assert_means(config: &ServiceConfig, json: &Value) {
    let name = &json["healthCheckConfig"]["serviceName"];
    assert_eq!(config.health_check_service(), name.as_str(), "{json}");
    assert_eq!(config.policy().to_string(), policy(json), "{json}");
    let written = ServiceConfig::default().with_policy(config.policy().clone());
    assert_eq!(
        written.as_ref().map(ServiceConfig::policy).ok(),
        Some(config.policy()),
        "{json}"
    );
    for method in json["methodConfig"].as_array().into_iter().flatten() {
        for name in method["name"].as_array().into_iter().flatten() {
            let (service, called) = (&name["service"], &name["method"]);
            let (service, called) = (service.as_str(), called.as_str());
            let path = format!("/{}/{}", service.unwrap_or(""), called.unwrap_or(""));
            // A path does not tell where a service with a slash in it ends.
            if path.matches('/').count() > 2 || service.is_none_or(str::is_empty) {
                continue;
            }
            let found = config.method_config(&path).expect("an entry by its name");
            assert_eq!(found.wait_for_ready(), method["waitForReady"].as_bool());
            let bytes = found.max_request_message_bytes();
            assert_eq!(bytes.is_some(), !method["maxRequestMessageBytes"].is_null());
            let timeout = found.timeout();
            assert_eq!(timeout.is_some(), !method["timeout"].is_null());
            if let Some(retry) = found.retry_policy() {
                assert!(retry.max_attempts() >= 2);
                assert!(retry.initial_backoff() > std::time::Duration::ZERO);
                assert!(retry.max_backoff() > std::time::Duration::ZERO);
                assert!(retry.backoff_multiplier() > 0.0);
                assert!(retry.backoff_multiplier().is_finite());
                assert!(found.hedging_policy().is_none());
            }
            if let Some(hedging) = found.hedging_policy() {
                assert!(hedging.max_attempts() >= 2);
            }
        }
    }
    if let Some(throttling) = config.retry_throttling() {
        assert!(throttling.max_tokens() > 0.0 && throttling.max_tokens() <= 1000.0);
        assert!(throttling.token_ratio() > 0.0);
    }
}

/// The policies, from the outermost to the one that chooses, as a config displays them.
fn policy(json: &Value) -> String {
    let deprecated = || known(json["loadBalancingPolicy"].as_str()?.to_ascii_lowercase());
    listed(&json["loadBalancingConfig"])
        .or_else(deprecated)
        .unwrap_or_else(|| "round_robin".to_owned())
}

fn listed(list: &Value) -> Option<String> {
    list.as_array()?.iter().find_map(|entry| {
        let (name, config) = entry.as_object()?.iter().next()?;
        match name.as_str() {
            "outlier_detection_experimental" | "random_subsetting_experimental" => {
                Some(format!("{name}({})", listed(&config["childPolicy"])?))
            }
            _ => known(name.clone()),
        }
    })
}

fn known(name: String) -> Option<String> {
    let known = matches!(
        name.as_str(),
        "round_robin"
            | "pick_first"
            | "least_request_experimental"
            | "weighted_round_robin"
            | "ring_hash_experimental"
    );
    known.then_some(name)
}

/// The same JSON with white space between all of its tokens, and a field that nobody
/// knows in every object but the entries of a list of policies, which have one key.
fn padded(json: &str) -> String {
    let mut padded = String::new();
    // What is open: the keys of objects, of which the last is being read.
    let mut open: Vec<Open> = Vec::new();
    let mut rest = json.trim_start();
    while let Some(token) = token(rest) {
        rest = rest[token.len()..].trim_start();
        match token {
            "{" => {
                padded.push_str("{ ");
                let is_entry = matches!(&open[..],
                    [.., Open::Object { key, .. }, Open::List]
                        if ["loadBalancingConfig", "childPolicy"].contains(&key.as_str()));
                if !is_entry {
                    let comma = if rest.starts_with('}') { "" } else { "," };
                    padded.push_str(&format!("\"{UNKNOWN}\": 0{comma} "));
                }
                open.push(Open::object());
                continue;
            }
            "[" => open.push(Open::List),
            "}" | "]" => drop(open.pop()),
            "," => {
                if let Some(Open::Object { wants_key, .. }) = open.last_mut() {
                    *wants_key = true;
                }
            }
            text => {
                if let Some(Open::Object { key, wants_key }) = open.last_mut()
                    && *wants_key
                {
                    *key = serde_json::from_str(text).expect("a key is a string");
                    *wants_key = false;
                }
            }
        }
        padded.push_str(token);
        padded.push_str("\r\n\t ");
    }
    padded
}

enum Open {
    Object { key: String, wants_key: bool },
    List,
}

impl Open {
    fn object() -> Self {
        Self::Object {
            key: String::new(),
            wants_key: true,
        }
    }
}

/// The token at the start of what is left of valid JSON.
fn token(rest: &str) -> Option<&str> {
    let first = rest.chars().next()?;
    let length = match first {
        '{' | '}' | '[' | ']' | ',' | ':' => 1,
        '"' => {
            let mut escaped = false;
            let end = rest.char_indices().skip(1).find(|(_, letter)| {
                let ends = *letter == '"' && !escaped;
                escaped = *letter == '\\' && !escaped;
                ends
            });
            end.expect("a string that ends").0 + 1
        }
        _ => {
            let ends = |letter: char| letter.is_whitespace() || "{}[],:\"".contains(letter);
            rest.find(ends).unwrap_or(rest.len())
        }
    };
    Some(&rest[..length])
}
