//! The rules as scripts, then a random walk beside a model that knows only
//! what came in and went out.

use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Action, EndKind, Ended, HealthOptions, HealthStatus, Notice, OnNotFound, OnUnimplemented, Rpc,
    Watch, effective,
};
use crate::{
    backoff::BackoffConfig,
    connectivity::ConnectivityState::{self, *},
};

const UNKNOWN: i32 = 0;
const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICE_UNKNOWN: i32 = 3;

#[derive(Clone, Debug)]
enum Input {
    Start,
    Response(i32),
    Ended(EndKind, &'static str),
    Checked(i32),
    CheckEnded(EndKind, &'static str),
    Deadline,
}
use Input::*;

const OK: Input = Ended(EndKind::Other, "OK");
const UNIMPLEMENTED: Input = Ended(EndKind::Unimplemented, "UNIMPLEMENTED");
const NOT_FOUND: Input = Ended(EndKind::NotFound, "NOT_FOUND");

/// The default, with delays that a script can name.
fn options() -> HealthOptions {
    let [initial, max] = [1, 120].map(Duration::from_secs);
    let backoff = BackoffConfig::try_new(initial, 1.6, 0.0, max).expect("valid");
    HealthOptions::default().backoff(backoff)
}

fn polling(interval: u64, timeout: u64) -> HealthOptions {
    options().on_unimplemented(OnUnimplemented::PollCheck {
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis(timeout),
    })
}

/// Feeds the inputs at their milliseconds and compares what the machine does
/// and says after each: `stop`, `start …`, `tell …`, the state, the health and
/// the cause, the deadline in milliseconds.
#[track_caller]
fn check(options: HealthOptions, script: &[(u64, Input, &str)]) {
    let epoch = Instant::now();
    let mut watch = None;
    for (step, (millis, input, expected)) in script.iter().enumerate() {
        let now = epoch + Duration::from_millis(*millis);
        let action = match watch.as_mut() {
            Some(watch) => feed(watch, now, input),
            None => {
                let (started, action) = Watch::start(now, Arc::new(options.clone()), 1);
                watch = Some(started);
                action
            }
        };
        let told = told(watch.as_ref().expect("started"), &action, epoch);
        assert_eq!(told, *expected, "step {step}: {input:?} at {millis} ms");
    }
}

fn feed(watch: &mut Watch, now: Instant, input: &Input) -> Action {
    let ended = |kind: &EndKind, text: &str| Ended {
        kind: *kind,
        text: text.to_owned(),
    };
    match input {
        Start => panic!("starts only once"),
        Response(status) => watch.on_response(now, *status),
        Ended(kind, text) => watch.on_ended(now, ended(kind, text)),
        Checked(status) => watch.on_checked(now, Ok(*status)),
        CheckEnded(kind, text) => watch.on_checked(now, Err(ended(kind, text))),
        Deadline => watch.on_deadline(now),
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
    let _ = write!(text, "{} {}", watch.state(), watch.status());
    if let Some(cause) = watch.cause() {
        let _ = write!(text, " ({})", cause.text());
    }
    if let Some(at) = watch.deadline() {
        let _ = write!(text, " until {}", (at - epoch).as_millis());
    }
    text
}

const STARTED: (u64, Input, &str) = (0, Start, "start Watch, CONNECTING pending until 20000");
const TF_NOT_SERVING: &str = "TRANSIENT_FAILURE NOT_SERVING (NOT_SERVING)";

// H01, J02
#[test]
fn every_message_decides_anew_on_the_same_stream() {
    check(
        options(),
        &[
            STARTED,
            (1, Response(NOT_SERVING), TF_NOT_SERVING),
            (2, Response(SERVING), "READY SERVING"),
            (
                3,
                Response(SERVICE_UNKNOWN),
                "TRANSIENT_FAILURE SERVICE_UNKNOWN (SERVICE_UNKNOWN)",
            ),
            (4, Response(SERVING), "READY SERVING"),
            (5, Response(UNKNOWN), "TRANSIENT_FAILURE UNKNOWN (UNKNOWN)"),
            (6, Response(NOT_SERVING), TF_NOT_SERVING),
        ],
    );
}

#[test]
fn unhealthy_to_healthy_skips_connecting() {
    check(
        options(),
        &[
            STARTED,
            (1, Response(NOT_SERVING), TF_NOT_SERVING),
            (2, Response(SERVING), "READY SERVING"),
        ],
    );
}

#[test]
fn an_unknown_number_is_unhealthy() {
    check(
        options(),
        &[
            STARTED,
            (
                1,
                Response(17),
                "TRANSIENT_FAILURE unrecognized status 17 (unrecognized status 17)",
            ),
            (
                2,
                Response(-1),
                "TRANSIENT_FAILURE unrecognized status -1 (unrecognized status -1)",
            ),
        ],
    );
}

// H02
#[test]
fn unimplemented_means_ready() {
    check(
        options(),
        &[
            STARTED,
            (1, UNIMPLEMENTED, "tell AssumedHealthy, READY unimplemented"),
            (60_000, Deadline, "READY unimplemented"),
        ],
    );
}

#[test]
fn unimplemented_after_messages_means_ready() {
    check(
        options(),
        &[
            STARTED,
            (1, Response(NOT_SERVING), TF_NOT_SERVING),
            (2, UNIMPLEMENTED, "tell AssumedHealthy, READY unimplemented"),
        ],
    );
}

#[test]
fn unimplemented_may_mean_unhealthy() {
    check(
        options().on_unimplemented(OnUnimplemented::Unhealthy),
        &[
            STARTED,
            (
                1,
                UNIMPLEMENTED,
                "tell UnhealthyWithoutService, TRANSIENT_FAILURE failed \
                 (no health service: UNIMPLEMENTED)",
            ),
            (
                60_000,
                Deadline,
                "TRANSIENT_FAILURE failed (no health service: UNIMPLEMENTED)",
            ),
        ],
    );
}

// J05, C12
#[test]
fn a_watch_that_ends_without_an_answer_is_retried_with_backoff() {
    let failed = |text: &str| format!("TRANSIENT_FAILURE failed (Watch ended: OK){text}");
    check(
        options(),
        &[
            STARTED,
            (10, OK, &failed(" until 1000")),
            (999, Deadline, &failed(" until 1000")),
            (
                1_000,
                Deadline,
                &format!("start Watch, {}", failed(" until 21000")),
            ),
            (1_010, OK, &failed(" until 2600")),
            (
                2_600,
                Deadline,
                &format!("start Watch, {}", failed(" until 22600")),
            ),
            (2_610, Response(SERVING), "READY SERVING"),
        ],
    );
}

// J05
#[test]
fn backoff_is_counted_from_the_start_of_the_watch() {
    check(
        options(),
        &[
            STARTED,
            (
                700,
                OK,
                "TRANSIENT_FAILURE failed (Watch ended: OK) until 1000",
            ),
            (
                1_000,
                Deadline,
                "start Watch, TRANSIENT_FAILURE failed (Watch ended: OK) until 21000",
            ),
            (
                5_000,
                OK,
                "start Watch, TRANSIENT_FAILURE failed (Watch ended: OK) until 25000",
            ),
        ],
    );
}

// H15
#[test]
fn backoff_grows_while_nobody_answers() {
    let now = Instant::now();
    let (mut watch, _) = Watch::start(now, Arc::new(options()), 1);
    let mut started = now;
    for (failures, delay) in [1.0, 1.6, 2.56, 4.096, 6.5536].into_iter().enumerate() {
        let _ = feed(&mut watch, started, &Ended(EndKind::Other, "no stream"));
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
    let failed = |until| format!("TRANSIENT_FAILURE failed (Watch ended: OK) until {until}");
    check(
        options(),
        &[
            STARTED,
            (10, OK, &failed(1_000)),
            (1_000, Deadline, &format!("start Watch, {}", failed(21_000))),
            (1_500, Response(SERVING), "READY SERVING"),
            (1_600, OK, &format!("start Watch, {}", failed(21_600))),
            // The first delay again, not the second.
            (1_601, OK, &failed(2_600)),
        ],
    );
}

// C12
#[test]
fn a_server_that_answers_and_hangs_up_does_not_spin_us() {
    let failed = |until| format!("TRANSIENT_FAILURE failed (Watch ended: OK) until {until}");
    check(
        options(),
        &[
            STARTED,
            (1, Response(SERVING), "READY SERVING"),
            (2, OK, &failed(100)),
            (100, Deadline, &format!("start Watch, {}", failed(20_100))),
            (101, Response(SERVING), "READY SERVING"),
            (102, OK, &failed(200)),
        ],
    );
}

#[test]
fn no_backoff_is_shorter_than_the_minimum_interval() {
    let millisecond = Duration::from_millis(1);
    let backoff = BackoffConfig::try_new(millisecond, 1.0, 0.0, millisecond).expect("valid");
    check(
        HealthOptions::default().backoff(backoff),
        &[
            STARTED,
            (
                1,
                OK,
                "TRANSIENT_FAILURE failed (Watch ended: OK) until 100",
            ),
        ],
    );
}

// C13
#[test]
fn a_garbled_message_is_an_ended_watch() {
    check(
        options(),
        &[
            STARTED,
            (
                1,
                Ended(EndKind::Other, "INTERNAL: cannot decode"),
                "TRANSIENT_FAILURE failed (Watch ended: INTERNAL: cannot decode) until 1000",
            ),
        ],
    );
}

#[test]
fn silence_is_a_failure_after_twenty_seconds() {
    let failed = |until| format!("TRANSIENT_FAILURE failed (no answer in 20s) until {until}");
    check(
        options(),
        &[
            STARTED,
            (19_999, Deadline, "CONNECTING pending until 20000"),
            (
                20_000,
                Deadline,
                &format!("stop, start Watch, {}", failed(40_000)),
            ),
            (20_001, Response(SERVING), "READY SERVING"),
            (90_000, Deadline, "READY SERVING"),
        ],
    );
}

#[test]
fn silence_backs_off_when_the_timeout_is_shorter_than_the_delay() {
    check(
        options().first_response_timeout(Some(Duration::from_millis(300))),
        &[
            (0, Start, "start Watch, CONNECTING pending until 300"),
            (
                300,
                Deadline,
                "stop, TRANSIENT_FAILURE failed (no answer in 300ms) until 1000",
            ),
            (
                1_000,
                Deadline,
                "start Watch, TRANSIENT_FAILURE failed (no answer in 300ms) until 1300",
            ),
        ],
    );
}

#[test]
fn a_timeout_of_zero_does_not_spin() {
    check(
        options().first_response_timeout(Some(Duration::ZERO)),
        &[
            (0, Start, "start Watch, CONNECTING pending until 0"),
            (
                0,
                Deadline,
                "stop, TRANSIENT_FAILURE failed (no answer in 0ns) until 1000",
            ),
        ],
    );
}

// H09
#[test]
fn without_a_timeout_silence_is_connecting_for_ever() {
    for timeout in [None, Some(Duration::MAX)] {
        check(
            options().first_response_timeout(timeout),
            &[
                (0, Start, "start Watch, CONNECTING pending"),
                (1_000_000_000, Deadline, "CONNECTING pending"),
            ],
        );
    }
}

#[test]
fn not_found_backs_off_by_default() {
    check(
        options(),
        &[
            STARTED,
            (
                1,
                NOT_FOUND,
                "TRANSIENT_FAILURE failed (Watch ended: NOT_FOUND) until 1000",
            ),
        ],
    );
}

#[test]
fn not_found_may_be_retried_at_an_interval() {
    let failed = |until| format!("TRANSIENT_FAILURE failed (Watch ended: NOT_FOUND) until {until}");
    check(
        options().on_not_found(OnNotFound::RetryEvery(Duration::from_millis(500))),
        &[
            STARTED,
            (1, NOT_FOUND, &failed(500)),
            (500, Deadline, &format!("start Watch, {}", failed(20_500))),
            (501, NOT_FOUND, &failed(1_000)),
            (1_000, Deadline, &format!("start Watch, {}", failed(21_000))),
            // The interval did not use up the backoff.
            (
                1_001,
                OK,
                "TRANSIENT_FAILURE failed (Watch ended: OK) until 2000",
            ),
        ],
    );
}

#[test]
fn an_interval_of_zero_does_not_spin() {
    check(
        options().on_not_found(OnNotFound::RetryEvery(Duration::ZERO)),
        &[
            STARTED,
            (
                1,
                NOT_FOUND,
                "TRANSIENT_FAILURE failed (Watch ended: NOT_FOUND) until 100",
            ),
        ],
    );
    check(
        polling(0, 0),
        &[
            STARTED,
            (
                1,
                UNIMPLEMENTED,
                "start Check, tell PollingCheck, CONNECTING pending until 101",
            ),
            (2, Checked(SERVING), "READY SERVING until 101"),
            (101, Deadline, "start Check, READY SERVING until 201"),
        ],
    );
}

#[test]
fn healthy_may_be_assumed_until_the_first_news() {
    let assuming = || options().assume_healthy_until_first_response(true);
    let started = (0, Start, "start Watch, READY pending until 20000");
    check(
        assuming(),
        &[started.clone(), (1, Response(NOT_SERVING), TF_NOT_SERVING)],
    );
    check(
        assuming(),
        &[
            started,
            (
                1,
                OK,
                "TRANSIENT_FAILURE failed (Watch ended: OK) until 1000",
            ),
            (
                1_000,
                Deadline,
                "start Watch, TRANSIENT_FAILURE failed (Watch ended: OK) until 21000",
            ),
        ],
    );
}

#[test]
fn check_is_polled_where_watch_is_unimplemented() {
    let failed = |why, until| format!("TRANSIENT_FAILURE {why} until {until}");
    check(
        polling(5_000, 1_000),
        &[
            STARTED,
            (
                10,
                UNIMPLEMENTED,
                "start Check, tell PollingCheck, CONNECTING pending until 1010",
            ),
            (20, Checked(SERVING), "READY SERVING until 5010"),
            (5_010, Deadline, "start Check, READY SERVING until 6010"),
            (
                5_020,
                Checked(NOT_SERVING),
                &failed("NOT_SERVING (Check: NOT_SERVING)", 10_010),
            ),
            (
                10_010,
                Deadline,
                &format!(
                    "start Check, {}",
                    failed("NOT_SERVING (Check: NOT_SERVING)", 11_010)
                ),
            ),
            (
                11_010,
                Deadline,
                &format!(
                    "stop, {}",
                    failed("failed (Check: no answer in 1s)", 15_010)
                ),
            ),
            (
                15_010,
                Deadline,
                &format!(
                    "start Check, {}",
                    failed("failed (Check: no answer in 1s)", 16_010)
                ),
            ),
            (
                15_020,
                CheckEnded(EndKind::NotFound, "NOT_FOUND"),
                &failed("failed (Check: NOT_FOUND)", 20_010),
            ),
            (
                20_010,
                Deadline,
                &format!(
                    "start Check, {}",
                    failed("failed (Check: NOT_FOUND)", 21_010)
                ),
            ),
            (20_020, Checked(SERVING), "READY SERVING until 25010"),
        ],
    );
}

#[test]
fn a_slow_check_is_followed_at_once() {
    check(
        polling(1_000, 3_000),
        &[
            STARTED,
            (
                0,
                UNIMPLEMENTED,
                "start Check, tell PollingCheck, CONNECTING pending until 3000",
            ),
            (
                2_000,
                Checked(SERVING),
                "start Check, READY SERVING until 5000",
            ),
            (
                5_000,
                Deadline,
                "stop, start Check, TRANSIENT_FAILURE failed (Check: no answer in 3s) until 8000",
            ),
        ],
    );
}

#[test]
fn polling_keeps_what_watch_had_said_until_check_answers() {
    check(
        polling(5_000, 1_000),
        &[
            STARTED,
            (1, Response(NOT_SERVING), TF_NOT_SERVING),
            (
                2,
                UNIMPLEMENTED,
                "start Check, tell PollingCheck, TRANSIENT_FAILURE NOT_SERVING (NOT_SERVING) \
                 until 1002",
            ),
            (3, Checked(SERVING), "READY SERVING until 5002"),
        ],
    );
}

#[test]
fn check_unimplemented_too_means_ready() {
    check(
        polling(5_000, 1_000),
        &[
            STARTED,
            (
                1,
                UNIMPLEMENTED,
                "start Check, tell PollingCheck, CONNECTING pending until 1001",
            ),
            (
                2,
                CheckEnded(EndKind::Unimplemented, "UNIMPLEMENTED"),
                "tell AssumedHealthy, READY unimplemented",
            ),
        ],
    );
}

#[test]
fn late_inputs_are_ignored() {
    let failed = "TRANSIENT_FAILURE failed (Watch ended: OK) until 1000";
    check(
        options(),
        &[
            STARTED,
            (0, Checked(SERVING), "CONNECTING pending until 20000"),
            (1, OK, failed),
            (2, OK, failed),
            (3, UNIMPLEMENTED, failed),
            (4, Response(SERVING), failed),
            (5, Checked(SERVING), failed),
        ],
    );
    let off = "READY unimplemented";
    check(
        options(),
        &[
            STARTED,
            (1, UNIMPLEMENTED, &format!("tell AssumedHealthy, {off}")),
            (2, UNIMPLEMENTED, off),
            (3, Response(NOT_SERVING), off),
            (4, CheckEnded(EndKind::Other, "late"), off),
        ],
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
    let ended_after = |inputs: &[Input]| {
        let (mut watch, _) = Watch::start(now, Arc::new(polling(5_000, 1_000)), 1);
        for input in inputs {
            let _ = feed(&mut watch, now, input);
        }
        watch.end()
    };
    let stop = Action {
        stop: true,
        ..Action::default()
    };
    assert_eq!(ended_after(&[]), stop);
    assert_eq!(ended_after(&[Response(SERVING)]), stop);
    assert_eq!(ended_after(&[UNIMPLEMENTED]), stop);
    assert_eq!(ended_after(&[OK]), Action::default());
    assert_eq!(
        ended_after(&[UNIMPLEMENTED, Checked(SERVING)]),
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
    started: [Option<Instant>; 2],
}

impl Model {
    fn state(&self) -> ConnectivityState {
        match self.word {
            None if self.options.assume_healthy_until_first_response => Ready,
            None => Connecting,
            Some(HealthStatus::Serving | HealthStatus::Unimplemented) => Ready,
            Some(_) => TransientFailure,
        }
    }

    /// Takes an input; says whether the machine may do anything about it.
    fn take(&mut self, input: &Input, due: bool) -> bool {
        let expected = match input {
            Start => true,
            Response(_) | Ended(..) => self.running == Some(Rpc::Watch),
            Checked(_) | CheckEnded(..) => self.running == Some(Rpc::Check),
            Deadline => due,
        };
        if !expected {
            return false;
        }
        match input {
            Start => {}
            Response(number) | Checked(number) => {
                self.answered = true;
                self.word = Some(match number {
                    0 => HealthStatus::Unknown,
                    1 => HealthStatus::Serving,
                    2 => HealthStatus::NotServing,
                    3 => HealthStatus::ServiceUnknown,
                    other => HealthStatus::Unrecognized(*other),
                });
            }
            Ended(EndKind::Unimplemented, _) => match self.options.on_unimplemented {
                OnUnimplemented::AssumeHealthy => self.end_with(HealthStatus::Unimplemented),
                OnUnimplemented::Unhealthy => self.end_with(HealthStatus::Failed),
                OnUnimplemented::PollCheck { .. } => {}
            },
            CheckEnded(EndKind::Unimplemented, _) => self.end_with(HealthStatus::Unimplemented),
            Ended(..) | CheckEnded(..) => self.word = Some(HealthStatus::Failed),
            Deadline if self.running.is_some() => self.word = Some(HealthStatus::Failed),
            Deadline => {}
        }
        if !matches!(input, Start | Response(_) | Deadline) {
            self.running = None;
        }
        true
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

fn random_input(rng: &mut fastrand::Rng) -> Input {
    let kind = match rng.u8(0..20) {
        0 => EndKind::Unimplemented,
        1..5 => EndKind::NotFound,
        5.. => EndKind::Other,
    };
    match rng.u8(0..8) {
        0 | 1 => Response(rng.i32(-1..6)),
        2 => Ended(kind, "ended"),
        3 => Checked(rng.i32(-1..6)),
        4 => CheckEnded(kind, "ended"),
        5.. => Deadline,
    }
}

fn walk(seed: u64, steps: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let options = random_options(&mut rng);
    let mut now = Instant::now();
    let (mut watch, action) = Watch::start(now, Arc::new(options.clone()), seed);
    let mut model = Model {
        options,
        running: None,
        answered: false,
        over: false,
        word: None,
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
        let before = told(
            &watch,
            &Action::default(),
            now - Duration::from_secs(999_999),
        );
        let expected = model.take(&input, due);
        let action = feed(&mut watch, now, &input);
        if !expected {
            let after = told(&watch, &action, now - Duration::from_secs(999_999));
            assert_eq!(before, after, "{input:?} was not expected");
        }
        model.act(now, &action);
        model.agree(&watch, now, matches!(input, Deadline));
        let told_once = matches!(input, Ended(EndKind::Unimplemented, _))
            || matches!(input, CheckEnded(EndKind::Unimplemented, _));
        assert_eq!(action.notice.is_some(), expected && told_once);
        assert!(
            !model.over
                || matches!(action.notice, None | Some(Notice::AssumedHealthy))
                || model.word == Some(HealthStatus::Failed)
        );
    }
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
