//! Attempts that fail on this side: without a backend, without credentials, or out of time.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tonic::metadata::MetadataMap;

use super::*;

// T109, T110
#[tokio::test(start_paused = true)]
async fn a_backend_that_comes_back_takes_the_next_attempt() {
    // A call that waits for ready uses up no attempt.
    for (waits, previous) in [(false, Some("1".to_owned())), (true, None)] {
        let config = retry(3, UNAVAILABLE).replace("0.01s", "10s");
        let waits = format!(r#""waitForReady": {waits}, "name""#);
        let config = config.replace(r#""name""#, &waits);
        let (endpoint, mut dials) = dialled_at("http://a.test:1");
        let source = discover::list([endpoint]).expect("a list");
        let builder = Channel::balance(source).service_config(config.parse().expect("valid"));
        let mut channel = builder.build();
        drop(soon(dials.recv()).await.expect("it dials"));
        let fails = |status: &crate::status::ChannelStatus| {
            status.state() == crate::ConnectivityState::TransientFailure
        };
        soon(channel.watch_status().wait_for(fails)).await;
        let (script, mut served, _) = Script::new(|_, _| Reply::OkAfterAll);
        tokio::spawn(async move {
            while let Some(io) = dials.recv().await {
                tokio::spawn(serve(0, io, Arc::clone(&script)));
            }
        });
        let response = soon(channel.call(unary())).await.expect("a backend");
        finish(response).await.expect("OK");
        let served = soon(served.recv()).await.expect("it is served");
        assert_eq!(served.previous, previous);
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_are_asked_for_each_attempt_and_their_failure_is_that_of_one() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let credentials = move |builder: ChannelBuilder| {
        let credentials = move |_| {
            let number = count.fetch_add(1, Relaxed);
            async move {
                match number {
                    0 => Err(Status::unavailable("no token yet")),
                    _ => Ok(MetadataMap::new()),
                }
            }
        };
        let builder = builder.call_credentials(credentials);
        builder
            .allow_plaintext_credentials(true)
            .tell_attempts(true)
    };
    let reply = |_, number| match number {
        0 => Reply::Only(Code::Unavailable),
        _ => Reply::Ok,
    };
    let mut setup = setup(1, &retry(5, UNAVAILABLE), credentials, reply).await;
    let response = setup.call().await.expect("the third attempt");
    assert_eq!((setup.came(), asked.load(Relaxed)), (2, 3));
    let attempts = response.extensions().get::<crate::channel::CallAttempts>();
    let failed = attempts.expect("they are told").failed();
    let sent: Vec<_> = failed
        .iter()
        .map(crate::channel::FailedAttempt::may_have_been_sent)
        .collect();
    assert_eq!(sent, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_an_endpoint_is_that_of_an_attempt() {
    let options = |endpoint: Endpoint| endpoint.timeout(Duration::from_secs(2));
    let config = retry(5, r#""DEADLINE_EXCEEDED""#);
    let mut setup = setup_with(options, 2, &config, same, |_, number| match number {
        0 => Reply::Hang,
        _ => Reply::Ok,
    })
    .await;
    assert_eq!((setup.code().await, setup.came()), (Code::Ok, 2));
    let elapsed = setup.began.elapsed();
    assert!((2_000..2_100).contains(&elapsed.as_millis()), "{elapsed:?}");
}
