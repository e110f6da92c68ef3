//! A source of service configs that a test plays.

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic_health_channel::{Channel, ChannelBuilder, Error, ServiceConfig};

use super::{checking, within};

/// The service configs of a channel, as a test names them.
pub struct Configs(mpsc::UnboundedSender<Result<Option<ServiceConfig>, Error>>);

impl Configs {
    /// A source of configs that has said nothing yet, and the channel that asks it.
    pub fn of(builder: ChannelBuilder) -> (Self, Channel) {
        let (configs, updates) = mpsc::unbounded_channel();
        let updates = UnboundedReceiverStream::new(updates);
        let channel = builder.service_config_updates(updates).build();
        (Self(configs), channel)
    }

    /// What does not parse arrives as an error.
    pub fn say(&self, json: &str) {
        self.send(json.parse().map(Some));
    }

    pub fn say_none(&self) {
        self.send(Ok(None));
    }

    /// From now on the health of `service` is to be checked.
    pub fn check(&self, service: &str) {
        self.send(Ok(Some(checking(service))));
    }

    fn send(&self, update: Result<Option<ServiceConfig>, Error>) {
        self.0.send(update).expect("the channel listens");
    }

    /// Awaits that another config is in force. The one that is would be in vain.
    pub async fn put_in_force(&self, channel: &Channel, json: &str) {
        let mut published = channel.watch_status();
        published.status();
        self.say(json);
        let next = within("the config to be in force", published.changed()).await;
        next.expect("the channel is open");
    }
}

/// A config that says this of every method, and nothing else.
pub fn of_all_methods(rules: &str) -> String {
    format!(r#"{{"methodConfig": [{{"name": [{{}}], {rules}}}]}}"#)
}
