//! The rules about this repository that a compiler does not hold: what a file of
//! a given name may contain, who may use whom, and that the documents point at
//! code and tests that exist. `docs/architecture.md` gives the reasons.

#[path = "tidy/english.rs"]
mod english;
#[path = "tidy/guide.rs"]
mod guide;
#[path = "tidy/observing.rs"]
mod observing;
#[path = "tidy/promql.rs"]
mod promql;
#[path = "tidy/public.rs"]
mod public;
#[path = "tidy/ratchet.rs"]
mod ratchet;
#[path = "tidy/sentences.rs"]
mod sentences;
#[path = "tidy/structure.rs"]
mod structure;
#[path = "tidy/texts.rs"]
mod texts;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use structure::Structure;

/// Files of rules: no async, no IO, no clock, no chance but from a seed.
const PURE: [&str; 67] = [
    "crates/grpc-health/src/grid.rs",
    "crates/grpc-health/src/text.rs",
    "crates/grpc-health/src/watch/lines.rs",
    "crates/grpc-health/src/watch/table.rs",
    "crates/grpc-health/src/watch/until.rs",
    "crates/harness/src/fleet/plan.rs",
    "crates/health-service/src/log_budget.rs",
    "crates/health-service/src/registry.rs",
    "crates/health-service/src/thresholds.rs",
    "crates/testing/src/deadline.rs",
    "src/attributes.rs",
    "src/balancer/apply_levels.rs",
    "src/balancer/apply_policy.rs",
    "src/balancer/backend.rs",
    "src/balancer/config.rs",
    "src/balancer/effects.rs",
    "src/balancer/ejections.rs",
    "src/balancer/idle.rs",
    "src/balancer/levels.rs",
    "src/balancer/machine.rs",
    "src/balancer/outliers.rs",
    "src/balancer/policy/control.rs",
    "src/balancer/policy/least_request.rs",
    "src/balancer/policy/pick_first.rs",
    "src/balancer/policy/policy.rs",
    "src/balancer/policy/ring_hash.rs",
    "src/balancer/policy/round_robin.rs",
    "src/balancer/policy/weighted_round_robin.rs",
    "src/balancer/publish_throttle.rs",
    "src/balancer/start_order.rs",
    "src/balancer/subset.rs",
    "src/call/attempts.rs",
    "src/connectivity.rs",
    "src/discover/dns/machine.rs",
    "src/health/flood.rs",
    "src/health/machine.rs",
    "src/health/verdict.rs",
    "src/routing/by_level.rs",
    "src/routing/choice.rs",
    "src/routing/ejection.rs",
    "src/routing/least_request.rs",
    "src/routing/pick_half.rs",
    "src/routing/picker.rs",
    "src/routing/priority.rs",
    "src/routing/retry_throttle.rs",
    "src/routing/ring.rs",
    "src/routing/ring_hash.rs",
    "src/routing/rotation.rs",
    "src/routing/stride.rs",
    "src/subchannel/extra_connections.rs",
    "src/subchannel/machine.rs",
    "src/transport/connection/load_weight.rs",
    "src/transport/connection/streams.rs",
    "src/transport/connection/unread.rs",
    "src/transport/exchange/message_limit.rs",
    "src/transport/exchange/prefixes.rs",
    "src/transport/exchange/quote.rs",
    "src/transport/h2/quiet.rs",
    "src/transport/h2/wire/frames.rs",
    "src/transport/h2/wire/machine.rs",
    "src/transport/h2/wire/rates.rs",
    "src/util/backoff.rs",
    "src/util/instant.rs",
    "src/util/log_budget.rs",
    "src/util/window_counter.rs",
    "tests/it/churn/plan.rs",
    "tests/tidy/promql.rs",
];

const NOT_PURE: [&str; 14] = [
    "async ",
    ".await",
    "tokio",
    "tonic::",
    "prost",
    "h2::",
    "futures_util",
    "tracing",
    "Instant::now",
    "SystemTime",
    "fastrand::u",
    "fastrand::bool",
    "std::thread",
    "std::net",
];

/// Where tasks may be spawned.
const SPAWNS: [&str; 7] = [
    "src/balancer/task.rs",
    "src/channel/build.rs",
    "src/transport/connection/call_limits.rs",
    "src/transport/endpoint/executor.rs",
    "src/transport/exchange/request_body.rs",
    "src/transport/h2/handshake.rs",
    "src/util/blocking.rs",
];

/// Where one may sleep, or wait for the first of several things.
const WAITS: [&str; 29] = [
    "src/balancer/inputs.rs",
    "src/balancer/source_with_retry.rs",
    "src/balancer/task.rs",
    "src/call/admission.rs",
    "src/call/hedge.rs",
    "src/transport/exchange/deadline.rs",
    "src/transport/exchange/send.rs",
    // Makes a timer to see whether the runtime has any.
    "src/channel/runtime.rs",
    "src/discover/dns/hickory.rs",
    "src/discover/dns/lookup.rs",
    "src/discover/dns/task.rs",
    "src/discover/watched_file.rs",
    "src/subchannel/active_connections.rs",
    "src/subchannel/task.rs",
    "src/transport/exchange/body.rs",
    "src/transport/exchange/http_error.rs",
    "src/transport/exchange/request_body.rs",
    "src/transport/addresses.rs",
    "src/transport/connection/call_limits.rs",
    "src/transport/dial.rs",
    "src/transport/h2/close_timeout.rs",
    "src/transport/h2/driver.rs",
    "src/transport/h2/keepalive.rs",
    "src/transport/h2/silence_timer.rs",
    "src/transport/h2/windows.rs",
    "src/transport/h2/write_timeout.rs",
    "src/transport/io/tls/handshake.rs",
    "src/util/clock.rs",
    "src/util/real_time.rs",
];

/// Where one policy is told from another. A constructor names the one of its channel.
const POLICIES: [&str; 4] = [
    "src/balancer/policy/policy.rs",
    "src/channel/connect.rs",
    "src/service_config/policy/json.rs",
    "src/service_config/policy/policy.rs",
];

/// Which modules a module may use, from top to bottom: none uses one that stands above it. One
/// that is not named uses no other.
const EDGES: [(&str, &str); 15] = [
    (
        "channel",
        "balancer call discover routing transport service_config health metrics connectivity \
         attributes trace util error",
    ),
    (
        "call",
        "routing deadline transport service_config metrics trace util error",
    ),
    (
        "balancer",
        "subchannel discover routing transport service_config health metrics connectivity \
         attributes util error",
    ),
    (
        "subchannel",
        "health transport metrics connectivity util error",
    ),
    (
        "routing",
        "health transport service_config connectivity attributes error",
    ),
    ("health", "transport connectivity pb util error"),
    ("discover", "transport service_config attributes util error"),
    ("deadline", "transport util"),
    ("transport", "metrics trace pb util error"),
    ("metrics", "connectivity util error"),
    ("trace", "util error"),
    ("service_config", "error"),
    ("util", "error"),
    // A simulation, for tests alone.
    ("fleet", "*"),
    ("lib", "*"),
];

/// Each file above this is a question: has it two reasons to change?
const MAX_LINES: usize = 600;

/// Where there is code.
const FOLDERS: [&str; 6] = ["src", "crates", "tests", "examples", "benches", "fuzz"];

struct Source {
    path: String,
    /// Without comments, and without the unit tests at the end of the file.
    code: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry of the folder").path();
            match path.is_dir() {
                true if path.ends_with("target") => {}
                true => folders.push(path),
                false if is_generated(&path) => {}
                false if path.extension().is_some_and(|e| e == ending) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// Generated code has the name of its protobuf package: `grpc.health.v1.rs`.
fn is_generated(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default();
    name.to_string_lossy().contains('.')
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("a UTF-8 file");
    let relative = path.strip_prefix(root()).expect("below the root");
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""));
    let code = lines.collect::<Vec<_>>().join("\n");
    let code = match code.find("#[cfg(test)]\nmod tests {") {
        Some(start) => code[..start].to_owned(),
        None => code,
    };
    Source {
        path: relative.to_string_lossy().replace('\\', "/"),
        code,
        text,
    }
}

/// The library, without its unit tests.
fn library() -> Vec<Source> {
    sources("src")
}

/// The code of one crate, without its unit tests.
fn sources(folder: &str) -> Vec<Source> {
    let is_test = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.ends_with("tests.rs") || path.contains("/tests/") || path.contains("_tests/")
    };
    let sources = files(folder, "rs").into_iter().filter(|path| {
        let below = path.strip_prefix(root()).expect("below the root");
        !is_test(&below.to_path_buf())
    });
    sources.map(|path| read(&path)).collect()
}

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn words_outside(words: &[&str], allowed: &[&str], rule: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in library() {
        if allowed.contains(&source.path.as_str()) {
            continue;
        }
        for word in words {
            if source.code.contains(word) {
                complaints.push(format!("{}: `{word}`: {rule}", source.path));
            }
        }
    }
    complaints
}

#[test]
fn rules_are_pure() {
    let mut complaints = Vec::new();
    for path in PURE {
        let source = read(&root().join(path));
        for word in NOT_PURE {
            if source.code.contains(word) {
                complaints.push(format!("{path}: `{word}` in a file of pure rules"));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn every_machine_is_held_to_be_pure() {
    let machines = library().into_iter().map(|source| source.path);
    let unlisted = machines
        .filter(|path| path.ends_with("/machine.rs") && !PURE.contains(&path.as_str()))
        .collect::<Vec<_>>();
    assert_none(&unlisted);
}

#[test]
fn tasks_are_spawned_where_one_expects_it() {
    let rule = "spawns outside the files that may";
    assert_none(&words_outside(&["spawn("], &SPAWNS, rule));
}

#[test]
fn waiting_is_where_one_expects_it() {
    let words = [
        "time::sleep",
        "sleep_until(",
        "timer_on(",
        "timeout_io(",
        "select!",
        "time::timeout",
    ];
    let rule = "waits outside the files that may";
    assert_none(&words_outside(&words, &WAITS, rule));
}

#[test]
fn policies_are_told_apart_in_few_files() {
    let others = library().into_iter().filter(|source| {
        // The policies for attempts are others.
        let code = source.code.replace("AttemptPolicy::", "");
        let mut after = code.split("Policy::").skip(1);
        !POLICIES.contains(&&*source.path) && after.any(|name| name.starts_with(char::is_uppercase))
    });
    assert_none(&others.map(|source| source.path).collect::<Vec<_>>());
}

#[test]
fn modules_use_only_those_they_may() {
    let mut complaints = Vec::new();
    for source in library() {
        let from = module_of(&source.path);
        for to in used_modules(&source.code) {
            let may = allowed(&from).is_some_and(|all| all.contains("*") || all.contains(&*to));
            if to != from && !may {
                complaints.push(format!("{}: `{from}` may not use `{to}`", source.path));
            }
        }
    }
    assert_none(&complaints);
}

/// The table goes downward, so there is no circle; and what it allows is used.
#[test]
fn the_table_of_modules_is_in_order_and_has_no_line_too_many() {
    let mut used = BTreeSet::new();
    for source in library() {
        let from = module_of(&source.path);
        let all = used_modules(&source.code).into_iter();
        used.extend(all.map(|to| (from.clone(), to)));
    }
    let mut complaints = Vec::new();
    let mut above = BTreeSet::new();
    for (from, _) in EDGES.iter().filter(|(_, to)| *to != "*") {
        above.insert(*from);
        for to in allowed(from).into_iter().flatten() {
            if above.contains(to) {
                complaints.push(format!("`{from}` uses `{to}`, which stands above it"));
            }
            if !used.contains(&((*from).to_owned(), to.to_owned())) {
                complaints.push(format!("`{from}` may use `{to}`, and does not"));
            }
        }
    }
    assert_none(&complaints);
}

/// What a module may use.
fn allowed(from: &str) -> Option<BTreeSet<&'static str>> {
    let (_, to) = EDGES.iter().find(|(module, _)| *module == from)?;
    Some(to.split_whitespace().collect())
}

/// `src/health/machine.rs` is of `health`, `src/call.rs` of `call`.
fn module_of(path: &str) -> String {
    let below = path.trim_start_matches("src/");
    let first = below.split('/').next().unwrap_or(below);
    first.trim_end_matches(".rs").to_owned()
}

/// The first name after every `crate::`, in braces or not.
fn used_modules(code: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(list) => modules.extend(first_names(list)),
            None => modules.extend(name(after)),
        }
    }
    // Items of the crate's root are no modules.
    modules.retain(|module| module.chars().next().is_some_and(char::is_lowercase));
    modules
}

/// The names at depth one of a list in braces, whose opening brace is gone.
fn first_names(list: &str) -> Vec<String> {
    let (mut names, mut depth, mut at_start) = (Vec::new(), 1, true);
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => at_start = true,
            letter if at_start && !letter.is_whitespace() => {
                names.extend(name(&list[at..]));
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn name(text: &str) -> Option<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    (end > 0).then(|| text[..end].to_owned())
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut complaints = Vec::new();
    for folder in FOLDERS {
        for path in files(folder, "rs") {
            let source = read(&path);
            if !source.text.starts_with("//!") {
                complaints.push(format!("{}: no module documentation", source.path));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn files_have_one_reason_to_change() {
    let long = library().into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > MAX_LINES).then(|| format!("{}: {lines} lines", source.path))
    });
    assert_none(&long.collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_undone() {
    // Put together here, so that this file does not find itself.
    let words = [
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["dbg", "!("].concat(),
        ["#[", "ignore"].concat(),
        ["FIX", "ME"].concat(),
        ["TO", "DO"].concat(),
    ];
    let mut complaints = Vec::new();
    for folder in FOLDERS {
        for path in files(folder, "rs") {
            let source = read(&path);
            let left = words.iter().filter(|word| source.text.contains(*word));
            complaints.extend(left.map(|word| format!("{}: `{word}`", source.path)));
        }
    }
    assert_none(&complaints);
}

#[test]
fn tests_do_not_sleep_to_wait() {
    let mut complaints = Vec::new();
    let folders = [
        "tests/it",
        "tests/rolling",
        "crates/grpc-health/tests",
        "crates/harness/tests",
        "crates/health-service/tests",
        "crates/opentelemetry/tests",
        "crates/testing/tests",
    ];
    for path in folders.iter().flat_map(|folder| files(folder, "rs")) {
        let source = read(&path);
        if source.code.contains("sleep(") {
            complaints.push(format!("{}: await a state instead", source.path));
        }
    }
    assert_none(&complaints);
}

/// Every row of `docs/semantics.md` names a file of the library and a test that
/// exist, and has a label of its own. What is ruled out has neither, and a reason.
#[test]
fn semantics_point_at_code_and_tests() {
    let text = fs::read_to_string(root().join("docs/semantics.md")).expect("docs/semantics.md");
    let mut complaints = Vec::new();
    let mut labels = BTreeSet::new();
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [label, rule, code, tests] = cells[..] else {
            complaints.push(format!("not four cells: {row}"));
            continue;
        };
        if label == "case" || label.starts_with("--") {
            continue;
        }
        if rule.is_empty() {
            complaints.push(format!("{label}: no rule"));
        }
        let ruled_out = (code, tests) == ("ruled out", "none");
        for label in label.split(", ") {
            if !labels.insert(label.to_owned()) {
                complaints.push(format!("{label}: twice"));
            }
        }
        for path in ticked(code) {
            if !root().join(path).exists() {
                complaints.push(format!("{label}: no file {path}"));
            }
        }
        if ticked(tests).is_empty() && !ruled_out {
            complaints.push(format!("{label}: no test"));
        }
        for test in ticked(tests) {
            if !test_exists(test) {
                complaints.push(format!("{label}: no test {test}"));
            }
        }
    }
    assert!(labels.len() > 60, "only {} labels were read", labels.len());
    assert_none(&complaints);
}

/// The words between backticks.
fn ticked(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// `src/health/tests.rs::name`, or `tests/it/health.rs::name`.
fn test_exists(test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else {
        return false;
    };
    let text = fs::read_to_string(root().join(path)).unwrap_or_default();
    text.contains(&format!("fn {name}("))
}

#[test]
fn the_readme_gives_the_two_commands() {
    let text = fs::read_to_string(root().join("README.md")).expect("README.md");
    for command in ["cargo run --example multi_backend", "cargo test"] {
        assert!(
            text.lines().any(|line| line == command),
            "README.md has no line `{command}`, which .ci/run calls"
        );
    }
}

/// The layers of `transport`, from the ground up. Each uses only those before it.
const TRANSPORT: [&str; 7] = [
    "words",
    "io",
    "endpoint",
    "connection",
    "exchange",
    "h2",
    "dial",
];

/// The only two files that need each other: limits are part of admission to a connection,
/// and serve the queue from those they admit to.
const PAIR: [&str; 2] = [
    "src/transport/connection/call_limits.rs",
    "src/transport/connection/connection.rs",
];

/// The crates whose files are held to be in order: those that are published.
const CRATES: [&str; 5] = [
    "src",
    "crates/grpc-health/src",
    "crates/health-service/src",
    "crates/opentelemetry/src",
    "crates/testing/src",
];

fn structure(of: &str) -> Structure {
    let sources = sources(of);
    let texts = sources.iter();
    let texts = texts.map(|source| (source.path.as_str(), source.text.as_str()));
    Structure::of(of, texts)
}

#[test]
fn no_two_files_need_each_other() {
    let circles = CRATES.iter().flat_map(|of| structure(of).circles());
    let circles = circles.filter(|circle| *circle != PAIR);
    let complaints = circles.map(|circle| format!("a circle: {}", circle.join(", ")));
    assert_none(&complaints.collect::<Vec<_>>());
}

#[test]
fn the_layers_of_transport_use_those_below_them() {
    let layer = |file: &str| {
        let below = file.strip_prefix("src/transport/")?;
        let name = below.split('/').next()?.trim_end_matches(".rs");
        TRANSPORT.iter().position(|layer| *layer == name)
    };
    let mut complaints = Vec::new();
    for (from, to_all) in structure("src").edges {
        for to in to_all {
            if let (Some(low), Some(high)) = (layer(&from), layer(&to))
                && low < high
            {
                let (low, high) = (TRANSPORT[low], TRANSPORT[high]);
                complaints.push(format!("{from}: `{low}` uses `{high}`, above it: {to}"));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn mod_rs_has_no_logic() {
    let doors = CRATES.iter().flat_map(|of| sources(of));
    let doors = doors.filter(|source| source.path.ends_with("/mod.rs"));
    let complaints = doors.flat_map(|source| {
        let logic = structure::logic(&source.text).into_iter();
        logic.map(move |item| format!("{}: {item}: move it to a file of its own", source.path))
    });
    assert_none(&complaints.collect::<Vec<_>>());
}

/// The root: what most programs name, and what has a name in `tonic::transport`.
const ROOT: [&str; 15] = [
    "Body",
    "Certificate",
    "CertificateDer",
    "Channel",
    "ChannelBuilder",
    "ClientTlsConfig",
    "ConnectivityState",
    "Endpoint",
    "Error",
    "ErrorKind",
    "HealthOptions",
    "Identity",
    "ServiceConfig",
    "Uri",
    "WaitForReady",
];

/// The modules with what they export. `tonic::transport::channel` has the first of `channel`.
const MODULES: [(&str, &str); 9] = [
    (
        "channel",
        "Channel ClientTlsConfig Endpoint Change ResponseFuture \
         AnsweredBy BackendConnection BackoffConfig CallAttempts FailedAttempt ReadyBackends \
         RequestInfo",
    ),
    ("deadline", "Deadline from stamp"),
    (
        "discover",
        "Backend Dns File List Locality Push RefreshHandle dns file list push",
    ),
    ("health", "HealthStatus OnNotFound OnUnimplemented"),
    (
        "metrics",
        "Counter CustomLabel Histogram Instrument InstrumentKind Label Meter Metrics Observed \
         Prometheus UpDown",
    ),
    (
        "service_config",
        "HedgingPolicy MethodConfig RetryPolicy RetryThrottling \
         FailurePercentageEjection LeastRequest LoadBalancingPolicy OutlierDetection RingHash \
         SuccessRateEjection WeightedRoundRobin",
    ),
    (
        "status",
        "BackendEvent BackendId BackendStatus BackendWatch Backends CallCounts Cause CauseKind \
         ChannelStatus DetectionMethod Ejection PriorityStatus Silence StateWatch StatusWatch \
         escape_peer_text",
    ),
    ("tls", "TlsReload rustls"),
    (
        "trace",
        "AttemptHeaders AttemptInfo AttemptTrace CallInfo CallTrace CallTracer MessageInfo \
         TraceStatus tracing_spans",
    ),
];

/// The names of the test kit.
const KIT: [&str; 11] = [
    "Backend",
    "BackendBuilder",
    "Connector",
    "Counter",
    "Entered",
    "MemoryStream",
    "Network",
    "PATIENCE",
    "ServingStatus",
    "until_ready_backends",
    "within",
];

/// The names of the crate for OpenTelemetry.
const OTEL: [&str; 2] = ["OtelMeter", "OtelTracer"];

/// These have 2 paths, because tonic has them twice.
const TWICE: [&str; 3] = ["Channel", "ClientTlsConfig", "Endpoint"];

#[test]
fn the_public_names_are_these() {
    let inside = MODULES.iter().flat_map(|(module, names)| {
        let names = names.split_whitespace();
        names.map(move |name| format!("{module}::{name}"))
    });
    let root = ROOT.iter().map(ToString::to_string);
    let mut expected: Vec<_> = root.chain(inside).collect();
    expected.sort();
    assert_eq!(public::names(self::root()), expected);
    assert_eq!(public::names(&self::root().join("crates/testing")), KIT);
    let otel = self::root().join("crates/opentelemetry");
    assert_eq!(public::names(&otel), OTEL);
}

#[test]
fn each_public_name_has_one_path() {
    let paths = public::names(self::root());
    let mut seen = BTreeSet::new();
    let last = paths.iter().filter_map(|path| path.rsplit("::").next());
    let twice: Vec<_> = last.filter(|name| !seen.insert(*name)).collect();
    assert_eq!(twice, TWICE);
}
