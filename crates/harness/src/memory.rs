//! How much memory a test costs, in a process of its own.

use std::{future::Future, time::Duration};

/// Set in the process that a test starts for itself.
const CHILD: &str = "PEAK_IN_THIS_PROCESS";
/// What that process says in the end, before the number.
const GREW: &str = "peak memory grew by KiB:";

/// Plays `test` in a process where nothing else runs, and asserts that the peak of
/// its memory grew by no more than `most` bytes. `name` is that of the test which
/// calls this, with its module: `hostile::floods::a_flood`.
///
/// Only Linux tells the peak. Elsewhere the test is just played.
pub async fn assert_growth(name: &str, most: u64, test: impl Future<Output = ()>) {
    let Some(before) = peak() else {
        return test.await;
    };
    if std::env::var_os(CHILD).is_some() {
        test.await;
        let after = peak().expect("it was told before");
        println!("{GREW} {}", after - before);
        return;
    }
    let itself = std::env::current_exe().expect("a test is a program");
    let child = tokio::process::Command::new(itself)
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(WHOLE_TEST, child).await;
    let output = output.unwrap_or_else(|_| panic!("{name} does not end in its own process"));
    let output = output.expect("it can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    let grew = told.split_once(GREW).and_then(|(_, rest)| {
        let number = rest.split_whitespace().next()?;
        number.parse::<u64>().ok()
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    let Some(grew) = grew.filter(|_| output.status.success()) else {
        panic!("{name} failed in its own process:\n{told}\n{errors}");
    };
    assert!(grew <= most >> 10, "{name} took {grew} KiB of memory");
}

/// The time for a whole test, whose waits have bounds of their own.
const WHOLE_TEST: Duration = Duration::from_secs(60);

/// The most memory that this process has had, in KiB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
