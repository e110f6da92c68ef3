//! Callers on a channel of grpc-go, in a process of its own: `tests/interop/go-client`.

use std::{env, process::Stdio};

use testing::within;
use tokio::process::Command;

use crate::{
    callers::CALLERS,
    roll::{Calls, Fleet, Outcome},
    server::Stop,
};

/// The environment variable with the path of the client.
const CLIENT: &str = "GRPC_GO_CLIENT";

/// `None` without the client: `cargo test` alone leaves these tests out.
pub(crate) async fn of_grpc_go(stop: Stop) -> Option<Outcome> {
    let Some(client) = env::var_os(CLIENT) else {
        println!("left out: {CLIENT} is not set");
        return None;
    };
    let mut fleet = Fleet::start(stop);
    let addresses = fleet.addresses().into_iter();
    let mut child = Command::new(client)
        .arg(format!("-callers={CALLERS}"))
        .args(addresses.map(|address| address.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("an executable client");
    let stdin = child.stdin.take().expect("it is piped");
    let stops = fleet.roll().await;
    drop(stdin);
    let ended = within("the client to end", child.wait_with_output()).await;
    let output = ended.expect("its output");
    assert!(output.status.success(), "{}", output.status);
    let words = String::from_utf8(output.stdout).expect("text");
    // The number of calls, and a line for each that failed.
    let (made, lost) = words.split_once('\n').expect("a line");
    let calls = Calls {
        made: made.parse().expect("a number"),
        lost: lost.lines().map(str::to_owned).collect(),
    };
    Some(fleet.outcome("grpc-go", calls, stops).await)
}
