//! What an application adds to every call to say on whose behalf it is made
//! (gRPC's call credentials).

use std::{fmt, future::Future, sync::Arc};

use futures_util::future::BoxFuture;
use http::{HeaderMap, uri::Authority};
use tonic::{Code, Status, metadata::MetadataMap};

use crate::{
    error::{Error, ErrorKind},
    util::contained::{Contained, contained_future},
};

/// Where a call goes: what its credentials may depend on.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    path: String,
    authority: Authority,
    secure: bool,
}

impl RequestInfo {
    pub(in crate::transport) fn new(path: &str, authority: &Authority, secure: bool) -> Self {
        Self {
            path: path.to_owned(),
            authority: authority.clone(),
            secure,
        }
    }

    /// `/package.Service/Method`
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the server is called in requests: host and port of its endpoint, or
    /// its [`origin`](crate::Endpoint::origin).
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether the call goes out behind TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// `https://host/package.Service`, with the port if it is not 443: the audience
    /// of a token that is made for one service, in gRPC's form.
    ///
    /// ```
    /// use tonic::metadata::MetadataMap;
    /// use tonic_health_channel::{Channel, discover};
    ///
    /// # fn token_for(_: &str) -> String { "it".to_owned() }
    /// # fn example() -> Result<(), tonic_health_channel::Error> {
    /// let builder = Channel::balance(discover::list(["https://greeter.example"])?)
    ///     .call_credentials(|call| async move {
    ///         let mut metadata = MetadataMap::new();
    ///         let bearer = format!("Bearer {}", token_for(&call.service_url()));
    ///         let bearer = bearer.parse().map_err(|_| {
    ///             tonic::Status::unauthenticated("the token is no header value")
    ///         })?;
    ///         metadata.insert("authorization", bearer);
    ///         Ok(metadata)
    ///     });
    /// # Ok(())
    /// # }
    /// ```
    pub fn service_url(&self) -> String {
        let authority = self.authority.as_str();
        let host = authority.strip_suffix(":443").unwrap_or(authority);
        let service = self
            .path
            .rsplit_once('/')
            .map_or("", |(service, _)| service);
        format!("https://{host}{service}")
    }
}

type Hook = dyn Fn(RequestInfo) -> BoxFuture<'static, Result<MetadataMap, Status>> + Send + Sync;

/// What is asked for the metadata of each call, and whether it may be sent in the
/// clear.
#[derive(Clone)]
pub(crate) struct CallCredentials {
    hook: Arc<Hook>,
    allow_plaintext: bool,
}

impl CallCredentials {
    pub(crate) fn new<F, C>(hook: F) -> Self
    where
        F: Fn(RequestInfo) -> C + Send + Sync + 'static,
        C: Future<Output = Result<MetadataMap, Status>> + Send + 'static,
    {
        let hook = Contained::new(hook);
        Self {
            hook: Arc::new(move |info| Box::pin(hook(info))),
            allow_plaintext: false,
        }
    }

    pub(crate) fn over_plaintext(self) -> Self {
        Self {
            allow_plaintext: true,
            ..self
        }
    }

    /// What is to be added to the headers of one attempt.
    pub(in crate::transport) async fn headers(
        &self,
        info: RequestInfo,
    ) -> Result<HeaderMap, Error> {
        if !info.secure && !self.allow_plaintext {
            let text = format!(
                "cannot send secure credentials on an insecure connection: {} is plaintext; \
                 `allow_plaintext_credentials` permits this",
                info.authority
            );
            return Err(Error::new(ErrorKind::Credentials, text));
        }
        match contained_future(async { Contained::new((self.hook)(info)).await }).await {
            Ok(metadata) => Ok(metadata.map_err(failed)?.into_headers()),
            Err(text) => {
                let text = format!("call credentials panicked: {text}");
                Err(Error::with_status(
                    ErrorKind::Credentials,
                    Status::internal(text),
                ))
            }
        }
    }
}

impl fmt::Debug for CallCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallCredentials").finish_non_exhaustive()
    }
}

/// A code that only a server can mean is INTERNAL (gRFC A54): the caller would take
/// it for the server's word.
fn failed(status: Status) -> Error {
    let text = format!("call credentials: {}", status.message());
    let status = match status.code() {
        code @ (Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::DataLoss) => Status::internal(format!("{text} ({code:?})")),
        code => Status::new(code, text),
    };
    Error::with_status(ErrorKind::Credentials, status)
}

#[cfg(test)]
mod tests {
    use http::uri::Authority;
    use tonic::{Code, Status};

    use super::{RequestInfo, failed};

    #[test]
    fn the_audience_of_a_token_is_the_service_without_the_usual_port() {
        let url = |authority: &'static str| {
            let authority = Authority::from_static(authority);
            RequestInfo::new("/demo.v1.Greeter/SayHello", &authority, true).service_url()
        };
        assert_eq!(
            url("greeter.example"),
            "https://greeter.example/demo.v1.Greeter"
        );
        assert_eq!(
            url("greeter.example:443"),
            "https://greeter.example/demo.v1.Greeter"
        );
        assert_eq!(
            url("10.0.0.1:8443"),
            "https://10.0.0.1:8443/demo.v1.Greeter"
        );
    }

    #[test]
    fn a_code_that_is_for_servers_is_internal() {
        for (given, told) in [
            (Code::Unauthenticated, Code::Unauthenticated),
            (Code::Unavailable, Code::Unavailable),
            (Code::NotFound, Code::Internal),
            (Code::Ok, Code::Internal),
        ] {
            let error = failed(Status::new(given, "no token"));
            assert_eq!(error.code(), told);
            assert!(error.message().starts_with("call credentials: no token"));
        }
    }
}
