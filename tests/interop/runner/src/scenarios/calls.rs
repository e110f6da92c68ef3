//! The four kinds of call, and how they end early.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Request, Status};
use tonic_health_channel::Channel;

use crate::{
    greeter::HelloRequest,
    report::{Trouble, Verdict},
    server::Server,
    stage::{self, Target, client},
};

const MESSAGES: u32 = 100;

fn hello(name: &str, count: u32) -> HelloRequest {
    HelloRequest {
        name: name.to_owned(),
        count,
    }
}

#[track_caller]
fn expect<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, seen: T) -> Result<(), String> {
    match expected == seen {
        true => Ok(()),
        false => Err(format!("{what}: expected {expected:?}; seen: {seen:?}")),
    }
}

/// All four kinds, with many messages; each reply of a chat before the next request.
pub(super) async fn kinds(target: Target) -> Verdict {
    let stage = target.start_serving(1, &[]).await?;
    let channel = stage.ready().await?;
    for _ in &stage.servers {
        each_kind(&channel).await.map_err(stage::text)??;
    }
    // Each call in turn, so that with n backends everyone had each kind or another.
    for server in &stage.servers {
        let seen = server.seen().await?;
        expect("calls", (4, 0), (seen.calls, seen.cancelled))?;
    }
    Ok(stage.note(format!("{MESSAGES} messages in each stream")))
}

async fn each_kind(channel: &Channel) -> Result<Result<(), String>, Status> {
    let mut client = client(channel);
    let reply = client.say_hello(hello("you", 1)).await?.into_inner();
    let mut outcome = expect("unary", "Hello you!", reply.message.as_str());

    let mut replies = client
        .say_hello_many(hello("you", MESSAGES))
        .await?
        .into_inner();
    let mut count = 0;
    while let Some(reply) = replies.message().await? {
        outcome = outcome.and(expect("a reply", "Hello you!", reply.message.as_str()));
        count += 1;
    }
    outcome = outcome.and(expect("replies", MESSAGES, count));

    let names = tokio_stream::iter((0..MESSAGES).map(|_| hello("you", 1)));
    let reply = client.greet_all(names).await?.into_inner();
    outcome = outcome.and(expect(
        "all names",
        format!("{MESSAGES} names of {} letters", 3 * MESSAGES),
        reply.message,
    ));

    let (names, requests) = mpsc::channel(1);
    // Some servers send no headers before their first reply, which is to this.
    let _ = names.send(hello("0", 1)).await;
    let mut replies = client
        .chat(ReceiverStream::new(requests))
        .await?
        .into_inner();
    for number in 0..MESSAGES {
        let Some(reply) = replies.message().await? else {
            let seen = format!("a chat: expected reply {number}; seen: its end");
            return Ok(Err(seen));
        };
        outcome = outcome.and(expect("a chat", format!("Hello {number}!"), reply.message));
        if number + 1 < MESSAGES {
            let sent = names.send(hello(&(number + 1).to_string(), 1)).await;
            outcome = outcome.and(sent.map_err(|_| "a chat ended early".to_owned()));
        }
    }
    drop(names);
    let rest = replies.message().await?;
    Ok(outcome.and(expect("the end of a chat", None, rest)))
}

/// The server knows the deadline, and both sides keep it.
pub(super) async fn deadlines(target: Target) -> Verdict {
    let stage = target.start_serving(1, &[]).await?;
    let channel = stage.ready().await?;
    let mut told = Vec::new();
    for _ in &stage.servers {
        let mut request = Request::new(hello("you", 1));
        request.set_timeout(Duration::from_secs(5));
        client(&channel)
            .say_hello(request)
            .await
            .map_err(stage::text)?;
    }
    for server in &stage.servers {
        let left = server.seen().await?.deadline_ms;
        if !(4_000..=5_000).contains(&left) {
            return Err(format!("expected that 4 to 5 s are left; seen: {left} ms").into());
        }
        told.push(format!("{left} ms"));
    }
    const SHORT: Duration = Duration::from_millis(300);
    for _ in &stage.servers {
        let mut request = Request::new(hello("hold", 1));
        request.set_timeout(SHORT);
        let began = Instant::now();
        let ended = client(&channel).say_hello(request).await;
        let code = ended.as_ref().err().map(Status::code);
        if code != Some(Code::DeadlineExceeded) {
            let ended = stage.named(format!("{ended:?}"));
            return Err(format!("expected DEADLINE_EXCEEDED; seen: {ended}").into());
        }
        let took = began.elapsed();
        if took < SHORT - Duration::from_millis(50) || took > SHORT * 5 {
            return Err(format!("expected an end after {SHORT:?}; seen: after {took:?}").into());
        }
    }
    for server in &stage.servers {
        server
            .sees("a call end", |seen| seen.cancelled == 1)
            .await?;
    }
    Ok(stage.note(format!("of 5 s, servers were told {}", told.join(", "))))
}

/// A call that is dropped ends on the server, too; and without waiting for anything.
pub(super) async fn cancelled(target: Target) -> Verdict {
    let stage = target.start_serving(1, &[]).await?;
    let mut took = Vec::new();
    for server in &stage.servers {
        let uri = format!("http://{}", server.address());
        let endpoint = tonic_health_channel::Endpoint::from_shared(uri).map_err(stage::text)?;
        let channel = stage::balance(stage::GREETER, vec![endpoint])?;
        stage::all_ready(&channel).await?;
        for (before, kind) in ["unary", "replies", "requests", "chat"]
            .into_iter()
            .enumerate()
        {
            let call = tokio::spawn(hold(channel.clone(), kind));
            took.push(drop_of(server, call, before as u64, kind).await?);
        }
    }
    let slowest = took.into_iter().max().unwrap_or_default();
    Ok(stage.note(format!("the server knows within {slowest:.1?}")))
}

async fn drop_of(
    server: &Server,
    call: tokio::task::JoinHandle<()>,
    before: u64,
    kind: &str,
) -> Result<Duration, Trouble> {
    server.sees(kind, |seen| seen.calls > before).await?;
    expect("cancelled", before, server.seen().await?.cancelled)?;
    let began = Instant::now();
    call.abort();
    server
        .sees("the end", |seen| seen.cancelled > before)
        .await?;
    Ok(began.elapsed())
}

/// A call that never ends.
async fn hold(channel: Channel, kind: &str) {
    let mut client = client(&channel);
    let names = tokio_stream::once(hello("hold", 1)).chain(tokio_stream::pending());
    match kind {
        "unary" => drop(client.say_hello(hello("hold", 1)).await),
        "requests" => drop(client.greet_all(names).await),
        "replies" => {
            if let Ok(replies) = client.say_hello_many(hello("hold", 1)).await {
                drop(replies.into_inner().message().await);
            }
        }
        _ => {
            if let Ok(replies) = client.chat(names).await {
                drop(replies.into_inner().message().await);
            }
        }
    }
}
