//! Replays every input of `fuzz/corpus` and asserts what its target promises, in memory and
//! in paused time. What is not public is replayed by a unit test.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tar::Archive;

/// Replays run one at a time, so that a panic in any task belongs to the current input.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replays the corpus of a target.
fn replay(target: &str, check: fn(&[u8])) {
    let _turn = turn();
    // A task that panics is not heard of otherwise.
    static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let inputs = inputs(target);
    let before = panic::take_hook();
    panic::set_hook(Box::new(|panic| {
        let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        panics.push(panic.to_string());
    }));
    let mut failed = Vec::new();
    for (name, input) in inputs {
        // The hook has it.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| check(&input)));
        let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        if !panics.is_empty() {
            failed.push(format!("{name}: {}", panics.join("; ")));
            panics.clear();
        }
    }
    panic::set_hook(before);
    assert!(failed.is_empty(), "\n{}\n", failed.join("\n"));
}

/// The name and the bytes of each input.
type Inputs = BTreeSet<(String, Vec<u8>)>;

/// The inputs in the archive of a target, and those that only its unpacked folder has.
fn inputs(target: &str) -> Inputs {
    let mut inputs = packed(target);
    assert!(!inputs.is_empty(), "the corpus of {target} is empty");
    inputs.extend(unpacked(target));
    inputs
}

fn packed(target: &str) -> Inputs {
    let path = corpus().join(target).with_extension("tar");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut inputs = Inputs::new();
    for entry in Archive::new(&*bytes).entries().expect("a tar archive") {
        let mut entry = entry.expect("a whole entry");
        if entry.header().entry_type().is_file() {
            let path = entry.path().expect("the name of an input");
            let name = path.display().to_string();
            let mut input = Vec::new();
            entry.read_to_end(&mut input).expect("a whole input");
            inputs.insert((name, input));
        }
    }
    inputs
}

/// A new finding is tried here before it is packed. Mostly there is no such folder.
fn unpacked(target: &str) -> Inputs {
    let files = fs::read_dir(corpus().join(target)).into_iter().flatten();
    let inputs = files.map(|file| {
        let file = file.expect("an entry of the folder");
        let name = format!("{target}/{}", file.file_name().display());
        (name, fs::read(file.path()).expect("an input"))
    });
    inputs.collect()
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

#[test]
fn service_configs_hold_what_their_text_says() {
    replay("service_config", fuzz::service_config::check);
}

#[test]
fn a_health_request_has_the_answer_of_its_name() {
    replay("health_request", fuzz::health_request::check);
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

/// The names of the files with this extension, without it.
fn stems(folder: &Path, extension: &str) -> BTreeSet<String> {
    let files = fs::read_dir(folder).expect("a folder");
    let paths = files.map(|file| file.expect("an entry of the folder").path());
    let of_extension = paths.filter(|path| path.extension().is_some_and(|e| e == extension));
    let stems = of_extension.map(|path| path.file_stem().expect("a name").display().to_string());
    stems.collect()
}

#[test]
fn every_target_has_a_corpus_that_is_replayed() {
    let _turn = turn();
    let targets = stems(&corpus().with_file_name("fuzz_targets"), "rs");
    assert_eq!(stems(&corpus(), "tar"), targets);
    for target in targets {
        if target == "wire" {
            let unit_test = include_str!("../src/transport/h2/wire/fuzzed/run.rs");
            assert!(unit_test.contains("fuzz/corpus/wire"));
            continue;
        }
        let call = format!("replay(\"{target}\", fuzz::{target}::check)");
        let this_file = include_str!("fuzzed.rs");
        assert!(this_file.contains(&call), "no test calls {call}");
    }
}
