//! What `probe` can do, `check`, `list` and `watch` can.

use testing::{Authority, Backend, GREETER, ServerTls, TlsFront};

use super::run::{Ended, run};

#[track_caller]
fn is_well(ended: &Ended) {
    assert_eq!(ended.code, 0, "{ended:?}");
}

const WATCH: [&str; 5] = ["watch", "--until", "serving", "--timeout", "9s"];

/// The commands that ask many backends, with what makes them end.
fn commands() -> [&'static [&'static str]; 3] {
    [&["check"], &["list"], &WATCH]
}

async fn each(more: &[&str]) {
    for command in commands() {
        let ended = run(command.iter().chain(more)).await;
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (0, ""),
            "{command:?} {more:?}: {ended:?}"
        );
    }
}

#[tokio::test]
async fn a_port_alone_is_of_this_host() {
    let backend = Backend::builder().scripted().start().await;
    let port = format!(":{}", backend.addr().port());
    each(&[&port]).await;
    let front = TlsFront::of(&backend, &Authority::new()).await;
    let port = format!(":{}", front.addr().port());
    each(&[&port, "--tls", "--tls-no-verify"]).await;
}

#[tokio::test]
async fn a_secured_target_needs_no_flag() {
    let backend = Backend::builder().scripted().start().await;
    let authority = Authority::new();
    let tls = ServerTls::new(&authority.server(&["localhost"]));
    let front = TlsFront::start(&backend, tls).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, authority.pem()).expect("a file");
    let ca = path.to_str().expect("a plain name");
    let port = front.addr().port();
    let secured = format!("https://localhost:{port}");
    each(&[&secured, "--tls-ca-cert", ca]).await;
    each(&[&secured, "--tls-no-verify"]).await;
    let elsewhere = format!("https://127.0.0.1:{port}");
    let named = ["--tls-ca-cert", ca, "--tls-server-name", "localhost"];
    each(&[&[elsewhere.as_str()], named.as_slice()].concat()).await;
    // `:port` has the name of this host, as in `probe`.
    each(&[&format!(":{port}"), "--tls", "--tls-ca-cert", ca]).await;

    // What a file lists has its own scheme, and the flags go for it.
    let list = folder.path().join("backends.json");
    std::fs::write(&list, format!("[{secured:?}]")).expect("a file");
    each(&[list.to_str().expect("a plain name"), "--tls-no-verify"]).await;

    // Beside one in plain text.
    let plain = backend.addr().to_string();
    let ended = run(["check", &plain, &secured, "--tls-ca-cert", ca]).await;
    is_well(&ended);
}

#[tokio::test]
async fn certificates_are_verified_unless_that_is_waived() {
    let backend = Backend::builder().scripted().start().await;
    let front = TlsFront::of(&backend, &Authority::new()).await;
    let at = front.addr().to_string();
    let ended = run(["check", &at, "--tls"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    each(&[&at, "--tls", "--tls-no-verify"]).await;
}

#[tokio::test]
async fn headers_are_sent_with_each_call() {
    let backend = Backend::builder().scripted().start().await;
    let at = backend.addr().to_string();
    for command in [["check"].as_slice(), &WATCH] {
        let headers = [
            "--rpc-header",
            "X-Token: a: b",
            "--rpc-header",
            "x-raw-bin: three",
        ];
        let ended = run(command.iter().chain(&[at.as_str()]).chain(&headers)).await;
        is_well(&ended);
        let seen = match command[0] {
            "check" => backend.last_check(),
            _ => backend.last_watch(),
        };
        let seen = seen.expect("it was asked").metadata.into_headers();
        assert_eq!(seen["x-token"], "a: b", "{command:?}");
        assert_eq!(seen["x-raw-bin"], "dGhyZWU", "{command:?}");
    }
    for command in commands() {
        let bad = ["--rpc-header", "secret", "host:1"];
        let ended = run(command.iter().chain(&bad)).await;
        ended.fails(1, "error: --rpc-header: write `name: value`");
        assert!(!ended.stderr.contains("secret"), "{ended:?}");
    }
}

#[tokio::test]
async fn it_says_what_it_does_where_that_is_asked_for() {
    let backend = Backend::builder().scripted().start().await;
    let at = backend.addr().to_string();
    for command in commands() {
        let quiet = run(command.iter().chain(&[at.as_str()])).await;
        for flag in ["-v", "--verbose"] {
            let ended = run(command.iter().chain(&[flag, &at])).await;
            is_well(&ended);
            let first = format!("target {at}, TLS: false");
            assert!(ended.stderr.starts_with(&first), "{ended:?}");
            // The output is what it is without.
            assert_eq!(ended.stdout.lines().count(), quiet.stdout.lines().count());
        }
    }
    let ended = run(["check", "-v", &at, "--service", GREETER]).await;
    let lines: Vec<_> = ended.stderr.lines().collect();
    let [_, timeouts, connected, answered] = lines[..] else {
        panic!("not four lines: {ended:?}");
    };
    assert_eq!(timeouts, "timeouts: 20s to connect, 1s for an answer");
    assert!(
        connected.starts_with(&format!("{at}: 1 of 1 backends connected in ")),
        "{connected}"
    );
    let start = format!("{at}: answered about the service `{GREETER}` in ");
    assert!(answered.starts_with(&start), "{answered}");
}

#[tokio::test]
async fn the_format_has_a_short_flag() {
    let backend = Backend::builder().scripted().start().await;
    let at = backend.addr().to_string();
    for command in commands() {
        let ended = run(command.iter().chain(&["-o", "json", &at])).await;
        is_well(&ended);
        assert!(!ended.objects().is_empty());
    }
}

#[tokio::test]
async fn flags_that_have_no_effect_are_refused() {
    for (flags, why) in [
        (
            ["--tls-ca-cert", "x"].as_slice(),
            "--tls-ca-cert has no effect without --tls",
        ),
        (
            &["--tls-no-verify"],
            "--tls-no-verify has no effect without --tls",
        ),
        (
            &["--tls-server-name", "x"],
            "--tls-server-name has no effect without --tls",
        ),
        (
            &["--tls", "--tls-no-verify", "--tls-ca-cert", "x"],
            "--tls-ca-cert has no effect with --tls-no-verify",
        ),
        (
            &["--tls", "--tls-no-verify", "--tls-server-name", "x"],
            "--tls-server-name has no effect with --tls-no-verify",
        ),
    ] {
        for command in commands() {
            let ended = run(command.iter().chain(&["host:1"]).chain(flags)).await;
            ended.fails(1, why);
        }
    }
}
