//! Scripts for the balancer's rules, one fact each, and a random walk beside a
//! model.
//!
//! A row of a script is an input, what it has the task do, and what is seen
//! then; the last is empty if nothing changed and nothing is to be published.
//! Rows are a second apart. `insert 1 a` names backend 1 at endpoint `a`;
//! `0 ready c0` is subchannel 0 reporting READY with connection `c0`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;

use super::{
    effects::{Effects, SubchannelId},
    machine::{Balancer, Publication},
};
use crate::{
    attributes::Attributes,
    connectivity::ConnectivityState::{self, *},
    error::{Cause, CauseKind},
    health::HealthStatus::{self, NotChecked, NotServing, Pending},
    routing::{BackendId, BackendStatus, Cursor, Pick, PickInfo},
    service_config::{LoadBalancingPolicy, RingHash},
    subchannel::Report,
};

type Name = &'static str;
type Machine = Balancer<Name, Name>;

#[derive(Clone, Debug)]
enum Input {
    Insert(u64, Name),
    Remove(u64),
    Report(u64, Report, Option<Name>),
    SourceError(Name),
    SourceEnd,
    Config,
    Reject(Name),
    Connect,
    Idle,
    PickFirst,
    RoundRobin,
    Policy(LoadBalancingPolicy),
    Nothing,
    Close,
}

fn parse(input: Name) -> Input {
    let words: Vec<_> = input.split_whitespace().collect();
    match words[..] {
        ["insert", id, endpoint] => Input::Insert(number(id), endpoint),
        ["remove", id] => Input::Remove(number(id)),
        ["error", text] => Input::SourceError(text),
        ["end"] => Input::SourceEnd,
        ["config"] => Input::Config,
        ["reject", text] => Input::Reject(text),
        ["connect"] => Input::Connect,
        ["idle"] => Input::Idle,
        ["pick_first"] => Input::PickFirst,
        ["round_robin"] => Input::RoundRobin,
        ["ring_hash"] => Input::Policy(LoadBalancingPolicy::RingHash(RingHash::default())),
        ["subset", size, ref of @ ..] => {
            let child = match of {
                ["pick_first"] => LoadBalancingPolicy::PickFirst {
                    shuffle_address_list: false,
                },
                _ => LoadBalancingPolicy::RoundRobin,
            };
            Input::Policy(child.with_random_subsetting(size.parse().unwrap()))
        }
        ["-"] => Input::Nothing,
        ["shutdown"] => Input::Close,
        [id, "ready", connection] => Input::Report(
            number(id),
            report(Ready, NotChecked, None),
            Some(connection),
        ),
        [id, ref what @ ..] => Input::Report(number(id), parse_report(what), None),
        [] => panic!("an empty row"),
    }
}

fn parse_report(words: &[&str]) -> Report {
    let unhealthy = Cause::new(CauseKind::Health, "NOT_SERVING");
    match words {
        ["idle"] => report(Idle, NotChecked, None),
        ["connecting"] => report(Connecting, NotChecked, None),
        ["connected"] => report(Connecting, Pending, None),
        ["refused"] => report(TransientFailure, NotChecked, Some(refused())),
        ["refused", attempt] => Report {
            attempt: attempt.parse().unwrap(),
            ..parse_report(&["refused"])
        },
        ["unhealthy"] => report(TransientFailure, NotServing, Some(unhealthy)),
        ["shutdown"] => report(Shutdown, NotChecked, None),
        _ => panic!("no report is called {words:?}"),
    }
}

fn number(word: &str) -> u64 {
    word.parse()
        .unwrap_or_else(|_| panic!("{word:?} is no number"))
}

fn report(state: ConnectivityState, health: HealthStatus, cause: Option<Cause>) -> Report {
    Report {
        state,
        health,
        cause,
        attempt: 0,
        next_attempt: None,
        connections: 0,
    }
}

fn refused() -> Cause {
    Cause::new(CauseKind::Connect, "refused")
}

/// One turn of the task: an input, and what it comes to.
fn apply(machine: &mut Machine, now: Instant, input: Input) -> Effects<Name> {
    let mut effects = take(machine, now, input);
    let settled = machine.apply_policy(now);
    effects.start.extend(settled.start);
    effects.stop.extend(settled.stop);
    effects.changed |= settled.changed;
    effects
}

fn take(machine: &mut Machine, now: Instant, input: Input) -> Effects<Name> {
    match input {
        Input::Insert(id, endpoint) => {
            let label = format!("backend {id}");
            let (id, label) = (BackendId(id), label.into());
            let attributes = Attributes::default();
            machine.on_insert(now, id, label, endpoint.into(), endpoint, attributes)
        }
        Input::Remove(id) => machine.on_remove(now, BackendId(id)),
        Input::Report(id, report, connection) => {
            machine.on_report(now, SubchannelId(id), report, connection)
        }
        Input::SourceError(text) => machine.on_discovery_error(text),
        Input::SourceEnd => machine.on_discovery_end(),
        Input::Config => machine.on_config(now),
        Input::Reject(text) => {
            machine.on_config_rejected(Cause::new(CauseKind::ServiceConfig, text))
        }
        Input::Connect => machine.on_connect(now),
        Input::Idle => machine.on_idle(now),
        Input::PickFirst => {
            let policy = LoadBalancingPolicy::PickFirst {
                shuffle_address_list: false,
            };
            machine.on_policy(now, policy.parts(), 0)
        }
        Input::RoundRobin => machine.on_policy(now, LoadBalancingPolicy::RoundRobin.parts(), 0),
        Input::Policy(policy) => machine.on_policy(now, policy.parts(), 0),
        Input::Nothing => machine.apply_policy(now),
        Input::Close => machine.on_shutdown(),
    }
}

/// `start 1, stop 0`
fn done(effects: &Effects<Name>) -> String {
    let starts = effects
        .start
        .iter()
        .map(|start| format!("start {}", start.id.0));
    let stops = effects.stop.iter().map(|id| format!("stop {}", id.0));
    starts.chain(stops).collect::<Vec<_>>().join(", ")
}

/// `READY c0 (cause): 1@a READY, 2@b connecting`: the state, the connections
/// calls go to, the cause if there is one, and every backend.
fn seen(publication: &Publication<Name>) -> String {
    let mut text = short(publication.state).to_owned();
    for connection in &publication.ready {
        let _ = write!(text, " {connection}");
    }
    if let Some(cause) = &publication.cause {
        let _ = write!(text, " ({cause})");
    }
    let mut separator = ": ";
    for backend in publication.backends.iter() {
        let (id, address, state) = (backend.id.0, backend.address(), short(backend.state));
        let _ = write!(text, "{separator}{id}@{address} {state}");
        separator = ", ";
    }
    text
}

fn short(state: ConnectivityState) -> Name {
    match state {
        Idle => "idle",
        Connecting => "connecting",
        Ready => "READY",
        TransientFailure => "failing",
        Shutdown => "closed",
    }
}

#[track_caller]
fn check(script: Name) -> Machine {
    run(Balancer::new(true, true), "connecting", script)
}

/// A script that begins in IDLE.
#[track_caller]
fn check_lazy(script: Name) -> Machine {
    run(Balancer::new(false, true), "idle", script)
}

/// A script that begins before there is a service config.
#[track_caller]
fn check_unconfigured(script: Name) -> Machine {
    run(Balancer::new(true, false), "connecting", script)
}

/// A script that begins with backend 1 READY at `a`, by subchannel 0.
#[track_caller]
fn check_up(script: Name) -> Machine {
    let mut machine = Balancer::new(true, true);
    for input in ["insert 1 a", "0 ready c0"] {
        let _ = apply(&mut machine, Instant::now(), parse(input));
    }
    run(machine, "READY c0: 1@a READY", script)
}

#[track_caller]
fn run(mut machine: Machine, before: &str, script: Name) -> Machine {
    let start = Instant::now();
    let mut shown = before;
    assert_eq!(seen(&machine.publication()), shown, "before the first row");
    let rows = script.lines().filter(|row| !row.trim().is_empty());
    for (second, row) in (1..).zip(rows) {
        let [input, does, shows] = columns(row);
        let now = start + Duration::from_secs(second);
        let effects = apply(&mut machine, now, parse(input));
        assert_eq!(done(&effects), does, "what is done by: {row}");
        assert_eq!(effects.changed, !shows.is_empty(), "a change by: {row}");
        shown = if effects.changed { shows } else { shown };
        assert_eq!(seen(&machine.publication()), shown, "seen after: {row}");
    }
    machine
}

#[track_caller]
fn columns(row: Name) -> [Name; 3] {
    let columns: Vec<_> = row.split('|').map(str::trim).collect();
    columns.try_into().expect("a row has three columns")
}

/// The status of the only backend after inputs a second apart, the second that
/// it is `since`, and the second of its last error.
#[track_caller]
fn status_after(inputs: &[Name]) -> (Arc<BackendStatus>, u64, Option<u64>) {
    let mut machine = Machine::new(true, true);
    let start = Instant::now();
    for (second, input) in (1..).zip(inputs) {
        let now = start + Duration::from_secs(second);
        let _ = apply(&mut machine, now, parse(input));
    }
    let status = Arc::clone(&machine.publication().backends[0]);
    let since = (status.since() - start).as_secs();
    let last_error = status.last_error().map(|(_, at)| (at - start).as_secs());
    (status, since, last_error)
}

#[test]
fn a_named_backend_is_connected_and_picked_once_ready() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        0 ready c0 |         | READY c0: 1@a READY
        ",
    );
}

// P06
#[test]
fn nothing_is_started_before_a_config_is_in_force() {
    check_unconfigured(
        "
        insert 1 a |         | connecting: 1@a idle
        config     | start 0 | connecting: 1@a connecting
        0 ready c0 |         | READY c0: 1@a READY
        config     |         |
        reject bad |         |
        ",
    );
}

// V12, V13
#[test]
fn a_first_config_that_is_invalid_fails_calls_until_a_valid_one() {
    check_unconfigured(
        "
        reject bad | | failing (service config error: bad)
        reject bad | |
        insert 1 a | | failing (service config error: bad): 1@a idle
        config     | start 0 | connecting: 1@a connecting
        ",
    );
}

#[test]
fn a_config_alone_starts_nothing_in_idle() {
    run(
        Balancer::new(false, false),
        "idle",
        "
        insert 1 a |         | idle: 1@a idle
        config     |         |
        connect    | start 0 | connecting: 1@a connecting
        ",
    );
}

#[test]
fn in_idle_nothing_runs_and_a_call_starts_it_anew() {
    check_up(
        "
        insert 2 b  | start 1          | READY c0: 1@a READY, 2@b connecting
        idle        | stop 0, stop 1   | idle: 1@a idle, 2@b idle
        idle        |                  |
        0 ready c0  |                  |
        insert 3 c  |                  | idle: 1@a idle, 2@b idle, 3@c idle
        remove 2    |                  | idle: 1@a idle, 3@c idle
        connect     | start 2, start 4 | connecting: 1@a connecting, 3@c connecting
        2 ready c2  |                  | READY c2: 1@a READY, 3@c connecting
        ",
    );
}

/// A script of a channel whose source has 3 s to name a backend.
#[track_caller]
fn check_impatient(script: Name) {
    let mut machine = Balancer::new(true, true);
    machine.expect_backends_within(Instant::now(), Some(Duration::from_secs(3)));
    run(machine, "connecting", script);
}

// D308
#[test]
fn a_source_that_names_nothing_is_waited_for_so_long() {
    check_impatient(
        "
        -          |         |
        -          |         |
        -          |         | failing (no backends yet: the source produced no addresses within 3s)
        -          |         |
        insert 1 a | start 0 | connecting: 1@a connecting
        ",
    );
    check_impatient(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        -          |         |
        -          |         |
        -          |         |
        -          |         |
        ",
    );
    // In IDLE nothing is waited for, and afterwards anew.
    check_impatient(
        "
        -          |         |
        idle       |         | idle
        -          |         |
        -          |         |
        connect    |         | connecting
        -          |         |
        -          |         |
        -          |         | failing (no backends yet: the source produced no addresses within 3s)
        error bad  |         | failing (name resolver error: bad)
        idle       |         | idle (name resolver error: bad)
        ",
    );
    let mut patient = Machine::new(true, true);
    patient.expect_backends_within(Instant::now(), Some(Duration::MAX));
    assert_eq!(
        patient.deadline(),
        None,
        "a time that no clock knows is never"
    );
}

#[test]
fn the_endpoint_named_last_is_for_after_idle() {
    check_up(
        "
        insert 1 b | start 1        |
        idle       | stop 0, stop 1 | idle: 1@b idle
        connect    | start 2        | connecting: 1@b connecting
        ",
    );
}

#[test]
fn trouble_is_told_when_a_backend_leaves_ready_or_fails_again() {
    let mut machine = check("");
    let mut trouble = |input| apply(&mut machine, Instant::now(), parse(input)).trouble;
    assert!(!trouble("insert 1 a"));
    assert!(!trouble("0 connecting"));
    assert!(trouble("0 refused 1"));
    assert!(!trouble("0 refused 1"), "the same failure, told again");
    assert!(trouble("0 refused 2"));
    assert!(!trouble("0 ready c0"));
    assert!(trouble("0 connecting"), "lost, or GOAWAY");
    assert!(!trouble("0 ready c1"));
    assert!(trouble("0 unhealthy"));
    assert!(!trouble("remove 1"), "its source knows that");
}

#[test]
fn naming_a_backend_again_means_nothing() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        insert 1 a |         |
        0 ready c0 |         | READY c0: 1@a READY
        insert 1 a |         |
        ",
    );
}

#[test]
fn removing_an_unknown_backend_means_nothing_later() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        remove 2   |         |
        ",
    );
}

// R03, R16
#[test]
fn an_emptied_set_fails_with_no_backends() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        0 ready c0 |         | READY c0: 1@a READY
        remove 1   | stop 0  | connecting
        -          |         | failing (no backends: the source produced zero addresses)
        insert 2 b | start 1 | connecting: 2@b connecting
        ",
    );
}

#[test]
fn a_key_named_again_after_removal_is_a_new_backend_at_the_end() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        insert 2 b | start 1 | connecting: 1@a connecting, 2@b connecting
        remove 1   | stop 0  | connecting: 2@b connecting
        insert 3 a | start 2 | connecting: 2@b connecting, 3@a connecting
        ",
    );
}

// R05
#[test]
fn one_backend_down_leaves_the_others() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        insert 2 b | start 1 | connecting: 1@a connecting, 2@b connecting
        0 ready c0 |         | READY c0: 1@a READY, 2@b connecting
        1 ready c1 |         | READY c0 c1: 1@a READY, 2@b READY
        0 refused  |         | READY c1: 1@a failing, 2@b READY
        ",
    );
}

// R06
#[test]
fn all_backends_down_is_transient_failure() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        insert 2 b | start 1 | connecting: 1@a connecting, 2@b connecting
        0 refused  |         | connecting: 1@a failing, 2@b connecting
        1 refused  |         | failing: 1@a failing, 2@b failing
        ",
    );
}

// D331
#[test]
fn an_update_of_weights_is_a_picker_and_nothing_else() {
    let (mut machine, start) = (Machine::new(true, true), Instant::now());
    let weighted = LoadBalancingPolicy::WeightedRoundRobin(Box::default());
    for input in [
        Input::Policy(weighted),
        Input::Insert(1, "a"),
        Input::Insert(2, "b"),
        parse("0 ready a0"),
        parse("1 ready b0"),
    ] {
        let effects = apply(&mut machine, start, input);
        assert!(!effects.chooses_anew);
    }
    let next = machine.deadline().expect("the next update");
    assert_eq!(next, start + Duration::from_secs(1));
    let effects = machine.apply_policy(next);
    assert!(effects.chooses_anew && !effects.changed);
    assert!(effects.start.is_empty() && effects.stop.is_empty());
    let picker = machine.picker(next, &Arc::new(Cursor::new(0)));
    assert_eq!(
        picker.expect("the channel is READY").backends(),
        ["a0", "b0"]
    );

    let _ = apply(&mut machine, next, Input::Remove(2));
    assert_eq!(machine.deadline(), None, "1 backend has all calls");
}

// R08
#[test]
fn ready_wins_then_connecting_then_idle() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        insert 2 b | start 1 | connecting: 1@a connecting, 2@b connecting
        0 refused  |         | connecting: 1@a failing, 2@b connecting
        1 idle     |         | idle: 1@a failing, 2@b idle
        1 ready c1 |         | READY c1: 1@a failing, 2@b READY
        ",
    );
}

// R08
#[test]
fn shutdown_of_a_subchannel_does_not_count() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        0 shutdown |         |
        ",
    );
}

// R14
#[test]
fn picks_go_round_in_the_order_of_the_source() {
    let mut machine = check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        insert 2 b | start 1 | connecting: 1@a connecting, 2@b connecting
        1 ready c1 |         | READY c1: 1@a connecting, 2@b READY
        0 ready c0 |         | READY c0 c1: 1@a READY, 2@b READY
        ",
    );
    let choice = machine.choice(Instant::now(), &Arc::new(Cursor::new(0)));
    let (status, picker) = machine.publication().split(7, choice);
    assert_eq!((status.generation(), status.state()), (7, Ready));
    let picks = [(); 3].map(|()| match picker.pick(&mut ("/s/m", HeaderMap::new())) {
        Pick::Send(mut candidates) => candidates.next().copied(),
        _ => None,
    });
    assert_eq!(picks, [Some("c0"), Some("c1"), Some("c0")]);
}

// R16
#[test]
fn updates_are_followed_at_once() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        0 ready c0 |         | READY c0: 1@a READY
        insert 2 b | start 1 | READY c0: 1@a READY, 2@b connecting
        remove 1   | stop 0  | connecting: 2@b connecting
        1 ready c1 |         | READY c1: 2@b READY
        remove 2   | stop 1  | connecting
        -          |         | failing (no backends: the source produced zero addresses)
        insert 3 b | start 2 | connecting: 3@b connecting
        2 ready c2 |         | READY c2: 3@b READY
        ",
    );
}

// R17
#[test]
fn an_address_where_nobody_listens_harms_nobody_else() {
    check(
        "
        insert 1 a      | start 0 | connecting: 1@a connecting
        0 ready c0      |         | READY c0: 1@a READY
        insert 2 nobody | start 1 | READY c0: 1@a READY, 2@nobody connecting
        1 refused       |         | READY c0: 1@a READY, 2@nobody failing
        ",
    );
}

// R35
#[test]
fn a_report_is_about_its_own_backend_only() {
    check(
        "
        insert 1 a   | start 0 | connecting: 1@a connecting
        insert 2 b   | start 1 | connecting: 1@a connecting, 2@b connecting
        1 ready c1   |         | READY c1: 1@a connecting, 2@b READY
        1 connecting |         | connecting: 1@a connecting, 2@b connecting
        0 ready c0   |         | READY c0: 1@a READY, 2@b connecting
        ",
    );
}

// R36
#[test]
fn a_connected_but_unhealthy_backend_is_not_picked() {
    check(
        "
        insert 1 a  | start 0 | connecting: 1@a connecting
        0 ready c0  |         | READY c0: 1@a READY
        0 unhealthy |         | failing: 1@a failing
        0 ready c0  |         | READY c0: 1@a READY
        ",
    );
}

#[test]
fn another_connection_is_a_change_though_the_status_is_the_same() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        0 ready c0 |         | READY c0: 1@a READY
        0 ready c0 |         |
        0 ready c9 |         | READY c9: 1@a READY
        ",
    );
}

#[test]
fn the_same_report_again_changes_nothing() {
    check(
        "
        insert 1 a   | start 0 | connecting: 1@a connecting
        0 connecting |         |
        0 refused    |         | failing: 1@a failing
        0 refused    |         |
        ",
    );
}

// D246
#[test]
fn calls_wait_a_moment_for_what_fills_an_emptied_set() {
    let removed = Instant::now();
    let after = |millis| removed + Duration::from_millis(millis);
    let emptied = || {
        let mut machine = Machine::new(true, true);
        for input in ["insert 1 a", "0 ready c0", "remove 1"] {
            let _ = apply(&mut machine, removed, parse(input));
        }
        assert_eq!(seen(&machine.publication()), "connecting");
        assert_eq!(machine.deadline(), Some(after(100)));
        machine
    };
    for (millis, input, shown) in [
        (99, "-", "connecting"),
        (
            100,
            "-",
            "failing (no backends: the source produced zero addresses)",
        ),
        (99, "insert 2 b", "connecting: 2@b connecting"),
        (
            1,
            "end",
            "failing (no backends: the source removed all of them and ended)",
        ),
        (1, "error gone", "connecting (name resolver error: gone)"),
        (1, "idle", "idle"),
        (1, "shutdown", "closed"),
    ] {
        let mut machine = emptied();
        let effects = apply(&mut machine, after(millis), parse(input));
        assert_eq!(seen(&machine.publication()), shown, "{input}");
        assert_eq!(effects.changed, shown != "connecting", "{input}");
        let waits = shown.starts_with("connecting (") || ["connecting", "idle"].contains(&shown);
        assert_eq!(machine.deadline().is_some(), waits, "{input}");
    }
}

// D252
#[test]
fn what_has_died_is_started_again_as_long_as_it_is_to_run() {
    let mut machine = check_up(
        "
        insert 1 b | start 1 |
        ",
    );
    for (id, at) in [(0, "a"), (1, "b")] {
        let start = machine.start_again(SubchannelId(id)).expect("it is to run");
        assert_eq!((start.id, start.endpoint), (SubchannelId(id), at));
    }
    let _ = apply(&mut machine, Instant::now(), Input::Remove(1));
    assert!(machine.start_again(SubchannelId(0)).is_none());
    assert_eq!(machine.running().count(), 0);
}

#[test]
fn a_subchannel_that_was_stopped_is_not_heard() {
    check(
        "
        insert 1 a   | start 0 | connecting: 1@a connecting
        remove 1     | stop 0  | connecting
        -            |         | failing (no backends: the source produced zero addresses)
        0 ready c0   |         |
        99 ready c99 |         |
        ",
    );
}

// ── Replacement ──────────────────────────────────────────────────────────────

#[test]
fn a_changed_endpoint_takes_over_when_ready() {
    check_up(
        "
        insert 1 b   | start 1 |
        1 connecting |         |
        1 ready c1   | stop 0  | READY c1: 1@b READY
        ",
    );
}

#[test]
fn a_changed_endpoint_takes_over_when_it_has_failed() {
    check_up(
        "
        insert 1 b | start 1 |
        1 refused  | stop 0  | failing: 1@b failing
        ",
    );
}

#[test]
fn a_changed_endpoint_takes_over_when_the_old_one_leaves_ready() {
    check_up(
        "
        insert 1 b | start 1 |
        0 refused  | stop 0  | connecting: 1@b connecting
        1 ready c1 |         | READY c1: 1@b READY
        ",
    );
}

#[test]
fn a_changed_endpoint_takes_over_at_once_from_one_that_is_not_ready() {
    check(
        "
        insert 1 a | start 0         | connecting: 1@a connecting
        insert 1 b | start 1, stop 0 | connecting: 1@b connecting
        1 refused  |                 | failing: 1@b failing
        insert 1 c | start 2, stop 1 | connecting: 1@c connecting
        ",
    );
}

#[test]
fn the_old_connection_may_change_while_its_replacement_is_pending() {
    check_up(
        "
        insert 1 b | start 1 |
        0 ready c9 |         | READY c9: 1@a READY
        1 ready c1 | stop 0  | READY c1: 1@b READY
        ",
    );
}

#[test]
fn a_third_endpoint_replaces_the_pending_one() {
    check_up(
        "
        insert 1 b | start 1         |
        insert 1 c | start 2, stop 1 |
        1 ready c1 |                 |
        2 ready c2 | stop 0          | READY c2: 1@c READY
        ",
    );
}

#[test]
fn naming_the_pending_endpoint_again_means_nothing() {
    check_up(
        "
        insert 1 b | start 1 |
        insert 1 b |         |
        1 ready c1 | stop 0  | READY c1: 1@b READY
        ",
    );
}

#[test]
fn naming_the_old_endpoint_again_calls_the_replacement_off() {
    check_up(
        "
        insert 1 b | start 1 |
        insert 1 a | stop 1  |
        1 ready c1 |         |
        ",
    );
}

#[test]
fn removal_stops_the_pending_one_too() {
    check_up(
        "
        insert 1 b | start 1        |
        remove 1   | stop 0, stop 1 | connecting
        -          |                | failing (no backends: the source produced zero addresses)
        ",
    );
}

#[test]
fn the_old_one_is_not_heard_after_promotion() {
    check_up(
        "
        insert 1 b | start 1 |
        1 ready c1 | stop 0  | READY c1: 1@b READY
        0 refused  |         |
        0 ready c0 |         |
        ",
    );
}

#[test]
fn promotion_shows_what_the_pending_one_said_last() {
    let inputs = [
        "insert 1 a",
        "0 ready c0",
        "insert 1 b",
        "1 connected",
        "0 refused",
    ];
    let (status, since, last_error) = status_after(&inputs);
    assert_eq!((status.state, status.health), (Connecting, Pending));
    assert_eq!(since, 5);
    assert_eq!(last_error, Some(5), "why the old one went is still told");
}

#[test]
fn a_replacement_that_is_ready_too_was_ready_all_along() {
    let inputs = ["insert 1 a", "0 ready c0", "insert 1 b", "1 ready c1"];
    let (status, since, _) = status_after(&inputs);
    assert_eq!((status.address(), since), ("b", 2));
}

// ── The source ───────────────────────────────────────────────────────────────

#[test]
fn before_the_first_word_of_the_source_it_is_connecting() {
    check("");
}

#[test]
fn a_first_word_that_names_nobody_fails() {
    check(
        "
        remove 1 |  | failing (no backends: the source produced zero addresses)
        ",
    );
}

#[test]
fn an_error_before_the_first_backend_fails() {
    check(
        "
        error NXDOMAIN |         | failing (name resolver error: NXDOMAIN)
        error NXDOMAIN |         |
        insert 1 a     | start 0 | connecting: 1@a connecting
        ",
    );
}

#[test]
fn an_error_keeps_the_backends_and_is_shown_until_the_next_good_word() {
    check_up(
        "
        error timeout |  | READY c0 (name resolver error: timeout): 1@a READY
        insert 1 a    |  | READY c0: 1@a READY
        error timeout |  | READY c0 (name resolver error: timeout): 1@a READY
        remove 2      |  | READY c0: 1@a READY
        ",
    );
}

#[test]
fn an_error_after_the_set_was_emptied_is_the_cause() {
    check_up(
        "
        remove 1   | stop 0 | connecting
        -          |        | failing (no backends: the source produced zero addresses)
        error gone |        | failing (name resolver error: gone)
        end        |        |
        ",
    );
}

#[test]
fn the_end_of_the_source_freezes_the_set() {
    check_up(
        "
        end        |  |
        end        |  |
        0 refused  |  | failing: 1@a failing
        0 ready c0 |  | READY c0: 1@a READY
        ",
    );
}

#[test]
fn a_source_that_ends_without_naming_anybody_fails() {
    check(
        "
        end |  | failing (no backends: the source produced zero addresses and ended)
        end |  |
        ",
    );
}

#[test]
fn a_source_that_ends_after_removing_all_fails() {
    check_up(
        "
        remove 1 | stop 0 | connecting
        -        |        | failing (no backends: the source produced zero addresses)
        end      |        | failing (no backends: the source removed all of them and ended)
        ",
    );
}

// ── ring_hash ────────────────────────────────────────────────────────────────

/// The answer for a call without a key.
fn answer(machine: &mut Machine) -> &'static str {
    struct Call;

    impl PickInfo for Call {
        fn path(&self) -> &str {
            "/s/m"
        }

        fn headers(&mut self) -> &HeaderMap {
            unreachable!("no header is configured")
        }

        fn random(&mut self) -> u64 {
            7
        }
    }

    let choice = machine.choice(Instant::now(), &Arc::new(Cursor::new(0)));
    let (_, picker) = machine.publication().split(0, choice);
    match picker.pick(&mut Call) {
        Pick::Send(mut candidates) => candidates.next().copied().unwrap_or("none"),
        Pick::Wait => "wait",
        Pick::Fail => "fail",
        other => panic!("not of a channel that runs: {other:?}"),
    }
}

// K10
#[test]
fn a_ring_connects_to_all() {
    check(
        "
        ring_hash  |         |
        insert 1 a | start 0 | connecting: 1@a connecting
        insert 2 b | start 1 | connecting: 1@a connecting, 2@b connecting
        0 ready c0 |         | READY c0: 1@a READY, 2@b connecting
        1 ready c1 |         | READY c0 c1: 1@a READY, 2@b READY
        ",
    );
}

// K11
#[test]
fn a_ring_connects_again_without_a_call() {
    check(
        "
        ring_hash    |         |
        insert 1 a   | start 0 | connecting: 1@a connecting
        0 ready c0   |         | READY c0: 1@a READY
        0 connecting |         | connecting: 1@a connecting
        0 ready c1   |         | READY c1: 1@a READY
        ",
    );
}

// K16, K17, K18
#[test]
fn a_ring_with_2_failures_fails_until_one_is_ready() {
    let mut machine = check(
        "
        ring_hash  |         |
        insert 1 a | start 0 | connecting: 1@a connecting
        insert 2 b | start 1 | connecting: 1@a connecting, 2@b connecting
        insert 3 c | start 2 | connecting: 1@a connecting, 2@b connecting, 3@c connecting
        0 refused  |         | connecting: 1@a failing, 2@b connecting, 3@c connecting
        1 refused  |         | failing: 1@a failing, 2@b failing, 3@c connecting
        ",
    );
    assert_eq!(answer(&mut machine), "wait", "it may be READY soon");
    let mut machine = run(
        machine,
        "failing: 1@a failing, 2@b failing, 3@c connecting",
        "
        2 refused    |  | failing: 1@a failing, 2@b failing, 3@c failing
        ",
    );
    assert_eq!(answer(&mut machine), "fail");
    let mut machine = run(
        machine,
        "failing: 1@a failing, 2@b failing, 3@c failing",
        "
        1 ready c1   |  | READY c1: 1@a failing, 2@b READY, 3@c failing
        ",
    );
    assert_eq!(answer(&mut machine), "c1");
}

// ── random_subsetting ────────────────────────────────────────────────────────
//
// By their hashes the endpoints are d, b, c, a.

// Z02
#[test]
fn only_the_members_of_a_subset_run() {
    check(
        "
        subset 2   |                 |
        insert 1 a | start 0         | connecting: 1@a connecting
        insert 2 b | start 1         | connecting: 1@a connecting, 2@b connecting
        insert 3 c | start 2, stop 0 | connecting: 1@a idle, 2@b connecting, 3@c connecting
        1 ready c1 |                 | READY c1: 1@a idle, 2@b READY, 3@c connecting
        insert 4 d | start 4, stop 2 | READY c1: 1@a idle, 2@b READY, 3@c idle, 4@d connecting
        remove 1   |                 | READY c1: 2@b READY, 3@c idle, 4@d connecting
        remove 2   | start 5, stop 1 | connecting: 3@c connecting, 4@d connecting
        remove 3   | stop 5          | connecting: 4@d connecting
        ",
    );
}

// D357
#[test]
fn a_subset_fails_though_others_might_not() {
    check(
        "
        insert 1 a | start 0 | connecting: 1@a connecting
        insert 2 d | start 1 | connecting: 1@a connecting, 2@d connecting
        0 ready c0 |         | READY c0: 1@a READY, 2@d connecting
        1 refused  |         | READY c0: 1@a READY, 2@d failing
        subset 1   | stop 0  | failing: 1@a idle, 2@d failing
        ",
    );
}

// Z18
#[test]
fn a_subset_begins_with_the_connections_there_are() {
    check(
        "
        insert 1 a  | start 0 | connecting: 1@a connecting
        insert 2 b  | start 1 | connecting: 1@a connecting, 2@b connecting
        0 ready c0  |         | READY c0: 1@a READY, 2@b connecting
        1 ready c1  |         | READY c0 c1: 1@a READY, 2@b READY
        subset 2    |         |
        subset 1    | stop 0  | READY c1: 1@a idle, 2@b READY
        subset 2    | start 2 | READY c1: 1@a connecting, 2@b READY
        2 ready c2  |         | READY c2 c1: 1@a READY, 2@b READY
        subset 1    | stop 2  | READY c1: 1@a idle, 2@b READY
        round_robin | start 3 | READY c1: 1@a connecting, 2@b READY
        ",
    );
}

#[test]
fn a_subset_may_be_that_of_pick_first() {
    check(
        "
        subset 2 pick_first |                 |
        insert 1 a          | start 0         | connecting: 1@a connecting
        0 refused           |                 | failing: 1@a failing
        insert 2 b          | start 1         | failing: 1@a failing, 2@b connecting
        1 refused           |                 | failing: 1@a failing, 2@b failing
        insert 3 c          | start 2, stop 0 | failing: 1@a idle, 2@b failing, 3@c connecting
        2 ready c2          | stop 1          | READY c2: 1@a idle, 2@b idle, 3@c READY
        ",
    );
}

// ── IDLE and SHUTDOWN ────────────────────────────────────────────────────────

#[test]
fn lazily_nothing_starts_before_somebody_connects() {
    check_lazy(
        "
        insert 1 a |                  | idle: 1@a idle
        insert 2 b |                  | idle: 1@a idle, 2@b idle
        connect    | start 0, start 1 | connecting: 1@a connecting, 2@b connecting
        connect    |                  |
        ",
    );
}

#[test]
fn lazily_changes_stop_nothing_that_never_started() {
    check_lazy(
        "
        insert 1 a |  | idle: 1@a idle
        insert 1 b |  | idle: 1@b idle
        remove 1   |  | idle
        -          |  | idle (no backends: the source produced zero addresses)
        connect    |  | failing (no backends: the source produced zero addresses)
        ",
    );
}

#[test]
fn lazily_it_is_idle_whatever_the_source_says() {
    check_lazy(
        "
        error x |  | idle (name resolver error: x)
        connect |  | failing (name resolver error: x)
        ",
    );
    check_lazy(
        "
        connect |  | connecting
        ",
    );
}

#[test]
fn connecting_what_is_started_means_nothing() {
    check_up(
        "
        connect |  |
        ",
    );
}

#[test]
fn shutdown_stops_everything_and_is_final() {
    check_up(
        "
        insert 2 b | start 1                | READY c0: 1@a READY, 2@b connecting
        insert 1 c | start 2                |
        shutdown   | stop 0, stop 1, stop 2 | closed
        shutdown   |                        |
        insert 3 d |                        |
        remove 1   |                        |
        1 ready c1 |                        |
        error x    |                        |
        end        |                        |
        connect    |                        |
        ",
    );
    check_lazy(
        "
        insert 1 a |  | idle: 1@a idle
        shutdown   |  | closed
        connect    |  |
        ",
    );
}

// ── One status ───────────────────────────────────────────────────────────────

#[test]
fn since_is_when_the_state_changed() {
    let (_, since, _) = status_after(&["insert 1 a", "0 connecting", "0 connecting"]);
    assert_eq!(since, 1);
    let (_, since, _) = status_after(&["insert 1 a", "0 ready c0", "0 ready c1"]);
    assert_eq!(since, 2);
}

#[test]
fn since_is_when_health_changed_while_the_state_did_not() {
    let (_, since, _) = status_after(&["insert 1 a", "0 refused", "0 unhealthy", "0 unhealthy"]);
    assert_eq!(since, 3);
}

#[test]
fn one_more_failed_attempt_is_shown_and_neither_since_nor_a_new_error() {
    let (status, since, error) = status_after(&["insert 1 a", "0 refused 1", "0 refused 2"]);
    assert_eq!((status.failed_attempts(), since, error), (2, 2, Some(2)));
}

#[test]
fn another_error_takes_the_place_of_the_last() {
    let (status, _, at) = status_after(&["insert 1 a", "0 refused", "0 unhealthy"]);
    assert_eq!(at, Some(3));
    assert_eq!(status.last_error().unwrap().0.text(), "NOT_SERVING");
}

#[test]
fn an_error_stays_after_recovery() {
    let (status, _, at) = status_after(&["insert 1 a", "0 refused", "0 ready c0"]);
    assert_eq!(at, Some(2));
    assert_eq!(status.last_error().unwrap().0, &refused());
}

#[test]
fn the_same_error_after_recovery_is_another() {
    let (_, _, at) = status_after(&["insert 1 a", "0 refused", "0 ready c0", "0 refused"]);
    assert_eq!(at, Some(4));
}

// ── Publication ──────────────────────────────────────────────────────────────

#[test]
fn removal_and_insertion_in_one_batch_never_show_a_failure() {
    let mut machine = check_up("");
    let now = Instant::now();
    let _ = apply(&mut machine, now, parse("remove 1"));
    let _ = apply(&mut machine, now, parse("insert 2 a"));
    assert_eq!(seen(&machine.publication()), "connecting: 2@a connecting");
}

#[test]
fn a_backend_that_did_not_change_is_the_same_arc() {
    let mut machine = check_up(
        "
        insert 2 b | start 1 | READY c0: 1@a READY, 2@b connecting
        ",
    );
    let before = machine.publication();
    let _ = apply(&mut machine, Instant::now(), parse("1 refused"));
    let after = machine.publication();
    assert!(Arc::ptr_eq(&before.backends[0], &after.backends[0]));
    assert!(!Arc::ptr_eq(&before.backends[1], &after.backends[1]));
}

// T04, T06
#[test]
fn pick_first_has_one_connection_and_rests_when_it_is_lost() {
    check(
        "
        pick_first   |                  |
        insert 1 a   | start 0          | connecting: 1@a connecting
        insert 2 b   | start 1          | connecting: 1@a connecting, 2@b connecting
        0 ready c0   | stop 1           | READY c0: 1@a READY, 2@b idle
        insert 3 c   |                  | READY c0: 1@a READY, 2@b idle, 3@c idle
        remove 3     |                  | READY c0: 1@a READY, 2@b idle
        0 connecting | stop 0           | idle: 1@a idle, 2@b idle
        -            |                  |
        connect      | start 4          | connecting: 1@a connecting, 2@b idle
        4 ready c3   |                  | READY c3: 1@a READY, 2@b idle
        ",
    );
}

// D238
#[test]
fn a_backend_that_is_held_back_is_so_for_the_subchannel_after_idle() {
    let now = Instant::now();
    let held_until = now + Duration::from_millis(90);
    let mut machine = Machine::new(true, true);
    for input in ["pick_first", "insert 1 a", "0 ready c0"] {
        let _ = apply(&mut machine, now, parse(input));
    }
    let lost = Report {
        next_attempt: Some(held_until),
        ..report(Connecting, NotChecked, None)
    };
    let effects = apply(&mut machine, now, Input::Report(0, lost, None));
    assert_eq!(done(&effects), "stop 0");
    let effects = apply(&mut machine, now, Input::Connect);
    assert_eq!(effects.start[0].not_before, Some(held_until));

    // Backoff is not kept, as whoever connects wants to know.
    let refused = Report {
        next_attempt: Some(held_until),
        ..parse_report(&["refused"])
    };
    let started = effects.start[0].id.0;
    let _ = apply(&mut machine, now, Input::Report(started, refused, None));
    let _ = apply(&mut machine, now, Input::Idle);
    let effects = apply(&mut machine, now, Input::Connect);
    assert_eq!(effects.start[0].not_before, None);
}

// T05
#[test]
fn pick_first_fails_when_all_have_failed_and_until_one_is_ready() {
    check(
        "
        pick_first |         |
        insert 1 a | start 0 | connecting: 1@a connecting
        insert 2 b | start 1 | connecting: 1@a connecting, 2@b connecting
        0 refused  |         | connecting: 1@a failing, 2@b connecting
        1 refused  |         | failing: 1@a failing, 2@b failing
        insert 3 c | start 2 | failing: 1@a failing, 2@b failing, 3@c connecting
        1 ready c1 | stop 0, stop 2 | READY c1: 1@a idle, 2@b READY, 3@c idle
        ",
    );
}

#[test]
fn pick_first_over_nobody_is_as_round_robin_is() {
    check(
        "
        pick_first |         |
        insert 1 a | start 0 | connecting: 1@a connecting
        remove 1   | stop 0  | connecting
        -          |         | failing (no backends: the source produced zero addresses)
        ",
    );
}

// V18
#[test]
fn pick_first_takes_over_a_connection_and_gives_it_back() {
    check_up(
        "
        insert 2 b  | start 1 | READY c0: 1@a READY, 2@b connecting
        1 ready c1  |         | READY c0 c1: 1@a READY, 2@b READY
        pick_first  | stop 1  | READY c0: 1@a READY, 2@b idle
        pick_first  |         |
        round_robin | start 2 | READY c0: 1@a READY, 2@b connecting
        2 ready c2  |         | READY c0 c2: 1@a READY, 2@b READY
        ",
    );
}

// V18
#[test]
fn pick_first_goes_on_with_the_attempts_there_are() {
    check(
        "
        insert 1 a  | start 0 | connecting: 1@a connecting
        insert 2 b  | start 1 | connecting: 1@a connecting, 2@b connecting
        pick_first  |         |
        round_robin |         |
        pick_first  |         |
        1 ready c1  | stop 0  | READY c1: 1@a idle, 2@b READY
        ",
    );
}

#[test]
fn the_endpoint_of_the_selected_one_changes_make_before_break() {
    check(
        "
        pick_first |         |
        insert 1 a | start 0 | connecting: 1@a connecting
        0 ready c0 |         | READY c0: 1@a READY
        insert 1 b | start 1 |
        1 ready c1 | stop 0  | READY c1: 1@b READY
        ",
    );
}

#[test]
fn the_endpoint_of_one_that_is_not_attempted_changes_silently() {
    check(
        "
        pick_first |        |
        insert 1 a | start 0 | connecting: 1@a connecting
        0 ready c0 |         | READY c0: 1@a READY
        insert 2 b |         | READY c0: 1@a READY, 2@b idle
        insert 2 c |         | READY c0: 1@a READY, 2@c idle
        ",
    );
}

// ── A random walk ────────────────────────────────────────────────────────────

const WALKS: u64 = 50;
const STEPS: usize = 1_000;

#[test]
fn a_random_walk_agrees_with_the_model() {
    for seed in 0..WALKS {
        Walk::new(seed).run();
    }
}

/// What must be, told another way: every backend is a list of subchannels from
/// the oldest to the newest, the first of which is shown.
#[derive(Debug)]
struct Model {
    active: bool,
    configured: bool,
    rejected: Option<Name>,
    heard: bool,
    error: Option<Name>,
    emptied_until: Option<Instant>,
    backends: BTreeMap<u64, Vec<Candidate>>,
}

#[derive(Clone, Debug)]
struct Candidate {
    /// None while nothing is started.
    id: Option<SubchannelId>,
    endpoint: Name,
    state: ConnectivityState,
    health: HealthStatus,
    connection: Option<Name>,
}

impl Model {
    fn insert(&mut self, id: u64, endpoint: Name) {
        self.hear();
        self.emptied_until = None;
        let state = if self.runs() { Connecting } else { Idle };
        let list = self.backends.entry(id).or_default();
        if list.last().is_some_and(|last| last.endpoint == endpoint) {
            return;
        }
        list.truncate(1);
        if list.first().is_some_and(|first| first.endpoint == endpoint) {
            return;
        }
        list.push(Candidate {
            id: None,
            endpoint,
            state,
            health: NotChecked,
            connection: None,
        });
        self.promote(id);
    }

    fn runs(&self) -> bool {
        self.active && self.configured
    }

    fn remove(&mut self, now: Instant, id: u64) {
        self.hear();
        if self.backends.remove(&id).is_some() && self.backends.is_empty() {
            self.emptied_until = Some(now + Duration::from_millis(100));
        }
    }

    fn hear(&mut self) {
        self.heard = true;
        self.error = None;
    }

    fn report(&mut self, from: u64, report: &Report, connection: Option<Name>) {
        if report.state == Shutdown {
            return;
        }
        let mut of = None;
        for (id, list) in &mut self.backends {
            for candidate in list.iter_mut().filter(|c| c.id == Some(SubchannelId(from))) {
                candidate.state = report.state;
                candidate.health = report.health;
                candidate.connection = connection;
                of = Some(*id);
            }
        }
        if let Some(id) = of {
            self.promote(id);
        }
    }

    fn promote(&mut self, id: u64) {
        let list = self.backends.get_mut(&id).expect("a known backend");
        while let [old, new, ..] = &list[..] {
            if old.state == Ready && matches!(new.state, Connecting | Idle) {
                return;
            }
            list.remove(0);
        }
    }

    fn connect(&mut self) {
        self.active = true;
        self.start();
    }

    fn configure(&mut self) {
        self.configured = true;
        self.rejected = None;
        self.start();
    }

    fn reject(&mut self, why: Name) {
        if !self.configured {
            self.rejected = Some(why);
        }
    }

    /// Of every backend, its newest endpoint is kept.
    fn idle(&mut self) {
        if !self.active {
            return;
        }
        self.active = false;
        for list in self.backends.values_mut() {
            let newest = list.pop().expect("a backend has an endpoint");
            *list = vec![Candidate {
                id: None,
                state: Idle,
                health: NotChecked,
                connection: None,
                ..newest
            }];
        }
    }

    fn start(&mut self) {
        if !self.runs() {
            return;
        }
        for candidate in self
            .backends
            .values_mut()
            .flatten()
            .filter(|c| c.id.is_none())
        {
            candidate.state = Connecting;
        }
    }

    fn state(&self, now: Instant) -> ConnectivityState {
        let shown = |state| self.backends.values().any(|list| list[0].state == state);
        match self.active {
            false => Idle,
            true if self.rejected.is_some() => TransientFailure,
            true if !self.configured => Connecting,
            true if self.emptied_until.is_some_and(|until| now < until) => Connecting,
            true if self.backends.is_empty() && !self.heard && self.error.is_none() => Connecting,
            true if shown(Ready) => Ready,
            true if shown(Connecting) => Connecting,
            true if shown(Idle) => Idle,
            true => TransientFailure,
        }
    }

    fn alive(&self) -> BTreeSet<SubchannelId> {
        self.backends
            .values()
            .flatten()
            .filter_map(|candidate| candidate.id)
            .collect()
    }
}

struct Walk {
    seed: u64,
    rng: fastrand::Rng,
    now: Instant,
    machine: Machine,
    model: Model,
    started: BTreeSet<SubchannelId>,
    stopped: BTreeSet<SubchannelId>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let active = !seed.is_multiple_of(5);
        let configured = !seed.is_multiple_of(3);
        Self {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            now: Instant::now(),
            machine: Machine::new(active, configured),
            model: Model {
                active,
                configured,
                rejected: None,
                heard: false,
                error: None,
                emptied_until: None,
                backends: BTreeMap::new(),
            },
            started: BTreeSet::new(),
            stopped: BTreeSet::new(),
        }
    }

    fn run(mut self) {
        let mut before = self.machine.publication();
        for step in 0..STEPS {
            let input = self.input();
            let at = format!("seed {}, step {step}, {input:?}", self.seed);
            before = self.step(input, before, &at);
        }
        let effects = self.machine.on_shutdown();
        self.account(&effects, "at shutdown");
        assert_eq!(
            self.started, self.stopped,
            "seed {}, after shutdown",
            self.seed
        );
    }

    fn step(&mut self, input: Input, before: Publication<Name>, at: &str) -> Publication<Name> {
        self.now += Duration::from_millis(self.rng.u64(0..2_000));
        self.tell_model(&input);
        let effects = apply(&mut self.machine, self.now, input);
        self.account(&effects, at);
        let after = self.machine.publication();
        self.compare_with_model(&after, at);
        self.compare_with_before(&before, &after, effects.changed, at);
        after
    }

    /// Mostly a report of one that runs, now and then of one that does not.
    fn input(&mut self) -> Input {
        let endpoint = ["a", "b", "c"][self.rng.usize(..3)];
        let error = ["e", "f"][self.rng.usize(..2)];
        match self.rng.u8(..100) {
            0..20 => Input::Insert(self.rng.u64(..8), endpoint),
            20..30 => Input::Remove(self.rng.u64(..8)),
            30..33 => Input::SourceError(error),
            33 => Input::SourceEnd,
            34..37 => Input::Connect,
            37 => Input::Idle,
            38 if self.rng.u8(..8) == 0 => Input::Config,
            38 => Input::Reject(error),
            _ => self.report(),
        }
    }

    fn report(&mut self) -> Input {
        let alive: Vec<_> = self.model.alive().into_iter().collect();
        let from = match self.rng.choice(&alive) {
            Some(id) if self.rng.u8(..10) != 0 => id.0,
            _ => self.rng.u64(..self.started.len() as u64 + 5),
        };
        let states = [Idle, Connecting, Ready, Ready, TransientFailure, Shutdown];
        let state = states[self.rng.usize(..states.len())];
        let connection = ["c", "d"][self.rng.usize(..2)];
        let text = ["x", "y"][self.rng.usize(..2)];
        let report = Report {
            state,
            health: [NotChecked, Pending][self.rng.usize(..2)],
            cause: (state == TransientFailure).then(|| Cause::new(CauseKind::Connect, text)),
            attempt: self.rng.u32(..3),
            next_attempt: None,
            connections: self.rng.usize(..3),
        };
        Input::Report(from, report, (state == Ready).then_some(connection))
    }

    fn tell_model(&mut self, input: &Input) {
        match input {
            Input::Insert(id, endpoint) => self.model.insert(*id, endpoint),
            Input::Remove(id) => self.model.remove(self.now, *id),
            Input::Report(from, report, connection) => {
                self.model.report(*from, report, *connection);
            }
            Input::SourceError(error) => self.model.error = Some(error),
            Input::SourceEnd => {
                self.model.heard = true;
                self.model.emptied_until = None;
            }
            Input::Config => self.model.configure(),
            Input::Reject(why) => self.model.reject(why),
            Input::Connect => self.model.connect(),
            Input::Idle => self.model.idle(),
            Input::PickFirst | Input::RoundRobin | Input::Policy(_) | Input::Nothing => {
                unreachable!("the walk is about round_robin")
            }
            Input::Close => unreachable!("comes after the walk"),
        }
    }

    /// Every subchannel is started once and stopped at most once, after that.
    fn account(&mut self, effects: &Effects<Name>, at: &str) {
        for start in &effects.start {
            assert!(
                self.started.insert(start.id),
                "{at}: {:?} starts twice",
                start.id
            );
            let list = self.model.backends.get_mut(&start.backend.0).expect(at);
            let new = list
                .iter_mut()
                .find(|candidate| candidate.id.is_none())
                .expect(at);
            assert_eq!(new.endpoint, start.endpoint, "{at}");
            new.id = Some(start.id);
        }
        for id in &effects.stop {
            assert!(self.started.contains(id), "{at}: {id:?} was never started");
            assert!(self.stopped.insert(*id), "{at}: {id:?} stops twice");
        }
    }

    fn compare_with_model(&self, seen: &Publication<Name>, at: &str) {
        assert_eq!(seen.state, self.model.state(self.now), "{at}");
        let error = seen
            .cause
            .as_ref()
            .filter(|c| c.kind() != CauseKind::NoBackends);
        let expected = self.model.rejected.or(self.model.error);
        assert_eq!(error.map(Cause::text), expected, "{at}");
        let shown = || self.model.backends.iter().map(|(id, list)| (*id, &list[0]));
        let expected: Vec<_> = shown()
            .map(|(id, c)| (id, c.endpoint, c.state, c.health))
            .collect();
        let backends: Vec<_> = seen
            .backends
            .iter()
            .map(|b| (b.id.0, b.address(), b.state, b.health))
            .collect();
        assert_eq!(backends, expected, "{at}");
        let ready: Vec<_> = shown().filter_map(|(_, c)| c.connection).collect();
        assert_eq!(seen.ready, ready, "{at}");
        let running: BTreeSet<_> = self.started.difference(&self.stopped).copied().collect();
        assert_eq!(running, self.model.alive(), "{at}: what is to be running");
    }

    /// `changed` says exactly whether anything is different; what is not, is the
    /// same `Arc`; and `since` is now exactly if state or health is different.
    fn compare_with_before(
        &self,
        before: &Publication<Name>,
        after: &Publication<Name>,
        changed: bool,
        at: &str,
    ) {
        let same = before.state == after.state
            && before.cause == after.cause
            && before.backends == after.backends
            && before.ready == after.ready;
        assert_eq!(changed, !same, "{at}: from {before:?} to {after:?}");
        for new in after.backends.iter() {
            let Some(old) = before.backends.iter().find(|old| old.id == new.id) else {
                continue;
            };
            assert_eq!(Arc::ptr_eq(old, new), old == new, "{at}");
            let goes_on = (old.state, old.health) == (new.state, new.health);
            let since = if goes_on { old.since } else { self.now };
            assert_eq!(new.since, since, "{at}");
        }
    }
}
