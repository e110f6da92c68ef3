//! Deadlines that a server passes on to those it calls.

use std::time::Duration;

use testing::{
    Backend, endpoint,
    greeter::{HelloReply, HelloRequest, greeter_client::GreeterClient},
    request, within,
};
use tonic::{Code, Request, Response, Status};
use tonic_health_channel::{
    Channel,
    deadline::{self, Deadline},
};

use super::side::{AnyChannel, Side};

/// A request that has come in with so much time.
fn incoming(time: Duration) -> Request<()> {
    let mut incoming = Request::new(());
    incoming.set_timeout(time);
    incoming
}

/// A request that is to go out by this deadline.
fn outgoing(name: &str, deadline: Deadline) -> Request<HelloRequest> {
    let mut outgoing = Request::new(request(name));
    deadline.put_into(&mut outgoing);
    outgoing
}

async fn say(
    client: &GreeterClient<Channel>,
    call: Request<HelloRequest>,
) -> Result<Response<HelloReply>, Status> {
    within("the end of a call", client.clone().say_hello(call)).await
}

const SECOND: Duration = Duration::from_secs(1);

// D241
#[tokio::test]
async fn each_call_is_told_what_those_before_it_have_left() {
    for side in Side::BOTH {
        let backend = Backend::start().await;
        let mut client: GreeterClient<AnyChannel> = side.client(&backend);
        let deadline = deadline::from(&incoming(5 * SECOND));
        let mut before = 6 * SECOND;
        for _ in 0..3 {
            let answer = client.say_hello(outgoing("slow:200", deadline)).await;
            assert!(answer.is_ok(), "{side}: {answer:?}");
            // Three digits of less than 5 s are hundredths.
            let told = backend.last_timeout();
            assert!(told <= before - SECOND / 6, "{side}: {told:?}, {before:?}");
            before = told;
        }
        assert!(before > 2 * SECOND, "{side}: {before:?}");
    }
}

// D242
#[tokio::test]
async fn when_nothing_is_left_a_call_fails_before_it_is_sent() {
    let backend = Backend::start().await;
    let client = GreeterClient::new(endpoint(backend.uri()).connect_lazy());
    let deadline = deadline::from(&incoming(SECOND / 5));
    // Made in time, and made use of too late.
    let kept = outgoing("you", deadline);
    let status = say(&client, outgoing("hold", deadline)).await;
    let status = status.expect_err("it is held");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let hits = backend.hits();
    assert_eq!(deadline.left(), Some(Duration::ZERO));
    for late in [kept, outgoing("you", deadline)] {
        let status = say(&client, late).await.expect_err("nothing is left");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let text = "before the call was sent";
        assert!(status.message().contains(text), "{status}");
    }
    assert_eq!(backend.hits(), hits, "none was sent");
}

// D241
#[tokio::test]
async fn of_two_deadlines_the_sooner_counts() {
    let backend = Backend::start().await;
    let client = GreeterClient::new(endpoint(backend.uri()).connect_lazy());
    let [short, long] = [2, 9].map(|seconds| deadline::from(&incoming(seconds * SECOND)));
    let mut calls = [(); 5].map(|()| Request::new(request("you")));
    let [own_first, own_last, both, again, put_first] = &mut calls;
    own_first.set_timeout(2 * SECOND);
    long.put_into(own_first);
    long.put_into(own_last);
    own_last.set_timeout(2 * SECOND);
    short.put_into(both);
    long.put_into(both);
    long.put_into(again);
    again.set_timeout(2 * SECOND);
    long.put_into(again);
    short.put_into(put_first);
    put_first.set_timeout(9 * SECOND);
    for (number, call) in calls.into_iter().enumerate() {
        say(&client, call).await.expect("an answer");
        let told = backend.last_timeout();
        assert!(told <= 2 * SECOND, "call {number}: {told:?}");
        assert!(told > SECOND, "call {number}: {told:?}");
    }
}

// D241
#[tokio::test]
async fn a_request_without_a_timeout_has_no_deadline_to_pass_on() {
    let backend = Backend::start().await;
    let client = GreeterClient::new(endpoint(backend.uri()).connect_lazy());
    let mut unreadable = Request::new(());
    let text = "soon".parse().expect("ASCII");
    unreadable.metadata_mut().insert("grpc-timeout", text);
    for incoming in [Request::new(()), unreadable] {
        let deadline = deadline::from(&incoming);
        assert_eq!((deadline.instant(), deadline.left()), (None, None));
        say(&client, outgoing("you", deadline))
            .await
            .expect("an answer");
        let told = backend.last_metadata().expect("a call");
        assert_eq!(told.get("grpc-timeout"), None);
    }
}

// D243
#[tokio::test(start_paused = true)]
async fn the_time_counts_from_where_the_request_is_asked_or_was_stamped() {
    let plain = incoming(2 * SECOND);
    let stamped = deadline::stamp(incoming(2 * SECOND)).expect("it lets all pass");
    let asked = deadline::from(&plain);
    tokio::time::advance(SECOND).await;
    assert_eq!(asked.left(), Some(SECOND), "a deadline is a moment");
    assert_eq!(deadline::from(&plain).left(), Some(2 * SECOND));
    assert_eq!(deadline::from(&stamped).left(), Some(SECOND));
    tokio::time::advance(2 * SECOND).await;
    assert_eq!(deadline::from(&stamped).left(), Some(Duration::ZERO));
}

// D241
#[tokio::test]
async fn a_request_that_is_passed_on_as_it_came_keeps_its_deadline() {
    let backend = Backend::start().await;
    let client = GreeterClient::new(endpoint(backend.uri()).connect_lazy());
    let stamped = deadline::stamp(incoming(5 * SECOND)).expect("it lets all pass");
    // A call that takes a while.
    let slow = Request::new(request("slow:300"));
    say(&client, slow).await.expect("an answer");
    say(&client, stamped.map(|()| request("you")))
        .await
        .expect("an answer");
    let told = backend.last_timeout();
    assert!(told <= 4_710 * SECOND / 1_000, "{told:?}");
}
