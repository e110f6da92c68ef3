//! The service config in a TXT record (gRFC A2): which of its entries is for us.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{
    error::{Error, ErrorKind},
    service_config::ServiceConfig,
};

/// How a record that is about gRPC begins.
pub(super) const PREFIX: &str = "grpc_config=";

const LANGUAGE: &str = "rust";

/// Who chooses.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) hostname: String,
    /// Below 100: an entry is for us if its percentage is above.
    pub(super) draw: u8,
}

/// One entry, with its values as they are written: of the configs for others nobody
/// needs to know whether they are valid.
type Choice = HashMap<String, Box<RawValue>>;

/// The config of the first entry of `text`, found at `name`, that is for `client`.
///
/// # Errors
///
/// [`ErrorKind::InvalidServiceConfig`] if an entry before it is not of the form, or if
/// its config is not valid.
pub(super) fn choose(
    name: &str,
    text: &str,
    client: &Client,
) -> Result<Option<ServiceConfig>, Error> {
    let invalid = |why: String| {
        let text = format!("service config: TXT record of {name}: {why}");
        Error::new(ErrorKind::InvalidServiceConfig, text)
    };
    let json = text.strip_prefix(PREFIX).unwrap_or(text);
    let choices: Vec<Choice> = serde_json::from_str(json)
        .map_err(|error| invalid(format!("not a list of JSON objects: {error}")))?;
    for (at, choice) in choices.iter().enumerate() {
        let invalid = |why: String| invalid(format!("[{at}].{why}"));
        if !client.is_meant(choice).map_err(invalid)? {
            continue;
        }
        let Some(config) = choice.get("serviceConfig") else {
            return Err(invalid("serviceConfig: must be present".to_owned()));
        };
        let parsed = config.get().parse::<ServiceConfig>();
        return parsed.map(Some).map_err(|error| {
            let why = error.message().trim_start_matches("service config: ");
            invalid(format!("serviceConfig: {why}"))
        });
    }
    Ok(None)
}

impl Client {
    /// Every condition that an entry has must hold; an empty list is no condition.
    fn is_meant(&self, choice: &Choice) -> Result<bool, String> {
        let strings = "must be a list of strings";
        let languages: Vec<String> = value(choice, "clientLanguage", strings)?.unwrap_or_default();
        let hosts: Vec<String> = value(choice, "clientHostname", strings)?.unwrap_or_default();
        let number = "must be a number from 0 to 100";
        let percentage: u8 = value(choice, "percentage", number)?.unwrap_or(100);
        if percentage > 100 {
            return Err(format!("percentage: {number}, got {percentage}"));
        }
        let is_ours = |language: &String| language.eq_ignore_ascii_case(LANGUAGE);
        Ok((languages.is_empty() || languages.iter().any(is_ours))
            && (hosts.is_empty() || hosts.contains(&self.hostname))
            && self.draw < percentage)
    }
}

/// `null` is as good as nothing.
fn value<T: DeserializeOwned>(choice: &Choice, key: &str, rule: &str) -> Result<Option<T>, String> {
    let Some(raw) = choice.get(key) else {
        return Ok(None);
    };
    serde_json::from_str(raw.get()).map_err(|_| format!("{key}: {rule}, got {raw}"))
}

#[cfg(test)]
mod tests {
    use super::{Client, choose};
    use crate::error::ErrorKind;

    fn client() -> Client {
        Client {
            hostname: "here".to_owned(),
            draw: 42,
        }
    }

    /// The health service of the config that is chosen.
    #[track_caller]
    fn chosen(record: &str) -> Option<String> {
        let record = format!("grpc_config={record}");
        let config = choose("x", &record, &client()).expect("a valid record")?;
        config.health_check_service().map(str::to_owned)
    }

    fn entry(conditions: &str, name: &str) -> String {
        let config = format!(r#"{{"healthCheckConfig": {{"serviceName": "{name}"}}}}"#);
        format!(r#"{{{conditions} "serviceConfig": {config}}}"#)
    }

    #[track_caller]
    fn is_taken(conditions: &str, taken: bool) {
        let record = format!("[{}]", entry(conditions, "a"));
        assert_eq!(chosen(&record).is_some(), taken, "{record}");
    }

    #[test]
    fn an_entry_without_conditions_is_for_everybody() {
        is_taken("", true);
        is_taken(r#""clientLanguage": null, "percentage": null,"#, true);
        is_taken(r#""clientLanguage": [], "clientHostname": [],"#, true);
        is_taken(r#""something": {"new": 1},"#, true);
    }

    #[test]
    fn every_condition_has_to_hold() {
        is_taken(r#""clientLanguage": ["go", "Rust"],"#, true);
        is_taken(r#""clientLanguage": ["go", "java"],"#, false);
        is_taken(r#""clientHostname": ["there", "here"],"#, true);
        is_taken(r#""clientHostname": ["there"],"#, false);
        is_taken(r#""percentage": 43,"#, true);
        is_taken(r#""percentage": 42,"#, false);
        is_taken(r#""percentage": 0,"#, false);
        is_taken(r#""percentage": 100,"#, true);
        let both = r#""clientLanguage": ["rust"], "percentage": 10,"#;
        is_taken(both, false);
    }

    #[test]
    fn the_first_that_is_for_us_is_taken() {
        let entries = [
            entry(r#""percentage": 10,"#, "canary"),
            entry(r#""clientLanguage": ["rust"],"#, "a"),
            entry("", "b"),
        ];
        let record = format!("[{}]", entries.join(","));
        assert_eq!(chosen(&record).as_deref(), Some("a"));
        assert_eq!(chosen("[]"), None, "none is no error");
    }

    #[track_caller]
    fn is_rejected(record: &str, why: &str) {
        let error = choose("_grpc_config.x", record, &client()).expect_err("must be rejected");
        assert_eq!(error.kind(), ErrorKind::InvalidServiceConfig);
        let expected = format!("service config: TXT record of _grpc_config.x: {why}");
        assert!(error.message().starts_with(&expected), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        is_rejected("grpc_config={}", "not a list of JSON objects: ");
        is_rejected("grpc_config=[1]", "not a list of JSON objects: ");
        is_rejected("grpc_config=[{}]", "[0].serviceConfig: must be present");
        is_rejected(
            r#"grpc_config=[{"clientLanguage": "rust"}]"#,
            r#"[0].clientLanguage: must be a list of strings, got "rust""#,
        );
        for percentage in ["101", "-1", "300", "1.5", r#""5""#] {
            is_rejected(
                &format!(r#"grpc_config=[{{"percentage": {percentage}}}]"#),
                &format!("[0].percentage: must be a number from 0 to 100, got {percentage}"),
            );
        }
        is_rejected(
            r#"grpc_config=[{"percentage": 0}, {"serviceConfig": {"methodConfig": 1}}]"#,
            "[1].serviceConfig: methodConfig: ",
        );
        let twice = r#"grpc_config=[{"serviceConfig": {"a": 1, "a": 2}}]"#;
        is_rejected(twice, "[0].serviceConfig: ");
    }

    #[test]
    fn a_config_for_others_may_be_anything() {
        let other = r#"{"clientLanguage": ["go"], "serviceConfig": {"methodConfig": 1}}"#;
        let record = format!("[{other}, {}]", entry("", "ours"));
        assert_eq!(chosen(&record).as_deref(), Some("ours"));
    }
}
