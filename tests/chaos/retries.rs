//! Kills under load, and a retry policy on UNAVAILABLE.
//!
//! ```text
//!   SIGKILL ─► a call without response headers ─► its next attempt, at another backend
//!              a call with response headers    ─► fails, and is counted apart
//! ```
//!
//! The program kills one backend at a time, and starts it again. First the channel makes 1 attempt
//! for each call: its losses show that kills meet calls. Then the policy is in effect. No call
//! without response headers may fail then. In both halves backends may see a call only as often
//! as its attempts say.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use fastrand::Rng;
use testing::{
    fleet::{Host as _, Result, SERVICE},
    greeter::{HelloReply, HelloRequest},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_health_channel::{
    Channel,
    ConnectivityState::Ready,
    Error, HealthOptions,
    channel::{BackoffConfig, CallAttempts},
    discover,
    status::ChannelStatus,
};
use tonic_prost::ProstCodec;

use crate::{Options, node::Node};

/// Each has 1 call in flight.
const CALLERS: usize = 64;

/// A backend takes up to 15 of them for a call, so that a kill meets some.
pub(crate) const UNIT: Duration = Duration::from_millis(10);

/// Far more than 4 attempts take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long the channel may take to notice a kill, or a restart.
const PATIENCE: Duration = Duration::from_secs(10);

const MAX_ATTEMPTS: u32 = 4;

/// A backend answers the first with headers and the reply at once, and the second with headers
/// before it works.
const PATHS: [&str; 2] = ["/demo.v1.Greeter/SayHello", "/demo.v1.Greeter/SayHelloMany"];

/// One call that is over.
#[derive(Debug)]
struct Call {
    number: u64,
    attempts: u32,
    /// Attempts that no backend has seen, as the channel says.
    unsent: u32,
    end: End,
}

#[derive(Debug)]
enum End {
    Answered,
    FailedBeforeHeaders(Status),
    FailedAfterHeaders(Status),
    Wrong(String),
}

/// Shared by the callers.
struct Callers {
    channel: Channel,
    next: Arc<AtomicU64>,
    stop: AtomicBool,
    /// How many calls are over.
    over: watch::Sender<usize>,
}

/// Half of a run.
struct Half {
    max_attempts: u32,
    kills: usize,
    calls: Vec<Call>,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let Options {
        seed,
        backends,
        lasts,
        ..
    } = *options;
    println!("seed {seed}, {backends} backends, {CALLERS} callers, kills for {lasts:?}");
    let folder = tempfile::tempdir()?;
    let mut nodes = Vec::new();
    for number in 0..backends {
        nodes.push(Node::start(number, folder.path(), UNIT).await?);
    }
    let mut rng = Rng::with_seed(seed);
    let next = Arc::default();
    let mut complaints = Vec::new();
    let mut calls = Vec::new();
    for max_attempts in [1, MAX_ATTEMPTS] {
        let half = play(&mut nodes, &mut rng, &next, max_attempts, lasts / 2).await?;
        half.print();
        complaints.extend(half.complaints());
        calls.extend(half.calls);
    }
    complaints.extend(miscounts(&nodes, &calls)?);
    for node in &mut nodes {
        node.kill().await?;
    }
    complaints.truncate(20);
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "seed {seed}:\n{}\nagain: cargo test --test chaos -- --retries --seed {seed} \
             --backends {backends} --seconds {}",
            complaints.join("\n"),
            lasts.as_secs(),
        )
        .into()),
    }
}

/// Kills one backend after another under load, for so long.
async fn play(
    nodes: &mut [Node],
    rng: &mut Rng,
    next: &Arc<AtomicU64>,
    max_attempts: u32,
    lasts: Duration,
) -> Result<Half> {
    let channel = connect(nodes, max_attempts)?;
    until(&channel, "connect", all_ready).await?;
    let callers = Arc::new(Callers {
        channel: channel.clone(),
        next: next.clone(),
        stop: AtomicBool::new(false),
        over: watch::Sender::new(0),
    });
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        tasks.spawn(callers.clone().call_on());
    }
    let began = Instant::now();
    let mut kills = 0;
    while began.elapsed() < lasts {
        callers.until_more().await?;
        let victim = rng.usize(..nodes.len());
        nodes[victim].kill().await?;
        kills += 1;
        let is_out = |status: &ChannelStatus| status.backends()[victim].state() != Ready;
        until(&channel, "notice a kill", is_out).await?;
        nodes[victim].restart().await?;
        until(&channel, "come back", all_ready).await?;
    }
    callers.stop.store(true, SeqCst);
    let calls = tasks.join_all().await.into_iter().flatten().collect();
    Ok(Half {
        max_attempts,
        kills,
        calls,
    })
}

fn connect(nodes: &[Node], max_attempts: u32) -> Result<Channel> {
    let config = format!(
        r#"{{
            "healthCheckConfig": {{"serviceName": "{SERVICE}"}},
            "methodConfig": [{{
                "name": [{{"service": "{SERVICE}"}}],
                "retryPolicy": {{
                    "maxAttempts": {MAX_ATTEMPTS},
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"]
                }}
            }}]
        }}"#
    );
    let backoff = BackoffConfig::default()
        .initial(Duration::from_millis(100))?
        .max(Duration::from_secs(1));
    let endpoints = nodes.iter().map(Node::endpoint).collect::<Result<Vec<_>>>();
    Ok(Channel::balance(discover::list(endpoints?)?)
        .service_config(config.parse()?)
        .connect_backoff(backoff.clone())
        .health_options(HealthOptions::default().backoff(backoff))
        .max_call_attempts(NonZeroU32::try_from(max_attempts)?)
        .tell_attempts(true)
        .build())
}

async fn until(
    channel: &Channel,
    what: &str,
    is_so: impl FnMut(&ChannelStatus) -> bool,
) -> Result<()> {
    let mut watch = channel.watch_status();
    match timeout(PATIENCE, watch.wait_for(is_so)).await {
        Ok(_) => Ok(()),
        Err(_) => {
            let status = channel.status();
            Err(format!("the channel did not {what} within {PATIENCE:?}: {status:?}").into())
        }
    }
}

/// A channel that has not heard of its backends yet has none.
fn all_ready(status: &ChannelStatus) -> bool {
    let mut backends = status.backends().iter();
    status.state() == Ready && backends.all(|backend| backend.state() == Ready)
}

impl Callers {
    /// Until each caller can have ended a call.
    async fn until_more(&self) -> Result<()> {
        let mut over = self.over.subscribe();
        let enough = *over.borrow() + CALLERS;
        let more = over.wait_for(|over| *over >= enough);
        match timeout(PATIENCE, more).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("fewer than {CALLERS} calls ended within {PATIENCE:?}").into()),
        }
    }

    async fn call_on(self: Arc<Self>) -> Vec<Call> {
        let mut calls = Vec::new();
        while !self.stop.load(SeqCst) {
            let number = self.next.fetch_add(1, SeqCst);
            calls.push(self.call(number).await);
            self.over.send_modify(|over| *over += 1);
        }
        calls
    }

    /// One call, unary or a server stream. Both are read as a stream, which tells headers from
    /// what follows.
    async fn call(&self, number: u64) -> Call {
        let path = PATHS[usize::from(number % 2 == 1)];
        let name = number.to_string();
        let message = HelloRequest {
            name: name.clone(),
            count: 1,
        };
        let mut request = Request::new(message);
        request.set_timeout(DEADLINE);
        let mut client = Grpc::new(self.channel.clone());
        if let Err(error) = client.ready().await {
            let end = End::FailedBeforeHeaders(Status::from_error(error.into()));
            return Call::of(number, None, end);
        }
        let codec = ProstCodec::<HelloRequest, HelloReply>::default();
        let path = PathAndQuery::from_static(path);
        match client.server_streaming(request, path, codec).await {
            Err(status) => {
                let error = Error::of(&status);
                let attempts = error.and_then(Error::attempts).cloned();
                Call::of(number, attempts, End::FailedBeforeHeaders(status))
            }
            Ok(mut response) => {
                let attempts = response.extensions().get().cloned();
                let end = match read(response.get_mut()).await {
                    Ok(replies) if replies == [name.as_str()] => End::Answered,
                    Ok(replies) => End::Wrong(format!("{replies:?}")),
                    Err(status) => End::FailedAfterHeaders(status),
                };
                Call::of(number, attempts, end)
            }
        }
    }
}

async fn read(
    stream: &mut tonic::Streaming<HelloReply>,
) -> std::result::Result<Vec<String>, Status> {
    let mut replies = Vec::new();
    while let Some(reply) = stream.message().await? {
        replies.push(reply.message);
    }
    Ok(replies)
}

impl Call {
    /// Without `attempts` there was 1.
    fn of(number: u64, attempts: Option<CallAttempts>, end: End) -> Self {
        let unsent = |attempts: &CallAttempts| {
            let failed = attempts.failed().iter();
            failed.filter(|failed| !failed.may_have_been_sent()).count()
        };
        Self {
            number,
            attempts: attempts.as_ref().map_or(1, CallAttempts::made),
            unsent: attempts.as_ref().map_or(0, unsent) as u32,
            end,
        }
    }
}

impl Half {
    fn count(&self, is_one: impl Fn(&Call) -> bool) -> usize {
        self.calls.iter().filter(|call| is_one(call)).count()
    }

    fn lost_before_headers(&self) -> usize {
        self.count(|call| matches!(call.end, End::FailedBeforeHeaders(_)))
    }

    fn print(&self) {
        let after = self.count(|call| matches!(call.end, End::FailedAfterHeaders(_)));
        let again = self.count(|call| call.attempts > 1 && matches!(call.end, End::Answered));
        let most = self.calls.iter().map(|call| call.attempts).max();
        println!(
            "up to {} attempts: {} kills, {} calls, {} lost before headers, {after} lost after \
             headers, {again} saved by another attempt, {} attempts at most",
            self.max_attempts,
            self.kills,
            self.calls.len(),
            self.lost_before_headers(),
            most.unwrap_or_default(),
        );
        let mut reasons = BTreeMap::<_, usize>::new();
        for call in &self.calls {
            if let End::FailedBeforeHeaders(status) | End::FailedAfterHeaders(status) = &call.end {
                let text: String = status.message().chars().take(60).collect();
                let text = text.replace(|letter: char| letter.is_ascii_digit(), "#");
                *reasons.entry((status.code() as i32, text)).or_default() += 1;
            }
        }
        for ((code, text), times) in reasons {
            println!("{times:>7} × {code}: {text}");
        }
    }

    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for call in &self.calls {
            match &call.end {
                End::FailedBeforeHeaders(_) if self.max_attempts > 1 => {
                    complaints.push(format!("it had no response headers, and failed: {call:?}"));
                }
                End::Wrong(replies) => {
                    complaints.push(format!("call {} was answered {replies}", call.number));
                }
                _ if call.attempts > self.max_attempts => {
                    complaints.push(format!("too many attempts: {call:?}"));
                }
                _ => {}
            }
        }
        let nothing = match self.max_attempts {
            1 => self.lost_before_headers() == 0,
            _ => self.count(|call| call.attempts > 1) == 0,
        };
        if nothing {
            complaints.push("no kill met a call: nothing has been shown".to_owned());
        }
        complaints
    }
}

/// Calls that backends have seen more often than their attempts say, or never.
fn miscounts(nodes: &[Node], calls: &[Call]) -> Result<Vec<String>> {
    let mut seen = HashMap::<u64, u32>::new();
    for node in nodes {
        for number in node.ledger()? {
            *seen.entry(number).or_default() += 1;
        }
    }
    let mut complaints = Vec::new();
    for call in calls {
        let times = seen.remove(&call.number).unwrap_or_default();
        let most = call.attempts - call.unsent;
        let least = u32::from(!matches!(call.end, End::FailedBeforeHeaders(_)));
        if times < least || times > most {
            complaints.push(format!("backends saw it {times} times: {call:?}"));
        }
    }
    for number in seen.keys() {
        complaints.push(format!("a backend made up call {number}"));
    }
    Ok(complaints)
}
