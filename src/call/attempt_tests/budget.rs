//! How much of requests is kept.

use super::*;

fn buffers(per_call: usize, per_channel: usize) -> impl FnOnce(ChannelBuilder) -> ChannelBuilder {
    move |builder| {
        builder
            .retry_buffer_per_call(per_call)
            .retry_buffer(per_channel)
    }
}

fn held(setup: &Setup) -> usize {
    setup.channel.board().replay_budget().held()
}

// T128
#[tokio::test(start_paused = true)]
async fn a_unary_request_above_the_buffer_has_one_attempt() {
    let fails = |_, _| Reply::Only(Code::Unavailable);
    let mut setup = setup(1, &retry(4, UNAVAILABLE), buffers(200, 2_000), fails).await;
    let large = request(Body::new(Full::new(Bytes::from(vec![0; 500]))));
    let status = setup.send(large).await.expect_err("it fails");
    assert_eq!((status.code(), setup.came()), (Code::Unavailable, 1));
    assert_eq!(held(&setup), 0);
}

// T129, T132
#[tokio::test(start_paused = true)]
async fn a_stream_is_committed_by_the_byte_that_is_too_much() {
    for (sizes, attempts) in [(&[600, 400][..], 2), (&[600, 401], 1), (&[1_001], 1)] {
        let count = sizes.len();
        let fails = move |_, number| match number {
            0 => Reply::OnlyAfterMessages(count, Code::Unavailable),
            _ => Reply::OkAfterAll,
        };
        let mut setup = setup(1, &retry(4, UNAVAILABLE), buffers(1_000, 2_000), fails).await;
        let (frames, request) = streaming();
        let call = setup.send(request);
        let feed = async {
            for size in sizes {
                sleep(Duration::from_secs(1)).await;
                frames.send(message(vec![7; *size])).expect("it is read");
            }
            sleep(Duration::from_secs(1)).await;
            drop(frames);
        };
        let (outcome, ()) = tokio::join!(call, feed);
        assert_eq!(outcome.is_ok(), attempts == 2, "{sizes:?}");
        assert_eq!(setup.came(), attempts, "{sizes:?}");
        if let Ok(response) = outcome {
            finish(response).await.expect("OK");
            let served = setup.serves(2).await;
            assert_eq!(served[1].body.concat(), vec![7; sizes.iter().sum()]);
        }
        assert_eq!(held(&setup), 0);
    }
}

/// The attempt that is under way goes on with all of a request that is not kept.
#[tokio::test(start_paused = true)]
async fn a_committed_stream_goes_through_whole() {
    let config = retry(4, UNAVAILABLE);
    let mut setup = setup(1, &config, buffers(1_000, 2_000), |_, _| Reply::OkAfterAll).await;
    let (frames, request) = streaming();
    let call = setup.send(request);
    let channel = setup.channel.clone();
    let feed = async {
        for letter in b'a'..=b'z' {
            frames.send(message(vec![letter; 100])).expect("it is read");
            sleep(Duration::from_secs(1)).await;
        }
        let held = channel.board().replay_budget().held();
        drop(frames);
        held
    };
    let (response, held) = tokio::join!(call, feed);
    finish(response.expect("its only attempt"))
        .await
        .expect("OK");
    let body = setup.serves(1).await.remove(0).body.concat();
    let expected: Vec<u8> = (b'a'..=b'z').flat_map(|letter| vec![letter; 100]).collect();
    assert_eq!((body, held), (expected, 0));
}

// T143
#[tokio::test(start_paused = true)]
async fn a_committed_stream_that_is_refused_is_not_sent_again() {
    let refused = |_, _| Reply::ResetAfterMessages(2, Reason::REFUSED_STREAM);
    let config = retry(4, UNAVAILABLE);
    let mut setup = setup(1, &config, buffers(1_000, 2_000), refused).await;
    let (frames, request) = streaming();
    let call = setup.send(request);
    let feed = async {
        for _ in 0..2 {
            frames.send(message(vec![7; 600])).expect("it is read");
            sleep(Duration::from_secs(1)).await;
        }
    };
    let (outcome, ()) = tokio::join!(call, feed);
    let status = outcome.expect_err("its only attempt is refused");
    assert_eq!((status.code(), setup.came()), (Code::Unavailable, 1));
}

// T130
#[tokio::test(start_paused = true)]
async fn calls_share_the_buffer_of_the_channel() {
    let config = retry(4, UNAVAILABLE);
    let hangs = |_, number| match number {
        0 => Reply::OkAfterAll,
        _ => Reply::OnlyAfterMessages(2, Code::Unavailable),
    };
    let mut setup = setup(1, &config, buffers(1_000, 1_500), hangs).await;
    let (first, request) = streaming();
    first.send(message(vec![0; 1_000])).expect("it is read");
    let first_call = setup.send(request);
    let (second, request) = streaming();
    let second_call = async {
        sleep(Duration::from_secs(1)).await;
        setup.send(request).await
    };
    let feed = async {
        sleep(Duration::from_secs(2)).await;
        assert_eq!(held(&setup), 1_000);
        second.send(message(vec![0; 500])).expect("it is read");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(held(&setup), 1_500);
        second.send(message(vec![0; 1])).expect("it is read");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(held(&setup), 1_000, "the second gives back its share");
        drop(first);
    };
    let (one, other, ()) = tokio::join!(first_call, second_call, feed);
    finish(one.expect("it is answered")).await.expect("OK");
    assert_eq!(
        other.expect_err("it has one attempt").code(),
        Code::Unavailable
    );
    assert_eq!((setup.came(), held(&setup)), (2, 0));
}

// T133
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_back_what_it_held() {
    let setup = setup(1, &retry(4, UNAVAILABLE), same, |_, _| Reply::Hang).await;
    let (frames, request) = streaming();
    frames.send(message(vec![0; 1_000])).expect("it is read");
    let mut channel = setup.channel.clone();
    let call = tokio::time::timeout(Duration::from_secs(1), channel.call(request));
    assert!(call.await.is_err(), "it hangs");
    drop(frames);
    // The task that moves the body ends by itself.
    while held(&setup) > 0 {
        tokio::task::yield_now().await;
    }
}
