//! What fuzzing has found worth keeping, once more: every input of `fuzz/corpus`, with
//! what has to hold for it. In memory and in paused time.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Whose panic it is has to be known, in whatever task it was.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Replays the corpus of a target.
fn replay(target: &str, check: fn(&[u8])) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let files = fs::read_dir(folder.join(target)).expect("a corpus");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus of {target} is empty");
    // A task that panics is not heard of otherwise.
    static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let before = panic::take_hook();
    panic::set_hook(Box::new(|panic| {
        let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        panics.push(panic.to_string());
    }));
    let mut failed = Vec::new();
    for file in files {
        let input = fs::read(&file).expect("an input");
        // The hook has it.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| check(&input)));
        let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        if !panics.is_empty() {
            failed.push(format!("{}: {}", file.display(), panics.join("; ")));
            panics.clear();
        }
    }
    panic::set_hook(before);
    assert!(failed.is_empty(), "\n{}\n", failed.join("\n"));
}

#[test]
fn service_configs_hold_what_their_text_says() {
    replay("service_config", fuzz::service_config::check);
}

#[test]
fn a_backend_is_ready_only_if_its_answer_says_so() {
    replay("health_response", fuzz::health_response::check);
}

#[test]
fn whatever_a_server_sends_calls_end_and_leave_nothing() {
    replay("http2_driver", fuzz::http2_driver::check);
}

#[test]
fn a_target_is_one_or_is_refused() {
    replay("target", fuzz::target::check);
}
