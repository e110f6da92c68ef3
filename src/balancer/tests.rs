//! Scripts for the balancer's rules, one fact each, and a random walk beside a
//! model. A row of a script is an input, what it has the task do, and what is
//! seen afterwards; rows are a second apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Balancer, Effects, Publication, SubchannelId};
use crate::{
    connectivity::ConnectivityState::{self, *},
    error::{Cause, CauseKind},
    health::HealthStatus,
    picker::{Cursor, Pick},
    snapshot::{BackendId, BackendStatus},
    subchannel::Report,
};

type Machine = Balancer<&'static str, &'static str>;

#[derive(Clone, Debug)]
enum Input {
    Insert(u64, &'static str),
    Remove(u64),
    Report(u64, Report, Option<&'static str>),
    SourceError(&'static str),
    SourceEnd,
    Connect,
    Shutdown,
}

use Input::{Connect, Insert, Remove, Shutdown as Close, SourceEnd, SourceError};

fn report(id: u64, state: ConnectivityState, cause: Option<Cause>) -> Input {
    let report = Report {
        state,
        health: HealthStatus::NotChecked,
        cause,
        attempt: 0,
        next_attempt: None,
    };
    Input::Report(id, report, None)
}

fn ready(id: u64, connection: &'static str) -> Input {
    match report(id, Ready, None) {
        Input::Report(id, report, _) => Input::Report(id, report, Some(connection)),
        other => other,
    }
}

fn connecting(id: u64) -> Input {
    report(id, Connecting, None)
}

fn idle(id: u64) -> Input {
    report(id, Idle, None)
}

fn refused() -> Cause {
    Cause::new(CauseKind::Connect, "refused")
}

fn failed(id: u64) -> Input {
    report(id, TransientFailure, Some(refused()))
}

fn unhealthy(id: u64) -> Input {
    let cause = Cause::new(CauseKind::Health, "NOT_SERVING");
    let mut input = report(id, TransientFailure, Some(cause));
    if let Input::Report(_, report, _) = &mut input {
        report.health = HealthStatus::NotServing;
    }
    input
}

fn apply(machine: &mut Machine, now: Instant, input: Input) -> Effects<&'static str> {
    match input {
        Insert(id, endpoint) => machine.on_insert(
            now,
            BackendId(id),
            format!("backend {id}").into(),
            endpoint.into(),
            endpoint,
        ),
        Remove(id) => machine.on_remove(BackendId(id)),
        Input::Report(id, report, connection) => {
            machine.on_report(now, SubchannelId(id), report, connection)
        }
        SourceError(text) => machine.on_discovery_error(text),
        SourceEnd => machine.on_discovery_end(),
        Connect => machine.on_connect(now),
        Close => machine.on_shutdown(),
    }
}

/// `start 1, stop 0`
fn done(effects: &Effects<&'static str>) -> String {
    let starts = effects
        .start
        .iter()
        .map(|start| format!("start {}", start.id.0));
    let stops = effects.stop.iter().map(|id| format!("stop {}", id.0));
    starts.chain(stops).collect::<Vec<_>>().join(", ")
}

/// `READY c0: 1@a READY, 2@b CONNECTING`: the state, the connections calls go
/// to, the cause if any in parentheses, and every backend.
fn seen(publication: &Publication<&'static str>) -> String {
    let mut text = short(publication.state).to_owned();
    for connection in &publication.ready {
        let _ = write!(text, " {connection}");
    }
    if let Some(cause) = &publication.cause {
        let _ = write!(text, " ({cause})");
    }
    let mut separator = ": ";
    for backend in publication.backends.iter() {
        let state = short(backend.state);
        let _ = write!(
            text,
            "{separator}{}@{} {state}",
            backend.id.0, backend.address
        );
        separator = ", ";
    }
    text
}

fn short(state: ConnectivityState) -> &'static str {
    match state {
        Idle => "idle",
        Connecting => "connecting",
        Ready => "READY",
        TransientFailure => "failing",
        Shutdown => "closed",
    }
}

/// An input, what is started and stopped, and what is then seen: `""` if it is
/// the same as before and needs no publication.
type Row = (Input, &'static str, &'static str);

#[track_caller]
fn check(rows: &[Row]) -> Machine {
    run(Balancer::new(true), "connecting", rows)
}

#[track_caller]
fn check_lazy(rows: &[Row]) -> Machine {
    run(Balancer::new(false), "idle", rows)
}

#[track_caller]
fn run(mut machine: Machine, before: &str, rows: &[Row]) -> Machine {
    let start = Instant::now();
    let mut shown = before.to_owned();
    assert_eq!(seen(&machine.publication()), shown, "before the first row");
    for (second, (input, does, shows)) in (1..).zip(rows) {
        let now = start + Duration::from_secs(second);
        let effects = apply(&mut machine, now, input.clone());
        let row = format!("row {second}, {input:?}");
        assert_eq!(done(&effects), *does, "what {row} has done");
        assert_eq!(
            effects.changed,
            !shows.is_empty(),
            "whether {row} changes anything"
        );
        if effects.changed {
            shown = (*shows).to_owned();
        }
        assert_eq!(
            seen(&machine.publication()),
            shown,
            "what is seen after {row}"
        );
    }
    machine
}

/// The status of the only backend, and the second in which each of `since` and
/// the last error stands.
#[track_caller]
fn status_after(inputs: &[Input]) -> (Arc<BackendStatus>, u64, Option<u64>) {
    let mut machine = Machine::new(true);
    let start = Instant::now();
    for (second, input) in (1..).zip(inputs) {
        let _ = apply(
            &mut machine,
            start + Duration::from_secs(second),
            input.clone(),
        );
    }
    let status = Arc::clone(&machine.publication().backends[0]);
    let since = (status.since - start).as_secs();
    let last_error = status.last_error().map(|(_, at)| (at - start).as_secs());
    (status, since, last_error)
}

#[test]
fn a_named_backend_is_connected_and_picked_once_ready() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (ready(0, "c0"), "", "READY c0: 1@a READY"),
    ]);
}

#[test]
fn naming_a_backend_again_means_nothing() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (Insert(1, "a"), "", ""),
        (ready(0, "c0"), "", "READY c0: 1@a READY"),
        (Insert(1, "a"), "", ""),
    ]);
}

#[test]
fn removing_an_unknown_backend_means_nothing_later() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (Remove(2), "", ""),
    ]);
}

// R03, R16
#[test]
fn an_emptied_set_fails_with_no_backends() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (ready(0, "c0"), "", "READY c0: 1@a READY"),
        (Remove(1), "stop 0", "failing (no backends)"),
        (Insert(2, "b"), "start 1", "connecting: 2@b connecting"),
    ]);
}

#[test]
fn a_key_named_again_after_removal_is_a_new_backend_at_the_end() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (
            Insert(2, "b"),
            "start 1",
            "connecting: 1@a connecting, 2@b connecting",
        ),
        (Remove(1), "stop 0", "connecting: 2@b connecting"),
        (
            Insert(3, "a"),
            "start 2",
            "connecting: 2@b connecting, 3@a connecting",
        ),
    ]);
}

// R05
#[test]
fn one_backend_down_leaves_the_others() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (
            Insert(2, "b"),
            "start 1",
            "connecting: 1@a connecting, 2@b connecting",
        ),
        (ready(0, "c0"), "", "READY c0: 1@a READY, 2@b connecting"),
        (ready(1, "c1"), "", "READY c0 c1: 1@a READY, 2@b READY"),
        (failed(0), "", "READY c1: 1@a failing, 2@b READY"),
    ]);
}

// R06
#[test]
fn all_backends_down_is_transient_failure() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (
            Insert(2, "b"),
            "start 1",
            "connecting: 1@a connecting, 2@b connecting",
        ),
        (failed(0), "", "connecting: 1@a failing, 2@b connecting"),
        (failed(1), "", "failing: 1@a failing, 2@b failing"),
    ]);
}

// R08
#[test]
fn ready_wins_then_connecting_then_idle() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (
            Insert(2, "b"),
            "start 1",
            "connecting: 1@a connecting, 2@b connecting",
        ),
        (failed(0), "", "connecting: 1@a failing, 2@b connecting"),
        (idle(1), "", "idle: 1@a failing, 2@b idle"),
        (ready(1, "c1"), "", "READY c1: 1@a failing, 2@b READY"),
    ]);
}

// R08
#[test]
fn shutdown_of_a_subchannel_does_not_count() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (report(0, Shutdown, None), "", ""),
    ]);
}

// R14
#[test]
fn picks_go_round_in_the_order_of_the_source() {
    let machine = check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (
            Insert(2, "b"),
            "start 1",
            "connecting: 1@a connecting, 2@b connecting",
        ),
        (ready(1, "c1"), "", "READY c1: 1@a connecting, 2@b READY"),
        (ready(0, "c0"), "", "READY c0 c1: 1@a READY, 2@b READY"),
    ]);
    let (status, picker) = machine.publication().split(7, &Arc::new(Cursor::new(0)));
    assert_eq!((status.generation(), status.state()), (7, Ready));
    let picks = [(); 3].map(|()| match picker.pick() {
        Pick::Send(mut candidates) => candidates.next().copied(),
        _ => None,
    });
    assert_eq!(picks, [Some("c0"), Some("c1"), Some("c0")]);
}

// R16
#[test]
fn updates_are_followed_at_once() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (ready(0, "c0"), "", "READY c0: 1@a READY"),
        (
            Insert(2, "b"),
            "start 1",
            "READY c0: 1@a READY, 2@b connecting",
        ),
        (Remove(1), "stop 0", "connecting: 2@b connecting"),
        (ready(1, "c1"), "", "READY c1: 2@b READY"),
        (Remove(2), "stop 1", "failing (no backends)"),
        (Insert(3, "b"), "start 2", "connecting: 3@b connecting"),
        (ready(2, "c2"), "", "READY c2: 3@b READY"),
    ]);
}

// R17
#[test]
fn an_address_where_nobody_listens_harms_nobody_else() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (ready(0, "c0"), "", "READY c0: 1@a READY"),
        (
            Insert(2, "nobody"),
            "start 1",
            "READY c0: 1@a READY, 2@nobody connecting",
        ),
        (failed(1), "", "READY c0: 1@a READY, 2@nobody failing"),
    ]);
}

// R35
#[test]
fn a_report_is_about_its_own_backend_only() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (
            Insert(2, "b"),
            "start 1",
            "connecting: 1@a connecting, 2@b connecting",
        ),
        (ready(1, "c1"), "", "READY c1: 1@a connecting, 2@b READY"),
        (
            connecting(1),
            "",
            "connecting: 1@a connecting, 2@b connecting",
        ),
        (ready(0, "c0"), "", "READY c0: 1@a READY, 2@b connecting"),
    ]);
}

// R36
#[test]
fn a_connected_but_unhealthy_backend_is_not_picked() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (ready(0, "c0"), "", "READY c0: 1@a READY"),
        (unhealthy(0), "", "failing: 1@a failing"),
        (ready(0, "c0"), "", "READY c0: 1@a READY"),
    ]);
}

#[test]
fn another_connection_is_a_change_though_the_status_is_the_same() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (ready(0, "c0"), "", "READY c0: 1@a READY"),
        (ready(0, "c0"), "", ""),
        (ready(0, "c0 again"), "", "READY c0 again: 1@a READY"),
    ]);
}

#[test]
fn the_same_report_again_changes_nothing() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (connecting(0), "", ""),
        (failed(0), "", "failing: 1@a failing"),
        (failed(0), "", ""),
    ]);
}

#[test]
fn a_subchannel_that_was_stopped_is_not_heard() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (Remove(1), "stop 0", "failing (no backends)"),
        (ready(0, "c0"), "", ""),
        (ready(99, "c99"), "", ""),
    ]);
}

// ── Replacement ──────────────────────────────────────────────────────────────

/// A script that begins with backend 1 READY at `a` on subchannel 0.
#[track_caller]
fn check_up(rows: &[Row]) -> Machine {
    let mut all = vec![
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (ready(0, "c0"), "", "READY c0: 1@a READY"),
    ];
    all.extend_from_slice(rows);
    check(&all)
}

#[test]
fn a_changed_endpoint_takes_over_when_ready() {
    check_up(&[
        (Insert(1, "b"), "start 1", ""),
        (connecting(1), "", ""),
        (ready(1, "c1"), "stop 0", "READY c1: 1@b READY"),
    ]);
}

#[test]
fn a_changed_endpoint_takes_over_when_it_has_failed() {
    check_up(&[
        (Insert(1, "b"), "start 1", ""),
        (failed(1), "stop 0", "failing: 1@b failing"),
    ]);
}

#[test]
fn a_changed_endpoint_takes_over_when_the_old_one_leaves_ready() {
    check_up(&[
        (Insert(1, "b"), "start 1", ""),
        (failed(0), "stop 0", "connecting: 1@b connecting"),
        (ready(1, "c1"), "", "READY c1: 1@b READY"),
    ]);
}

#[test]
fn a_changed_endpoint_takes_over_at_once_from_one_that_is_not_ready() {
    check(&[
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
        (
            Insert(1, "b"),
            "start 1, stop 0",
            "connecting: 1@b connecting",
        ),
        (failed(1), "", "failing: 1@b failing"),
        (
            Insert(1, "c"),
            "start 2, stop 1",
            "connecting: 1@c connecting",
        ),
    ]);
}

#[test]
fn the_old_connection_may_change_while_its_replacement_is_pending() {
    check_up(&[
        (Insert(1, "b"), "start 1", ""),
        (ready(0, "c0 again"), "", "READY c0 again: 1@a READY"),
        (ready(1, "c1"), "stop 0", "READY c1: 1@b READY"),
    ]);
}

#[test]
fn a_third_endpoint_replaces_the_pending_one() {
    check_up(&[
        (Insert(1, "b"), "start 1", ""),
        (Insert(1, "c"), "start 2, stop 1", ""),
        (ready(1, "c1"), "", ""),
        (ready(2, "c2"), "stop 0", "READY c2: 1@c READY"),
    ]);
}

#[test]
fn naming_the_pending_endpoint_again_means_nothing() {
    check_up(&[
        (Insert(1, "b"), "start 1", ""),
        (Insert(1, "b"), "", ""),
        (ready(1, "c1"), "stop 0", "READY c1: 1@b READY"),
    ]);
}

#[test]
fn naming_the_old_endpoint_again_calls_the_replacement_off() {
    check_up(&[
        (Insert(1, "b"), "start 1", ""),
        (Insert(1, "a"), "stop 1", ""),
        (ready(1, "c1"), "", ""),
    ]);
}

#[test]
fn removal_stops_the_pending_one_too() {
    check_up(&[
        (Insert(1, "b"), "start 1", ""),
        (Remove(1), "stop 0, stop 1", "failing (no backends)"),
    ]);
}

#[test]
fn the_old_one_is_not_heard_after_promotion() {
    check_up(&[
        (Insert(1, "b"), "start 1", ""),
        (ready(1, "c1"), "stop 0", "READY c1: 1@b READY"),
        (failed(0), "", ""),
        (ready(0, "c0"), "", ""),
    ]);
}

#[test]
fn promotion_shows_what_the_pending_one_said_last() {
    let Input::Report(_, mut asked, _) = connecting(1) else {
        unreachable!("a report")
    };
    asked.health = HealthStatus::Pending;
    let asked = Input::Report(1, asked, None);
    let inputs = [
        Insert(1, "a"),
        ready(0, "c0"),
        Insert(1, "b"),
        asked,
        failed(0),
    ];
    let (status, since, last_error) = status_after(&inputs);
    assert_eq!(
        (status.state, status.health),
        (Connecting, HealthStatus::Pending)
    );
    assert_eq!(since, 5);
    assert_eq!(last_error, Some(5), "why the old one went is still told");
}

#[test]
fn a_replacement_that_is_ready_too_was_ready_all_along() {
    let inputs = [
        Insert(1, "a"),
        ready(0, "c0"),
        Insert(1, "b"),
        ready(1, "c1"),
    ];
    let (status, since, _) = status_after(&inputs);
    assert_eq!((status.address(), since), ("b", 2));
}

// ── The source ───────────────────────────────────────────────────────────────

#[test]
fn before_the_first_word_of_the_source_it_is_connecting() {
    check(&[]);
}

#[test]
fn a_first_word_that_names_nobody_fails() {
    check(&[(Remove(1), "", "failing (no backends)")]);
}

#[test]
fn an_error_before_the_first_backend_fails() {
    let error = "failing (name resolver error: no such host)";
    check(&[
        (SourceError("no such host"), "", error),
        (SourceError("no such host"), "", ""),
        (Insert(1, "a"), "start 0", "connecting: 1@a connecting"),
    ]);
}

#[test]
fn an_error_keeps_the_backends_and_is_shown_until_the_next_good_word() {
    let error = "READY c0 (name resolver error: timed out): 1@a READY";
    check_up(&[
        (SourceError("timed out"), "", error),
        (Insert(1, "a"), "", "READY c0: 1@a READY"),
        (SourceError("timed out"), "", error),
        (Remove(2), "", "READY c0: 1@a READY"),
    ]);
}

#[test]
fn an_error_after_the_set_was_emptied_is_the_cause() {
    check_up(&[
        (Remove(1), "stop 0", "failing (no backends)"),
        (
            SourceError("gone"),
            "",
            "failing (name resolver error: gone)",
        ),
        (SourceEnd, "", ""),
    ]);
}

#[test]
fn the_end_of_the_source_freezes_the_set() {
    check_up(&[
        (SourceEnd, "", ""),
        (SourceEnd, "", ""),
        (failed(0), "", "failing: 1@a failing"),
        (ready(0, "c0"), "", "READY c0: 1@a READY"),
    ]);
}

#[test]
fn a_source_that_ends_without_naming_anybody_fails() {
    let ended = "failing (no backends: the source ended without naming one)";
    check(&[(SourceEnd, "", ended), (SourceEnd, "", "")]);
}

#[test]
fn a_source_that_ends_after_removing_all_fails() {
    let ended = "failing (no backends: the source removed them all and ended)";
    check_up(&[
        (Remove(1), "stop 0", "failing (no backends)"),
        (SourceEnd, "", ended),
    ]);
}

// ── IDLE and SHUTDOWN ────────────────────────────────────────────────────────

#[test]
fn lazily_nothing_starts_before_somebody_connects() {
    let both = "connecting: 1@a connecting, 2@b connecting";
    check_lazy(&[
        (Insert(1, "a"), "", "idle: 1@a idle"),
        (Insert(2, "b"), "", "idle: 1@a idle, 2@b idle"),
        (Connect, "start 0, start 1", both),
        (Connect, "", ""),
    ]);
}

#[test]
fn lazily_changes_stop_nothing_that_never_started() {
    check_lazy(&[
        (Insert(1, "a"), "", "idle: 1@a idle"),
        (Insert(1, "b"), "", "idle: 1@b idle"),
        (Remove(1), "", "idle (no backends)"),
        (Connect, "", "failing (no backends)"),
    ]);
}

#[test]
fn lazily_it_is_idle_whatever_the_source_says() {
    check_lazy(&[
        (SourceError("x"), "", "idle (name resolver error: x)"),
        (Connect, "", "failing (name resolver error: x)"),
    ]);
    check_lazy(&[(Connect, "", "connecting")]);
}

#[test]
fn connecting_what_is_started_means_nothing() {
    check_up(&[(Connect, "", "")]);
}

#[test]
fn shutdown_stops_everything_and_is_final() {
    check_up(&[
        (
            Insert(2, "b"),
            "start 1",
            "READY c0: 1@a READY, 2@b connecting",
        ),
        (Insert(1, "c"), "start 2", ""),
        (Close, "stop 0, stop 1, stop 2", "closed"),
        (Close, "", ""),
        (Insert(3, "d"), "", ""),
        (Remove(1), "", ""),
        (ready(1, "c1"), "", ""),
        (SourceError("x"), "", ""),
        (SourceEnd, "", ""),
        (Connect, "", ""),
    ]);
    check_lazy(&[
        (Insert(1, "a"), "", "idle: 1@a idle"),
        (Close, "", "closed"),
        (Connect, "", ""),
    ]);
}

// ── One status ───────────────────────────────────────────────────────────────

#[test]
fn since_is_when_state_or_health_changed() {
    let start = [Insert(1, "a"), connecting(0), connecting(0)];
    assert_eq!(status_after(&start).1, 1);
    let up = [
        Insert(1, "a"),
        connecting(0),
        ready(0, "c0"),
        ready(0, "c1"),
    ];
    assert_eq!(status_after(&up).1, 3);
    let sick = [Insert(1, "a"), failed(0), unhealthy(0), unhealthy(0)];
    assert_eq!(
        status_after(&sick).1,
        3,
        "health changed, the state did not"
    );
}

#[test]
fn an_attempt_counted_leaves_since_alone_but_is_shown() {
    let mut second = failed(0);
    if let Input::Report(_, report, _) = &mut second {
        report.attempt = 2;
    }
    let (status, since, last_error) = status_after(&[Insert(1, "a"), failed(0), second]);
    assert_eq!(
        (status.failed_attempts(), since, last_error),
        (2, 2, Some(2))
    );
}

#[test]
fn an_error_is_noticed_once() {
    let inputs = [Insert(1, "a"), failed(0), failed(0), failed(0)];
    assert_eq!(status_after(&inputs).2, Some(2));
}

#[test]
fn another_error_takes_its_place() {
    let inputs = [Insert(1, "a"), failed(0), unhealthy(0)];
    let (status, _, at) = status_after(&inputs);
    assert_eq!(at, Some(3));
    assert_eq!(status.last_error().unwrap().0.text(), "NOT_SERVING");
}

#[test]
fn an_error_stays_after_recovery_and_counts_anew_after_it() {
    let mut inputs = vec![Insert(1, "a"), failed(0), ready(0, "c0")];
    let (status, _, at) = status_after(&inputs);
    assert_eq!(at, Some(2));
    assert_eq!(status.last_error().unwrap().0, &refused());
    inputs.push(failed(0));
    assert_eq!(status_after(&inputs).2, Some(4));
}

// ── Publication ──────────────────────────────────────────────────────────────

#[test]
fn removal_and_insertion_in_one_batch_never_show_a_failure() {
    let mut machine = check_up(&[]);
    let now = Instant::now();
    let _ = apply(&mut machine, now, Remove(1));
    let _ = apply(&mut machine, now, Insert(2, "a"));
    assert_eq!(seen(&machine.publication()), "connecting: 2@a connecting");
}

#[test]
fn a_backend_that_did_not_change_is_the_same_arc() {
    let mut machine = check_up(&[(
        Insert(2, "b"),
        "start 1",
        "READY c0: 1@a READY, 2@b connecting",
    )]);
    let before = machine.publication();
    let _ = apply(&mut machine, Instant::now(), failed(1));
    let after = machine.publication();
    assert!(Arc::ptr_eq(&before.backends[0], &after.backends[0]));
    assert!(!Arc::ptr_eq(&before.backends[1], &after.backends[1]));
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
    heard: bool,
    error: Option<&'static str>,
    backends: BTreeMap<u64, Vec<Candidate>>,
}

#[derive(Clone, Debug)]
struct Candidate {
    /// None while nothing is started.
    id: Option<SubchannelId>,
    endpoint: &'static str,
    state: ConnectivityState,
    health: HealthStatus,
    connection: Option<&'static str>,
}

impl Model {
    fn insert(&mut self, id: u64, endpoint: &'static str) {
        self.hear();
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
            state: if self.active { Connecting } else { Idle },
            health: HealthStatus::NotChecked,
            connection: None,
        });
        self.promote(id);
    }

    fn remove(&mut self, id: u64) {
        self.hear();
        self.backends.remove(&id);
    }

    fn hear(&mut self) {
        self.heard = true;
        self.error = None;
    }

    fn report(&mut self, from: u64, report: &Report, connection: Option<&'static str>) {
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
        for candidate in self
            .backends
            .values_mut()
            .flatten()
            .filter(|c| c.id.is_none())
        {
            candidate.state = Connecting;
        }
    }

    fn state(&self) -> ConnectivityState {
        let shown = |state| self.backends.values().any(|list| list[0].state == state);
        match self.active {
            false => Idle,
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
        let active = seed % 5 != 0;
        Self {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            now: Instant::now(),
            machine: Machine::new(active),
            model: Model {
                active,
                heard: false,
                error: None,
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

    fn step(
        &mut self,
        input: Input,
        before: Publication<&'static str>,
        at: &str,
    ) -> Publication<&'static str> {
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
            0..20 => Insert(self.rng.u64(..8), endpoint),
            20..30 => Remove(self.rng.u64(..8)),
            30..33 => SourceError(error),
            33 => SourceEnd,
            34..37 => Connect,
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
            health: [HealthStatus::NotChecked, HealthStatus::Pending][self.rng.usize(..2)],
            cause: (state == TransientFailure).then(|| Cause::new(CauseKind::Connect, text)),
            attempt: self.rng.u32(..3),
            next_attempt: None,
        };
        Input::Report(from, report, (state == Ready).then_some(connection))
    }

    fn tell_model(&mut self, input: &Input) {
        match input {
            Insert(id, endpoint) => self.model.insert(*id, endpoint),
            Remove(id) => self.model.remove(*id),
            Input::Report(from, report, connection) => {
                self.model.report(*from, report, *connection);
            }
            SourceError(error) => self.model.error = Some(error),
            SourceEnd => self.model.heard = true,
            Connect => self.model.connect(),
            Close => unreachable!("comes after the walk"),
        }
    }

    /// Every subchannel is started once and stopped at most once, after that.
    fn account(&mut self, effects: &Effects<&'static str>, at: &str) {
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

    fn compare_with_model(&self, seen: &Publication<&'static str>, at: &str) {
        assert_eq!(seen.state, self.model.state(), "{at}");
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
        before: &Publication<&'static str>,
        after: &Publication<&'static str>,
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
