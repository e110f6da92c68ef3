//! Requests that stream, and what becomes of what was sent.

use super::*;

fn chunks(body: &[Bytes]) -> Vec<&[u8]> {
    body.iter().map(|chunk| &**chunk).collect()
}

// T124, T127
#[tokio::test(start_paused = true)]
async fn what_was_sent_is_sent_again_in_order_and_what_follows_goes_after_it() {
    let mut setup = setup(1, &retry(4, UNAVAILABLE), same, |_, number| match number {
        0 => Reply::OnlyAfterMessages(2, Code::Unavailable),
        _ => Reply::OkAfterAll,
    })
    .await;
    let (frames, request) = streaming();
    frames.send(message("one")).expect("it is read");
    frames.send(message("two")).expect("it is read");
    let call = setup.send(request);
    let feed = async {
        sleep(Duration::from_secs(1)).await;
        frames.send(message("three")).expect("it is read");
        drop(frames);
    };
    let (response, ()) = tokio::join!(call, feed);
    finish(response.expect("the second attempt"))
        .await
        .expect("OK");
    let served = setup.serves(2).await;
    assert_eq!(chunks(&served[0].body), [b"one", b"two"]);
    assert_eq!(served[1].body.concat(), b"onetwothree");
    assert_eq!(served[1].previous.as_deref(), Some("1"));
}

// T126
#[tokio::test(start_paused = true)]
async fn the_end_of_a_request_is_sent_again() {
    let mut setup = setup(1, &retry(4, UNAVAILABLE), same, |_, number| match number {
        0 => Reply::OnlyAfterAll(Code::Unavailable),
        _ => Reply::OkAfterAll,
    })
    .await;
    let (frames, request) = streaming();
    let call = setup.send(request);
    let feed = async {
        frames.send(message("one")).expect("it is read");
        sleep(Duration::from_secs(1)).await;
        drop(frames);
    };
    let (response, ()) = tokio::join!(call, feed);
    finish(response.expect("the second attempt"))
        .await
        .expect("OK");
    let served = setup.serves(2).await;
    assert!(served.iter().all(|one| one.body.concat() == b"one"));
}

// T125
#[tokio::test(start_paused = true)]
async fn each_attempt_has_all_messages_so_far() {
    let mut setup = setup(1, &retry(4, UNAVAILABLE), same, |_, number| match number {
        3 => Reply::OkAfterAll,
        number => Reply::OnlyAfterMessages(number + 1, Code::Unavailable),
    })
    .await;
    let (frames, request) = streaming();
    let call = setup.send(request);
    let feed = async {
        for text in ["a", "b", "c", "d"] {
            frames.send(message(text)).expect("it is read");
            sleep(Duration::from_secs(1)).await;
        }
        drop(frames);
    };
    let (response, ()) = tokio::join!(call, feed);
    finish(response.expect("the fourth attempt"))
        .await
        .expect("OK");
    let bodies: Vec<_> = setup
        .serves(4)
        .await
        .iter()
        .map(|served| served.body.concat())
        .collect();
    assert_eq!(bodies, [&b"a"[..], b"ab", b"abc", b"abcd"]);
}

// T120
#[tokio::test(start_paused = true)]
async fn a_response_that_has_begun_is_not_retried() {
    let mut setup = setup(1, &retry(4, UNAVAILABLE), same, |_, _| {
        Reply::Message(Code::Unavailable)
    })
    .await;
    let (frames, request) = streaming();
    frames.send(message("one")).expect("it is read");
    let response = setup.send(request).await.expect("headers");
    let status = finish(response)
        .await
        .expect_err("it fails in the trailers");
    assert_eq!((status.code(), setup.came()), (Code::Unavailable, 1));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_ends_the_call() {
    let config = retry(4, r#""UNAVAILABLE", "CANCELLED""#);
    let mut setup = setup(1, &config, same, |_, _| Reply::Hang).await;
    let (frames, request) = streaming();
    frames.send(message("one")).expect("it is read");
    let call = setup.send(request);
    let feed = async {
        sleep(Duration::from_secs(1)).await;
        frames
            .send(Err(Status::unavailable("of the caller")))
            .expect("it is read");
    };
    let (outcome, ()) = tokio::join!(call, feed);
    let status = outcome.expect_err("its own body has failed");
    assert_eq!((status.code(), setup.came()), (Code::Unavailable, 1));
    assert!(
        status.message().contains("of the caller"),
        "{}",
        status.message()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_is_sent_again_where_the_body_is_kept() {
    let mut setup = setup(1, &retry(2, UNAVAILABLE), same, |_, number| match number {
        0 => Reply::Reset(Reason::REFUSED_STREAM),
        _ => Reply::OkAfterAll,
    })
    .await;
    let (frames, request) = streaming();
    frames.send(message("one")).expect("it is read");
    let call = setup.send(request);
    let feed = async {
        sleep(Duration::from_secs(1)).await;
        drop(frames);
    };
    let (response, ()) = tokio::join!(call, feed);
    finish(response.expect("the same attempt again"))
        .await
        .expect("OK");
    let served = setup.serves(2).await;
    assert_eq!(
        (served[1].body.concat(), &served[1].previous),
        (b"one".to_vec(), &None)
    );
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_an_attempt_that_failed_is_reset_though_the_body_goes_on() {
    first_stream_is_reset(&retry(2, UNAVAILABLE)).await;
}

/// A server that has answered and does not read on is told that nothing more comes.
pub(super) async fn first_stream_is_reset(config: &str) {
    let mut setup = setup(1, config, same, |_, number| match number {
        0 => Reply::Only(Code::Unavailable),
        _ => Reply::OkAfterAll,
    })
    .await;
    let (frames, request) = streaming();
    frames.send(message("one")).expect("it is read");
    let call = setup.send(request);
    let feed = async {
        sleep(Duration::from_secs(1)).await;
        let in_flight = setup.channel.backends()[0].calls_in_flight();
        drop(frames);
        in_flight
    };
    let (response, in_flight) = tokio::join!(call, feed);
    finish(response.expect("the second attempt"))
        .await
        .expect("OK");
    assert_eq!(in_flight, 1, "of 2 streams");
    assert_eq!(setup.serves(2).await.len(), 2);
}
