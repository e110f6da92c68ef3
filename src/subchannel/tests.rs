//! The rules as scripts, then a random walk beside a model that knows only
//! what came in and went out.

use std::{
    fmt::Write,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::machine::{Config, Control, Effects, HealthCheck, Subchannel};
use crate::{
    connectivity::ConnectivityState::{self, *},
    error::{Cause, CauseKind},
    health::{Action, EndKind, Ended, HealthOptions, HealthStatus, OnUnimplemented, Rpc},
    util::backoff::BackoffConfig,
};

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

#[derive(Clone, Copy, Debug)]
enum Input<'a> {
    Start,
    Connected,
    DialFailed(&'a str),
    Disconnected,
    Replaced,
    ExtraJoined,
    ExtraFailed,
    ExtraLost,
    Response(i32),
    Ended(EndKind),
    Checked(i32),
    Deadline,
    Ask(&'a str),
    AskNothing,
    Disable,
    ResetBackoff,
    Hurry,
    Rest(bool),
}
use Input::*;

/// Delays that a script can name.
fn backoff() -> BackoffConfig {
    let [initial, max] = [1, 120].map(Duration::from_secs);
    BackoffConfig::default()
        .initial(initial)
        .and_then(|backoff| backoff.jitter(0.0))
        .expect("valid")
        .max(max)
}

fn without_health() -> (Config, Control) {
    let config = Config {
        backoff: backoff(),
        health: Arc::new(HealthOptions::default().backoff(backoff())),
        connections: NonZeroUsize::MIN,
        seed: 1,
    };
    let control = Control {
        health: HealthCheck::Off,
        backoff_resets: 7,
        hurries: 0,
        rests_when_lost: false,
    };
    (config, control)
}

fn with_health() -> (Config, Control) {
    let (config, control) = without_health();
    let health = HealthCheck::Of("A".into());
    (config, Control { health, ..control })
}

/// With so many connections for calls.
fn with(connections: usize, (config, control): (Config, Control)) -> (Config, Control) {
    let connections = NonZeroUsize::new(connections).expect("at least one");
    (
        Config {
            connections,
            ..config
        },
        control,
    )
}

/// Plays a script of lines `milliseconds input | what follows` behind the first dial and compares
/// what the machine does and reports after each input: `drop`, `dial`, `dial extra`,
/// `stop`, `start …`, `tell …`, the state (TF for TRANSIENT_FAILURE), the health if
/// it is checked, the cause, the number of connections if there are several, the
/// failed attempts, the time of the next one, and the deadline if that is another. Inputs
/// beginning with `ask` change the service that is asked about, which is A at first.
#[track_caller]
fn check((config, mut control): (Config, Control), script: &str) {
    let epoch = Instant::now();
    let (mut subchannel, effects) = Subchannel::start(epoch, None, config, control.clone());
    assert_eq!(told(&subchannel, &effects, epoch), "dial, CONNECTING");
    for line in script.trim().lines() {
        let (given, expected) = line.split_once('|').expect("given | expected");
        let (millis, input) = given.trim().split_once(' ').expect("time, input");
        let now = epoch + Duration::from_millis(millis.parse().expect("milliseconds"));
        let effects = feed(&mut subchannel, &mut control, now, parse(input));
        let told = told(&subchannel, &effects, epoch);
        assert_eq!(told, expected.trim(), "{given}");
    }
}

#[track_caller]
fn check_with_health(script: &str) {
    check(with_health(), script);
}

#[track_caller]
fn check_without_health(script: &str) {
    check(without_health(), script);
}

fn parse(input: &str) -> Input<'_> {
    match (input, input.split_once(' ')) {
        ("connected", _) => Connected,
        ("lost", _) => Disconnected,
        ("replaced", _) => Replaced,
        ("extra joined", _) => ExtraJoined,
        ("extra failed", _) => ExtraFailed,
        ("extra lost", _) => ExtraLost,
        ("SERVING", _) => Response(SERVING),
        ("NOT_SERVING", _) => Response(NOT_SERVING),
        ("ended UNIMPLEMENTED", _) => Ended(EndKind::Unimplemented),
        ("ended OK", _) => Ended(EndKind::Other),
        ("check SERVING", _) => Checked(SERVING),
        ("deadline", _) => Deadline,
        ("ask nothing", _) => AskNothing,
        ("disable", _) => Disable,
        ("reset", _) => ResetBackoff,
        ("hurry", _) => Hurry,
        ("rest when lost", _) => Rest(true),
        ("go on when lost", _) => Rest(false),
        (_, Some(("ask", service))) => Ask(service),
        (_, Some(("failed", why))) => DialFailed(why),
        _ => panic!("what is {input}?"),
    }
}

fn feed(
    subchannel: &mut Subchannel,
    control: &mut Control,
    now: Instant,
    input: Input<'_>,
) -> Effects {
    match input {
        Ask(service) => control.health = HealthCheck::Of(service.into()),
        AskNothing => control.health = HealthCheck::Off,
        Disable => control.health = HealthCheck::Disabled,
        ResetBackoff => control.backoff_resets += 1,
        Hurry => control.hurries += 1,
        Rest(rests) => control.rests_when_lost = rests,
        _ => {}
    }
    match input {
        Start => panic!("starts only once"),
        Connected => subchannel.on_connected(now),
        DialFailed(why) => subchannel.on_dial_failed(now, Cause::new(CauseKind::Connect, why)),
        Disconnected => {
            let cause = Cause::new(CauseKind::Disconnected, "GOAWAY");
            subchannel.on_disconnected(now, cause)
        }
        Replaced => subchannel.on_replaced(now),
        ExtraJoined | ExtraFailed | ExtraLost => {
            match input {
                ExtraJoined => subchannel.on_extra_joined(),
                ExtraFailed => subchannel.on_extra_failed(),
                _ => subchannel.on_extra_lost(),
            }
            Effects::default()
        }
        Response(status) => subchannel.on_health_response(now, status),
        Ended(kind) => {
            let text = String::from("OK");
            subchannel.on_health_ended(
                now,
                Ended {
                    kind,
                    text,
                    reason: "status",
                },
            )
        }
        Checked(status) => subchannel.on_checked(now, Ok(status)),
        Deadline => subchannel.on_deadline(now),
        Ask(_) | AskNothing | Disable | ResetBackoff | Hurry | Rest(_) => {
            subchannel.on_control(now, control.clone())
        }
    }
}

fn told(subchannel: &Subchannel, effects: &Effects, epoch: Instant) -> String {
    let millis = |at: Instant| (at - epoch).as_millis();
    let mut text = String::new();
    for (said, word) in [
        (effects.drop_connections, "drop, "),
        (effects.dial, "dial, "),
        (effects.dial_extra, "dial extra, "),
        (effects.health.stop, "stop, "),
    ] {
        text += if said { word } else { "" };
    }
    if let Some(rpc) = effects.health.start {
        let _ = write!(text, "start {rpc:?}, ");
    }
    if let Some(notice) = effects.health.notice {
        let _ = write!(text, "tell {notice:?}, ");
    }
    let report = subchannel.report();
    match report.state {
        TransientFailure => text += "TF",
        state => {
            let _ = write!(text, "{state}");
        }
    }
    if report.health != HealthStatus::NotChecked {
        let _ = write!(text, " {}", report.health);
    }
    if let Some(cause) = &report.cause {
        let _ = write!(text, " ({cause})");
    }
    if report.connections > 1 {
        let _ = write!(text, " by {}", report.connections);
    }
    if report.attempt > 0 {
        let _ = write!(text, " failed {}", report.attempt);
    }
    if let Some(at) = report.next_attempt {
        let _ = write!(text, " next {}", millis(at));
    }
    match subchannel.deadline() {
        at if at == report.next_attempt => {}
        Some(at) => {
            let _ = write!(text, " until {}", millis(at));
        }
        None => text += " without deadline",
    }
    text
}

#[test]
fn connected_means_ready_where_health_is_not_checked() {
    check_without_health(
        "
            5 connected           | READY
            6 NOT_SERVING         | READY
        60000 deadline            | READY
        ",
    );
}

// J01, H20
#[test]
fn connected_means_connecting_until_health_answers() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 SERVING             | READY SERVING
            7 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING)
            8 SERVING             | READY SERVING
        ",
    );
}

// J01
#[test]
fn no_watch_before_the_connection_is_up() {
    check_with_health(
        "
            1 failed refused      | TF (connect: refused) failed 1 next 1000
         1000 deadline            | dial, TF (connect: refused) failed 1
        ",
    );
}

#[test]
fn dials_are_retried_with_backoff_counted_from_their_start() {
    // A dial that took longer than its delay is followed at once.
    check_without_health(
        "
          300 failed refused      | TF (connect: refused) failed 1 next 1000
          999 deadline            | TF (connect: refused) failed 1 next 1000
         1000 deadline            | dial, TF (connect: refused) failed 1
         1001 failed no route     | TF (connect: no route) failed 2 next 2600
         2600 deadline            | dial, TF (connect: no route) failed 2
        22600 failed timed out    | dial, TF (connect: timed out) failed 3
        ",
    );
}

#[test]
fn a_connection_resets_the_backoff() {
    check_without_health(
        "
            1 failed refused      | TF (connect: refused) failed 1 next 1000
         1000 deadline            | dial, TF (connect: refused) failed 1
         1001 connected           | READY
         9000 lost                | drop, dial, CONNECTING (disconnected: GOAWAY)
         9001 failed refused      | TF (connect: refused) failed 1 next 10000
        ",
    );
}

#[test]
fn a_lost_connection_is_made_again_at_once() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 SERVING             | READY SERVING
          500 lost                | drop, dial, stop, CONNECTING (disconnected: GOAWAY)
          505 connected           | start Watch, CONNECTING pending (disconnected: GOAWAY) until 20505
          506 SERVING             | READY SERVING
        ",
    );
}

#[test]
fn a_server_that_accepts_and_hangs_up_does_not_spin_us() {
    check_without_health(
        "
            5 connected           | READY
            6 lost                | drop, CONNECTING (disconnected: GOAWAY) next 100
           99 deadline            | CONNECTING (disconnected: GOAWAY) next 100
          100 deadline            | dial, CONNECTING (disconnected: GOAWAY)
          101 connected           | READY
          102 lost                | drop, CONNECTING (disconnected: GOAWAY) next 200
        ",
    );
}

// C08, J17
#[test]
fn unhealthy_stays_so_through_a_reconnect() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING)
          500 lost                | drop, dial, stop, TF (health check: NOT_SERVING)
          505 connected           | start Watch, TF pending (health check: NOT_SERVING) until 20505
          506 SERVING             | READY SERVING
        ",
    );
}

// R31
#[test]
fn failed_stays_so_until_ready() {
    check_with_health(
        "
            1 failed refused      | TF (connect: refused) failed 1 next 1000
         1000 deadline            | dial, TF (connect: refused) failed 1
         1001 connected           | start Watch, TF pending (connect: refused) until 21001
         1002 ended OK            | TF failed (health check: Watch ended: OK) failed 1 next 2001
         2001 deadline            | start Watch, TF failed (health check: Watch ended: OK) failed 1 until 22001
         2002 SERVING             | READY SERVING
        ",
    );
}

#[test]
fn failed_becomes_ready_with_the_connection_where_health_is_not_checked() {
    check_without_health(
        "
            1 failed refused      | TF (connect: refused) failed 1 next 1000
         1000 deadline            | dial, TF (connect: refused) failed 1
         1001 connected           | READY
        ",
    );
}

// J04
#[test]
fn unimplemented_is_asked_again_on_the_next_connection() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 ended UNIMPLEMENTED | tell AssumedHealthy, READY unimplemented
          500 lost                | drop, dial, CONNECTING (disconnected: GOAWAY)
          505 connected           | start Watch, CONNECTING pending (disconnected: GOAWAY) until 20505
          506 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING)
        ",
    );
}

#[test]
fn the_health_backoff_ends_with_its_connection() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 ended OK            | TF failed (health check: Watch ended: OK) failed 1 next 1005
          500 lost                | drop, dial, TF (health check: Watch ended: OK)
          505 connected           | start Watch, TF pending (health check: Watch ended: OK) until 20505
        ",
    );
}

#[test]
fn assumed_health_ends_a_failure() {
    let options = HealthOptions::default().assume_healthy_until_first_response(true);
    let (mut config, control) = with_health();
    config.health = Arc::new(options);
    check(
        (config, control),
        "
            1 failed refused      | TF (connect: refused) failed 1 next 1000
         1000 deadline            | dial, TF (connect: refused) failed 1
         1001 connected           | start Watch, READY pending until 21001
        ",
    );
}

// J07
#[test]
fn health_that_is_switched_on_leaves_ready_until_there_is_news() {
    check_without_health(
        "
            5 connected           | READY
          500 ask A               | start Watch, READY pending until 20500
          501 SERVING             | READY SERVING
        ",
    );
    check_without_health(
        "
            5 connected           | READY
          500 ask A               | start Watch, READY pending until 20500
          501 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING)
          600 lost                | drop, dial, stop, TF (health check: NOT_SERVING)
        ",
    );
    check_without_health(
        "
            5 connected           | READY
          500 ask A               | start Watch, READY pending until 20500
        20500 deadline            | stop, start Watch, TF failed (health check: no answer in 20s) failed 1 until 40500
        ",
    );
}

// J08
#[test]
fn health_that_is_switched_off_leaves_the_connection_to_decide() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 ask nothing         | stop, READY
            7 ask A               | start Watch, READY pending until 20007
            8 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING)
            9 ask nothing         | stop, READY
           10 NOT_SERVING         | READY
          500 lost                | drop, dial, CONNECTING (disconnected: GOAWAY)
          505 connected           | READY
        ",
    );
}

// J09
#[test]
fn health_that_is_switched_off_is_not_asked_again() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 ended OK            | TF failed (health check: Watch ended: OK) failed 1 next 1005
            7 ask nothing         | READY
         1005 deadline            | READY
        ",
    );
}

// J10
#[test]
fn health_that_is_switched_off_while_disconnected_is_off_for_the_next_connection() {
    check_with_health(
        "
            1 failed refused      | TF (connect: refused) failed 1 next 1000
            2 ask nothing         | TF (connect: refused) failed 1 next 1000
         1000 deadline            | dial, TF (connect: refused) failed 1
         1001 connected           | READY
        ",
    );
}

#[test]
fn health_that_is_switched_on_during_a_dial_is_waited_for() {
    check_without_health(
        "
            1 ask A               | CONNECTING
            5 connected           | start Watch, CONNECTING pending until 20005
            6 SERVING             | READY SERVING
        ",
    );
}

// J11
#[test]
fn another_service_leaves_ready_until_there_is_news_of_it() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 ask B               | stop, start Watch, CONNECTING pending until 20006
            7 SERVING             | READY SERVING
            8 ask C               | stop, start Watch, READY pending until 20008
            9 ask C               | READY pending until 20008
           10 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING)
           11 ask C               | TF NOT_SERVING (health check: NOT_SERVING)
        ",
    );
}

#[test]
fn another_service_is_asked_about_where_the_old_one_was_unimplemented() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 ended UNIMPLEMENTED | tell AssumedHealthy, READY unimplemented
            7 ask A               | READY unimplemented
            8 ask B               | start Watch, READY pending until 20008
            9 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING)
        ",
    );
}

// J12
#[test]
fn another_service_leaves_failed_until_there_is_news_of_it() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 ended OK            | TF failed (health check: Watch ended: OK) failed 1 next 1005
            7 ask B               | start Watch, TF pending (health check: Watch ended: OK) until 20007
            8 ended OK            | TF failed (health check: Watch ended: OK) failed 1 next 1007
            9 ask C               | start Watch, TF pending (health check: Watch ended: OK) until 20009
           10 SERVING             | READY SERVING
        ",
    );
}

// J13
#[test]
fn another_service_while_disconnected_is_for_the_next_connection() {
    check_with_health(
        "
            1 failed refused      | TF (connect: refused) failed 1 next 1000
            2 ask B               | TF (connect: refused) failed 1 next 1000
         1000 deadline            | dial, TF (connect: refused) failed 1
         1001 connected           | start Watch, TF pending (connect: refused) until 21001
        ",
    );
}

#[test]
fn disabled_is_off_and_said_so() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING)
            7 disable             | stop, READY disabled
            8 ask nothing         | READY
            9 disable             | READY disabled
           10 ask A               | start Watch, READY pending until 20010
        ",
    );
    check_without_health(
        "
            1 disable             | CONNECTING disabled
            5 connected           | READY disabled
        ",
    );
}

// T14
#[test]
fn a_backoff_that_is_reset_ends_and_begins_anew() {
    check_without_health(
        "
            1 failed refused      | TF (connect: refused) failed 1 next 1000
         1000 deadline            | dial, TF (connect: refused) failed 1
         1001 failed refused      | TF (connect: refused) failed 2 next 2600
         1002 reset               | dial, TF (connect: refused)
         1003 failed refused      | TF (connect: refused) failed 1 next 2002
         2002 deadline            | dial, TF (connect: refused) failed 1
         2003 reset               | TF (connect: refused)
         2004 failed refused      | TF (connect: refused) failed 1 next 3002
        ",
    );
    check_without_health(
        "
            5 connected           | READY
            6 lost                | drop, CONNECTING (disconnected: GOAWAY) next 100
            7 reset               | dial, CONNECTING (disconnected: GOAWAY)
        ",
    );
}

// D236
#[test]
fn a_dial_that_is_hurried_keeps_its_distance_and_leaves_the_backoff_alone() {
    check_without_health(
        "
            1 failed refused   | TF (connect: refused) failed 1 next 1000
            2 hurry            | TF (connect: refused) failed 1 next 100
          100 deadline         | dial, TF (connect: refused) failed 1
          101 hurry            | TF (connect: refused) failed 1
          102 failed refused   | TF (connect: refused) failed 2 next 1700
          900 hurry            | dial, TF (connect: refused) failed 2
          901 failed refused   | TF (connect: refused) failed 3 next 3460
         3455 hurry            | dial, TF (connect: refused) failed 3
         3456 connected        | READY
         3457 hurry            | READY
        ",
    );
}

// D238
#[test]
fn where_the_channel_rests_a_lost_connection_is_not_dialled_until_it_goes_on() {
    check_without_health(
        "
            1 rest when lost   | CONNECTING
            2 connected        | READY
          500 lost             | drop, CONNECTING (disconnected: GOAWAY) next 500 without deadline
          501 deadline         | CONNECTING (disconnected: GOAWAY) next 500 without deadline
          502 hurry            | CONNECTING (disconnected: GOAWAY) next 500 without deadline
          503 reset            | CONNECTING (disconnected: GOAWAY) next 500 without deadline
          504 go on when lost  | CONNECTING (disconnected: GOAWAY) next 500
          504 deadline         | dial, CONNECTING (disconnected: GOAWAY)
        ",
    );
}

#[test]
fn a_reset_of_the_connection_backoff_leaves_health_alone() {
    check_with_health(
        "
            5 connected           | start Watch, CONNECTING pending until 20005
            6 ended OK            | TF failed (health check: Watch ended: OK) failed 1 next 1005
            7 reset               | TF failed (health check: Watch ended: OK) failed 1 next 1005
         1005 deadline            | start Watch, TF failed (health check: Watch ended: OK) failed 1 until 21005
         1006 ended OK            | TF failed (health check: Watch ended: OK) failed 2 next 2605
        ",
    );
}

#[test]
fn late_inputs_are_ignored() {
    check_with_health(
        "
            1 lost                | CONNECTING
            2 NOT_SERVING         | CONNECTING
            3 ended UNIMPLEMENTED | CONNECTING
            4 deadline            | CONNECTING
            5 failed refused      | TF (connect: refused) failed 1 next 1000
            6 failed refused      | TF (connect: refused) failed 1 next 1000
            7 connected           | TF (connect: refused) failed 1 next 1000
            8 lost                | TF (connect: refused) failed 1 next 1000
            9 check SERVING       | TF (connect: refused) failed 1 next 1000
        ",
    );
    check_with_health(
        "
            1 connected           | start Watch, CONNECTING pending until 20001
            2 connected           | CONNECTING pending until 20001
            3 failed refused      | CONNECTING pending until 20001
            4 check SERVING       | CONNECTING pending until 20001
        ",
    );
}

// D166
#[test]
fn more_connections_follow_the_first_one_by_one() {
    check(
        with(3, without_health()),
        "
            5 connected           | READY until 100
           99 deadline            | READY until 100
          100 deadline            | dial extra, READY
          101 deadline            | READY
          103 extra joined        | READY by 2 until 200
          200 deadline            | dial extra, READY by 2
          203 extra joined        | READY by 3
        60000 deadline            | READY by 3
        ",
    );
}

// D166
#[test]
fn a_first_dial_that_took_long_is_followed_at_once() {
    check(
        with(2, without_health()),
        "
          500 connected           | READY until 100
          500 deadline            | dial extra, READY
        ",
    );
}

// D166
#[test]
fn what_becomes_of_more_connections_is_not_the_backends_state() {
    check(
        with(2, with_health()),
        "
            5 connected           | start Watch, CONNECTING pending until 100
            6 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING) until 100
          100 deadline            | dial extra, TF NOT_SERVING (health check: NOT_SERVING)
          101 extra failed        | TF NOT_SERVING (health check: NOT_SERVING) until 1100
          102 SERVING             | READY SERVING until 1100
         1100 deadline            | dial extra, READY SERVING
         1101 extra joined        | READY SERVING by 2
         1102 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING) by 2
         1103 SERVING             | READY SERVING by 2
        ",
    );
}

// D167
#[test]
fn an_extra_connection_backs_off_by_itself() {
    check(
        with(2, without_health()),
        "
            5 connected           | READY until 100
          100 deadline            | dial extra, READY
          101 extra failed        | READY until 1100
         1100 deadline            | dial extra, READY
         1101 extra failed        | READY until 2700
         2700 deadline            | dial extra, READY
         2701 extra joined        | READY by 2
         9000 extra lost          | READY until 3700
         9000 deadline            | dial extra, READY
         9001 extra failed        | READY until 10600
         9002 reset               | dial extra, READY
         9003 extra failed        | READY until 10002
        ",
    );
}

// D167
#[test]
fn a_server_that_hangs_up_on_one_more_is_left_alone_for_a_while() {
    check(
        with(2, without_health()),
        "
            5 connected           | READY until 100
          100 deadline            | dial extra, READY
          101 extra joined        | READY by 2
          102 extra lost          | READY until 1100
         1100 deadline            | dial extra, READY
         1101 extra joined        | READY by 2
         1102 extra lost          | READY until 2100
        ",
    );
}

// D168
#[test]
fn a_lost_first_connection_is_replaced_and_health_asked_anew() {
    check(
        with(2, with_health()),
        "
            5 connected           | start Watch, CONNECTING pending until 100
            6 SERVING             | READY SERVING until 100
          100 deadline            | dial extra, READY SERVING
          101 extra joined        | READY SERVING by 2
         5000 replaced            | stop, start Watch, READY pending until 1100
         5000 deadline            | dial extra, READY pending until 25000
         5001 NOT_SERVING         | TF NOT_SERVING (health check: NOT_SERVING)
         5002 extra joined        | TF NOT_SERVING (health check: NOT_SERVING) by 2
         9000 replaced            | stop, start Watch, TF pending (health check: NOT_SERVING) until 6000
        ",
    );
    check(
        with(2, without_health()),
        "
            5 connected           | READY until 100
          100 deadline            | dial extra, READY
          101 extra joined        | READY by 2
         5000 replaced            | READY until 1100
        ",
    );
}

// D168
#[test]
fn all_connections_go_with_a_first_that_is_not_replaced() {
    check(
        with(3, with_health()),
        "
            5 connected           | start Watch, CONNECTING pending until 100
            6 SERVING             | READY SERVING until 100
          100 deadline            | dial extra, READY SERVING
          101 extra joined        | READY SERVING by 2 until 200
          200 deadline            | dial extra, READY SERVING by 2
          250 lost                | drop, stop, CONNECTING (disconnected: GOAWAY) next 300
          251 extra joined        | CONNECTING (disconnected: GOAWAY) next 300
          300 deadline            | dial, CONNECTING (disconnected: GOAWAY)
          305 connected           | start Watch, CONNECTING pending (disconnected: GOAWAY) until 400
        ",
    );
}

/// What anyone can know who sees only the inputs and the effects.
struct Model {
    health: HealthCheck,
    connection: Connection,
    /// Extra ones: how many there are to be, and are.
    wanted: usize,
    extras: usize,
    /// One more is being dialled.
    joining: bool,
    rpc: Option<Rpc>,
    /// What health last said on this connection, or what held before it was
    /// checked.
    word: Option<bool>,
    /// The service that is asked about has been heard of on this connection.
    heard: bool,
    /// This input changed what a connection that is up is asked.
    asked_anew: bool,
    /// Sticky.
    failed: bool,
    /// A connection ended, and none has been READY since.
    lost: bool,
    /// What is wanted once a connection is lost, and whether that is so.
    rests: bool,
    resting: bool,
    dialled: Option<Instant>,
    watched: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Connection {
    None,
    Dialling,
    Up,
}

impl Model {
    fn state(&self) -> ConnectivityState {
        match (self.failed, self.connection) {
            (true, _) => TransientFailure,
            (false, Connection::Up) if !self.checked() || self.word == Some(true) => Ready,
            (false, Connection::None | Connection::Dialling | Connection::Up) => Connecting,
        }
    }

    fn checked(&self) -> bool {
        matches!(self.health, HealthCheck::Of(_))
    }

    /// The deadline may be that of the next dial for one more.
    fn misses_one(&self) -> bool {
        self.connection == Connection::Up && !self.joining && self.extras < self.wanted
    }

    fn hear(&mut self, healthy: bool) {
        self.word = Some(healthy);
        self.heard = true;
    }

    fn configure(&mut self, health: HealthCheck) {
        if self.health == health {
            return;
        }
        let was_checked = self.checked();
        self.health = health;
        self.heard = false;
        if self.connection != Connection::Up {
            return;
        }
        self.asked_anew = self.checked();
        match (was_checked, self.checked()) {
            (true, true) => {}
            (false, true) => self.word = Some(true),
            (_, false) => self.word = None,
        }
    }

    fn take(&mut self, input: Input<'_>, due: bool) {
        self.asked_anew = false;
        match (input, self.connection, self.rpc) {
            (Ask(service), _, _) => self.configure(HealthCheck::Of(service.into())),
            (AskNothing, _, _) => self.configure(HealthCheck::Off),
            (Disable, _, _) => self.configure(HealthCheck::Disabled),
            (Connected, Connection::Dialling, _) => self.connection = Connection::Up,
            (DialFailed(_), Connection::Dialling, _) => {
                self.connection = Connection::None;
                self.failed = true;
            }
            (Disconnected, Connection::Up, _) => {
                self.connection = Connection::None;
                self.extras = 0;
                self.joining = false;
                self.word = None;
                self.heard = false;
                self.lost = true;
                self.resting = self.rests;
            }
            (Rest(rests), _, _) => {
                self.rests = rests;
                self.resting &= rests;
            }
            (Replaced, Connection::Up, _) => {
                self.extras -= 1;
                self.heard = false;
                self.asked_anew = self.checked();
            }
            (ExtraJoined, Connection::Up, _) if self.joining => {
                self.joining = false;
                self.extras += 1;
            }
            (ExtraFailed, Connection::Up, _) => self.joining = false,
            (ExtraLost, Connection::Up, _) => self.extras -= 1,
            (Response(status), _, Some(Rpc::Watch)) => self.hear(status == SERVING),
            (Checked(status), _, Some(Rpc::Check)) => {
                self.hear(status == SERVING);
                self.rpc = None;
            }
            (Ended(EndKind::Unimplemented), _, Some(Rpc::Watch)) => self.rpc = None,
            (Ended(_), _, Some(Rpc::Watch)) => {
                self.hear(false);
                self.rpc = None;
            }
            (Deadline, _, Some(_)) if due && !self.misses_one() => self.hear(false),
            _ => {}
        }
    }

    fn act(&mut self, now: Instant, input: Input<'_>, effects: &Effects) {
        let about_health = match input {
            Response(_) | Ended(_) | Checked(_) | Ask(_) | AskNothing | Disable => true,
            Start | Connected | DialFailed(_) | Disconnected | Replaced | ExtraJoined
            | ExtraFailed | ExtraLost | Deadline | ResetBackoff | Hurry | Rest(_) => false,
        };
        let reconnects = effects.dial || effects.drop_connections || effects.dial_extra;
        assert!(!(about_health && reconnects), "health caused a reconnect");
        let lost = matches!(input, Disconnected) && effects.drop_connections;
        assert_eq!(effects.drop_connections, lost, "dropped what was not lost");
        assert!(effects.drop_connections <= (self.connection == Connection::None));
        if effects.dial {
            assert_eq!(self.connection, Connection::None, "dialled twice");
            let last = self.dialled.replace(now);
            if !matches!(input, ResetBackoff) {
                assert_apart(last, now);
            }
            assert!(!self.resting, "dialled while it rests");
            self.connection = Connection::Dialling;
        }
        if effects.dial_extra {
            assert_eq!(self.connection, Connection::Up, "one more than none");
            assert!(!self.joining, "two dials for one more at once");
            assert!(self.extras < self.wanted, "dialled one too many");
            let last = self.dialled.replace(now);
            if !matches!(input, ResetBackoff) {
                assert_apart(last, now);
            }
            self.joining = true;
        }
        if matches!(input, ResetBackoff) {
            let waits = self.connection == Connection::None && !self.resting;
            assert!(!waits, "still waits to dial");
            assert_eq!(effects.health, Action::default(), "not about health");
        }
        if self.asked_anew {
            assert_eq!(effects.health.start, Some(Rpc::Watch), "not asked anew");
        }
        if matches!(input, Deadline) && effects.health.stop {
            self.hear(false);
        }
        if effects.health.stop {
            assert!(self.rpc.take().is_some(), "stopped what does not run");
        }
        if let Some(rpc) = effects.health.start {
            assert_eq!(self.connection, Connection::Up, "asked without connection");
            assert_eq!(self.rpc.replace(rpc), None, "two RPCs at once");
            if rpc == Rpc::Watch && !matches!(input, Connected) && !self.asked_anew {
                assert_apart(self.watched, now);
            }
            if rpc == Rpc::Watch {
                self.watched = Some(now);
            }
        }
        if effects.health.notice == Some(crate::health::Notice::AssumedHealthy) {
            self.hear(true);
        }
        if !self.checked() {
            assert_eq!(self.rpc, None, "asked although it is off");
        }
        if self.connection != Connection::Up {
            assert_eq!(self.rpc, None, "an RPC outlives its connection");
        }
        self.settle();
    }

    fn settle(&mut self) {
        if self.connection != Connection::Up {
            return;
        }
        match self.word {
            Some(healthy) => self.failed = !healthy,
            None if !self.checked() => self.failed = false,
            None => {}
        }
        self.lost &= self.state() != Ready;
    }

    fn agree(&self, subchannel: &Subchannel, now: Instant, fired: bool) {
        let report = subchannel.report();
        assert_eq!(report.state, self.state());
        assert_eq!(report.cause.is_some(), self.failed || self.lost);
        let asks = self.checked() && self.connection == Connection::Up;
        match &self.health {
            HealthCheck::Disabled => assert_eq!(report.health, HealthStatus::Disabled),
            HealthCheck::Off | HealthCheck::Of(_) => {
                assert_eq!(report.health != HealthStatus::NotChecked, asks);
                assert_eq!(report.health == HealthStatus::Pending, asks && !self.heard);
            }
        }
        let deadline = subchannel.deadline();
        if fired {
            assert!(deadline.is_none_or(|at| at > now), "would spin");
        }
        match self.connection {
            Connection::None => assert_eq!(deadline.is_none(), self.resting, "dials again"),
            Connection::Dialling => assert_eq!(deadline, None),
            Connection::Up => {
                let waits = deadline.is_some();
                assert!(waits || !self.misses_one(), "would never dial one more");
            }
        }
        let connections = match self.connection {
            Connection::Up => 1 + self.extras,
            Connection::None | Connection::Dialling => 0,
        };
        assert_eq!(report.connections, connections);
    }
}

#[track_caller]
fn assert_apart(last: Option<Instant>, now: Instant) {
    let apart = last.map_or(Duration::MAX, |last| now - last);
    assert!(apart >= Duration::from_millis(100), "{apart:?} apart");
}

fn random_config(rng: &mut fastrand::Rng) -> (Config, Control) {
    let check = OnUnimplemented::PollCheck {
        interval: Duration::from_millis(500),
        timeout: Duration::from_millis(200),
    };
    let rule = [OnUnimplemented::AssumeHealthy, check][rng.usize(0..2)].clone();
    let options = HealthOptions::default()
        .first_response_timeout(rng.bool().then_some(Duration::from_millis(700)))
        .on_unimplemented(rule);
    let config = Config {
        backoff: BackoffConfig::default(),
        health: Arc::new(options),
        connections: NonZeroUsize::MIN.saturating_add(rng.usize(0..4)),
        seed: rng.u64(..),
    };
    let control = match rng.u8(0..4) {
        0 => without_health().1,
        _ => with_health().1,
    };
    (config, control)
}

fn random_input(rng: &mut fastrand::Rng, model: &Model) -> Input<'static> {
    // What cannot be said of a connection that is not there.
    let none = model.extras == 0;
    match rng.u8(0..46) {
        36..41 => ExtraJoined,
        41 => ExtraFailed,
        42 | 43 if !none => ExtraLost,
        44 | 45 if !none => Replaced,
        42..46 => Deadline,
        0..6 => Connected,
        6..8 => DialFailed("refused"),
        8..10 => Disconnected,
        10..16 => Response(rng.i32(0..4)),
        16..18 => Ended(EndKind::Other),
        18 => Ended(EndKind::Unimplemented),
        19..24 => Checked(rng.i32(0..4)),
        24..32 => Deadline,
        32 | 33 => Ask(["A", "B"][rng.usize(0..2)]),
        34 => [AskNothing, Disable][rng.usize(0..2)],
        35 => [Hurry, Rest(true), Rest(false)][rng.usize(0..3)],
        _ => ResetBackoff,
    }
}

fn walk(seed: u64, steps: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (config, mut control) = random_config(&mut rng);
    let mut now = Instant::now();
    let mut model = Model {
        health: control.health.clone(),
        connection: Connection::None,
        wanted: config.connections.get() - 1,
        extras: 0,
        joining: false,
        rpc: None,
        word: None,
        heard: false,
        asked_anew: false,
        failed: false,
        lost: false,
        rests: false,
        resting: false,
        dialled: None,
        watched: None,
    };
    let (mut subchannel, effects) = Subchannel::start(now, None, config, control.clone());
    model.act(now, Start, &effects);
    for _ in 0..steps {
        match (rng.u8(0..3), subchannel.deadline()) {
            (0, Some(at)) => now = now.max(at),
            _ => now += Duration::from_millis(rng.u64(0..60)),
        }
        let input = random_input(&mut rng, &model);
        let due = subchannel.deadline().is_some_and(|at| at <= now);
        model.take(input, due);
        let effects = feed(&mut subchannel, &mut control, now, input);
        model.act(now, input, &effects);
        model.agree(&subchannel, now, matches!(input, Deadline));
    }
}

#[test]
fn a_random_walk_agrees_with_the_model() {
    for seed in 0..200 {
        let walked = catch_unwind(AssertUnwindSafe(|| walk(seed, 500)));
        walked.unwrap_or_else(|panic| {
            eprintln!("seed {seed}");
            resume_unwind(panic)
        });
    }
}

// D232
#[test]
fn a_deadline_for_an_answer_is_told_from_a_pause() {
    let now = Instant::now();
    let (config, control) = with_health();
    let (mut subchannel, _) = Subchannel::start(now, None, config, control);
    assert!(!subchannel.awaits_answer(), "a dial keeps its own time");
    let _ = subchannel.on_connected(now);
    assert!(subchannel.awaits_answer(), "the Watch is silent");
    let _ = subchannel.on_health_response(now, SERVING);
    assert!(!subchannel.awaits_answer(), "it may be silent from now on");
    let ended = Ended {
        kind: EndKind::Other,
        text: "why not".to_owned(),
        reason: "status",
    };
    let _ = subchannel.on_health_ended(now, ended);
    assert!(subchannel.deadline().is_some(), "the next Watch");
    assert!(!subchannel.awaits_answer(), "no backend is asked");
}
