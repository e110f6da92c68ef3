//! Programs use futures and runtimes in ways that a channel cannot foresee: they leave futures
//! unpolled, hold bodies, end runtimes and panic. Wherever tonic's channel goes on, ours does.
//!
//! Each test runs once for each [`Side`] that must pass. Tonic is the control: where it does
//! not pass, the test says why.

mod bridged;
mod dropped;
mod emptied;
mod fed;
mod paused;
mod plugged;
mod rigged;
mod runtimes;
mod side;
mod slots;
#[cfg(target_os = "linux")]
mod threads;
mod travel;
mod unread;

use side::Side;

/// Both answer a plain call, so that a difference elsewhere is one.
#[tokio::test]
async fn both_sides_answer_a_call() {
    use testing::{Backend, request, within};

    for side in Side::BOTH {
        let backend = Backend::start().await;
        let mut client = side.client(&backend);
        let answer = within("an answer", client.say_hello(request("you"))).await;
        assert!(answer.is_ok(), "{side}: {answer:?}");
        let balanced = side.balanced(&[backend.uri()]);
        let mut client = testing::greeter::greeter_client::GreeterClient::new(balanced);
        let answer = within("an answer", client.say_hello(request("you"))).await;
        assert!(answer.is_ok(), "{side}: {answer:?}");
    }
}
