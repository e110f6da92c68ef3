//! A request body moves although its call is not polled, for as long as its stream lives.

use futures_util::StreamExt;
use testing::{Backend, GREETER, request, within};
use tokio::{select, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

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
        let backend = Backend::builder().serving(GREETER).start().await;
        let mut client = side.client(&backend);
        let (names, body) = mpsc::channel(4);
        names.send(request("fail:9")).await.expect("room");
        let chat = within("headers", client.chat(ReceiverStream::new(body))).await;
        let mut answers = chat.expect("headers").into_inner();
        let failed = within("the error", answers.message()).await;
        assert!(failed.is_err(), "{side}: {failed:?}");
        // What is sent now is the state to go on with on another stream.
        let sent = names.try_send(request("resume"));
        assert!(sent.is_ok(), "{side}: {sent:?}");
    }
}
