//! The service for tonic's server.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{Body as HttpBody, BoxFuture, Service, StdError, http},
    server::NamedService,
};

use crate::{
    handle::HealthHandle,
    options::HealthOptions,
    pb::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_server::{Health, HealthServer},
    },
    registry::Registry,
    shared::Shared,
    watch::WatchStream,
    wire,
};

/// The longest request in bytes. tonic takes 4 MiB, and reserves what the first 5 bytes of a
/// request promise.
const MAX_REQUEST: usize = 4 * 1024;

/// The service `grpc.health.v1.Health`, for `add_service` of any tonic server.
///
/// A clone answers from the same statuses. An interceptor goes around it with
/// `tonic::service::interceptor::InterceptedService::new(service, interceptor)`.
#[derive(Clone, Debug)]
pub struct HealthService {
    server: HealthServer<Answers>,
}

impl HealthService {
    /// A handle for the application, and the service for its server.
    ///
    /// The server as a whole, `""`, is SERVING from the start. Other names are unknown until
    /// they are set.
    ///
    /// ```no_run
    /// use grpc_health_service::{HealthService, ServingStatus};
    /// use tonic::transport::Server;
    ///
    /// # async fn run() -> Result<(), tonic::transport::Error> {
    /// let (health, service) = HealthService::new();
    /// health.set("demo.v1.Greeter", ServingStatus::Serving);
    /// let address = "[::]:50051".parse().expect("an address");
    /// Server::builder().add_service(service).serve(address).await
    /// # }
    /// ```
    pub fn new() -> (HealthHandle, Self) {
        Self::with_options(HealthOptions::default())
    }

    /// The same with other limits.
    pub fn with_options(options: HealthOptions) -> (HealthHandle, Self) {
        let shared = Arc::new(Shared::new(options.max_watchers));
        let answers = Answers {
            shared: Arc::clone(&shared),
            max_watchers: options.max_watchers,
        };
        let server = HealthServer::new(answers).max_decoding_message_size(MAX_REQUEST);
        (HealthHandle::new(shared), Self { server })
    }
}

impl NamedService for HealthService {
    const NAME: &'static str = <HealthServer<Answers> as NamedService>::NAME;
}

impl<B> Service<http::Request<B>> for HealthService
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<http::Request<B>>::poll_ready(&mut self.server, cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        self.server.call(request)
    }
}

/// The 3 methods of the protocol.
#[derive(Debug)]
struct Answers {
    shared: Arc<Shared>,
    max_watchers: usize,
}

#[tonic::async_trait]
impl Health for Answers {
    type WatchStream = WatchStream;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = &request.get_ref().service;
        wire::validate_name(name)?;
        let status = self.shared.ask(|registry| registry.status(name));
        match status {
            Some(_) => Ok(Response::new(wire::response(status))),
            None => Err(wire::unknown_service()),
        }
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let own = |registry: &Registry<_>| {
            let known = registry.list()?.into_iter();
            Ok(known
                .map(|(name, status)| (name.to_owned(), wire::response(Some(status))))
                .collect())
        };
        match self.shared.ask(own) {
            Ok(statuses) => Ok(Response::new(HealthListResponse { statuses })),
            Err(crate::registry::TooManyServices) => Err(wire::too_many_services()),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let name = &request.get_ref().service;
        wire::validate_name(name)?;
        match WatchStream::new(&self.shared, name) {
            Ok(stream) => Ok(Response::new(stream)),
            Err(crate::registry::TooManyWatchers) => {
                Err(wire::too_many_watchers(self.max_watchers))
            }
        }
    }
}
