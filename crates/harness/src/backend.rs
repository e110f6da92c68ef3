//! The kit's backend with a greeter, a health service of any kind, and records of what has
//! reached both.

mod builder;
mod observe;

use std::{net::SocketAddr, sync::Arc};

use grpc_health_service::{HealthHandle, HealthService as OwnHealthService};
#[cfg(feature = "gzip")]
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::server::{HealthReporter, HealthService as TonicHealthService};
use tonic_health_channel_testing as kit;

pub use builder::{Builder, HealthKind};

use super::{
    front::Traffic, greeter::greeter_server::GreeterServer, greeter_service::GreeterService,
    health::health_server::HealthServer, health_service::ScriptedHealth,
};

#[derive(Debug)]
pub struct Backend {
    kit: kit::Backend,
    addr: SocketAddr,
    greeter: GreeterService,
    health: Health,
    traffic: Arc<Traffic>,
}

/// The part that answers health calls.
#[derive(Debug)]
enum Health {
    Own(HealthHandle, OwnHealthService),
    Tonic(HealthReporter),
    Scripted(Arc<ScriptedHealth>),
    None,
}

impl Backend {
    /// A backend that is up, with `grpc-health-service`, on which `""` and the greeter are
    /// SERVING.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// As [`kit::Backend::restart`].
    pub async fn restart(&self) {
        self.kit.restart().await;
    }

    /// As [`kit::Backend::kill`].
    pub async fn kill(&self) {
        self.kit.kill().await;
    }

    /// Resets all connections and goes on accepting new ones.
    pub fn cut_connections(&self) {
        self.kit.reset_connections();
    }

    /// Resets one connection, by its number among all that were accepted, from 0.
    pub fn cut_connection(&self, number: usize) {
        self.kit.reset_connection(number);
    }

    /// Stops accepting, sends GOAWAY and lets open calls end. No status changes before. The
    /// drain begins now. The future is ready when the last connection has ended.
    pub fn stop_gracefully(&self) -> impl Future<Output = ()> + Send + use<> {
        self.kit.stop()
    }
}

impl Health {
    fn routes(&self, greeter: GreeterService) -> Routes {
        let routes = Routes::new(GreeterServer::new(greeter));
        match self {
            Self::Own(_, service) => routes.add_service(service.clone()),
            Self::Tonic(reporter) => {
                let service = TonicHealthService::from_health_reporter(reporter.clone());
                routes.add_service(tonic_health::pb::health_server::HealthServer::new(service))
            }
            Self::Scripted(service) => {
                let service = HealthServer::from_arc(Arc::clone(service));
                #[cfg(feature = "gzip")]
                let service = service.accept_compressed(CompressionEncoding::Gzip);
                routes.add_service(service)
            }
            Self::None => routes,
        }
    }
}
