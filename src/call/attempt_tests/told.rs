//! How a response or an error tells of the attempts of its call.

use super::*;
use crate::{
    call::{attempts::Stop, retry::OVER},
    channel::CallAttempts,
};

#[tokio::test(start_paused = true)]
async fn a_response_tells_of_the_attempts_before_it_where_that_is_asked_for() {
    let replies = |server, _| match server {
        2 => Reply::Ok,
        _ => Reply::Only(Code::Unavailable),
    };
    let tells = |builder: ChannelBuilder| builder.tell_attempts(true);
    let setup = setup(3, &retry(5, UNAVAILABLE), tells, replies).await;
    for _ in 0..3 {
        let response = setup.call().await.expect("one backend answers");
        let attempts = response
            .extensions()
            .get::<CallAttempts>()
            .expect("they are told");
        assert_eq!(attempts.made() as usize, attempts.failed().len() + 1);
        for (failed, number) in attempts.failed().iter().zip(1..) {
            assert_eq!(
                (failed.number(), failed.code()),
                (number, Code::Unavailable)
            );
            let backend = failed.backend().expect("there is one");
            assert!(["a.test:1", "b.test:1"].contains(&backend), "{backend}");
            assert!(failed.may_have_been_sent());
            let text = format!("attempt {number} on {backend}: UNAVAILABLE, by script");
            assert_eq!(failed.to_string(), text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_tells_nothing_by_default() {
    let setup = setup(1, &retry(5, UNAVAILABLE), same, |_, _| Reply::Ok).await;
    let response = setup.call().await.expect("it answers");
    assert!(response.extensions().get::<CallAttempts>().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_text_of_a_call_that_failed_names_every_attempt() {
    let setup = setup(1, &retry(3, UNAVAILABLE), same, |_, number| match number {
        1 => Reply::Reset(Reason::REFUSED_STREAM),
        _ => Reply::Only(Code::Unavailable),
    })
    .await;
    let status = setup.call().await.expect_err("it fails");
    let expected = "by script (3 attempts, no more are allowed; \
         attempt 1 on a.test:1: UNAVAILABLE, by script; \
         attempt 2 on a.test:1: UNAVAILABLE, stream to a.test:1: \
         stream terminated by RST_STREAM with error code: REFUSED_STREAM; \
         attempt 3 on a.test:1: UNAVAILABLE, by script)";
    assert_eq!(status.message(), expected);
    let error = Error::of(&status).expect("it is the channel's");
    let sent: Vec<_> = error
        .attempts()
        .expect("there is a policy")
        .failed()
        .iter()
        .map(crate::channel::FailedAttempt::may_have_been_sent)
        .collect();
    assert_eq!(sent, [true, false, true]);
    assert!(error.may_have_been_sent());
}

#[tokio::test(start_paused = true)]
async fn a_single_attempt_is_handed_on_as_the_server_sent_it() {
    let setup = setup(1, &retry(3, UNAVAILABLE), same, |_, _| {
        Reply::Only(Code::NotFound)
    })
    .await;
    let mut channel = setup.channel.clone();
    let response = soon(channel.call(unary())).await.expect("headers");
    assert_eq!(response.headers()["grpc-status"], "5");
    assert_eq!(response.headers()["grpc-message"], "by script");
}

#[test]
fn the_guide_names_each_reason_for_no_more_attempts() {
    let guide = include_str!("../../../docs/failures.md");
    let stops = [
        Stop::Unlisted,
        Stop::Pushback,
        Stop::Throttled,
        Stop::Exhausted,
        Stop::NotKept,
    ];
    for reason in stops.map(Stop::text).into_iter().chain([OVER]) {
        assert!(guide.contains(&format!("| `{reason}` |")), "{reason}");
    }
}
