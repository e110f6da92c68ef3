//! The READY backends as a `Discover`, and tower's balancer over them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use futures_util::{FutureExt, StreamExt};
use http::{Request, Response};
use testing::{
    Backend, GREETER, Pending, balanced, by_hand,
    greeter::{HelloReply, greeter_client::GreeterClient},
    health_checked, outcome, request, until, until_backends, until_that, within,
};
use tokio::task::JoinSet;
use tonic::{Code, Status, body::Body};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Idle, Ready, TransientFailure},
    ErrorKind,
    channel::{BackendConnection, Change, ReadyBackends},
    status::BackendId,
};
use tower::{
    Service, ServiceExt, balance::p2c::Balance, buffer::Buffer, load::Load, util::BoxCloneService,
};

/// tower's balancer, as each of many callers has it.
type Balanced = BoxCloneService<Request<Body>, Response<Body>, Status>;

/// Power of two choices over the READY backends.
fn p2c(channel: &Channel) -> Balanced {
    let balanced = Buffer::new(Balance::new(channel.ready_backends()), 64);
    BoxCloneService::new(balanced.map_err(Status::from_error))
}

async fn next(backends: &mut ReadyBackends) -> Option<Change<BackendId, BackendConnection>> {
    let change = within("a change of what is READY", backends.next()).await;
    change.map(|Ok(change)| change)
}

async fn inserted(backends: &mut ReadyBackends) -> (BackendId, BackendConnection) {
    match next(backends).await {
        Some(Change::Insert(id, connection)) => (id, connection),
        other => panic!("{other:?} is no Insert"),
    }
}

async fn removed(backends: &mut ReadyBackends) -> BackendId {
    match next(backends).await {
        Some(Change::Remove(id)) => id,
        other => panic!("{other:?} is no Remove"),
    }
}

/// The connection of the only backend.
async fn only(channel: &Channel) -> BackendConnection {
    until(channel, Ready).await;
    inserted(&mut channel.ready_backends()).await.1
}

fn start(connection: &BackendConnection, name: &'static str) -> Pending {
    let mut client = GreeterClient::new(connection.clone());
    tokio::spawn(async move { Ok(client.say_hello(request(name)).await?.into_inner()) })
}

async fn hello(connection: &BackendConnection) -> Result<HelloReply, Status> {
    outcome(start(connection, "you")).await
}

/// Who answered `n` calls over tower's balancer.
async fn order(balanced: &Balanced, n: usize) -> Vec<String> {
    let mut client = GreeterClient::new(balanced.clone());
    let mut order = Vec::new();
    for _ in 0..n {
        let reply = within("a balanced call", client.say_hello(request("you"))).await;
        order.push(reply.expect("an answer").into_inner().backend);
    }
    order
}

// D24
#[tokio::test]
async fn a_backend_appears_and_disappears_with_its_health() {
    let started = Backend::builder().scripted().not_serving(GREETER);
    let backend = started.start().await;
    let channel = health_checked(&[&backend]);
    let mut ready = channel.ready_backends();
    until(&channel, TransientFailure).await;
    assert!(ready.next().now_or_never().is_none(), "nobody is healthy");

    for _ in 0..3 {
        backend.set_serving(GREETER).await;
        let (id, connection) = inserted(&mut ready).await;
        assert_eq!(id, channel.backends()[0].id());
        assert_eq!(connection.address(), backend.addr().to_string());
        hello(&connection).await.expect("it is healthy");

        backend.set_not_serving(GREETER).await;
        assert_eq!(removed(&mut ready).await, id);
    }
    assert_eq!(backend.connections(), 1, "it is one connection all along");
}

// D24
#[tokio::test]
async fn a_connection_that_was_replaced_unseen_is_inserted_anew() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, Ready).await;
    let mut ready = channel.ready_backends();
    let (id, first) = inserted(&mut ready).await;

    // Flips that nobody looks at, on the same connection: nothing to tell.
    backend.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
    assert!(ready.next().now_or_never().is_none());
    hello(&first).await.expect("what was told still holds");

    backend.cut_connections();
    backend.until_connections(2).await;
    until(&channel, Ready).await;
    let (again, second) = inserted(&mut ready).await;
    assert_eq!(again, id);
    hello(&second).await.expect("the new connection");
    let status = hello(&first).await.expect_err("the old one is gone");
    assert!(
        status.message().contains("accepts no new calls"),
        "{status:?}"
    );
}

// D25
#[tokio::test]
async fn the_end_of_the_channel_ends_the_stream() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    for closes in [true, false] {
        let channel = balanced(&[&a, &b], None).build();
        until_backends(&channel, &[Ready; 2]).await;
        let mut ready = channel.ready_backends();
        let ids = [inserted(&mut ready).await.0, inserted(&mut ready).await.0];
        let mut unread = channel.ready_backends();
        match closes {
            true => channel.close().await,
            false => drop(channel),
        }
        let gone = [removed(&mut ready).await, removed(&mut ready).await];
        assert_eq!(gone, ids);
        for _ in 0..2 {
            assert!(next(&mut ready).await.is_none(), "and for good");
        }
        assert!(next(&mut unread).await.is_none());
        a.until_open_connections(0).await;
        b.until_open_connections(0).await;
    }
}

// D25
#[tokio::test]
async fn a_view_that_nobody_polls_keeps_no_connection() {
    let [stays, goes] = Backend::builder().start_each(["stays", "goes"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("goes", goes.uri()).await;
    backends.insert("stays", stays.uri()).await;
    until_backends(&channel, &[Ready; 2]).await;
    let mut ready = channel.ready_backends();
    let (first, _) = inserted(&mut ready).await;

    backends.remove("goes").await;
    goes.until_open_connections(0).await;
    assert_eq!(removed(&mut ready).await, first);
    inserted(&mut ready).await;
    drop(channel);
    stays.until_open_connections(0).await;
    drop(ready);
}

// D26
#[tokio::test]
async fn ready_waits_at_the_stream_limit_and_is_woken() {
    // The Watch has one.
    let few = Backend::builder().scripted().max_concurrent_streams(2);
    let backend = few.start().await;
    let channel = health_checked(&[&backend]);
    let connection = only(&channel).await;
    let call = start(&connection, "hold");
    backend.until_held(1).await;

    let (mut first, mut second) = (connection.clone(), connection.clone());
    for waiting in [&mut first, &mut second] {
        assert!(waiting.ready().now_or_never().is_none());
    }
    backend.release();
    outcome(call).await.expect("an answer");
    within("the first to be ready", first.ready())
        .await
        .expect("a stream is free");

    // A stream that is kept and not used is given back with its clone.
    assert!(second.ready().now_or_never().is_none());
    drop(first.clone());
    assert!(
        second.ready().now_or_never().is_none(),
        "a clone keeps none"
    );
    drop(first);
    within("the second to be ready", second.ready())
        .await
        .expect("the stream of the first");
    drop(second);
    hello(&connection).await.expect("it was given back again");
}

// D26
#[tokio::test]
async fn who_waits_for_a_stream_hears_that_the_connection_is_gone() {
    let one = Backend::builder().max_concurrent_streams(1);
    let backend = one.start().await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", backend.uri()).await;
    let connection = only(&channel).await;
    let call = start(&connection, "hold");
    backend.until_held(1).await;
    let mut waiting = connection.clone();
    assert!(waiting.ready().now_or_never().is_none());

    backends.remove("A").await;
    let error = within("word of the removal", waiting.ready()).await;
    let error = error.map(drop).expect_err("it takes no new calls");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.code(), Code::Unavailable);
    let text = format!(
        "the connection to {} accepts no new calls: disconnected: the subchannel was stopped",
        backend.addr()
    );
    assert!(error.message().starts_with(&text), "{error}");

    backend.release();
    outcome(call).await.expect("calls in flight go on");
    drop((connection, waiting));
    backend.until_open_connections(0).await;
}

// D26
#[tokio::test]
async fn ready_waits_while_the_backend_is_unhealthy() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    let mut connection = only(&channel).await;
    within("a stream", connection.ready()).await.expect("READY");
    backend.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    assert!(connection.ready().now_or_never().is_none());
    backend.set_serving(GREETER).await;
    within("a stream", connection.ready()).await.expect("READY");
}

// D26
#[tokio::test]
#[should_panic(expected = "called before ready")]
async fn a_call_without_a_stream_is_a_mistake() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    let mut connection = only(&channel).await;
    drop(connection.call(Request::new(Body::empty())));
}

// D27
#[tokio::test]
async fn the_load_is_the_calls_in_flight_and_no_stream_that_is_kept() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    let mut connection = only(&channel).await;
    within("a stream", connection.ready()).await.expect("READY");
    assert_eq!(connection.load(), 0);
    let calls = ["hold"; 3].map(|name| start(&connection, name));
    backend.until_held(3).await;
    assert_eq!(connection.load(), 3);
    assert_eq!(channel.backends()[0].calls_in_flight(), 3);
    backend.release();
    for call in calls {
        outcome(call).await.expect("an answer");
    }
    assert_eq!(connection.load(), 0);
}

// D27
#[tokio::test]
async fn power_of_two_choices_spreads_calls_and_leaves_out_the_unhealthy() {
    let started = Backend::builder().scripted();
    let all = started.start_each(["A", "B", "C"]).await;
    let channel = health_checked(&[&all[0], &all[1], &all[2]]);
    until_backends(&channel, &[Ready; 3]).await;
    let balanced = p2c(&channel);

    let calls: Vec<_> = (0..30)
        .map(|_| {
            let mut client = GreeterClient::new(balanced.clone());
            tokio::spawn(async move { client.say_hello(request("hold")).await })
        })
        .collect();
    within("all calls to be held", async {
        while all.iter().map(Backend::held).sum::<usize>() < calls.len() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for backend in &all {
        let held = backend.held();
        assert!((5..=15).contains(&held), "{held} of 30 on one of three");
        backend.release();
    }
    for call in calls {
        within("an answer", call)
            .await
            .expect("no panic")
            .expect("OK");
    }

    for (i, backend) in all.iter().enumerate() {
        let mut states = [Ready; 3];
        states[i] = TransientFailure;
        backend.set_not_serving(GREETER).await;
        until_backends(&channel, &states).await;
        let order = order(&balanced, 20).await;
        assert!(!order.contains(&backend.name().to_owned()), "{order:?}");
        backend.set_serving(GREETER).await;
        until_backends(&channel, &[Ready; 3]).await;
    }
}

// D27
#[tokio::test]
async fn a_balancer_waits_out_the_health_of_all_and_a_lost_connection() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    let balanced = p2c(&channel);
    assert_eq!(order(&balanced, 1).await.len(), 1);

    backend.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    let mut client = GreeterClient::new(balanced.clone());
    let waiting = tokio::spawn(async move { client.say_hello(request("you")).await });
    backend.set_serving(GREETER).await;
    let answer = within("the call that waited", waiting).await;
    answer.expect("no panic").expect("it is healthy again");

    backend.cut_connections();
    backend.until_connections(2).await;
    assert_eq!(order(&balanced, 2).await.len(), 2);
}

// D27
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn flips_of_full_backends_fail_and_strand_no_balanced_call() {
    let few_streams = Backend::builder().scripted().max_concurrent_streams(3);
    let [a, b] = few_streams.start_each(["A", "B"]).await;
    let channel = health_checked(&[&a, &b]);
    until_backends(&channel, &[Ready; 2]).await;
    let balanced = p2c(&channel);
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let (mut client, stop) = (GreeterClient::new(balanced.clone()), stop.clone());
        callers.spawn(async move {
            while !stop.load(Relaxed) {
                client.say_hello(request("you")).await?;
            }
            Ok::<_, Status>(())
        });
    }
    for _ in 0..20 {
        for (backend, expected) in [
            (&a, [TransientFailure, Ready]),
            (&b, [Ready, TransientFailure]),
        ] {
            backend.set_not_serving(GREETER).await;
            until_backends(&channel, &expected).await;
            backend.set_serving(GREETER).await;
            until_backends(&channel, &[Ready; 2]).await;
        }
    }
    stop.store(true, Relaxed);
    within("the last calls to end", async {
        while let Some(caller) = callers.join_next().await {
            caller.expect("no panic").expect("a flip fails no call");
        }
    })
    .await;
    let connections = [&a, &b].map(|backend| backend.connections());
    assert_eq!(connections, [1; 2], "a flip costs no connection");
}

// D28
#[tokio::test]
async fn to_wait_for_a_backend_wakes_a_channel_that_rests() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    let balanced = p2c(&channel);
    order(&balanced, 1).await;
    channel.enter_idle();
    until_that(&channel, "the channel to rest", |status| {
        status.state() == Idle
    })
    .await;
    order(&balanced, 2).await;
    backend.until_connections(2).await;
}
