//! A tonic server on a port of its own, and clients of its health service.

use std::net::SocketAddr;

use grpc_health_service::HealthService;
use testing::{
    health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, health_client::HealthClient,
    },
    within,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

pub(crate) type Client = HealthClient<Channel>;
pub(crate) type Served = JoinHandle<Result<(), tonic::transport::Error>>;

/// Serves until `stop` is ready, and then stops gracefully.
pub(crate) async fn serve_until(
    service: HealthService,
    stop: impl Future<Output = ()> + Send + 'static,
) -> (SocketAddr, Served) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let served = Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop);
    (address, tokio::spawn(served))
}

/// Serves as long as the runtime runs.
pub(crate) async fn serve(service: HealthService) -> Client {
    let (address, _served) = serve_until(service, std::future::pending()).await;
    connect(address).await
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("a URI")
}

pub(crate) async fn connect(address: SocketAddr) -> Client {
    let channel = endpoint(address).connect().await.expect("a connection");
    HealthClient::new(channel)
}

/// A stream of `Watch`, with the numbers of its messages.
#[derive(Debug)]
pub(crate) struct Watch(Streaming<HealthCheckResponse>);

impl Watch {
    pub(crate) async fn next(&mut self) -> Result<Option<i32>, Status> {
        let message = within("a message of the Watch", self.0.message()).await?;
        Ok(message.map(|message| message.status))
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, status: i32) -> impl Future<Output = ()> {
        let next = self.next();
        async move { assert_eq!(next.await.expect("an open Watch"), Some(status)) }
    }

    /// Ends with `code`, without another message.
    pub(crate) async fn expect_end(&mut self, code: Code) {
        let ended = self.next().await.expect_err("the end of the Watch");
        assert_eq!(ended.code(), code, "{ended}");
    }
}

pub(crate) async fn watch(client: &Client, name: &str) -> Result<Watch, Status> {
    let answer = within("an answer to Watch", client.clone().watch(request(name))).await?;
    Ok(Watch(answer.into_inner()))
}

pub(crate) async fn open_watch(client: &Client, name: &str) -> Watch {
    watch(client, name).await.expect("an open Watch")
}

pub(crate) async fn check(client: &Client, name: &str) -> Result<i32, Status> {
    let answer = within("an answer to Check", client.clone().check(request(name))).await?;
    Ok(answer.into_inner().status)
}

/// Names in order, with the numbers of their statuses.
pub(crate) async fn list(client: &Client) -> Result<Vec<(String, i32)>, Status> {
    let mut client = client.clone();
    let answer = within("an answer to List", client.list(HealthListRequest {})).await?;
    let statuses = answer.into_inner().statuses.into_iter();
    let mut statuses: Vec<_> = statuses.map(|(name, it)| (name, it.status)).collect();
    statuses.sort();
    Ok(statuses)
}

fn request(name: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: name.to_owned(),
    }
}
