//! What goes along with a call, in both directions.

use testing::{call, greeter::greeter_client::GreeterClient, request, within};
use tonic::{
    Request, Status,
    metadata::{MetadataMap, MetadataValue},
    service::interceptor::InterceptedService,
};

use super::connected;

const BYTES: &[u8] = &[0, 1, 0xff, 0xfe];

fn tagged(name: &str) -> Request<testing::greeter::HelloRequest> {
    let mut request = Request::new(request(name));
    let metadata = request.metadata_mut();
    metadata.insert("x-text", "yes".parse().expect("ASCII"));
    metadata.append("x-twice", "one".parse().expect("ASCII"));
    metadata.append("x-twice", "two".parse().expect("ASCII"));
    metadata.insert_bin("x-bytes-bin", MetadataValue::from_bytes(BYTES));
    request
}

#[track_caller]
fn assert_tagged(metadata: &MetadataMap) {
    assert_eq!(metadata.get("x-text").expect("sent"), "yes");
    let twice: Vec<_> = metadata.get_all("x-twice").iter().collect();
    assert_eq!(twice, ["one", "two"]);
    let bytes = metadata.get_bin("x-bytes-bin").expect("sent");
    assert_eq!(bytes.to_bytes().expect("base64"), BYTES);
}

#[tokio::test]
async fn metadata_goes_there_and_back() {
    let (backend, channel) = connected().await;
    let response = call(&channel, tagged("you")).await.expect("an answer");
    assert_tagged(&backend.last_metadata().expect("there was a call"));
    assert_tagged(response.metadata());

    let status = call(&channel, tagged("fail:9")).await;
    let status = status.expect_err("asked to fail");
    assert_tagged(status.metadata());
}

#[tokio::test]
async fn a_call_says_what_grpc_wants_to_be_told() {
    let (backend, channel) = connected().await;
    call(&channel, Request::new(request("you")))
        .await
        .expect("an answer");
    let seen = backend.last_call().expect("there was a call");
    assert_eq!(seen.path, "/demo.v1.Greeter/SayHello");
    assert_eq!(seen.authority, Some(backend.addr().to_string()));
    let header = |name| {
        seen.metadata
            .get(name)
            .map(|value| value.to_str().expect("ASCII"))
    };
    assert_eq!(header("te"), Some("trailers"));
    assert_eq!(header("content-type"), Some("application/grpc"));
    assert_eq!(header("grpc-timeout"), None, "nobody set a deadline");
    let agent = header("user-agent").expect("always sent");
    assert!(agent.starts_with("tonic-health-channel/"), "{agent}");
}

#[tokio::test]
async fn interceptors_work_on_the_channel() {
    let (backend, channel) = connected().await;
    let mut client = GreeterClient::with_interceptor(channel.clone(), |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("x-by", "interceptor".parse().expect("ASCII"));
        Ok(request)
    });
    let answer = within("an answer", client.say_hello(request("you"))).await;
    answer.expect("let through");
    let seen = backend.last_metadata().expect("there was a call");
    assert_eq!(seen.get("x-by").expect("inserted"), "interceptor");

    let refuse = |_: Request<()>| Err(Status::permission_denied("not you"));
    let mut client = GreeterClient::new(InterceptedService::new(channel, refuse));
    let refused = client.say_hello(request("you")).await.expect_err("refused");
    assert_eq!(refused.message(), "not you");
    assert_eq!(backend.hits(), 1, "the second was never sent");
}
