//! The signals that stop a process.
//!
//! The only test in its process, because the process sends the signals to itself.
#![cfg(all(unix, feature = "signal"))]

use grpc_health_service::stop_signal;
use rustix::process::{Signal, getpid, kill_process};
use testing::within;

#[tokio::test]
async fn sigterm_and_ctrl_c_are_stop_signals() {
    for signal in [Signal::TERM, Signal::INT] {
        let stopped = stop_signal().expect("a handler");
        // It was not polled yet.
        kill_process(getpid(), signal).expect("a signal to this process");
        within("the signal", stopped).await;
    }
}
