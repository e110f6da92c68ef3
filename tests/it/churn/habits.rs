//! What programs do with calls besides awaiting them.

use std::{future::Future, thread, time::Duration};

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
    callers::{Callers, End, Kind, Told},
    hooks::{LAST_WORDS, panic_as_scripted},
};

/// The time of a call that is to end long before.
pub(super) const AMPLE: Duration = Duration::from_secs(8);

impl Callers {
    /// So many calls that are polled once, and left alone until another is over. They may have
    /// every stream there is.
    pub(super) async fn leave_unpolled(
        &self,
        deadline: Duration,
        ms: u64,
        calls: u8,
    ) -> (bool, u64) {
        let name = format!("slow:{ms}");
        let mut left = Vec::new();
        for _ in 0..calls {
            let begun = self.begin(Kind::Unpolled);
            let request = begun.request(request(&name), deadline);
            let mut client = client_on(self.channel());
            let mut call = Box::pin(async move { client.say_hello(request).await });
            match call.as_mut().now_or_never() {
                None => left.push((begun, call)),
                Some(outcome) => drop(self.note_reply(begun, &name, Ok(outcome))),
            }
        }
        let mut result = self.say_hello(Kind::Beside, AMPLE, ms).await;
        for (begun, call) in left {
            let begun = begun.go_on();
            let outcome = timeout(deadline + PATIENCE, call).await;
            result = self.note_reply(begun, &name, outcome);
        }
        result
    }

    /// So many streams of greetings that are not read until another call is over.
    pub(super) async fn hold_the_answers(
        &self,
        deadline: Duration,
        greetings: u32,
        streams: u8,
    ) -> (bool, u64) {
        let mut held = Vec::new();
        for _ in 0..streams {
            let begun = self.begin(Kind::HeldBody);
            let name = "slow:1".to_owned();
            let request = HelloRequest {
                name,
                count: greetings,
            };
            let request = begun.request(request, deadline);
            let mut client = client_on(self.channel());
            let headers = timeout(deadline + PATIENCE, client.say_hello_many(request)).await;
            let after = self.channel().status();
            let end = match headers {
                Ok(Ok(response)) => {
                    held.push((begun, after, response));
                    continue;
                }
                Ok(Err(status)) => End::Failed(status),
                Err(_) => End::Hung,
            };
            self.note(begun, after, None, Told::default(), end);
        }
        let mut result = self.say_hello(Kind::Beside, AMPLE, 1).await;
        for (begun, after, response) in held {
            let told = Told::by(response.extensions());
            let (mut by, mut body) = (None, response.into_inner());
            let end = match timeout(deadline + PATIENCE, read(&mut body, &mut by)).await {
                Ok(Ok(n)) if n == greetings => End::Answered,
                Ok(Ok(n)) => End::Wrong(format!("{n} greetings of {greetings}")),
                Ok(Err(status)) => End::Failed(status),
                Err(_) => End::Hung,
            };
            result = self.note(begun, after, by, told, end);
        }
        result
    }

    /// A unary call of which the server fails so many attempts.
    pub(super) async fn fail_at_first(&self, deadline: Duration, attempts: u64) -> (bool, u64) {
        let begun = self.begin(Kind::Again);
        let name = format!("again:{attempts}");
        let request = begun.request(request(&name), deadline);
        let mut client = client_on(self.channel());
        let outcome = timeout(deadline + PATIENCE, client.say_hello(request)).await;
        self.note_reply(begun, &name, outcome)
    }

    /// A stream of so many greetings, and the failure of the server.
    pub(super) async fn fail_at_last(&self, deadline: Duration, count: u32) -> (bool, u64) {
        let begun = self.begin(Kind::BrokenBody);
        let name = "fail:14".to_owned();
        let request = begun.request(HelloRequest { name, count }, deadline);
        let mut client = client_on(self.channel());
        let headers = timeout(deadline + PATIENCE, client.say_hello_many(request)).await;
        let after = self.channel().status();
        let (mut by, mut told) = (None, Told::default());
        let end = match headers {
            Err(_) => End::Hung,
            Ok(Err(status)) => End::Failed(status),
            Ok(Ok(response)) => {
                told = Told::by(response.extensions());
                let mut body = response.into_inner();
                match timeout(deadline + PATIENCE, read(&mut body, &mut by)).await {
                    Ok(Ok(_)) => End::Wrong("a good end".to_owned()),
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
        let (mut by, mut told) = (None, Told::default());
        let end = match headers {
            Err(_) => End::Hung,
            Ok(Err(status)) => End::Failed(status),
            Ok(Ok(response)) => {
                told = Told::by(response.extensions());
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
    // Behind it are the attempts, if there were several.
    status.code() == tonic::Code::Internal && status.message().starts_with(&text)
}

/// What comes of `future` on a runtime of its own, which is gone by then. A bare one has
/// neither timers nor sockets.
pub(super) async fn abroad<T, F>(bare: bool, future: F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let mut builder = Builder::new_current_thread();
        let runtime = match bare {
            true => builder.build(),
            false => builder.enable_all().build(),
        };
        let runtime = runtime.expect("a runtime");
        let output = runtime.block_on(future);
        drop(runtime);
        // A caller that has gone does not want it.
        let _ = tell.send(output);
    });
    told.await.expect("the future does not panic")
}
