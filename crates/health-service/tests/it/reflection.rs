//! The descriptor of the service, in a server that reflects.

use grpc_health_service::FILE_DESCRIPTOR_SET;
use prost::Message;
use testing::within;
use tokio::net::TcpListener;
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::transport::Server;
use tonic_reflection::{
    pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    },
    server::Builder,
};

use super::server::endpoint;

/// The fields of a `FileDescriptorProto` that name services and their methods.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(Clone, PartialEq, Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
}

async fn ask(
    client: &mut ServerReflectionClient<tonic::transport::Channel>,
    question: MessageRequest,
) -> MessageResponse {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let answer = client.server_reflection_info(tokio_stream::once(request));
    let mut answers = answer.await.expect("a stream").into_inner();
    let answer = answers.next().await.expect("an answer");
    let answer = answer.expect("no error").message_response;
    answer.expect("an answer to this question")
}

#[tokio::test]
async fn a_client_of_server_reflection_learns_of_each_method() {
    let reflection = Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("a descriptor");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let served = Server::builder()
        .add_service(reflection)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(served);
    let channel = endpoint(address).connect().await.expect("a connection");
    let mut client = ServerReflectionClient::new(channel);

    let symbol = MessageRequest::FileContainingSymbol("grpc.health.v1.Health".to_owned());
    let answer = within("a file", ask(&mut client, symbol)).await;
    let MessageResponse::FileDescriptorResponse(answer) = answer else {
        panic!("no file: {answer:?}");
    };
    let file = File::decode(&*answer.file_descriptor_proto[0]).expect("a descriptor");
    let methods = file.services.into_iter().map(|service| {
        let methods = service.methods.into_iter().map(|method| method.name);
        (service.name, methods.collect::<Vec<_>>())
    });
    let expected = ["Check", "List", "Watch"].map(str::to_owned).to_vec();
    assert_eq!(
        methods.collect::<Vec<_>>(),
        [("Health".to_owned(), expected)]
    );
}
