//! A set of backends that does not change.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use futures_util::Stream;
use tower::discover::Change;

use crate::{
    error::{Error, ErrorKind},
    transport::Endpoint,
};

/// A fixed set of backends, each named by its URI or its socket. Made by [`list`].
#[derive(Debug)]
#[must_use = "a source names no backend until it is polled, such as by a channel"]
pub struct List(vec::IntoIter<Endpoint>);

/// The backends at these URIs or [`Endpoint`]s. One that is listed twice is one
/// backend, as in gRPC for Go and Java.
///
/// # Errors
///
/// [`ErrorKind::InvalidEndpoint`] if the list is empty, or if one of its entries
/// is no [`Endpoint`], or has a user or a password; the text says which.
///
/// ```
/// use tonic_health_channel::discover;
///
/// let backends = discover::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"]);
/// assert!(backends.is_ok());
/// assert!(discover::list(["10.0.0.1:50051"]).is_err(), "there is no scheme");
///
/// let of_environment = "http://10.0.0.1:50051,http://10.0.0.2:50051".to_owned();
/// assert!(discover::list(of_environment.split(',')).is_ok());
/// let owned = vec![of_environment; 1];
/// assert!(discover::list(&owned).is_err(), "a comma is not of a URI");
/// ```
pub fn list<I>(endpoints: I) -> Result<List, Error>
where
    I: IntoIterator,
    I::Item: TryInto<Endpoint>,
    <I::Item as TryInto<Endpoint>>::Error: Into<tower::BoxError>,
{
    let endpoints: Vec<_> = endpoints
        .into_iter()
        .map(Endpoint::new)
        .collect::<Result<_, _>>()?;
    if endpoints.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidEndpoint,
            "the list of backends is empty; a channel over it could never send a call",
        ));
    }
    Ok(List(endpoints.into_iter()))
}

impl Stream for List {
    type Item = Result<Change<String, Endpoint>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let insert = |endpoint: Endpoint| Ok(Change::Insert(endpoint.name(), endpoint));
        Poll::Ready(self.0.next().map(insert))
    }
}
