//! The rules as scripts, then a random walk beside a model that knows only
//! what came in and went out.

use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    HealthOptions, HealthStatus, OnNotFound, OnUnimplemented,
    action::{Action, Rpc},
    flood::MAX_MESSAGES,
    machine::{EndKind, Ended, Watch, effective},
};
use crate::{
    connectivity::ConnectivityState::{self, *},
    util::backoff::BackoffConfig,
};

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

#[derive(Clone, Copy, Debug)]
enum Input<'a> {
    Response(i32),
    Ended(&'a str),
    Checked(i32),
    CheckEnded(&'a str),
    Deadline,
    Renew,
}
use Input::*;

/// The default, with delays that a script can name.
fn options() -> HealthOptions {
    let [initial, max] = [1, 120].map(Duration::from_secs);
    let backoff = BackoffConfig::default()
        .initial(initial)
        .and_then(|backoff| backoff.jitter(0.0))
        .expect("valid")
        .max(max);
    HealthOptions::default().backoff(backoff)
}

fn polling(interval: u64, timeout: u64) -> HealthOptions {
    options().on_unimplemented(OnUnimplemented::PollCheck {
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis(timeout),
    })
}

/// Plays a script of lines `milliseconds input | what follows` and compares what
/// the machine does and says after each input: `stop`, `start …`, `tell …`, the
/// state (TF for TRANSIENT_FAILURE), the health, the cause, the deadline. A script
/// that does not begin with `start`, or with `start on READY`, is about what comes
/// behind [`START`].
#[track_caller]
fn check(options: HealthOptions, script: &str) {
    let epoch = Instant::now();
    let start = match script.contains("start on READY") {
        true => Watch::start_on_ready,
        false => Watch::start,
    };
    let (mut watch, mut action) = start(epoch, Arc::new(options), 1);
    if !script.trim().starts_with("0 start") {
        assert_eq!(told(&watch, &action, epoch), START);
    }
    for line in script.trim().lines() {
        let (given, expected) = line.split_once('|').expect("given | expected");
        let (millis, input) = given.trim().split_once(' ').expect("time, input");
        let now = epoch + Duration::from_millis(millis.parse().expect("milliseconds"));
        if !input.starts_with("start") {
            action = feed(&mut watch, now, parse(input));
        }
        assert_eq!(told(&watch, &action, epoch), expected.trim(), "{given}");
    }
}

/// How most begin.
const START: &str = "start Watch, CONNECTING pending until 20000";

#[track_caller]
fn check_default(script: &str) {
    check(options(), script);
}

fn parse(input: &str) -> Input<'_> {
    let number = |status: &str| match status {
        "UNKNOWN" => 0,
        "SERVING" => SERVING,
        "NOT_SERVING" => NOT_SERVING,
        "SERVICE_UNKNOWN" => 3,
        number => number.parse().expect("a status"),
    };
    match input.split_once(' ') {
        Some(("ended", text)) => Ended(text),
        Some(("check", answer)) => match answer.split_once(' ') {
            Some(("ended", text)) => CheckEnded(text),
            _ => Checked(number(answer)),
        },
        _ if input == "deadline" => Deadline,
        _ if input == "renew" => Renew,
        _ => Response(number(input)),
    }
}

fn feed(watch: &mut Watch, now: Instant, input: Input<'_>) -> Action {
    match input {
        Response(status) => watch.on_response(now, status),
        Ended(text) => watch.on_ended(now, ended(text)),
        Checked(status) => watch.on_checked(now, Ok(status)),
        CheckEnded(text) => watch.on_checked(now, Err(ended(text))),
        Deadline => watch.on_deadline(now),
        Renew => watch.renew(now),
    }
}

fn ended(text: &str) -> Ended {
    Ended {
        kind: match text {
            "UNIMPLEMENTED" => EndKind::Unimplemented,
            "NOT_FOUND" => EndKind::NotFound,
            _ => EndKind::Other,
        },
        text: text.to_owned(),
        reason: "status",
    }
}

fn told(watch: &Watch, action: &Action, epoch: Instant) -> String {
    let mut text = String::new();
    if action.stop {
        text += "stop, ";
    }
    if let Some(rpc) = action.start {
        let _ = write!(text, "start {rpc:?}, ");
    }
    if let Some(notice) = action.notice {
        let _ = write!(text, "tell {notice:?}, ");
    }
    match watch.state() {
        TransientFailure => text += "TF",
        state => {
            let _ = write!(text, "{state}");
        }
    }
    let _ = write!(text, " {}", watch.status());
    if let Some(cause) = watch.cause() {
        let _ = write!(text, " ({})", cause.text());
    }
    if let Some(at) = watch.deadline() {
        let _ = write!(text, " until {}", (at - epoch).as_millis());
    }
    text
}

// H01, J02
#[test]
fn every_message_decides_anew_on_the_same_stream() {
    check_default(
        "
            1 NOT_SERVING               | TF NOT_SERVING (NOT_SERVING)
            2 SERVING                   | READY SERVING
            3 SERVICE_UNKNOWN           | TF SERVICE_UNKNOWN (SERVICE_UNKNOWN)
            4 SERVING                   | READY SERVING
            5 UNKNOWN                   | TF UNKNOWN (UNKNOWN)
            6 NOT_SERVING               | TF NOT_SERVING (NOT_SERVING)
        ",
    );
}

#[test]
fn unhealthy_to_healthy_skips_connecting() {
    check_default(
        "
            1 NOT_SERVING               | TF NOT_SERVING (NOT_SERVING)
            2 SERVING                   | READY SERVING
        ",
    );
}

#[test]
fn an_unknown_number_is_unhealthy() {
    check_default(
        "
            1 17                        | TF unrecognized status 17 (unrecognized status 17)
            2 -1                        | TF unrecognized status -1 (unrecognized status -1)
        ",
    );
}

// H02
#[test]
fn unimplemented_means_ready() {
    check_default(
        "
            1 ended UNIMPLEMENTED       | tell AssumedHealthy, READY unimplemented
        60000 deadline                  | READY unimplemented
        ",
    );
}

#[test]
fn unimplemented_after_messages_means_ready() {
    check_default(
        "
            1 NOT_SERVING               | TF NOT_SERVING (NOT_SERVING)
            2 ended UNIMPLEMENTED       | tell AssumedHealthy, READY unimplemented
        ",
    );
}

#[test]
fn unimplemented_may_mean_unhealthy() {
    check(
        options().on_unimplemented(OnUnimplemented::Unhealthy),
        "
            1 ended UNIMPLEMENTED       | tell UnhealthyWithoutService, TF failed (no health service: UNIMPLEMENTED)
        60000 deadline                  | TF failed (no health service: UNIMPLEMENTED)
        ",
    );
}

// J05, C12
#[test]
fn a_watch_that_ends_without_an_answer_is_retried_with_backoff() {
    check_default(
        "
           10 ended OK                  | TF failed (Watch ended: OK) until 1000
          999 deadline                  | TF failed (Watch ended: OK) until 1000
         1000 deadline                  | start Watch, TF failed (Watch ended: OK) until 21000
         1010 ended OK                  | TF failed (Watch ended: OK) until 2600
         2600 deadline                  | start Watch, TF failed (Watch ended: OK) until 22600
         2610 SERVING                   | READY SERVING
        ",
    );
}

// J05
#[test]
fn backoff_is_counted_from_the_start_of_the_watch() {
    check_default(
        "
          700 ended OK                  | TF failed (Watch ended: OK) until 1000
         1000 deadline                  | start Watch, TF failed (Watch ended: OK) until 21000
         5000 ended OK                  | start Watch, TF failed (Watch ended: OK) until 25000
        ",
    );
}

// H15
#[test]
fn backoff_grows_while_nobody_answers() {
    let now = Instant::now();
    let (mut watch, _) = Watch::start(now, Arc::new(options()), 1);
    let mut started = now;
    for (failures, delay) in [1.0, 1.6, 2.56, 4.096, 6.5536].into_iter().enumerate() {
        let _ = feed(&mut watch, started, Ended("no stream"));
        let at = started + Duration::from_secs_f64(delay);
        assert_eq!(watch.next_attempt(), Some(at));
        assert_eq!(watch.failures(), failures as u32 + 1);
        let action = watch.on_deadline(at);
        assert_eq!(action.start, Some(Rpc::Watch));
        assert_eq!(watch.next_attempt(), None);
        started = at;
    }
}

// J06
#[test]
fn a_watch_that_ends_after_an_answer_is_retried_at_once() {
    // And the failure after that waits for the first delay again, not the second.
    check_default(
        "
           10 ended OK                  | TF failed (Watch ended: OK) until 1000
         1000 deadline                  | start Watch, TF failed (Watch ended: OK) until 21000
         1500 SERVING                   | READY SERVING
         1600 ended OK                  | start Watch, TF failed (Watch ended: OK) until 21600
         1601 ended OK                  | TF failed (Watch ended: OK) until 2600
        ",
    );
}

// C12
#[test]
fn a_server_that_answers_and_hangs_up_does_not_spin_us() {
    check_default(
        "
            1 SERVING                   | READY SERVING
            2 ended OK                  | TF failed (Watch ended: OK) until 100
          100 deadline                  | start Watch, TF failed (Watch ended: OK) until 20100
          101 SERVING                   | READY SERVING
          102 ended OK                  | TF failed (Watch ended: OK) until 200
        ",
    );
}

#[test]
fn no_backoff_is_shorter_than_the_minimum_interval() {
    let millisecond = Duration::from_millis(1);
    let backoff = BackoffConfig::default()
        .initial(millisecond)
        .and_then(|backoff| backoff.jitter(0.0))
        .expect("valid")
        .max(millisecond);
    check(
        HealthOptions::default().backoff(backoff),
        "
            1 ended OK                  | TF failed (Watch ended: OK) until 100
        ",
    );
}

// C13
#[test]
fn a_garbled_message_is_an_ended_watch() {
    check_default(
        "
            1 ended INTERNAL: garbled   | TF failed (Watch ended: INTERNAL: garbled) until 1000
        ",
    );
}

#[test]
fn silence_is_a_failure_after_twenty_seconds() {
    check_default(
        "
        19999 deadline                  | CONNECTING pending until 20000
        20000 deadline                  | stop, start Watch, TF failed (no answer in 20s) until 40000
        20001 SERVING                   | READY SERVING
        90000 deadline                  | READY SERVING
        ",
    );
}

#[test]
fn silence_backs_off_when_the_timeout_is_shorter_than_the_delay() {
    check(
        options().first_response_timeout(Some(Duration::from_millis(300))),
        "
            0 start                     | start Watch, CONNECTING pending until 300
          300 deadline                  | stop, TF failed (no answer in 300ms) until 1000
         1000 deadline                  | start Watch, TF failed (no answer in 300ms) until 1300
        ",
    );
}

#[test]
fn a_timeout_of_zero_does_not_spin() {
    check(
        options().first_response_timeout(Some(Duration::ZERO)),
        "
            0 start                     | start Watch, CONNECTING pending until 0
            0 deadline                  | stop, TF failed (no answer in 0ns) until 1000
        ",
    );
}

// H09
#[test]
fn without_a_timeout_silence_is_connecting_for_ever() {
    for timeout in [None, Some(Duration::MAX)] {
        check(
            options().first_response_timeout(timeout),
            "
                0 start                     | start Watch, CONNECTING pending
            99999 deadline                  | CONNECTING pending
            ",
        );
    }
}

#[test]
fn not_found_backs_off_by_default() {
    check_default(
        "
            1 ended NOT_FOUND           | TF failed (Watch ended: NOT_FOUND) until 1000
        ",
    );
}

#[test]
fn not_found_may_be_retried_at_an_interval() {
    // Which does not use up the backoff of other failures.
    check(
        options().on_not_found(OnNotFound::RetryEvery(Duration::from_millis(500))),
        "
            1 ended NOT_FOUND           | TF failed (Watch ended: NOT_FOUND) until 500
          500 deadline                  | start Watch, TF failed (Watch ended: NOT_FOUND) until 20500
          501 ended NOT_FOUND           | TF failed (Watch ended: NOT_FOUND) until 1000
         1000 deadline                  | start Watch, TF failed (Watch ended: NOT_FOUND) until 21000
         1001 ended OK                  | TF failed (Watch ended: OK) until 2000
        ",
    );
}

#[test]
fn an_interval_of_zero_does_not_spin() {
    check(
        options().on_not_found(OnNotFound::RetryEvery(Duration::ZERO)),
        "
            1 ended NOT_FOUND           | TF failed (Watch ended: NOT_FOUND) until 100
        ",
    );
    check(
        polling(0, 0),
        "
            1 ended UNIMPLEMENTED       | start Check, tell PollingCheck, CONNECTING pending until 101
            2 check SERVING             | READY SERVING until 101
          101 deadline                  | start Check, READY SERVING until 201
        ",
    );
}

#[test]
fn healthy_may_be_assumed_until_the_first_news() {
    let assuming = || options().assume_healthy_until_first_response(true);
    check(
        assuming(),
        "
            0 start                     | start Watch, READY pending until 20000
            1 NOT_SERVING               | TF NOT_SERVING (NOT_SERVING)
        ",
    );
    check(
        assuming(),
        "
            0 start                     | start Watch, READY pending until 20000
            1 ended OK                  | TF failed (Watch ended: OK) until 1000
         1000 deadline                  | start Watch, TF failed (Watch ended: OK) until 21000
        ",
    );
}

#[test]
fn check_is_polled_where_watch_is_unimplemented() {
    check(
        polling(5_000, 1_000),
        "
           10 ended UNIMPLEMENTED       | start Check, tell PollingCheck, CONNECTING pending until 1010
           20 check SERVING             | READY SERVING until 5010
         5010 deadline                  | start Check, READY SERVING until 6010
         5020 check NOT_SERVING         | TF NOT_SERVING (Check: NOT_SERVING) until 10010
        10010 deadline                  | start Check, TF NOT_SERVING (Check: NOT_SERVING) until 11010
        11010 deadline                  | stop, TF failed (Check: no answer in 1s) until 15010
        15010 deadline                  | start Check, TF failed (Check: no answer in 1s) until 16010
        15020 check ended NOT_FOUND     | TF failed (Check: NOT_FOUND) until 20010
        20010 deadline                  | start Check, TF failed (Check: NOT_FOUND) until 21010
        20020 check SERVING             | READY SERVING until 25010
        ",
    );
}

#[test]
fn a_slow_check_is_followed_at_once() {
    check(
        polling(1_000, 3_000),
        "
            0 ended UNIMPLEMENTED       | start Check, tell PollingCheck, CONNECTING pending until 3000
         2000 check SERVING             | start Check, READY SERVING until 5000
         5000 deadline                  | stop, start Check, TF failed (Check: no answer in 3s) until 8000
        ",
    );
}

#[test]
fn polling_keeps_what_watch_had_said_until_check_answers() {
    check(
        polling(5_000, 1_000),
        "
            1 NOT_SERVING               | TF NOT_SERVING (NOT_SERVING)
            2 ended UNIMPLEMENTED       | start Check, tell PollingCheck, TF NOT_SERVING (NOT_SERVING) until 1002
            3 check SERVING             | READY SERVING until 5002
        ",
    );
}

#[test]
fn check_unimplemented_too_means_ready() {
    check(
        polling(5_000, 1_000),
        "
            1 ended UNIMPLEMENTED       | start Check, tell PollingCheck, CONNECTING pending until 1001
            2 check ended UNIMPLEMENTED | tell AssumedHealthy, READY unimplemented
        ",
    );
}

#[test]
fn late_inputs_are_ignored() {
    check_default(
        "
            0 check SERVING             | CONNECTING pending until 20000
            1 ended OK                  | TF failed (Watch ended: OK) until 1000
            2 ended OK                  | TF failed (Watch ended: OK) until 1000
            3 ended UNIMPLEMENTED       | TF failed (Watch ended: OK) until 1000
            4 SERVING                   | TF failed (Watch ended: OK) until 1000
            5 check SERVING             | TF failed (Watch ended: OK) until 1000
        ",
    );
    check_default(
        "
            1 ended UNIMPLEMENTED       | tell AssumedHealthy, READY unimplemented
            2 ended UNIMPLEMENTED       | READY unimplemented
            3 NOT_SERVING               | READY unimplemented
            4 check ended late          | READY unimplemented
        ",
    );
}

#[test]
fn a_ready_connection_stays_ready_until_there_is_news() {
    check_default(
        "
            0 start on READY            | start Watch, READY pending until 20000
            1 SERVING                   | READY SERVING
        ",
    );
    check_default(
        "
            0 start on READY            | start Watch, READY pending until 20000
            1 NOT_SERVING               | TF NOT_SERVING (NOT_SERVING)
        ",
    );
    check_default(
        "
            0 start on READY            | start Watch, READY pending until 20000
            1 ended OK                  | TF failed (Watch ended: OK) until 1000
        ",
    );
    check_default(
        "
            0 start on READY            | start Watch, READY pending until 20000
        20000 deadline                  | stop, start Watch, TF failed (no answer in 20s) until 40000
        ",
    );
}

// J11
#[test]
fn another_service_inherits_the_state_until_there_is_news_of_it() {
    check_default(
        "
            1 renew                     | stop, start Watch, CONNECTING pending until 20001
            2 SERVING                   | READY SERVING
            3 renew                     | stop, start Watch, READY pending until 20003
            4 renew                     | stop, start Watch, READY pending until 20004
            5 NOT_SERVING               | TF NOT_SERVING (NOT_SERVING)
            6 renew                     | stop, start Watch, TF pending (NOT_SERVING) until 20006
            7 renew                     | stop, start Watch, TF pending (NOT_SERVING) until 20007
            8 ended OK                  | TF failed (Watch ended: OK) until 1007
        ",
    );
}

#[test]
fn assumed_health_is_no_news_of_another_service() {
    check(
        options().assume_healthy_until_first_response(true),
        "
            0 start                     | start Watch, READY pending until 20000
            1 renew                     | stop, start Watch, READY pending until 20001
            2 NOT_SERVING               | TF NOT_SERVING (NOT_SERVING)
            3 renew                     | stop, start Watch, TF pending (NOT_SERVING) until 20003
        ",
    );
}

// J12
#[test]
fn another_service_is_not_kept_waiting_by_the_backoff_of_the_old_one() {
    check_default(
        "
            1 ended OK                  | TF failed (Watch ended: OK) until 1000
         1000 deadline                  | start Watch, TF failed (Watch ended: OK) until 21000
         1001 ended OK                  | TF failed (Watch ended: OK) until 2600
         1002 renew                     | start Watch, TF pending (Watch ended: OK) until 21002
         1003 ended OK                  | TF failed (Watch ended: OK) until 2002
        ",
    );
}

#[test]
fn another_service_may_have_what_the_old_one_lacked() {
    check_default(
        "
            1 ended UNIMPLEMENTED       | tell AssumedHealthy, READY unimplemented
            2 renew                     | start Watch, READY pending until 20002
            3 NOT_SERVING               | TF NOT_SERVING (NOT_SERVING)
        ",
    );
    check(
        options().on_unimplemented(OnUnimplemented::Unhealthy),
        "
            1 ended UNIMPLEMENTED       | tell UnhealthyWithoutService, TF failed (no health service: UNIMPLEMENTED)
            2 renew                     | start Watch, TF pending (no health service: UNIMPLEMENTED) until 20002
            3 SERVING                   | READY SERVING
        ",
    );
}

#[test]
fn another_service_ends_the_polling_of_the_old_one() {
    check(
        polling(5_000, 1_000),
        "
            1 ended UNIMPLEMENTED       | start Check, tell PollingCheck, CONNECTING pending until 1001
            2 check SERVING             | READY SERVING until 5001
            3 renew                     | start Watch, READY pending until 20003
            4 ended UNIMPLEMENTED       | start Check, tell PollingCheck, READY pending until 1004
            5 renew                     | stop, start Watch, READY pending until 20005
        ",
    );
}

#[test]
fn only_a_ready_connection_has_its_health_asked() {
    let now = Instant::now();
    let (mut watch, _) = Watch::start(now, Arc::new(options()), 1);
    for raw in [Idle, Connecting, TransientFailure, Shutdown] {
        assert_eq!(effective(raw, Some(&watch)), raw);
        assert_eq!(effective(raw, None), raw);
    }
    assert_eq!(effective(Ready, None), Ready);
    assert_eq!(effective(Ready, Some(&watch)), Connecting);
    let _ = watch.on_response(now, NOT_SERVING);
    assert_eq!(effective(Ready, Some(&watch)), TransientFailure);
    let _ = watch.on_response(now, SERVING);
    assert_eq!(effective(Ready, Some(&watch)), Ready);
}

#[test]
fn the_end_of_a_connection_stops_what_runs() {
    let now = Instant::now();
    let ended_after = |inputs: &[Input<'_>]| {
        let (mut watch, _) = Watch::start(now, Arc::new(polling(5_000, 1_000)), 1);
        for input in inputs {
            let _ = feed(&mut watch, now, *input);
        }
        watch.end()
    };
    let stop = Action {
        stop: true,
        ..Action::default()
    };
    assert_eq!(ended_after(&[]), stop);
    assert_eq!(ended_after(&[Response(SERVING)]), stop);
    assert_eq!(ended_after(&[Ended("UNIMPLEMENTED")]), stop);
    assert_eq!(ended_after(&[Ended("OK")]), Action::default());
    assert_eq!(
        ended_after(&[Ended("UNIMPLEMENTED"), Checked(SERVING)]),
        Action::default()
    );
}

/// What anyone can know who sees only the inputs and the actions.
struct Model {
    options: HealthOptions,
    running: Option<Rpc>,
    answered: bool,
    over: bool,
    word: Option<HealthStatus>,
    /// What stands until there is a word.
    inherited: Option<ConnectivityState>,
    failures: u32,
    started: [Option<Instant>; 2],
}

impl Model {
    fn state(&self) -> ConnectivityState {
        match self.word {
            None => self.inherited.unwrap_or({
                match self.options.assume_healthy_until_first_response {
                    true => Ready,
                    false => Connecting,
                }
            }),
            Some(HealthStatus::Serving | HealthStatus::Unimplemented) => Ready,
            Some(_) => TransientFailure,
        }
    }

    /// Takes an input; says whether the machine may do anything about it.
    fn take(&mut self, input: Input<'_>, due: bool) -> bool {
        let expected = match input {
            Response(_) | Ended(_) => self.running == Some(Rpc::Watch),
            Checked(_) | CheckEnded(_) => self.running == Some(Rpc::Check),
            Deadline => due,
            Renew => true,
        };
        if !expected {
            return false;
        }
        match input {
            Response(number) | Checked(number) => {
                self.answered = true;
                self.word = Some(match number {
                    0 => HealthStatus::Unknown,
                    1 => HealthStatus::Serving,
                    2 => HealthStatus::NotServing,
                    3 => HealthStatus::ServiceUnknown,
                    other => HealthStatus::Unrecognized(other),
                });
            }
            Ended("UNIMPLEMENTED") => match self.options.on_unimplemented {
                OnUnimplemented::AssumeHealthy => self.end_with(HealthStatus::Unimplemented),
                OnUnimplemented::Unhealthy => self.end_with(HealthStatus::Failed),
                OnUnimplemented::PollCheck { .. } => {}
            },
            CheckEnded("UNIMPLEMENTED") => self.end_with(HealthStatus::Unimplemented),
            Ended(_) | CheckEnded(_) => self.word = Some(HealthStatus::Failed),
            Deadline if self.running.is_some() => self.word = Some(HealthStatus::Failed),
            Deadline => {}
            Renew => self.forget(),
        }
        self.failures = match input {
            Response(_) | Checked(_) | Renew => 0,
            Ended("UNIMPLEMENTED") | CheckEnded("UNIMPLEMENTED") => 0,
            Ended(_) if self.answered => self.failures,
            Deadline if self.running.is_none() => self.failures,
            Ended(_) | CheckEnded(_) | Deadline => self.failures + 1,
        };
        if let Ended(_) | Checked(_) | CheckEnded(_) = input {
            self.running = None;
        }
        true
    }

    fn forget(&mut self) {
        if self.word.is_some() {
            self.inherited = Some(self.state());
        }
        self.word = None;
        self.over = false;
        // The pace is that of whoever renews.
        self.started = [None; 2];
    }

    fn end_with(&mut self, word: HealthStatus) {
        self.word = Some(word);
        self.over = true;
    }

    fn act(&mut self, now: Instant, action: &Action) {
        if action.stop {
            assert!(self.running.is_some(), "stopped what does not run");
            self.running = None;
        }
        if let Some(rpc) = action.start {
            assert_eq!(self.running, None, "two RPCs at once");
            assert!(!self.over, "asked again after it was over");
            let last = self.started[rpc as usize].replace(now);
            let apart = last.map_or(Duration::MAX, |last| now - last);
            assert!(apart >= Duration::from_millis(100), "{apart:?} apart");
            self.running = Some(rpc);
            self.answered = false;
        }
    }

    fn agree(&self, watch: &Watch, now: Instant, fired: bool) {
        assert_eq!(watch.state(), self.state());
        assert_eq!(watch.status(), self.word.unwrap_or(HealthStatus::Pending));
        assert_eq!(watch.cause().is_some(), self.state() == TransientFailure);
        assert_eq!(watch.failures(), self.failures);
        let deadline = watch.deadline();
        if fired {
            assert!(deadline.is_none_or(|at| at > now), "would spin");
        }
        if self.over || (self.running == Some(Rpc::Watch) && self.answered) {
            assert_eq!(deadline, None, "has nothing to wait for");
        } else if self.running != Some(Rpc::Watch) {
            assert!(deadline.is_some(), "would never ask again");
        }
        let waits = self.running.is_none() && !self.over;
        assert_eq!(watch.next_attempt(), if waits { deadline } else { None });
    }
}

fn random_options(rng: &mut fastrand::Rng) -> HealthOptions {
    let mut millis = |most| Duration::from_millis(rng.u64(0..most));
    let poll = OnUnimplemented::PollCheck {
        interval: millis(3_000),
        timeout: millis(3_000),
    };
    let timeout = 1 + millis(5_000).as_millis() as u64;
    let every = OnNotFound::RetryEvery(millis(1_000));
    HealthOptions::default()
        .first_response_timeout(rng.bool().then(|| Duration::from_millis(timeout)))
        .assume_healthy_until_first_response(rng.bool())
        .on_not_found([OnNotFound::Backoff, every][rng.usize(0..2)].clone())
        .on_unimplemented(
            [
                OnUnimplemented::AssumeHealthy,
                OnUnimplemented::Unhealthy,
                poll.clone(),
                poll,
            ][rng.usize(0..4)]
            .clone(),
        )
}

fn random_input(rng: &mut fastrand::Rng) -> Input<'static> {
    let end = match rng.u8(0..20) {
        0 => "UNIMPLEMENTED",
        1..5 => "NOT_FOUND",
        5.. => "OK",
    };
    match rng.u8(0..32) {
        0..8 => Response(rng.i32(-1..6)),
        8..12 => Ended(end),
        12..16 => Checked(rng.i32(-1..6)),
        16..20 => CheckEnded(end),
        20 => Renew,
        21.. => Deadline,
    }
}

fn walk(seed: u64, steps: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let options = random_options(&mut rng);
    let epoch = Instant::now();
    let mut now = epoch;
    let on_ready = rng.u8(0..4) == 0;
    let start = if on_ready {
        Watch::start_on_ready
    } else {
        Watch::start
    };
    let (mut watch, action) = start(now, Arc::new(options.clone()), seed);
    let mut model = Model {
        options,
        running: None,
        answered: false,
        over: false,
        word: None,
        inherited: on_ready.then_some(Ready),
        failures: 0,
        started: [None; 2],
    };
    model.act(now, &action);
    for _ in 0..steps {
        match (rng.u8(0..3), watch.deadline()) {
            (0, Some(at)) => now = now.max(at),
            _ => now += Duration::from_millis(rng.u64(0..60)),
        }
        let input = random_input(&mut rng);
        let due = watch.deadline().is_some_and(|at| at <= now);
        let before = told(&watch, &Action::default(), epoch);
        let expected = model.take(input, due);
        let action = feed(&mut watch, now, input);
        if !expected {
            let after = told(&watch, &action, epoch);
            assert_eq!(before, after, "{input:?} was not expected");
        }
        model.act(now, &action);
        model.agree(&watch, now, matches!(input, Deadline));
        let lacks_method = matches!(input, Ended("UNIMPLEMENTED") | CheckEnded("UNIMPLEMENTED"));
        assert_eq!(action.notice.is_some(), expected && lacks_method);
    }
}

/// As many messages as are too many, all `now`. Returns what the last one does.
fn flood(watch: &mut Watch, now: Instant) -> Action {
    for _ in 0..MAX_MESSAGES {
        assert_eq!(watch.on_response(now, SERVING), Action::default());
        assert_eq!(
            watch.state(),
            Ready,
            "up to there it is a Watch like any other"
        );
    }
    watch.on_response(now, SERVING)
}

#[test]
fn a_flood_ends_the_watch_and_the_pauses_grow_while_it_goes_on() {
    let now = Instant::now();
    let epoch = now - Duration::from_secs(100);
    let (mut watch, _) = Watch::start(epoch, Arc::new(options()), 1);
    let mut at = now;
    for delay in [1.0, 1.6, 2.56, 4.096] {
        let action = flood(&mut watch, at);
        assert_eq!((action.stop, action.start), (true, None));
        assert_eq!(watch.state(), TransientFailure);
        let cause = watch.cause().expect("it failed").text();
        assert_eq!(cause, "more than 1000 messages in 1 s");
        assert_eq!(watch.on_response(at, SERVING), Action::default());
        assert_eq!(watch.state(), TransientFailure, "nobody listens any more");
        // From the flood, not from the start of a Watch that ran for long.
        let next = at + Duration::from_secs_f64(delay);
        assert_eq!(watch.next_attempt(), Some(next));
        assert_eq!(watch.on_deadline(next), Action::start(Rpc::Watch));
        at = next;
    }
    // What goes well for a second is trusted again.
    at += Duration::from_secs(2);
    let _ = watch.on_response(at, SERVING);
    at += Duration::from_secs(2);
    let _ = flood(&mut watch, at);
    assert_eq!(watch.next_attempt(), Some(at + Duration::from_secs(1)));
}

#[test]
fn a_thousand_messages_in_every_second_are_no_flood() {
    let start = Instant::now();
    let (mut watch, _) = Watch::start(start, Arc::new(options()), 1);
    for message in 0..5_000 {
        let status = [SERVING, NOT_SERVING][message % 2];
        let now = start + Duration::from_millis(message as u64);
        assert_eq!(watch.on_response(now, status), Action::default());
    }
    assert_eq!(watch.status(), HealthStatus::NotServing);
}

#[test]
fn watches_that_end_before_they_are_a_flood_count_together() {
    let start = Instant::now();
    let (mut watch, _) = Watch::start(start, Arc::new(options()), 1);
    for _ in 0..600 {
        let _ = watch.on_response(start, SERVING);
    }
    let _ = watch.on_ended(start, ended("OK"));
    let later = watch.deadline().expect("it is asked again");
    assert!(later < start + Duration::from_secs(1));
    let _ = watch.on_deadline(later);
    for _ in 0..400 {
        let _ = watch.on_response(later, SERVING);
    }
    assert_eq!(watch.state(), Ready);
    assert!(watch.on_response(later, SERVING).stop);
}

#[test]
fn a_random_walk_agrees_with_the_model() {
    for seed in 0..400 {
        let walked = catch_unwind(AssertUnwindSafe(|| walk(seed, 200)));
        walked.unwrap_or_else(|panic| {
            eprintln!("seed {seed}");
            resume_unwind(panic)
        });
    }
}
