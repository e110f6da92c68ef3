//! A retry policy and unary calls.

use std::{num::NonZeroU32, time::Duration};

use super::*;

/// The codes of `calls` calls, each with the number of requests so far, from 0.
async fn run(setup: &mut Setup, calls: usize) -> Vec<(Code, usize)> {
    let mut requests = 0;
    let mut all = Vec::new();
    for _ in 0..calls {
        let code = setup.code().await;
        requests += setup.came();
        all.push((code, requests - 1));
    }
    all
}

/// How many requests one call makes, and its code.
async fn requests(config: &str, reply: Reply) -> (usize, Code) {
    let mut setup = setup(1, config, same, move |_, _| reply).await;
    let code = setup.code().await;
    (setup.came(), code)
}

// T101
#[tokio::test(start_paused = true)]
async fn calls_are_sent_again_while_their_code_is_listed() {
    let config = retry(4, r#""ALREADY_EXISTS""#);
    let config = config.replace(r#""name""#, r#""waitForReady": true, "name""#);
    let mut setup = setup(1, &config, same, |_, number| match number {
        0 | 2 | 5 => Reply::Ok,
        6 | 8 | 11 => Reply::Only(Code::Internal),
        _ => Reply::Only(Code::AlreadyExists),
    })
    .await;
    let expected = [
        (Code::Ok, 0),
        (Code::Ok, 2),
        (Code::Ok, 5),
        (Code::Internal, 6),
        (Code::Internal, 8),
        (Code::Internal, 11),
        (Code::AlreadyExists, 15),
    ];
    assert_eq!(run(&mut setup, 7).await, expected);
}

// T102
#[tokio::test(start_paused = true)]
async fn without_a_policy_or_with_retries_off_a_failure_is_handed_on() {
    let fails = Reply::Only(Code::Unavailable);
    assert_eq!(requests("{}", fails).await, (1, Code::Unavailable));
    let off = |builder: ChannelBuilder| builder.max_call_attempts(NonZeroU32::MIN);
    let mut setup = setup(1, &retry(4, UNAVAILABLE), off, move |_, _| fails).await;
    assert_eq!((setup.code().await, setup.came()), (Code::Unavailable, 1));
}

// T103
#[tokio::test(start_paused = true)]
async fn codes_are_names_or_numbers() {
    let config = retry(3, r#"14, "resource_exhausted""#);
    for (code, count) in [
        (Code::Unavailable, 3),
        (Code::ResourceExhausted, 3),
        (Code::NotFound, 1),
    ] {
        assert_eq!(requests(&config, Reply::Only(code)).await, (count, code));
    }
}

// T104, T105
#[tokio::test(start_paused = true)]
async fn the_channel_bounds_attempts_too() {
    let fails = Reply::Only(Code::Unavailable);
    assert_eq!(
        requests(&retry(10, UNAVAILABLE), fails).await,
        (5, Code::Unavailable)
    );
    for (policy, channel, count) in [(9, 4, 4), (9, 7, 7), (3, 10, 3)] {
        let cap = NonZeroU32::new(channel).expect("not 0");
        let capped = move |builder: ChannelBuilder| builder.max_call_attempts(cap);
        let mut setup = setup(1, &retry(policy, UNAVAILABLE), capped, move |_, _| fails).await;
        assert_eq!(
            (setup.code().await, setup.came()),
            (Code::Unavailable, count)
        );
    }
}

// T106
#[tokio::test(start_paused = true)]
async fn a_status_that_is_no_code_is_not_listed() {
    // It is read as UNKNOWN.
    let config = retry(3, UNAVAILABLE);
    assert_eq!(
        requests(&config, Reply::Status("300")).await,
        (1, Code::Unknown)
    );
}

// T107, T108
#[tokio::test(start_paused = true)]
async fn each_attempt_says_how_many_came_before_it() {
    let mut setup = setup(1, &retry(4, UNAVAILABLE), same, |_, _| {
        Reply::Only(Code::Unavailable)
    })
    .await;
    let mut request = unary();
    request
        .headers_mut()
        .insert("grpc-previous-rpc-attempts", HeaderValue::from_static("7"));
    let status = setup.send(request).await.expect_err("it fails");
    assert_eq!(status.code(), Code::Unavailable);
    let previous: Vec<_> = setup
        .served()
        .into_iter()
        .map(|served| served.previous)
        .collect();
    let text = |number: &str| Some(number.to_owned());
    assert_eq!(previous, [None, text("1"), text("2"), text("3")]);
}

// T109
#[tokio::test(start_paused = true)]
async fn a_pick_that_fails_is_an_attempt_that_failed() {
    let refused = Endpoint::from_static("http://a.test:1");
    let refused = refused.with_connector(crate::transport::tests::no_connection());
    let source = discover::list([refused]).expect("a list");
    let config = retry(3, UNAVAILABLE).replace("0.01s", "10s");
    let builder = Channel::balance(source).service_config(config.parse().expect("valid"));
    let mut channel = builder.build();
    let fails = |status: &crate::status::ChannelStatus| {
        status.state() == crate::ConnectivityState::TransientFailure
    };
    soon(channel.watch_status().wait_for(fails)).await;
    let began = Instant::now();
    let error = soon(channel.call(unary())).await.expect_err("no backend");
    let took = began.elapsed().as_secs_f64();
    assert!(
        (16.0..25.0).contains(&took),
        "2 pauses of 10 s, not {took} s"
    );
    assert_eq!(error.kind(), crate::ErrorKind::Unavailable);
    assert!(!error.may_have_been_sent());
    let attempts = error.attempts().expect("there is a policy");
    assert_eq!(attempts.made(), 3);
    assert!(
        attempts
            .failed()
            .iter()
            .all(|failed| failed.backend().is_none())
    );
}

// T112
#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_a_backend_that_was_not_tried() {
    let config = retry(4, UNAVAILABLE);
    let mut setup = setup(4, &config, same, |_, _| Reply::Only(Code::Unavailable)).await;
    for _ in 0..8 {
        assert_eq!(setup.code().await, Code::Unavailable);
        let mut servers: Vec<_> = setup.served().iter().map(|served| served.server).collect();
        servers.sort_unstable();
        assert_eq!(servers, [0, 1, 2, 3]);
    }
}

// T121, T123
#[tokio::test(start_paused = true)]
async fn headers_commit_the_call() {
    let config = retry(4, r#""UNAVAILABLE", "UNKNOWN", "INTERNAL""#);
    let committed = Reply::Headers(Code::Unavailable);
    assert_eq!(requests(&config, committed).await, (1, Code::Unavailable));
    let (count, _) = requests(&config, Reply::EmptyData).await;
    assert_eq!(count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_and_an_http_error_are_failures_by_their_code() {
    let config = retry(3, UNAVAILABLE);
    for (reply, count, code) in [
        (Reply::Reset(Reason::INTERNAL_ERROR), 1, Code::Internal),
        (
            Reply::Reset(Reason::ENHANCE_YOUR_CALM),
            1,
            Code::ResourceExhausted,
        ),
        (Reply::Http(503), 3, Code::Unavailable),
        (Reply::Http(404), 1, Code::Unimplemented),
    ] {
        assert_eq!(requests(&config, reply).await, (count, code), "{reply:?}");
    }
}

// T140, T144
#[tokio::test(start_paused = true)]
async fn a_refusal_is_repeated_once_and_is_no_attempt() {
    let refused = Reply::Reset(Reason::REFUSED_STREAM);
    assert_eq!(requests("{}", refused).await, (2, Code::Unavailable));
    // With a policy the second refusal goes through it.
    let mut setup = setup(1, &retry(2, UNAVAILABLE), same, move |_, _| refused).await;
    assert_eq!((setup.code().await, setup.came()), (Code::Unavailable, 3));
    let mut once = super::setup(
        1,
        &retry(2, UNAVAILABLE),
        same,
        move |_, number| match number {
            0 => refused,
            1 => Reply::Only(Code::Unavailable),
            _ => Reply::OkAfterAll,
        },
    )
    .await;
    assert_eq!((once.code().await, once.came()), (Code::Ok, 3));
    let previous: Vec<_> = once
        .served()
        .into_iter()
        .map(|served| served.previous)
        .collect();
    assert_eq!(previous, [None, None, Some("1".to_owned())]);
}

// T142
#[tokio::test(start_paused = true)]
async fn after_a_retry_a_refusal_is_an_attempt() {
    let config = retry(2, UNAVAILABLE);
    let mut setup = setup(1, &config, same, |_, number| match number {
        0 => Reply::Only(Code::Unavailable),
        _ => Reply::Reset(Reason::REFUSED_STREAM),
    })
    .await;
    assert_eq!((setup.code().await, setup.came()), (Code::Unavailable, 2));
}

// T150
#[tokio::test(start_paused = true)]
async fn pauses_grow_between_attempts() {
    let config = config(
        r#""retryPolicy": {"maxAttempts": 5, "initialBackoff": "100s", "maxBackoff": "700s",
            "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}"#,
    );
    let mut setup = setup(1, &config, same, |_, _| Reply::Only(Code::Unavailable)).await;
    assert_eq!(setup.code().await, Code::Unavailable);
    let at: Vec<_> = setup.served().iter().map(|served| served.at).collect();
    let pauses = at.windows(2).map(|two| (two[1] - two[0]).as_secs_f64());
    for (pause, expected) in pauses.zip([100.0, 200.0, 400.0, 700.0]) {
        let share = pause / expected;
        assert!(
            (0.8..1.21).contains(&share),
            "{pause} s, not about {expected} s"
        );
    }
    assert_eq!(at.len(), 5);
}

// T152, T153, T154, T155
#[tokio::test(start_paused = true)]
async fn the_server_says_when_to_come_again_or_not_to() {
    let config = retry(3, UNAVAILABLE).replace("0.01s", "1000s");
    for (code, values, pause) in [
        (Code::Unavailable, &["1000"][..], Some(1_000)),
        (Code::Unavailable, &["0"], Some(0)),
        (Code::Unavailable, &["-1"], None),
        (Code::Unavailable, &["xxx"], None),
        (Code::Unavailable, &[""], None),
        (Code::Unavailable, &["5", "5"], None),
        (Code::NotFound, &["5"], None),
    ] {
        let mut setup = setup(1, &config, same, move |_, number| match number {
            0 => Reply::Pushback(code, values),
            _ => Reply::Ok,
        })
        .await;
        let expected = pause.map_or(code, |_| Code::Ok);
        assert_eq!(setup.code().await, expected, "{values:?}");
        let at: Vec<_> = setup
            .served()
            .iter()
            .map(|served| served.at - setup.began)
            .collect();
        let last = at.last().expect("a request").as_millis() as u64;
        assert_eq!(
            (at.len(), last),
            (1 + usize::from(pause.is_some()), pause.unwrap_or(0))
        );
    }
}

fn with_timeout(millis: u64) -> Request<Body> {
    let mut request = unary();
    let value = HeaderValue::from_str(&format!("{millis}m")).expect("a value");
    request.headers_mut().insert("grpc-timeout", value);
    request
}

// T156
#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_call_is_over_all_attempts() {
    let config = retry(5, r#""DEADLINE_EXCEEDED", "UNAVAILABLE""#);
    for hangs in [0, 1] {
        let mut setup = setup(1, &config, same, move |_, number| match number {
            number if number == hangs => Reply::Hang,
            _ => Reply::Only(Code::Unavailable),
        })
        .await;
        let status = setup
            .send(with_timeout(200))
            .await
            .expect_err("out of time");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(setup.began.elapsed().as_millis(), 200);
        assert_eq!(setup.came(), hangs + 1);
    }
}

// T157, T133
#[tokio::test(start_paused = true)]
async fn a_pause_ends_with_the_deadline_with_the_call_or_with_the_channel() {
    let config = retry(5, UNAVAILABLE).replace("0.01s", "100s");
    let fails = |_, _| Reply::Only(Code::Unavailable);
    let mut late = setup(1, &config, same, fails).await;
    let status = late
        .send(with_timeout(3_000))
        .await
        .expect_err("out of time");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let text = "deadline exceeded after 3s, waiting for attempt 2 \
         (1 attempt, the call is over; attempt 1 on a.test:1: UNAVAILABLE, by script)";
    assert_eq!(status.message(), text);
    assert_eq!((late.began.elapsed().as_millis(), late.came()), (3_000, 1));

    let mut closed = setup(1, &config, same, fails).await;
    let channel = closed.channel.clone();
    let call = closed.call();
    let close = async {
        sleep(Duration::from_secs(5)).await;
        channel.close().await;
    };
    let (outcome, ()) = tokio::join!(call, close);
    let status = outcome.expect_err("it is closed");
    assert!(
        status.message().starts_with("the channel was closed"),
        "{}",
        status.message()
    );
    assert_eq!(
        (closed.began.elapsed().as_millis(), closed.came()),
        (5_000, 1)
    );

    let mut dropped = setup(1, &config, same, fails).await;
    let call = tokio::time::timeout(Duration::from_secs(5), dropped.call());
    assert!(call.await.is_err(), "it is in its pause");
    sleep(Duration::from_secs(1_000)).await;
    assert_eq!(dropped.came(), 1);
}

// T158
#[tokio::test(start_paused = true)]
async fn an_attempt_is_told_what_is_left_of_the_time() {
    let config = retry(5, UNAVAILABLE);
    let mut setup = setup(1, &config, same, |_, number| match number {
        0 => Reply::OnlyAfter(300, Code::Unavailable),
        _ => Reply::Ok,
    })
    .await;
    setup
        .send(with_timeout(1_000))
        .await
        .expect("the second attempt");
    let timeouts: Vec<_> = setup
        .serves(2)
        .await
        .into_iter()
        .map(|served| served.timeout)
        .collect();
    let [Some(first), Some(second)] = timeouts[..] else {
        panic!("both have one: {timeouts:?}");
    };
    assert_eq!(first, Duration::from_secs(1));
    assert!(second <= Duration::from_millis(700) && second > Duration::from_millis(600));
}
