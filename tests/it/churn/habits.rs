//! What programs do with calls besides awaiting them.

use std::{future::Future, pin::pin, thread, time::Duration};

use futures_util::{FutureExt, StreamExt};
use testing::{
    PATIENCE, greeter as client_on,
    greeter::{HelloReply, HelloRequest},
    request,
};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use super::{
    callers::{Callers, End, Kind, told_by},
    hooks::{LAST_WORDS, panic_as_scripted},
};

impl Callers {
    /// A call that is polled once, and left alone until another is over.
    pub(super) async fn leave_unpolled(&self, deadline: Duration, ms: u64) -> (bool, u64) {
        let begun = self.begin(Kind::Unpolled);
        let name = format!("slow:{ms}");
        let request = begun.request(request(&name), deadline);
        let mut client = client_on(self.channel());
        let mut call = pin!(client.say_hello(request));
        let early = call.as_mut().now_or_never();
        self.say_hello(Kind::Plain, deadline, ms).await;
        let outcome = match early {
            Some(outcome) => Ok(outcome),
            None => timeout(deadline + PATIENCE, call).await,
        };
        self.note_reply(begun, &name, outcome)
    }

    /// A stream of so many greetings that is not read until another call is over.
    pub(super) async fn hold_the_answer(&self, deadline: Duration, count: u32) -> (bool, u64) {
        let begun = self.begin(Kind::HeldBody);
        let name = "slow:1".to_owned();
        let request = HelloRequest { name, count };
        let request = begun.request(request, deadline);
        let mut client = client_on(self.channel());
        let headers = timeout(deadline + PATIENCE, client.say_hello_many(request)).await;
        let after = self.channel().status();
        let (mut by, mut told) = (None, None);
        let end = match headers {
            Err(_) => End::Hung,
            Ok(Err(status)) => End::Failed(status),
            Ok(Ok(response)) => {
                told = told_by(response.extensions());
                let mut greetings = response.into_inner();
                self.say_hello(Kind::Plain, deadline, 1).await;
                let read = timeout(deadline + PATIENCE, read(&mut greetings, &mut by)).await;
                match read {
                    Ok(Ok(n)) if n == count => End::Answered,
                    Ok(Ok(n)) => End::Wrong(format!("{n} greetings of {count}")),
                    Ok(Err(status)) => End::Failed(status),
                    Err(_) => End::Hung,
                }
            }
        };
        self.note(begun, after, by, told, end)
    }

    /// A stream whose request body panics after so many names and greetings in turns.
    pub(super) async fn break_the_body(&self, deadline: Duration, turns: u64) -> (bool, u64) {
        let begun = self.begin(Kind::PanickingBody);
        let (names, body) = mpsc::unbounded_channel::<Option<HelloRequest>>();
        let body = UnboundedReceiverStream::new(body);
        let body = body.map(|name| name.unwrap_or_else(|| panic_as_scripted()));
        let call = begun.request(body, deadline);
        let mut client = client_on(self.channel());
        let headers = timeout(deadline + PATIENCE, client.chat(call)).await;
        let after = self.channel().status();
        let (mut by, mut told) = (None, None);
        let end = match headers {
            Err(_) => End::Hung,
            Ok(Err(status)) => End::Failed(status),
            Ok(Ok(response)) => {
                told = told_by(response.extensions());
                let mut greetings = response.into_inner();
                let talk = async {
                    for _ in 0..turns {
                        // A stream that has failed says how by its greetings.
                        let _ = names.send(Some(request("slow:0")));
                        match greetings.message().await? {
                            Some(reply) => by = Some(reply.backend),
                            None => return Ok(0),
                        }
                    }
                    let _ = names.send(None);
                    read(&mut greetings, &mut by).await
                };
                match timeout(deadline + PATIENCE, talk).await {
                    Ok(Ok(_)) => End::Wrong("a good end".to_owned()),
                    Ok(Err(status)) => End::Failed(status),
                    Err(_) => End::Hung,
                }
            }
        };
        let as_it_should = matches!(&end, End::Failed(status) if is_panic(status));
        let (goes_on, generation) = self.note(begun, after, by, told, end);
        (goes_on || as_it_should, generation)
    }
}

/// How many greetings there are.
async fn read(
    greetings: &mut Streaming<HelloReply>,
    by: &mut Option<String>,
) -> Result<u32, tonic::Status> {
    let mut n = 0;
    while let Some(reply) = greetings.message().await? {
        *by = Some(reply.backend);
        n += 1;
    }
    Ok(n)
}

/// Whether the call failed because its request body panicked.
pub(super) fn is_panic(status: &tonic::Status) -> bool {
    let text = format!("the request body panicked: {LAST_WORDS}");
    status.code() == tonic::Code::Internal && status.message().contains(&text)
}

/// Whether the call failed because the call credentials panicked.
pub(super) fn lost_its_credentials(status: &tonic::Status) -> bool {
    let text = format!("call credentials panicked: {LAST_WORDS}");
    status.code() == tonic::Code::Internal && status.message() == text
}

/// What comes of `future` on a runtime of its own, which is gone by then.
pub(super) async fn abroad<T, F>(future: F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let output = runtime.block_on(future);
        drop(runtime);
        // A caller that has gone does not want it.
        let _ = tell.send(output);
    });
    told.await.expect("the future does not panic")
}
