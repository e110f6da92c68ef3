//! Which servers, and which of their services: what `watch`, `check` and `list` are
//! told in the same words.

use std::time::Duration;

use clap::Args;
use tonic_health_channel::{Channel, ChannelBuilder, channel::BackoffConfig, status::Cause};

use crate::{connect::ConnectArgs, exit::Exit, limits, spelling::spelled};

/// A command that somebody looks at has to notice soon that a backend is back.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The targets and services that a command asks about.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArgs {
    /// Servers: host:port, :port for this host, dns:///host:port, ipv4:address:port,…, unix:path,
    /// https://host:port, or a file with a JSON list of URIs (file:///path, ./path)
    #[arg(value_name = "TARGET", required = true)]
    targets: Vec<String>,
    /// Ask about this service; may be repeated. The default is the whole server ("")
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<String>,
}

impl TargetArgs {
    /// Each once, in the order in which they were given.
    pub(crate) fn targets(&self) -> Vec<String> {
        once(&self.targets)
    }

    pub(crate) fn services(&self) -> Vec<String> {
        match self.services.is_empty() {
            true => vec![String::new()],
            false => once(&self.services),
        }
    }
}

fn once(given: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for text in given {
        if !kept.contains(text) {
            kept.push(text.clone());
        }
    }
    kept
}

/// A channel to `target` in the making. It never rests, and is soon to notice a backend
/// that is back.
pub(crate) fn channel(target: &str, connect: &ConnectArgs) -> Result<ChannelBuilder, Exit> {
    let has_own_scheme = ["http://", "unix:", "unix-abstract:"]
        .iter()
        .any(|scheme| target.starts_with(scheme));
    if connect.tls() && has_own_scheme {
        let text = format!("target `{target}` is plaintext, which --tls does not permit");
        return Err(Exit::bad_arguments(text));
    }
    let template = connect.template(target)?;
    let target = spelled(target)?;
    let builder = Channel::target_with(&target, template).map_err(Exit::bad_arguments)?;
    Ok(builder.connect_backoff(pauses()).idle_timeout(None))
}

/// The pauses between attempts, to connect or to ask: 1 s, growing to 5 s.
pub(crate) fn pauses() -> BackoffConfig {
    BackoffConfig::default()
        .initial(FIRST_PAUSE)
        .expect("it is not zero")
        .max(LONGEST_PAUSE)
}

/// What is wrong with a source. The library adds when it asks again, which is another
/// time each time; the same failure is to have the same text.
pub(crate) fn trouble(cause: &Cause) -> String {
    let text = limits::blamed(cause.to_string());
    match text.rsplit_once(" (next attempt in ") {
        Some((why, _)) => why.to_owned(),
        None => text,
    }
}

/// The whole server has no name, which would not show.
pub(crate) fn service_text(service: &str) -> &str {
    match service {
        "" => "\"\"",
        service => service,
    }
}

/// A duration that is not nothing.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be longer than 0 s".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

/// The time from one round to the next: at least 100 ms.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_millis(100);
    match duration(text)? {
        short if short < LEAST => Err("it must be at least 100ms".to_owned()),
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_twice_is_asked_once() {
        let given = ["b", "a", "b"].map(str::to_owned);
        assert_eq!(once(&given), ["b", "a"]);
    }

    #[test]
    fn a_duration_of_nothing_is_refused() {
        assert_eq!(duration("1s"), Ok(Duration::from_secs(1)));
        assert!(duration("0s").is_err());
        assert!(duration("soon").is_err());
        assert!(interval("99ms").is_err());
    }
}
