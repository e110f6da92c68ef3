//! The system may refuse threads for a while. Lookups and files need some; a channel goes on
//! without them, and needs no help once there are threads again.
//!
//! The limit is on all processes of a user, and does not bind root. So this binary starts itself
//! again, under another user if it runs as root, to run a single test. Where that is not
//! permitted, the test says so and does nothing.

use std::{env, io, os::unix::process::CommandExt, process::Command, thread, time::Duration};

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use testing::{Backend, hello, quick_backoff, until, until_that};
use tonic_health_channel::{
    Channel, ConnectivityState::Ready, Endpoint, discover, status::ChannelStatus,
};

/// Set in the child alone.
const CHILD: &str = "WITHOUT_THREADS";

/// The user of the child of root: it has no rights of its own.
const NOBODY: u32 = 65_534;

/// What is said of a thread that is refused.
const REFUSED: &str = "cannot start a thread: Resource temporarily unavailable";

/// Runs the test `name` again in a process that the limit binds, and says whether this is it.
fn inside(name: &str) -> bool {
    if env::var_os(CHILD).is_some() {
        return true;
    }
    let path = module_path!().split_once("::").expect("a path").1;
    let mut child = Command::new(env::current_exe().expect("it runs"));
    child
        .args(["--exact", &format!("{path}::{name}"), "--nocapture"])
        .env(CHILD, "1");
    if geteuid().is_root() {
        child.uid(NOBODY);
    }
    match child.output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(
                said.contains("1 passed") && output.status.success(),
                "{said}"
            );
            let skipped = said.lines().filter(|line| line.starts_with("skipped"));
            skipped.for_each(|line| println!("{line}"));
        }
        // A user that is not mapped, or a folder of root's.
        Err(error) => println!("skipped: {name}: cannot run as user {NOBODY}: {error}"),
    }
    false
}

/// No thread is started while this lives.
struct NoThreads(Rlimit);

impl NoThreads {
    /// None where the limit does not bind: not every kernel has it, and a capability overrides
    /// it.
    fn begin() -> Option<Self> {
        let before = getrlimit(Resource::Nproc);
        let none = Rlimit {
            current: Some(0),
            ..before
        };
        setrlimit(Resource::Nproc, none).expect("lower is permitted");
        let limited = Self(before);
        let error = thread::Builder::new().spawn(|| ()).err()?;
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        Some(limited)
    }
}

impl Drop for NoThreads {
    fn drop(&mut self) {
        setrlimit(Resource::Nproc, self.0).expect("it was so before");
    }
}

/// Whether the channel says of itself, or of a backend, that a thread was refused.
fn is_refused(status: &ChannelStatus) -> bool {
    let mut causes = status.backends().iter().filter_map(|b| b.last_error());
    let of_backend = causes.any(|(cause, _)| cause.text().contains(REFUSED));
    let of_channel = status.cause().map(ToString::to_string);
    of_backend || of_channel.is_some_and(|cause| cause.contains(REFUSED))
}

// D255
#[tokio::test]
async fn a_channel_survives_a_system_that_refuses_threads() {
    if !inside("a_channel_survives_a_system_that_refuses_threads") {
        return;
    }
    let backend = Backend::start().await;
    let target = format!("localhost:{}", backend.addr().port());
    // Any user may write there.
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    let file = folder.path().join("backends.json");
    std::fs::write(&file, format!(r#"["{}"]"#, backend.uri())).expect("a file");

    let Some(no_threads) = NoThreads::begin() else {
        return println!("skipped: the limit on threads does not bind this user");
    };
    let template = Endpoint::from_static("http://template");
    let dns = discover::dns(&target, template).expect("a target");
    let list = discover::list([format!("http://{target}")]).expect("a URI");
    let file = discover::file(&file).expect("a path");
    let channels = [
        ("a dial", Channel::balance(list)),
        ("a lookup", Channel::dns(dns.min_interval(Duration::ZERO))),
        ("a file", Channel::balance(file)),
    ];
    let channels =
        channels.map(|(what, builder)| (what, builder.connect_backoff(quick_backoff()).build()));
    for (what, channel) in &channels {
        until_that(channel, &format!("{what} without a thread"), is_refused).await;
        let status = hello(channel).await.expect_err("there is no connection");
        assert!(status.message().contains(REFUSED), "{what}: {status}");
    }

    drop(no_threads);
    for (what, channel) in &channels {
        until(channel, Ready).await;
        hello(channel).await.expect(what);
    }
}
