//! A hedging policy.

use super::{streaming::first_stream_is_reset, *};

fn hedge(max_attempts: u32, delay: &str) -> String {
    config(&format!(
        r#""hedgingPolicy": {{"maxAttempts": {max_attempts}, "hedgingDelay": "{delay}",
            "nonFatalStatusCodes": ["UNAVAILABLE"]}}"#
    ))
}

/// The times of requests, in milliseconds since the call, in their order.
fn times(setup: &Setup, served: &[Served]) -> Vec<u128> {
    let mut times: Vec<_> = served
        .iter()
        .map(|one| (one.at - setup.began).as_millis())
        .collect();
    times.sort_unstable();
    times
}

// G01
#[tokio::test(start_paused = true)]
async fn hedges_start_a_delay_apart_and_the_first_answer_wins() {
    let mut setup = setup(4, &hedge(6, "100s"), same, |_, number| match number {
        0 => Reply::After(450_000),
        _ => Reply::Hang,
    })
    .await;
    setup.call().await.expect("the first one answers");
    assert_eq!(setup.began.elapsed().as_secs(), 450);
    let served = setup.serves(5).await;
    assert_eq!(
        times(&setup, &served),
        [0, 100_000, 200_000, 300_000, 400_000]
    );
    let mut previous: Vec<_> = served.iter().map(|one| one.previous.clone()).collect();
    previous.sort();
    let text = |number: &str| Some(number.to_owned());
    assert_eq!(previous, [None, text("1"), text("2"), text("3"), text("4")]);
    // Losers are reset.
    let resets = served
        .iter()
        .filter(|one| one.reset == Some(Reason::CANCEL))
        .count();
    assert_eq!(resets, 4);
}

// G03
#[tokio::test(start_paused = true)]
async fn without_a_delay_all_are_sent_at_once() {
    let config = hedge(3, "0s").replace(r#""hedgingDelay": "0s","#, "");
    let mut setup = setup(4, &config, same, |_, _| Reply::Only(Code::Unavailable)).await;
    assert_eq!(setup.code().await, Code::Unavailable);
    let served = setup.serves(3).await;
    assert_eq!(times(&setup, &served), [0, 0, 0]);
    let mut servers: Vec<_> = served.iter().map(|one| one.server).collect();
    servers.sort_unstable();
    servers.dedup();
    assert_eq!(servers.len(), 3, "3 backends of 4");
}

// G04
#[tokio::test(start_paused = true)]
async fn headers_of_one_cancel_the_others() {
    let mut setup = setup(4, &hedge(5, "10s"), same, |_, number| match number {
        1 => Reply::After(15_000),
        _ => Reply::Hang,
    })
    .await;
    setup.call().await.expect("the second one answers");
    let served = setup.serves(3).await;
    assert_eq!(times(&setup, &served), [0, 10_000, 20_000]);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(setup.came(), 3, "no more hedges");
    let in_flight: usize = setup
        .channel
        .backends()
        .iter()
        .map(|b| b.calls_in_flight())
        .sum();
    assert_eq!(in_flight, 0);
}

// G05, G06
#[tokio::test(start_paused = true)]
async fn a_listed_failure_is_waited_out_and_another_one_ends_the_call() {
    let mut fatal = setup(4, &hedge(3, "10s"), same, |_, number| match number {
        0 => Reply::Hang,
        1 => Reply::Only(Code::Unavailable),
        _ => Reply::OnlyAfter(1_000, Code::NotFound),
    })
    .await;
    let status = fatal.call().await.expect_err("the third ends it");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(fatal.began.elapsed().as_secs(), 11);
    assert_eq!(fatal.serves(3).await.len(), 3, "the first was reset");

    let mut all = setup(1, &hedge(3, "10s"), same, |_, number| {
        Reply::OnlyAfter(15_000 + number as u64, Code::Unavailable)
    })
    .await;
    let status = all.call().await.expect_err("all have failed");
    assert_eq!((status.code(), all.came()), (Code::Unavailable, 3));
    assert!(
        status.message().starts_with("by script (3 attempts"),
        "{}",
        status.message()
    );
}

// G07, G08
#[tokio::test(start_paused = true)]
async fn a_failure_hurries_the_next_one_and_pushback_sets_its_time() {
    let mut hurried = setup(4, &hedge(3, "100s"), same, |_, number| match number {
        0 => Reply::OnlyAfter(30_000, Code::Unavailable),
        1 => Reply::Hang,
        _ => Reply::Ok,
    })
    .await;
    hurried.call().await.expect("the third one answers");
    let served = hurried.serves(3).await;
    assert_eq!(times(&hurried, &served), [0, 30_000, 130_000]);

    let mut pushed = setup(4, &hedge(3, "100s"), same, |_, number| match number {
        0 => Reply::Pushback(Code::Unavailable, &["20000"]),
        1 => Reply::Hang,
        _ => Reply::Ok,
    })
    .await;
    pushed.call().await.expect("the third one answers");
    let served = pushed.serves(3).await;
    assert_eq!(times(&pushed, &served), [0, 20_000, 120_000]);
}

// G09
#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_schedule_and_not_those_under_way() {
    let mut wins = setup(4, &hedge(5, "10s"), same, |_, number| match number {
        0 => Reply::After(60_000),
        _ => Reply::Pushback(Code::Unavailable, &["-1"]),
    })
    .await;
    wins.call().await.expect("the first one answers");
    assert_eq!(wins.came(), 2);

    let mut fails = setup(1, &hedge(5, "10s"), same, |_, _| {
        Reply::Pushback(Code::Unavailable, &["-1"])
    })
    .await;
    let status = fails.call().await.expect_err("nothing is under way");
    assert_eq!((status.code(), fails.came()), (Code::Unavailable, 1));
    assert_eq!(fails.began.elapsed().as_millis(), 0);
}

// G11
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_cancels_all_attempts() {
    let mut setup = setup(4, &hedge(5, "10s"), same, |_, _| Reply::Hang).await;
    let mut channel = setup.channel.clone();
    let call = tokio::time::timeout(Duration::from_secs(25), channel.call(unary()));
    assert!(call.await.is_err(), "all of them hang");
    assert!(
        setup
            .serves(3)
            .await
            .iter()
            .all(|one| one.reset == Some(Reason::CANCEL))
    );
    sleep(Duration::from_secs(100)).await;
    assert_eq!(setup.came(), 3);
}

// G12
#[tokio::test(start_paused = true)]
async fn a_request_that_outgrows_the_buffer_goes_on_with_one_attempt() {
    let buffers = |builder: ChannelBuilder| builder.retry_buffer_per_call(1_000);
    let mut setup = setup(2, &hedge(5, "10s"), buffers, |_, _| Reply::OkAfterAll).await;
    let (frames, request) = streaming();
    let call = setup.send(request);
    let channel = setup.channel.clone();
    let feed = async {
        frames.send(message(vec![1; 600])).expect("it is read");
        sleep(Duration::from_secs(15)).await;
        assert_eq!(channel.board().replay_budget().held(), 600);
        frames.send(message(vec![2; 600])).expect("it is read");
        sleep(Duration::from_secs(100)).await;
        assert_eq!(channel.board().replay_budget().held(), 0);
        frames.send(message(vec![3; 600])).expect("it is read");
        drop(frames);
    };
    let (response, ()) = tokio::join!(call, feed);
    finish(response.expect("one attempt goes on"))
        .await
        .expect("OK");
    let served = setup.serves(2).await;
    assert_eq!(setup.came(), 2, "no hedge follows");
    let whole = [[1; 600], [2; 600], [3; 600]].concat();
    let wholes = served
        .iter()
        .filter(|one| one.body.concat() == whole)
        .count();
    assert_eq!(wholes, 1);
}

// G13
#[tokio::test(start_paused = true)]
async fn a_refused_attempt_is_sent_again_and_counts_for_nothing() {
    let mut setup = setup(1, &hedge(2, "10s"), same, |_, number| match number {
        0 => Reply::Reset(Reason::REFUSED_STREAM),
        1 => Reply::Hang,
        _ => Reply::Ok,
    })
    .await;
    setup.call().await.expect("the hedge answers");
    let served = setup.serves(3).await;
    assert_eq!(times(&setup, &served), [0, 0, 10_000]);

    // Though another attempt is under way: each has its own.
    let mut beside = super::setup(1, &hedge(2, "10s"), same, |_, number| match number {
        0 => Reply::Hang,
        1 => Reply::Reset(Reason::REFUSED_STREAM),
        _ => Reply::Ok,
    })
    .await;
    beside.call().await.expect("the hedge answers");
    let served = beside.serves(3).await;
    assert_eq!(times(&beside, &served), [0, 10_000, 10_000]);
}

// G14
#[tokio::test(start_paused = true)]
async fn failures_of_its_own_stop_the_hedges_of_a_call() {
    let config = hedge(5, "10s");
    let rest = config.strip_suffix('}').expect("an object");
    let config = format!(r#"{rest}, "retryThrottling": {{"maxTokens": 5, "tokenRatio": 0.1}}}}"#);
    let mut setup = setup(1, &config, same, |_, _| Reply::Only(Code::Unavailable)).await;
    assert_eq!((setup.code().await, setup.came()), (Code::Unavailable, 3));
    assert_eq!(setup.began.elapsed().as_millis(), 0);
    // G15: it is low already.
    assert_eq!((setup.code().await, setup.came()), (Code::Unavailable, 1));
}

// G18
#[tokio::test(start_paused = true)]
async fn the_deadline_ends_all_attempts_and_pauses() {
    let request = || {
        let mut request = unary();
        request
            .headers_mut()
            .insert("grpc-timeout", HeaderValue::from_static("25S"));
        request
    };
    let mut hangs = setup(4, &hedge(5, "10s"), same, |_, _| Reply::Hang).await;
    let status = hangs.send(request()).await.expect_err("out of time");
    assert_eq!((status.code(), hangs.came()), (Code::DeadlineExceeded, 3));
    assert_eq!(hangs.began.elapsed().as_secs(), 25);
    let mut pauses = setup(4, &hedge(5, "10s"), same, |_, _| {
        Reply::Pushback(Code::Unavailable, &["100000"])
    })
    .await;
    let status = pauses.send(request()).await.expect_err("out of time");
    assert_eq!((status.code(), pauses.came()), (Code::DeadlineExceeded, 1));
    assert_eq!(pauses.began.elapsed().as_secs(), 25);
}

// G19
#[tokio::test(start_paused = true)]
async fn a_stream_reaches_every_attempt_whole_and_in_order() {
    let mut setup = setup(4, &hedge(3, "10s"), same, |_, _| Reply::OkAfterAll).await;
    let (frames, request) = streaming();
    let call = setup.send(request);
    let feed = async {
        for number in 0..4_u8 {
            frames.send(message(vec![number; 10])).expect("it is read");
            sleep(Duration::from_secs(8)).await;
        }
        drop(frames);
    };
    let (response, ()) = tokio::join!(call, feed);
    finish(response.expect("one of them answers"))
        .await
        .expect("OK");
    let whole: Vec<u8> = (0..4_u8).flat_map(|number| [number; 10]).collect();
    let served = setup.serves(3).await;
    for one in &served {
        assert_eq!(one.body.concat(), whole, "server {}", one.server);
    }
}

// G21
#[tokio::test(start_paused = true)]
async fn a_hedge_goes_to_another_backend() {
    let mut setup = setup(2, &hedge(2, "10s"), same, |_, number| match number {
        0 => Reply::Hang,
        _ => Reply::Ok,
    })
    .await;
    for _ in 0..4 {
        setup.call().await.expect("one of them answers");
    }
    let served = setup.serves(5).await;
    let first = served
        .iter()
        .find(|one| one.reset.is_some())
        .expect("it hung");
    let hedge = served
        .iter()
        .find(|one| one.previous.is_some())
        .expect("there is a hedge");
    assert_ne!(first.server, hedge.server);
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_a_hedge_that_failed_is_reset_though_the_body_goes_on() {
    first_stream_is_reset(&hedge(2, "10s")).await;
}

#[tokio::test(start_paused = true)]
async fn a_hedge_needs_a_stream_that_is_free_at_once() {
    let one_stream = |endpoint: Endpoint| endpoint.concurrency_limit(1);
    let tells = |builder: ChannelBuilder| builder.tell_attempts(true);
    let mut setup = setup_with(
        one_stream,
        1,
        &hedge(5, "10s"),
        tells,
        |_, number| match number {
            0 => Reply::OnlyAfter(35_000, Code::Unavailable),
            _ => Reply::Ok,
        },
    )
    .await;
    let response = setup.call().await.expect("the second one answers");
    let attempts = response.extensions().get::<crate::channel::CallAttempts>();
    let made = attempts.expect("they are told").made();
    assert_eq!(made, 2, "those due at 10, 20 and 30 s were skipped");
    let served = setup.serves(2).await;
    assert_eq!(times(&setup, &served), [0, 35_000]);
}
