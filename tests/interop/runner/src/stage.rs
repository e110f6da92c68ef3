//! The backends of a scenario, and a channel over them.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tonic_health_channel::{
    Channel, ConnectivityState, Endpoint, discover,
    health::HealthStatus,
    status::{BackendStatus, ChannelStatus},
};

use crate::{
    greeter::greeter_client::GreeterClient,
    languages::Language,
    report::Trouble,
    scenarios::Scenario,
    server::{PATIENCE, Server},
};

/// The service that backends serve, by the name under which its health is asked for.
pub(crate) const GREETER: &str = "demo.v1.Greeter";

/// One language, or several behind one channel.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) languages: Vec<Language>,
    /// Those that have nothing to show in a scenario, and why.
    left_out: Vec<String>,
}

impl Target {
    pub(crate) fn alone(language: &Language) -> Self {
        Self {
            name: language.name.to_owned(),
            languages: vec![language.clone()],
            left_out: Vec::new(),
        }
    }

    pub(crate) fn mixed(languages: &[Language]) -> Self {
        Self {
            name: "mixed".to_owned(),
            languages: languages.to_vec(),
            left_out: Vec::new(),
        }
    }

    /// Without the languages that cannot do a scenario.
    pub(crate) fn able(mut self, scenario: &Scenario) -> Self {
        self.languages.retain(|language| {
            let why = language.cannot(scenario.name);
            self.left_out.extend(why.map(str::to_owned));
            why.is_none()
        });
        self
    }

    /// Those that can do the scenario, at least 1.
    pub(crate) fn languages(&self) -> Result<&[Language], Trouble> {
        match self.languages.is_empty() {
            true => Err(Trouble::Cannot(self.left_out.join("; "))),
            false => Ok(&self.languages),
        }
    }

    /// What is told of a scenario, and the languages that had nothing to show in it.
    pub(crate) fn note(&self, text: String) -> String {
        note(text, &self.left_out.join("; "))
    }

    /// As many backends as there are languages, but `least` of them; each with these
    /// arguments, and its health as they say.
    pub(crate) async fn start(&self, least: usize, arguments: &[&str]) -> Result<Stage, Trouble> {
        let count = self.languages()?.len().max(least);
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        let starts = (0..count).zip(self.languages.iter().cycle());
        let starts = starts.map(|(at, language)| {
            let name = format!("{}-{at}", language.name);
            let (language, arguments) = (language.clone(), arguments.clone());
            tokio::spawn(async move { Server::start(&language, name, &arguments).await })
        });
        let mut servers = Vec::with_capacity(count);
        for start in starts.collect::<Vec<_>>() {
            let server = start.await.map_err(|panic| panic.to_string())??;
            servers.push(Arc::new(server));
        }
        Ok(Stage {
            servers,
            without: self.left_out.join("; "),
        })
    }

    /// The same, with the greeter and the server as a whole SERVING.
    pub(crate) async fn start_serving(
        &self,
        least: usize,
        arguments: &[&str],
    ) -> Result<Stage, Trouble> {
        let health = format!("=SERVING,{GREETER}=SERVING");
        let arguments = [&["--health", &health], arguments].concat();
        self.start(least, &arguments).await
    }
}

pub(crate) struct Stage {
    pub(crate) servers: Vec<Arc<Server>>,
    without: String,
}

impl Stage {
    /// A channel over all backends, that asks for the health of the greeter.
    pub(crate) fn channel(&self) -> Result<Channel, String> {
        self.channel_for(GREETER, |endpoint| endpoint)
    }

    pub(crate) fn channel_for(
        &self,
        service: &str,
        configure: impl Fn(Endpoint) -> Endpoint,
    ) -> Result<Channel, String> {
        let endpoints = self.servers.iter().map(|server| {
            let uri = format!("http://{}", server.address());
            Ok(configure(Endpoint::from_shared(uri).map_err(text)?))
        });
        balance(service, endpoints.collect::<Result<_, String>>()?)
    }

    /// A channel that is READY with every backend, and whose calls have this policy, a member of
    /// a `methodConfig`.
    pub(crate) async fn ready_with_policy(&self, policy: &str) -> Result<Channel, String> {
        let uris = self.servers.iter().map(|server| server.address());
        let uris = uris.map(|address| format!("http://{address}"));
        let config = format!(
            r#"{{"healthCheckConfig": {{"serviceName": "{GREETER}"}},
                "methodConfig": [{{"name": [{{"service": "{GREETER}"}}], {policy}}}]}}"#
        );
        let channel = Channel::balance(discover::list(uris).map_err(text)?)
            .service_config(config.parse().map_err(text)?)
            .build();
        all_ready(&channel).await?;
        Ok(channel)
    }

    /// The same when it is READY with every backend.
    pub(crate) async fn ready(&self) -> Result<Channel, String> {
        let channel = self.channel()?;
        all_ready(&channel).await?;
        Ok(channel)
    }

    /// The text with names of backends beside their addresses.
    pub(crate) fn named(&self, text: String) -> String {
        self.servers.iter().fold(text, |text, server| {
            let address = server.address();
            text.replace(&address, &format!("{address} ({})", server.name))
        })
    }

    /// The same as [`Target::note`].
    pub(crate) fn note(&self, text: String) -> String {
        note(text, &self.without)
    }
}

fn note(text: String, without: &str) -> String {
    match without {
        "" => text,
        without => format!("{text}; without one: {without}"),
    }
}

pub(crate) fn balance(service: &str, endpoints: Vec<Endpoint>) -> Result<Channel, String> {
    let config = format!(r#"{{"healthCheckConfig": {{"serviceName": "{service}"}}}}"#);
    let channel = Channel::balance(discover::list(endpoints).map_err(text)?)
        .service_config(config.parse().map_err(text)?)
        .build();
    Ok(channel)
}

/// For `map_err`.
pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(crate) fn client(channel: &Channel) -> GreeterClient<Channel> {
    GreeterClient::new(channel.clone())
}

pub(crate) fn is_ready(backend: &Arc<BackendStatus>) -> bool {
    backend.state() == ConnectivityState::Ready
}

/// Waits until `condition` is true of the channel; `what` says it in words.
pub(crate) async fn until(
    channel: &Channel,
    what: &str,
    condition: impl Fn(&ChannelStatus) -> bool,
) -> Result<(), String> {
    let mut watch = channel.watch_status();
    match timeout(PATIENCE, watch.wait_for(|status| condition(status))).await {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("expected {what}; seen: {}", described(channel))),
    }
}

pub(crate) async fn all_ready(channel: &Channel) -> Result<(), String> {
    let all = |status: &ChannelStatus| {
        !status.backends().is_empty() && status.backends().iter().all(is_ready)
    };
    until(channel, "all backends READY", all).await
}

/// Waits until every backend is in this state, with this health.
pub(crate) async fn all_are(
    channel: &Channel,
    state: ConnectivityState,
    health: HealthStatus,
) -> Result<(), String> {
    let what = format!("all backends {state}, health {health}");
    until(channel, &what, |status| {
        let mut backends = status.backends().iter();
        !status.backends().is_empty()
            && status.state() == state
            && backends.all(|one| one.state() == state && one.health() == health)
    })
    .await
}

/// Waits until the channel knows the health of one backend.
pub(crate) async fn health_is(
    channel: &Channel,
    server: &Server,
    health: HealthStatus,
) -> Result<(), String> {
    let address = server.address();
    let what = format!("{} to be {health}", server.name);
    until(channel, &what, |status| {
        let mut backends = status.backends().iter();
        backends.any(|one| one.address() == address && one.health() == health)
    })
    .await
}

/// Waits until no call is on one backend. What it said of its health is known, so none
/// follows.
pub(crate) async fn is_drained(channel: &Channel, server: &Server) -> Result<(), String> {
    let address = server.address();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let backends = channel.backends();
        let mut of_it = backends.iter().filter(|one| one.address() == address);
        if of_it.all(|one| one.calls_in_flight() == 0) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let name = &server.name;
            return Err(format!("calls stay on {name}: {}", described(channel)));
        }
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn described(channel: &Channel) -> String {
    let backends: Vec<_> = channel.backends().iter().map(|b| b.to_string()).collect();
    format!("{} [{}]", channel.state(), backends.join("; "))
}
