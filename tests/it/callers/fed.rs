//! A request body moves although its call is not polled, for as long as its stream lives.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use testing::{
    Backend, GREETER,
    greeter::{
        HelloReply, HelloRequest,
        greeter_client::GreeterClient,
        greeter_server::{Greeter, GreeterServer},
    },
    request, within,
};
use tokio::{
    net::TcpListener,
    select,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::side::Side;

const MESSAGES: usize = 12;

// D262
#[tokio::test]
async fn a_stream_that_is_fed_while_its_answer_is_awaited_is_sent() {
    for side in Side::BOTH {
        let backend = Backend::builder().serving(GREETER).start().await;
        let mut client = side.client(&backend);
        within("a connection", client.say_hello(request("you")))
            .await
            .expect("an answer");
        let (names, body) = mpsc::channel(1);
        let mut answer = Box::pin(client.greet_all(ReceiverStream::new(body)));
        let fed = async {
            let mut names = Some(names);
            let mut sent = 0;
            loop {
                let Some(sender) = &names else {
                    let answer = answer.as_mut().await.expect("an answer");
                    return (sent, answer.into_inner().message);
                };
                select! {
                    biased;
                    // Once polled, and then left alone while the loop feeds.
                    answer = answer.as_mut() => panic!("answered before the end: {answer:?}"),
                    name = sender.send(request("you")), if sent < MESSAGES => {
                        name.expect("the body is read");
                        sent += 1;
                        // All others are sent without a poll of the call.
                        while sent < MESSAGES {
                            sender.send(request("you")).await.expect("the body is read");
                            sent += 1;
                        }
                        names = None;
                    }
                }
            }
        };
        let (sent, message) = within("a fed stream to be sent", fed).await;
        assert_eq!(sent, MESSAGES, "{side}");
        assert_eq!(message.matches("you").count(), MESSAGES, "{side}");
    }
}

// D262
#[tokio::test]
async fn a_stream_is_sent_whose_answer_has_begun_and_is_not_read() {
    for side in Side::BOTH {
        let backend = Backend::builder().serving(GREETER).start().await;
        let mut client = side.client(&backend);
        let (names, body) = mpsc::channel(1);
        let chat = within("headers", client.chat(ReceiverStream::new(body))).await;
        let answers = chat.expect("headers").into_inner();
        for _ in 0..MESSAGES {
            let sent = within("room for a message", names.send(request("you"))).await;
            sent.expect("the body is read");
        }
        drop(names);
        let answers = within("the answers", answers.collect::<Vec<_>>()).await;
        assert_eq!(answers.len(), MESSAGES, "{side}");
    }
}

// D263
#[tokio::test]
async fn a_sender_lives_as_long_as_its_stream_not_as_the_answers_reader() {
    for side in Side::BOTH {
        let reader = Reader::default();
        let (uri, server) = reader.serve().await;
        let mut client = GreeterClient::new(side.channel(&uri));
        let (names, body) = mpsc::channel(4);
        let chat = within("headers", client.chat(ReceiverStream::new(body))).await;
        let mut answers = chat.expect("headers").into_inner();
        let failed = within("the error", answers.message()).await;
        assert!(failed.is_err(), "{side}: {failed:?}");
        // The server reads on. What it is sent now is the state to go on with elsewhere.
        let sent = names.try_send(request("resume"));
        assert!(sent.is_ok(), "{side}: {sent:?}");
        drop(names);
        let mut read = reader.read.subscribe();
        within(
            "what was sent last",
            read.wait_for(|names| names == &["resume"]),
        )
        .await
        .expect("a reader");
        server.abort();
    }
}

// D262
#[tokio::test]
async fn a_body_that_goes_on_after_its_answer_ends_at_the_deadline_of_its_call() {
    let (uri, server) = Reader::default().serve().await;
    let mut client = GreeterClient::new(Side::Ours.channel(&uri));
    let (names, body) = mpsc::channel(4);
    let mut request = Request::new(ReceiverStream::new(body));
    request.set_timeout(Duration::from_secs(1));
    let sent = Instant::now();
    let chat = within("headers", client.chat(request)).await;
    let mut answers = chat.expect("headers").into_inner();
    let failed = within("the error", answers.message()).await;
    assert!(failed.is_err(), "{failed:?}");
    drop(answers);
    within("the end of the body", names.closed()).await;
    let took = sent.elapsed();
    assert!(took >= Duration::from_secs(1), "ended after {took:?}");
    server.abort();
}

/// A server whose Chat fails at once, and reads all the same.
#[derive(Clone)]
struct Reader {
    read: watch::Sender<Vec<String>>,
}

impl Default for Reader {
    fn default() -> Self {
        let read = watch::Sender::default();
        Self { read }
    }
}

impl Reader {
    async fn serve(&self) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let uri = format!("http://{}", listener.local_addr().expect("an address"));
        let server = Server::builder().add_service(GreeterServer::new(self.clone()));
        let server = server.serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async { server.await.expect("a server") });
        (uri, server)
    }
}

type Replies = stream::Iter<std::vec::IntoIter<Result<HelloReply, Status>>>;

#[tonic::async_trait]
impl Greeter for Reader {
    type SayHelloManyStream = Replies;
    type ChatStream = Replies;

    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented("only Chat"))
    }

    async fn say_hello_many(&self, _: Request<HelloRequest>) -> Result<Response<Replies>, Status> {
        Err(Status::unimplemented("only Chat"))
    }

    async fn greet_all(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented("only Chat"))
    }

    async fn chat(
        &self,
        requests: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let (mut requests, read) = (requests.into_inner(), self.read.clone());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                read.send_modify(|names| names.push(request.name));
            }
        });
        let failure = vec![Err(Status::unavailable("go on elsewhere"))];
        Ok(Response::new(stream::iter(failure)))
    }
}
