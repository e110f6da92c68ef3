//! Channels whose endpoints are made here, and have options in common.

use tower::BoxError;

use super::{
    Channel,
    builder::{ChannelBuilder, MadeOf},
};
use crate::{
    discover,
    error::{Error, ErrorKind},
    transport::Endpoint,
};

impl Channel {
    /// A channel over the backends at these URIs or [`Endpoint`]s, as
    /// [`discover::list`] has them.
    ///
    /// # Errors
    ///
    /// As [`discover::list`].
    ///
    /// ```no_run
    /// use tonic_health_channel::Channel;
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let channel = Channel::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?
    ///     .health_check("demo.Greeter")
    ///     .build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn list<I>(endpoints: I) -> Result<ChannelBuilder, Error>
    where
        I: IntoIterator,
        I::Item: TryInto<Endpoint>,
        <I::Item as TryInto<Endpoint>>::Error: Into<BoxError>,
    {
        let endpoints = endpoints.into_iter().map(Endpoint::new);
        Self::over_list(endpoints.collect::<Result<_, _>>()?)
    }

    fn over_list(endpoints: Vec<Endpoint>) -> Result<ChannelBuilder, Error> {
        let mut builder = Self::balance(discover::list(endpoints.iter().cloned())?);
        builder.made_of = MadeOf::List(endpoints);
        Ok(builder)
    }
}

impl ChannelBuilder {
    /// Sets options of the endpoints of a channel by [`Channel::target`] or [`Channel::list`].
    /// Those of a target have a scheme to gain too: with TLS it is `https`.
    ///
    /// # Errors
    ///
    /// What `options` fails with. [`ErrorKind::InvalidEndpoint`] if an endpoint whose URI has
    /// the scheme `http`, or at a Unix socket, is given TLS. [`ErrorKind::InvalidOption`] if the
    /// channel has another source: its endpoints have their options from there.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tonic_health_channel::Channel;
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let channel = Channel::target("dns:///shop.example:50051")?
    ///     .endpoint(|endpoint| endpoint.timeout(Duration::from_secs(5)))?
    ///     .build();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// With the feature `tls-ring` or `tls-aws-lc` so is
    /// `.endpoint(|endpoint| endpoint.tls_config(tls))?`.
    pub fn endpoint<T>(self, mut options: impl FnMut(Endpoint) -> T) -> Result<Self, Error>
    where
        T: TryInto<Endpoint>,
        T::Error: Into<BoxError>,
    {
        let mut set = |before: Endpoint, may_change_scheme| {
            let endpoint = Endpoint::new(options(before.clone()))?;
            endpoint.secured_since(&before, may_change_scheme)
        };
        let made = match self.made_of {
            MadeOf::Target { target, template } => {
                let has_own_scheme = ["http://", "https://", "unix:", "unix-abstract:"]
                    .iter()
                    .any(|scheme| target.starts_with(scheme));
                let before = match has_own_scheme {
                    true => template.with_target_of(&Endpoint::from_shared(target.clone())?),
                    false => *template,
                };
                Channel::target_with(&target, set(before, !has_own_scheme)?)?
            }
            MadeOf::List(endpoints) => {
                let endpoints = endpoints.into_iter().map(|endpoint| set(endpoint, false));
                Channel::over_list(endpoints.collect::<Result<_, _>>()?)?
            }
            MadeOf::Source => {
                let text = "the builder cannot set options of endpoints that a source makes; set \
                            them in the source";
                return Err(Error::new(ErrorKind::InvalidOption, text));
            }
        };
        let ChannelBuilder {
            backends, made_of, ..
        } = made;
        Ok(Self {
            backends,
            made_of,
            ..self
        })
    }
}
