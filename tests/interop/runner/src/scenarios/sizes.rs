//! Messages as large as they may be by default, and compressed ones.

use tonic::{Code, Response, Status, Streaming, codec::CompressionEncoding::Gzip};
use tonic_health_channel::Channel;

use crate::{
    greeter::{HelloReply, HelloRequest, greeter_client::GreeterClient},
    report::Verdict,
    stage::{self, Target, client},
};

/// What all of them take by default, servers and clients.
const LIMIT: usize = 4 * 1024 * 1024;
/// Room for the other field, and for tags and lengths.
const ROOM: usize = 64;

fn hello(name: String, count: u32) -> HelloRequest {
    HelloRequest { name, count }
}

/// A request of so many letters, for which there is a short reply.
fn long(letters: usize) -> HelloRequest {
    hello(format!("count:{}", "x".repeat(letters)), 1)
}

/// A short request for which there are replies of so many letters.
fn wanting(letters: usize, replies: u32) -> HelloRequest {
    hello(format!("size:{letters}"), replies)
}

/// Up to the limit in both directions and every kind of call; what is above it fails
/// alone.
pub(super) async fn large(target: Target) -> Verdict {
    let stage = target.start_serving(1, &[]).await?;
    let channel = stage.ready().await?;
    let mut codes = Vec::new();
    for _ in &stage.servers {
        every_kind(client(&channel), LIMIT - ROOM).await?;
        let refused = client(&channel).say_hello(long(LIMIT)).await;
        let code = refused.err().map(|status| status.code());
        if code != Some(Code::ResourceExhausted) {
            return Err(format!("expected RESOURCE_EXHAUSTED; seen: {code:?}").into());
        }
        let beyond = client(&channel).say_hello(wanting(LIMIT, 1)).await;
        codes.push(format!("{:?}", beyond.err().map(|status| status.code())));
    }
    for server in &stage.servers {
        let seen = server.seen().await?;
        if seen.connections != 1 {
            return Err(format!("expected 1 connection; seen: {seen:?}").into());
        }
    }
    Ok(stage.note(format!(
        "{LIMIT} bytes; above them, replies are {}",
        codes.join(", ")
    )))
}

/// Compressed requests, and replies from those that compress.
pub(super) async fn gzip(target: Target) -> Verdict {
    let stage = target.start_serving(1, &["--gzip"]).await?;
    let channel = stage.ready().await?;
    let mut plain = Vec::new();
    for _ in &stage.servers {
        every_kind(compressing(&channel), 100_000).await?;
    }
    for _ in &stage.servers {
        let reply = compressing(&channel).say_hello(wanting(100_000, 1)).await;
        let reply = reply.map_err(stage::text)?;
        let encoding = reply.metadata().get("grpc-encoding");
        let compressed = encoding.is_some_and(|encoding| encoding == "gzip");
        let backend = reply.into_inner().backend;
        let server = stage.servers.iter().find(|server| server.name == backend);
        let server = server.ok_or("expected a reply of a known backend")?;
        if compressed != server.language.compresses {
            let expected = server.language.compresses;
            return Err(
                format!("gzip of {backend}: expected {expected}; seen: {compressed}").into(),
            );
        }
        if !compressed {
            plain.push(server.language.name);
        }
    }
    Ok(stage.note(match plain.is_empty() {
        true => "in both directions".to_owned(),
        false => format!(
            "requests only, of {}, which does not compress",
            plain.join(", ")
        ),
    }))
}

fn compressing(channel: &Channel) -> GreeterClient<Channel> {
    client(channel)
        .send_compressed(Gzip)
        .accept_compressed(Gzip)
}

async fn every_kind(mut client: GreeterClient<Channel>, letters: usize) -> Result<(), String> {
    let short = letters - "count:".len();
    let reply = client.say_hello(wanting(letters, 1)).await;
    check("a large reply", letters, one(reply)?)?;
    let reply = client.say_hello(long(short)).await;
    counted("a large request", short, &one(reply)?)?;

    let replies = client.say_hello_many(wanting(letters, 3)).await;
    for reply in all(replies).await? {
        check("large replies", letters, reply)?;
    }
    let names = (0..3).map(move |_| long(short));
    let reply = client.greet_all(tokio_stream::iter(names)).await;
    let expected = format!("3 names of {} letters", 3 * letters);
    if one(reply)? != expected {
        return Err(format!(
            "large requests: expected {expected}; seen: another number"
        ));
    }
    let both = [long(short), wanting(letters, 1), long(short)];
    let replies = client.chat(tokio_stream::iter(both)).await;
    let replies = all(replies).await?;
    let [first, second, third] = &replies[..] else {
        return Err(format!(
            "a chat: expected 3 replies; seen: {}",
            replies.len()
        ));
    };
    counted("a chat", short, first)?;
    check("a chat", letters, second.clone())?;
    counted("a chat", short, third)
}

fn one(reply: Result<Response<HelloReply>, Status>) -> Result<String, String> {
    Ok(reply.map_err(stage::text)?.into_inner().message)
}

async fn all(
    replies: Result<Response<Streaming<HelloReply>>, Status>,
) -> Result<Vec<String>, String> {
    let mut replies = replies.map_err(stage::text)?.into_inner();
    let mut all = Vec::new();
    while let Some(reply) = replies.message().await.map_err(stage::text)? {
        all.push(reply.message);
    }
    Ok(all)
}

fn check(what: &str, letters: usize, seen: String) -> Result<(), String> {
    match seen.len() == letters && seen.bytes().all(|letter| letter == b'x') {
        true => Ok(()),
        false => Err(format!(
            "{what}: expected {letters} letters x; seen: {}",
            seen.len()
        )),
    }
}

fn counted(what: &str, letters: usize, seen: &str) -> Result<(), String> {
    match seen == format!("{letters} letters") {
        true => Ok(()),
        false => Err(format!("{what}: expected {letters} letters; seen: {seen}")),
    }
}
