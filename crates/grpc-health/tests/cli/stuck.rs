//! Nothing reads what the command writes, though its pipe is open: it ends all the same.

use std::{
    io::{PipeReader, Read, Write, pipe},
    process::Stdio,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testing::{Backend, dead_addr, within};
use tokio::process::Child;

use super::run::command;

/// A pipe that takes nothing more, and its other end.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a flag");
    (reader, writer.into())
}

fn start(arguments: &[&str], stderr_too: bool) -> (Child, PipeReader, PipeReader) {
    let mut command = command(arguments);
    let (unread, stdout) = full_pipe();
    command.stdout(stdout);
    let errors = match stderr_too {
        true => {
            let (unread, stderr) = full_pipe();
            command.stderr(stderr);
            unread
        }
        false => {
            let (errors, stderr) = pipe().expect("a pipe");
            command.stderr(stderr);
            errors
        }
    };
    let child = command.spawn().expect("the command can be run");
    (child, unread, errors)
}

async fn code(child: &mut Child, arguments: &[&str]) -> Option<i32> {
    let ended = within(&format!("{arguments:?} to end"), child.wait()).await;
    ended.expect("it was started").code()
}

#[tokio::test]
async fn sigterm_ends_it() {
    let backend = Backend::builder().scripted().start().await;
    let at = backend.addr().to_string();
    for arguments in [
        vec!["watch", &at],
        vec!["watch", &at, "--output", "json"],
        vec!["watch", &at, "--until", "serving"],
        vec!["check", &at, "--every", "100ms"],
        vec!["check", &at, "--timeout", "1h"],
        vec!["list", &at, "--timeout", "1h"],
    ] {
        let connections = backend.connections();
        let (mut child, _unread, _errors) = start(&arguments, true);
        backend.until_connections(connections + 1).await;
        let id = child.id().expect("it runs").try_into().expect("small");
        kill(Pid::from_raw(id), Signal::SIGTERM).expect("a signal can be sent");
        assert_eq!(
            code(&mut child, &arguments).await,
            Some(143),
            "{arguments:?}"
        );
    }
}

#[tokio::test]
async fn a_timeout_ends_it() {
    let backend = Backend::builder().scripted().start().await;
    let dead = dead_addr();
    let [at, dead] = [backend.addr(), dead.addr()].map(|addr| addr.to_string());
    let cases = [
        (vec!["watch", &at, "--timeout", "300ms"], 0),
        (
            vec!["watch", &at, "--timeout", "300ms", "--output", "json"],
            0,
        ),
        (
            vec!["watch", &dead, "--timeout", "300ms", "--until", "serving"],
            4,
        ),
        (
            vec!["watch", &at, "--timeout", "300ms", "--until", "serving"],
            0,
        ),
        (vec!["check", &at, "--timeout", "300ms"], 3),
        (
            vec!["check", &at, "--timeout", "300ms", "--output", "json"],
            3,
        ),
        (
            vec!["check", &at, "--timeout", "300ms", "--every", "100ms"],
            3,
        ),
        (vec!["list", &at, "--timeout", "300ms"], 3),
    ];
    let ended = cases.iter().flat_map(|(arguments, expected)| {
        [false, true].map(move |stderr_too| async move {
            let (mut child, _unread, mut errors) = start(arguments, stderr_too);
            let code = code(&mut child, arguments).await;
            assert_eq!(code, Some(*expected), "{arguments:?}");
            if !stderr_too && *expected == 3 {
                let mut text = String::new();
                errors.read_to_string(&mut text).expect("UTF-8");
                let expected = "error: stdout is blocked: its reader read nothing within 300ms\n";
                assert_eq!(text, expected, "{arguments:?}");
            }
        })
    });
    futures_util::future::join_all(ended).await;
}

/// A pager takes what fits its screen, and the rest when its user has read on.
#[tokio::test]
async fn a_reader_that_takes_its_time_gets_everything() {
    let names = (0..5_000).map(|n| format!("service-{n:04}-of-a-server-that-has-many"));
    let builder = names.fold(Backend::builder().scripted().no_services(), |all, name| {
        all.serving(&name)
    });
    let backend = builder.start().await;
    let at = backend.addr().to_string();
    let (mut reader, writer) = pipe().expect("a pipe");
    let mut command = command(["list", &at, "--timeout", "2s"]);
    command.stdout(writer);
    let mut child = command.spawn().expect("the command can be run");
    drop(command);
    let begun = tokio::task::spawn_blocking(move || {
        let mut first = [0; 16];
        reader.read_exact(&mut first).map(|()| reader)
    });
    let begun = within("the heading", begun).await.expect("no panic");
    let mut reader = begun.expect("it is open");
    // Longer than the timeout.
    let waits = tokio::time::timeout(Duration::from_millis(2_500), child.wait()).await;
    assert!(waits.is_err(), "it gave up: {waits:?}");
    let rest = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        reader.read_to_string(&mut rest).map(|_| rest)
    });
    let rest = within("the rest", rest)
        .await
        .expect("no panic")
        .expect("UTF-8");
    assert_eq!(rest.lines().count(), 5_001);
    assert_eq!(code(&mut child, &["list"]).await, Some(0));
}

/// The probe says its word, or does not, and ends.
#[tokio::test]
async fn a_probe_ends() {
    let backend = Backend::start().await;
    let at = backend.addr().to_string();
    for arguments in [
        vec!["probe", "-addr", &at],
        vec!["probe", "-v", "-addr", &at],
    ] {
        let (mut child, _unread, _errors) = start(&arguments, true);
        assert_eq!(code(&mut child, &arguments).await, Some(0), "{arguments:?}");
    }
}
