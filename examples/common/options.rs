//! What `client` is told on its command line.

use std::time::Duration;

use tonic_health_channel::ServiceConfig;

use super::{
    Result,
    arguments::{Misuse, duration, parse},
};

const DEFAULT_CONFIG: &str = r#"{"healthCheckConfig":{"serviceName":"demo.v1.Greeter"}}"#;

pub(crate) struct Options {
    pub(crate) uris: Vec<String>,
    pub(crate) config: ServiceConfig,
    pub(crate) every: Duration,
    pub(crate) count: usize,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            uris: Vec::new(),
            config: parse("the default config", DEFAULT_CONFIG)?,
            every: Duration::from_millis(500),
            count: usize::MAX,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let missing = || Misuse(format!("{argument} needs a value"));
                arguments.next().ok_or_else(missing)
            };
            match argument.as_str() {
                "--config" => options.config = parse("--config", &text_or_file(value()?)?)?,
                "--every" => options.every = duration("--every", &value()?)?,
                "--count" => options.count = parse("--count", &value()?)?,
                _ if argument.starts_with('-') => {
                    return Err(Misuse(format!("there is no option {argument}")).into());
                }
                _ => options.uris.push(argument),
            }
        }
        match options.uris.is_empty() {
            true => Err(Misuse("no backend given".to_owned()).into()),
            false => Ok(options),
        }
    }
}

/// `text` itself, or what is in the file that `@` points to.
fn text_or_file(text: String) -> Result<String> {
    let Some(path) = text.strip_prefix('@') else {
        return Ok(text);
    };
    let read = std::fs::read_to_string(path);
    read.map_err(|error| Misuse(format!("--config: cannot read `{path}`: {error}")).into())
}
