//! What goes beside messages: metadata, trailers and statuses.

use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message;
use tonic::{
    Code, Request, Status,
    metadata::{MetadataMap, MetadataValue},
};

use crate::{
    greeter::{HelloReply, HelloRequest},
    report::{Trouble, Verdict},
    server::Server,
    stage::{self, Target, client},
};

/// No text, and nothing that survives being taken for one.
const BYTES: [u8; 6] = [0, 255, 10, 44, 128, 61];

/// What the backends say with a failure.
const DETAILS: &str = "not today: 100 % naïve – 日本";

fn hello(name: &str) -> HelloRequest {
    HelloRequest {
        name: name.to_owned(),
        count: 1,
    }
}

fn with_metadata<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.append("x-text", MetadataValue::from_static("one"));
    metadata.append("x-text", MetadataValue::from_static("and two"));
    metadata.insert_bin("x-data-bin", MetadataValue::from_bytes(&BYTES));
    request
}

/// What went up comes down, in headers and in trailers.
fn came_back(what: &str, metadata: &MetadataMap, prefix: &str) -> Result<(), String> {
    let text: Vec<_> = metadata
        .get_all(format!("{prefix}text").as_str())
        .iter()
        .collect();
    let text: Vec<_> = text
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let data = metadata.get_bin(format!("{prefix}data-bin").as_str());
    let data = data.and_then(|value| value.to_bytes().ok());
    // One field of HTTP or two: both are the same list.
    let text = text.join(",").replace(", ", ",");
    match text == "one,and two" && data.as_deref() == Some(&BYTES[..]) {
        true => Ok(()),
        false => Err(format!(
            "{what}: expected what was sent; seen: {metadata:?}"
        )),
    }
}

/// Text and bytes go to the server and come back, in headers and in trailers.
pub(super) async fn metadata(target: Target) -> Verdict {
    let stage = target.start_serving(1, &[]).await?;
    let channel = stage.ready().await?;
    for _ in &stage.servers {
        let reply = client(&channel)
            .say_hello(with_metadata(hello("you")))
            .await;
        let reply = reply.map_err(stage::text)?;
        came_back("headers of a reply", reply.metadata(), "x-")?;
        came_back("trailers of a reply", reply.metadata(), "x-trailing-")?;
    }
    for server in &stage.servers {
        saw(server).await?;
    }
    for _ in &stage.servers {
        let replies = client(&channel)
            .say_hello_many(with_metadata(hello("you")))
            .await;
        let replies = replies.map_err(stage::text)?;
        came_back("headers of a stream", replies.metadata(), "x-")?;
        let mut replies = replies.into_inner();
        while replies.message().await.map_err(stage::text)?.is_some() {}
        let trailers = replies.trailers().await.map_err(stage::text)?;
        let trailers = trailers.ok_or("expected trailers; seen: none")?;
        came_back("trailers of a stream", &trailers, "x-trailing-")?;
    }
    Ok(stage.note("text, twice, and bytes".to_owned()))
}

async fn saw(server: &Server) -> Result<(), String> {
    let mut seen = server.seen().await?.metadata;
    let text = seen.remove("x-text").unwrap_or_default();
    let data = seen.remove("x-data-bin").unwrap_or_default();
    match text.replace(", ", ",") == "one,and two" && data == BASE64_STANDARD.encode(BYTES) {
        true => Ok(()),
        false => Err(format!(
            "{}: expected what was sent; seen: {text:?}, {data:?}",
            server.name
        )),
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Rich {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Every code there is, with its text and its details, and from every kind of call; and
/// the metadata of a failure.
pub(super) async fn details(target: Target) -> Verdict {
    let stage = target.start_serving(1, &[]).await?;
    let channel = stage.ready().await?;
    let mut count = 0;
    for code in (1..=16).map(Code::from) {
        for _ in &stage.servers {
            let name = format!("fail:{}", code as i32);
            let failed = client(&channel).say_hello(hello(&name)).await;
            is_rich(code, failed.err())?;
            count += 1;
        }
    }
    for _ in &stage.servers {
        let failed = client(&channel).say_hello_many(hello("fail:5")).await;
        is_rich(Code::NotFound, end_of(failed).await)?;
        let names = tokio_stream::once(hello("fail:5"));
        let failed = client(&channel).greet_all(names).await;
        is_rich(Code::NotFound, failed.err())?;
        let names = tokio_stream::iter([hello("you"), hello("fail:5")]);
        let failed = client(&channel).chat(names).await;
        is_rich(Code::NotFound, end_of(failed).await)?;
        count += 3;
    }
    for _ in &stage.servers {
        let failed = client(&channel)
            .say_hello(with_metadata(hello("fail:9")))
            .await;
        let status = failed.err().ok_or("expected a failure; seen: a reply")?;
        came_back("trailers of a failure", status.metadata(), "x-trailing-")?;
    }
    Ok(stage.note(format!(
        "{count} statuses, each with code, text and details"
    )))
}

async fn end_of(
    replies: Result<tonic::Response<tonic::Streaming<HelloReply>>, Status>,
) -> Option<Status> {
    let mut replies = match replies {
        Ok(replies) => replies.into_inner(),
        Err(status) => return Some(status),
    };
    loop {
        match replies.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

fn is_rich(code: Code, status: Option<Status>) -> Result<(), Trouble> {
    let status = status.ok_or_else(|| format!("expected {code:?}; seen: no failure"))?;
    let rich = Rich::decode(status.details()).map_err(stage::text)?;
    let detail = rich.details.first().cloned().unwrap_or_default();
    let reply = HelloReply::decode(&detail.value[..]).map_err(stage::text)?;
    let seen = (
        status.code(),
        status.message(),
        rich.code,
        rich.message.as_str(),
    );
    let expected = (code, DETAILS, code as i32, DETAILS);
    let typed = detail.type_url == "type.googleapis.com/demo.v1.HelloReply";
    match seen == expected && typed && reply.message == "detail" {
        true => Ok(()),
        false => Err(format!("expected {expected:?}; seen: {seen:?}, {detail:?}").into()),
    }
}
