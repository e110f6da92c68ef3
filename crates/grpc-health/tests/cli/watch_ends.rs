//! How `watch` ends, and what a script makes of it.

use testing::{Backend, dead_addr};

use super::run::{Running, run};

#[tokio::test]
async fn until_serving_ends_when_the_last_backend_is() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    b.set_not_serving("").await;
    let [at_a, at_b] = [&a, &b].map(|backend| backend.addr().to_string());
    let mut watch = Running::start(&["watch", &at_a, &at_b, "--until", "serving"]);
    watch.until_ending("health check: NOT_SERVING").await;
    b.set_serving("").await;
    let ended = watch.ended().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(ended.stdout.ends_with("READY SERVING\n"), "{ended:?}");
}

#[tokio::test]
async fn until_any_serving_ends_with_the_first() {
    let backend = Backend::start().await;
    let (dead, alive) = (dead_addr(), backend.addr().to_string());
    let dead = dead.addr().to_string();
    let ended = run(&["watch", &dead, &alive, "--until", "any-serving"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[tokio::test]
async fn a_wait_in_vain_ends_by_4_and_says_what_was_missing() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    b.set_not_serving("").await;
    let [at_a, at_b] = [&a, &b].map(|backend| backend.addr().to_string());
    let none = "no-such-host.invalid:1";
    let arguments = [
        "watch",
        &at_a,
        &at_b,
        none,
        "--until",
        "serving",
        "--timeout",
        "500ms",
    ];
    let ended = run(&arguments).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    let [first, sick, unresolved] = lines[..] else {
        panic!("{ended:?}")
    };
    assert_eq!(first, "error: timed out, and not SERVING:");
    let text = "TRANSIENT_FAILURE, health NOT_SERVING, health check: NOT_SERVING";
    assert_eq!(sick, format!("  {at_b}: {text}"));
    assert!(
        unresolved.starts_with(&format!("  {none}: ")),
        "{unresolved}"
    );
}

#[tokio::test]
async fn a_time_that_was_given_for_watching_ends_well() {
    let dead = dead_addr();
    let dead = dead.addr().to_string();
    let ended = run(&["watch", &dead, "--timeout", "100ms"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_it_by_the_code_that_shells_give_it() {
    use nix::sys::signal::Signal;
    let backend = Backend::start().await;
    let at = backend.addr().to_string();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut watch = Running::start(&["watch", &at]);
        watch.until_ending("READY SERVING").await;
        watch.signal(signal);
        let ended = watch.ended().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (code, ""), "{ended:?}");
        backend.until_open_connections(0).await;
    }
}

#[tokio::test]
async fn when_nobody_reads_any_more_it_ends_without_a_word() {
    let backend = Backend::start().await;
    let at = backend.addr().to_string();
    let mut watch = Running::start(&["watch", &at]);
    watch.until_ending("READY SERVING").await;
    let unread = watch.unread();
    backend.set_not_serving("").await;
    let ended = unread.await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
}
