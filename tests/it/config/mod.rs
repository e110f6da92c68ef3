//! Service configs that are in force, and what calls make of them.

mod methods;
mod updates;

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic_health_channel::{Channel, ChannelBuilder, Error, ServiceConfig};

use crate::support::within;

/// The service configs of a channel, as a test names them.
struct Configs(mpsc::UnboundedSender<Result<Option<ServiceConfig>, Error>>);

impl Configs {
    /// A source of configs that has said nothing yet, and the channel that asks it.
    fn of(builder: ChannelBuilder) -> (Self, Channel) {
        let (configs, updates) = mpsc::unbounded_channel();
        let updates = UnboundedReceiverStream::new(updates);
        (
            Self(configs),
            builder.service_config_updates(updates).build(),
        )
    }

    /// What does not parse arrives as an error.
    fn say(&self, json: &str) {
        self.send(json.parse().map(Some));
    }

    fn say_none(&self) {
        self.send(Ok(None));
    }

    fn send(&self, update: Result<Option<ServiceConfig>, Error>) {
        self.0.send(update).expect("the channel listens");
    }

    /// Awaits that another config is in force.
    async fn put_in_force(&self, channel: &Channel, json: &str) {
        let mut published = channel.watch_status();
        published.status();
        self.say(json);
        let next = within("the config to be in force", published.changed()).await;
        next.expect("the channel is open");
    }
}

/// A config that says this of every method.
fn of_all_methods(rules: &str) -> String {
    format!(r#"{{"methodConfig": [{{"name": [{{}}], {rules}}}]}}"#)
}
