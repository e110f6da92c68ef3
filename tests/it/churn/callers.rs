//! Those who call while the world changes, and what they saw.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use testing::{
    PATIENCE, greeter as client_on,
    greeter::{HelloReply, HelloRequest},
    request,
};
use tokio::{
    select,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{error::Elapsed, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Extensions, Request, Response, Status};
use tonic_health_channel::{
    Channel, Error, WaitForReady,
    channel::{AnsweredBy, CallAttempts},
    status::ChannelStatus,
};

use super::habits::{AMPLE, abroad, lost_its_credentials};

/// What is known of the world at one time.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// Grows whenever something begins or is over.
    pub(super) number: u64,
    /// While nothing changes and everything has been noticed: the servers that calls
    /// may go to.
    pub(super) rest: Option<Arc<Vec<usize>>>,
    /// How many attempts a call may have at such a time.
    pub(super) max_attempts: u32,
    pub(super) truths: Arc<Vec<Truth>>,
}

/// What is true of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truth {
    /// Grows whenever something about the server may change, and once more when that
    /// is done.
    pub(super) number: usize,
    /// How many things have changed that the channel need not have noticed.
    pub(super) news: usize,
    /// Calls may go there, as soon as everything has been noticed.
    pub(super) is_in: bool,
}

/// One call that was made.
#[derive(Debug)]
pub(super) struct Call {
    /// Travels with the call, so that servers can tell which came to them.
    pub(super) id: u64,
    pub(super) kind: Kind,
    /// What the channel said of itself before and after a backend was picked.
    pub(super) status: [Arc<ChannelStatus>; 2],
    pub(super) moment: [Moment; 2],
    pub(super) began: Instant,
    /// From when on it was polled without a gap.
    pub(super) polled: Instant,
    pub(super) ended: Instant,
    /// The server that signed the reply.
    pub(super) by: Option<String>,
    pub(super) told: Told,
    pub(super) end: End,
}

/// The channel's word on a call.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The address that the response is from.
    pub(super) address: Option<String>,
    /// If its method has a policy.
    pub(super) attempts: Option<CallAttempts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Says nothing about waiting: the service config decides.
    Plain,
    FailFast,
    Patient,
    /// Patient, and gone after a few milliseconds.
    Fickle,
    /// A stream of some length.
    Chat,
    /// Polled once, and then left alone for a while.
    Unpolled,
    /// A stream of answers that is not read for a while.
    HeldBody,
    /// Made while others are not polled or not read, with [`AMPLE`] time.
    Beside,
    /// Made on a runtime that ends with it; if it is a stream, with its first greeting.
    ForeignRuntime,
    /// A stream whose request body panics, with [`AMPLE`] time.
    PanickingBody,
    /// The server fails the first attempts of it, by headers that are all there is.
    Again,
    /// A stream of answers that the server fails after headers.
    BrokenBody,
}

#[derive(Debug)]
pub(super) enum End {
    Answered,
    Failed(Status),
    GivenUp,
    /// No answer and no error, long after the deadline.
    Hung,
    /// A reply that is not to what was asked.
    Wrong(String),
}

/// All that callers share.
pub(super) struct Callers {
    channel: Channel,
    moment: watch::Receiver<Moment>,
    next_id: AtomicU64,
    calls: Mutex<Vec<Call>>,
}

/// Callers at work, until they are told to stop.
pub(super) struct Crowd {
    callers: Arc<Callers>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// A call as far as it has come.
pub(super) struct Begun {
    id: u64,
    kind: Kind,
    at: Instant,
    /// From when on it is polled without a gap.
    polled: Instant,
    status: Arc<ChannelStatus>,
    moment: Moment,
}

impl Crowd {
    pub(super) fn start(seed: u64, channel: Channel, moment: watch::Receiver<Moment>) -> Self {
        let callers = Arc::new(Callers {
            channel,
            moment,
            next_id: AtomicU64::new(0),
            calls: Mutex::default(),
        });
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let kinds = [
            Kind::Plain,
            Kind::FailFast,
            Kind::Patient,
            Kind::Fickle,
            Kind::Chat,
            Kind::Unpolled,
            Kind::HeldBody,
            Kind::ForeignRuntime,
            Kind::PanickingBody,
            Kind::Again,
            Kind::BrokenBody,
        ];
        for (kind, salt) in kinds.into_iter().zip(1..) {
            let rng = fastrand::Rng::with_seed(seed ^ (salt << 32));
            tasks.spawn(callers.clone().go_on(kind, rng, stop.subscribe()));
        }
        Self {
            callers,
            stop,
            tasks,
        }
    }

    pub(super) fn callers(&self) -> &Arc<Callers> {
        &self.callers
    }

    /// Lets the calls end that have begun, and tells of all there were. No handle of
    /// the channel is left here then.
    pub(super) async fn stop(mut self) -> Vec<Call> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a caller does not panic");
        }
        let calls = self.callers.calls.lock();
        std::mem::take(&mut *calls.expect("no holder of the calls panics"))
    }
}

impl Callers {
    async fn go_on(
        self: Arc<Self>,
        kind: Kind,
        mut rng: fastrand::Rng,
        mut stop: watch::Receiver<bool>,
    ) {
        while !*stop.borrow() {
            let deadline = Duration::from_millis(rng.u64(200..800));
            let size = rng.u64(0..8);
            let (ok, generation) = match kind {
                Kind::Chat => self.chat(kind, deadline, size).await,
                Kind::Unpolled => self.leave_unpolled(deadline, size, rng.u8(1..10)).await,
                Kind::HeldBody => {
                    self.hold_the_answers(deadline, rng.u32(0..8), rng.u8(1..10))
                        .await
                }
                Kind::ForeignRuntime if size % 2 == 1 => self.chat(kind, deadline, size).await,
                Kind::PanickingBody => self.break_the_body(AMPLE, size).await,
                Kind::Again => self.fail_at_first(deadline, size % 4).await,
                Kind::BrokenBody => self.fail_at_last(deadline, rng.u32(0..4)).await,
                _ => self.say_hello(kind, deadline, size).await,
            };
            if !ok {
                // Or a call that fails at once would be the first of thousands. What
                // came during the call counts: a channel that went IDLE needs a call.
                let mut status = self.channel.watch_status();
                select! {
                    _ = status.wait_for(|status| status.generation() > generation) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
        }
    }

    /// One unary call, which takes the server so many milliseconds. Says whether the next may
    /// follow at once, and what the channel's generation was when it began.
    pub(super) async fn say_hello(&self, kind: Kind, deadline: Duration, ms: u64) -> (bool, u64) {
        let begun = self.begin(kind);
        let name = format!("slow:{ms}");
        let request = begun.request(request(&name), deadline);
        let mut client = client_on(&self.channel);
        let patience = match kind {
            Kind::Fickle => Duration::from_millis(ms),
            _ => deadline + PATIENCE,
        };
        let call = async move { client.say_hello(request).await };
        let outcome = match kind {
            Kind::ForeignRuntime => timeout(patience, abroad(ms.is_multiple_of(4), call)).await,
            _ => timeout(patience, call).await,
        };
        self.note_reply(begun, &name, outcome)
    }

    /// Notes a unary call with that name, which is over.
    pub(super) fn note_reply(
        &self,
        begun: Begun,
        name: &str,
        outcome: Result<Result<Response<HelloReply>, Status>, Elapsed>,
    ) -> (bool, u64) {
        let (mut by, mut told) = (None, Told::default());
        let end = match outcome {
            Ok(Ok(response)) => {
                told = Told::by(response.extensions());
                let reply = response.into_inner();
                by = Some(reply.backend.clone());
                check(reply, name)
            }
            Ok(Err(status)) => End::Failed(status),
            Err(_) if begun.kind == Kind::Fickle => End::GivenUp,
            Err(_) => End::Hung,
        };
        let after = self.channel.status();
        self.note(begun, after, by, told, end)
    }

    /// A stream with so many names and greetings in turns, and one more.
    async fn chat(&self, kind: Kind, deadline: Duration, size: u64) -> (bool, u64) {
        let begun = self.begin(kind);
        let (names, requests) = mpsc::unbounded_channel();
        let requests = UnboundedReceiverStream::new(requests);
        let request = begun.request(requests, deadline);
        let mut client = client_on(&self.channel);
        let mut first = None;
        let headers = match kind {
            Kind::ForeignRuntime => {
                let _ = names.send(self::request(&name(0)));
                let call = async move {
                    let mut response = client.chat(request).await?;
                    let first = response.get_mut().message().await;
                    Ok((response, first))
                };
                let call = timeout(deadline + PATIENCE, abroad(size % 4 == 1, call));
                call.await.map(|outcome| {
                    outcome.map(|(response, greeting)| {
                        first = Some(greeting);
                        response
                    })
                })
            }
            _ => timeout(deadline + PATIENCE, client.chat(request)).await,
        };
        // A backend has been picked by now, or none will be.
        let after = self.channel.status();
        let (mut by, mut told) = (None, Told::default());
        let end = match headers {
            Err(_) => End::Hung,
            Ok(Err(status)) => End::Failed(status),
            Ok(Ok(response)) => {
                told = Told::by(response.extensions());
                let talk = talk(first, response.into_inner(), names, size, &mut by);
                let end = timeout(deadline + PATIENCE, talk).await;
                end.unwrap_or(End::Hung)
            }
        };
        self.note(begun, after, by, told, end)
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) fn begin(&self, kind: Kind) -> Begun {
        let now = Instant::now();
        Begun {
            id: self.next_id.fetch_add(1, Relaxed),
            kind,
            at: now,
            polled: now,
            // Before anything else of the call.
            moment: self.moment.borrow().clone(),
            status: self.channel.status(),
        }
    }

    pub(super) fn note(
        &self,
        begun: Begun,
        after: Arc<ChannelStatus>,
        by: Option<String>,
        mut told: Told,
        end: End,
    ) -> (bool, u64) {
        let goes_on = match &end {
            End::Answered => true,
            // The next one has some.
            End::Failed(status) => lost_its_credentials(status) || is_asked_for(status),
            End::GivenUp | End::Hung | End::Wrong(_) => false,
        };
        if let End::Failed(status) = &end
            && told.attempts.is_none()
        {
            let error = Error::of(status);
            told.attempts = error.and_then(Error::attempts).cloned();
        }
        let result = (goes_on, begun.status.generation());
        let call = Call {
            id: begun.id,
            kind: begun.kind,
            status: [begun.status, after],
            moment: [begun.moment, self.moment.borrow().clone()],
            began: begun.at,
            polled: begun.polled,
            ended: Instant::now(),
            by,
            told,
            end,
        };
        let mut calls = self.calls.lock().expect("no holder of the calls panics");
        calls.push(call);
        result
    }
}

impl Begun {
    /// It was left alone, and is polled again from now on.
    pub(super) fn go_on(mut self) -> Self {
        self.polled = Instant::now();
        self
    }

    pub(super) fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        request.metadata_mut().insert("x-id", self.id.into());
        let wait = match self.kind {
            Kind::Plain
            | Kind::Chat
            | Kind::Unpolled
            | Kind::HeldBody
            | Kind::Beside
            | Kind::ForeignRuntime
            | Kind::PanickingBody
            | Kind::Again
            | Kind::BrokenBody => return request,
            Kind::FailFast => WaitForReady(false),
            Kind::Patient | Kind::Fickle => WaitForReady(true),
        };
        request.extensions_mut().insert(wait);
        request
    }
}

impl Told {
    pub(super) fn by(extensions: &Extensions) -> Self {
        let answered_by = extensions.get::<AnsweredBy>();
        Self {
            address: answered_by.map(|backend| backend.address().to_owned()),
            attempts: extensions.get().cloned(),
        }
    }
}

fn check(reply: HelloReply, name: &str) -> End {
    match reply.message == format!("Hello {name}!") {
        true => End::Answered,
        false => End::Wrong(format!("{name} was answered {:?}", reply.message)),
    }
}

/// Each is another name, so that a greeting too many shows.
fn name(ms: u64) -> String {
    format!("slow:{ms}")
}

/// Says a name, awaits the greeting, and so on; then ends the stream, and sees it
/// end. The first greeting may be there already.
async fn talk(
    mut first: Option<Result<Option<HelloReply>, Status>>,
    mut greetings: tonic::Streaming<HelloReply>,
    names: mpsc::UnboundedSender<HelloRequest>,
    size: u64,
    by: &mut Option<String>,
) -> End {
    for ms in 0..=size {
        let greeting = match first.take() {
            Some(greeting) => greeting,
            None => {
                // A stream that has failed says how by its greetings.
                let _ = names.send(request(&name(ms)));
                greetings.message().await
            }
        };
        let name = name(ms);
        match greeting {
            Ok(Some(reply)) => {
                *by = Some(reply.backend.clone());
                match check(reply, &name) {
                    End::Answered => {}
                    wrong => return wrong,
                }
            }
            Ok(None) => return End::Wrong(format!("the stream ended before {name}")),
            Err(status) => return End::Failed(status),
        }
    }
    drop(names);
    match greetings.message().await {
        Ok(None) => End::Answered,
        Ok(Some(_)) => End::Wrong("a greeting that nobody asked for".to_owned()),
        Err(status) => End::Failed(status),
    }
}

/// Whether the call failed because its time was up.
pub(super) fn is_timeout(status: &Status) -> bool {
    // Both sides keep the deadline; tonic's server calls it CANCELLED.
    match status.code() {
        Code::DeadlineExceeded => status.message().starts_with("deadline exceeded"),
        // Behind it are the attempts, if there were several.
        Code::Cancelled => status.message().starts_with("Timeout expired"),
        _ => false,
    }
}

/// Whether the call failed because its name says so.
pub(super) fn is_asked_for(status: &Status) -> bool {
    let text = status.message();
    status.code() == Code::Unavailable && text.starts_with("the test asked for this")
}
