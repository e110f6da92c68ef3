//! A service config that a file holds, as it changes.

use std::path::PathBuf;

use futures_util::{Stream, stream};

use super::builder::ChannelBuilder;
use crate::{discover::WatchedFile, error::Error, service_config::ServiceConfig};

impl ChannelBuilder {
    /// Takes the service config from the file at `path`, as it is there from time to time:
    /// gRPC's JSON. It is watched as [`discover::file`](crate::discover::file()) watches its
    /// list, so also where a ConfigMap of Kubernetes replaces a link on the way to it.
    ///
    /// A file that is missing, half-written or invalid leaves the last good config in force,
    /// which is one WARN until there is something else to read. Before there was a good one,
    /// [`service_config`](Self::service_config) counts if it was called; else calls fail with
    /// the reason until there is. It takes the place of
    /// [`service_config_updates`](Self::service_config_updates).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) if `path` does not end in
    /// the name of a file.
    ///
    /// ```no_run
    /// use tonic_health_channel::Channel;
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let channel = Channel::target("dns:///shop.example:50051")?
    ///     .service_config_file("/etc/shop/service_config.json")?
    ///     .build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn service_config_file(self, path: impl Into<PathBuf>) -> Result<Self, Error> {
        let file = WatchedFile::new(path.into())?;
        Ok(self.service_config_updates(configs(file)))
    }
}

fn configs(file: WatchedFile) -> impl Stream<Item = Result<Option<ServiceConfig>, Error>> {
    stream::unfold(file, async |mut file| {
        let config = match file.next().await {
            Ok(content) => config(content).map_err(|why| file.error(&why)),
            Err(why) => Err(file.error(&why)),
        };
        Some((config.map(Some), file))
    })
}

fn config(content: &Result<Vec<u8>, String>) -> Result<ServiceConfig, String> {
    let bytes = content.as_ref().map_err(Clone::clone)?;
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let parsed = text.parse::<ServiceConfig>();
    parsed.map_err(|error| error.message().to_owned())
}
