//! Which backend a response is of.

use testing::{
    Backend, balanced, by_hand, call, greeter, hello, request, until, until_ready, within,
};
use tonic::{Extensions, Request};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    channel::AnsweredBy,
};

use super::first;

fn answered_by(extensions: &Extensions) -> Option<&AnsweredBy> {
    extensions.get::<AnsweredBy>()
}

/// One unary call: who says that it answered, and who is said to have.
async fn who(channel: &Channel) -> (String, AnsweredBy) {
    let response = call(channel, Request::new(request("you"))).await;
    let response = response.expect("an answer");
    let told = answered_by(response.extensions()).expect("it is to be told");
    (response.get_ref().backend.clone(), told.clone())
}

#[tokio::test]
async fn a_response_tells_which_backend_answered() {
    let [a, b, c] = Backend::builder().start_each(["A", "B", "C"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.tell_backend(true).build();
    for (key, backend) in [("A", &a), ("B", &b), ("C", &c)] {
        backends.insert(key, backend.uri()).await;
    }
    until_ready(&channel, &["A", "B", "C"]).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let (itself, told) = who(&channel).await;
        assert_eq!(told.label(), itself);
        let shown = channel.backends();
        let shown = shown.iter().find(|backend| backend.label() == itself);
        assert_eq!(told.address(), shown.expect("it is there").address());
        seen.push(told);
    }
    assert_eq!(seen[..3], seen[3..], "they take turns");
    let named = format!("A ({})", a.addr());
    assert!(seen.iter().any(|told| told.to_string() == named));
}

#[tokio::test]
async fn a_stream_of_responses_tells_its_backend_before_the_first() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.tell_backend(true).build();
    backends.insert("A", a.uri()).await;
    backends.insert("B", b.uri()).await;
    until_ready(&channel, &["A", "B"]).await;
    for _ in 0..4 {
        let mut one = request("you");
        one.count = 1;
        let mut client = greeter(&channel);
        let response = within("headers", client.say_hello_many(one)).await;
        let mut response = response.expect("a stream");
        let told = answered_by(response.extensions()).expect("it is to be told");
        let told = told.label().to_owned();
        let reply = within("a reply", response.get_mut().message()).await;
        let reply = reply.expect("a reply").expect("one");
        assert_eq!(told, reply.backend);
    }
}

#[tokio::test]
async fn a_backend_without_a_name_is_told_by_its_address_wherever_it_is_now() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).tell_backend(true).build();
    let address = backend.addr().to_string();
    for _ in 0..2 {
        until(&channel, Ready).await;
        let (itself, told) = who(&channel).await;
        assert_eq!((told.label(), told.address()), (&*address, &*address));
        assert_eq!(
            (told.to_string(), itself),
            (address.clone(), address.clone())
        );
        // The next connection tells it too.
        backend.kill().await;
        until(&channel, TransientFailure).await;
        backend.restart().await;
    }
}

#[tokio::test]
async fn a_backend_that_moved_is_told_where_it_is() {
    let [old, new] = Backend::builder().start_each(["old", "new"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.tell_backend(true).build();
    backends.insert("A", old.uri()).await;
    until_ready(&channel, &["A"]).await;
    assert_eq!(who(&channel).await.1.address(), old.addr().to_string());

    backends.insert("A", new.uri()).await;
    old.until_open_connections(0).await;
    let (itself, told) = who(&channel).await;
    assert_eq!((told.label(), &*itself), ("A", "new"));
    assert_eq!(told.address(), new.addr().to_string());
    assert_eq!(told.address(), first(&channel).address());
}

#[tokio::test]
async fn nobody_is_told_by_default() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    let response = call(&channel, Request::new(request("you"))).await;
    let response = response.expect("an answer");
    assert_eq!(answered_by(response.extensions()), None);
    hello(&channel).await.expect("an answer");
}
