//! Scripts of bytes, PINGs and calls, in milliseconds.

use std::time::{Duration, Instant};

use super::{Action, PING_PAUSE, Quiet, Seen};

const SECOND: Duration = Duration::from_secs(1);

/// A connection, and the time since it was made, in milliseconds.
struct World {
    quiet: Quiet,
    start: Instant,
    has_calls: bool,
}

impl World {
    /// 1 s until the PING, and 1 s after it.
    fn new() -> Self {
        Self {
            quiet: Quiet::new(SECOND, SECOND),
            start: Instant::now(),
            has_calls: false,
        }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn polled(&mut self, millis: u64, seen: Seen) -> Action {
        let (now, has_calls) = (self.at(millis), self.has_calls);
        let seen = Seen { has_calls, ..seen };
        self.quiet.on_polled(seen, || now)
    }

    #[track_caller]
    fn calls(&mut self, millis: u64, has_calls: bool) {
        self.has_calls = has_calls;
        assert_eq!(self.polled(millis, Seen::default()), Action::Nothing);
    }

    fn byte(&mut self, millis: u64) -> Action {
        let has_read = true;
        self.polled(
            millis,
            Seen {
                has_read,
                ..Seen::default()
            },
        )
    }

    fn data(&mut self, millis: u64) -> Action {
        let (has_read, has_data) = (true, true);
        self.polled(
            millis,
            Seen {
                has_read,
                has_data,
                ..Seen::default()
            },
        )
    }

    fn pong(&mut self, millis: u64) -> Action {
        let (has_read, has_pong) = (true, true);
        self.polled(
            millis,
            Seen {
                has_read,
                has_pong,
                ..Seen::default()
            },
        )
    }

    /// The deadline is then, and this follows.
    #[track_caller]
    fn due(&mut self, millis: u64, action: Action) {
        let at = self.at(millis);
        assert_eq!(self.quiet.deadline(), Some(at));
        let early = at - Duration::from_millis(1);
        assert_eq!(self.quiet.on_deadline(early), Action::Nothing, "too early");
        assert_eq!(self.quiet.on_deadline(at), action);
    }

    #[track_caller]
    fn waits_for_nothing(&mut self) {
        assert_eq!(self.quiet.deadline(), None);
        let late = self.at(1_000_000_000);
        assert_eq!(self.quiet.on_deadline(late), Action::Nothing);
    }
}

// D372
#[test]
fn no_byte_is_a_ping_and_then_a_silence_that_a_byte_ends() {
    let mut world = World::new();
    world.calls(0, true);
    world.due(1_000, Action::Ping);
    world.due(2_000, Action::BeginSilence);
    world.waits_for_nothing();
    assert_eq!(world.byte(60_000), Action::EndSilence);
    world.due(61_000, Action::Ping);
}

// D372
#[test]
fn the_answer_to_the_ping_is_a_byte() {
    let mut world = World::new();
    world.calls(0, true);
    world.due(1_000, Action::Ping);
    assert_eq!(world.pong(1_900), Action::Nothing);
    world.due(2_900, Action::Ping);
    assert_eq!(world.byte(3_800), Action::Nothing, "not the answer");
    world.due(4_800, Action::Ping);
}

// D372
#[test]
fn the_quiet_time_counts_from_the_last_byte() {
    let mut world = World::new();
    world.calls(0, true);
    for byte in 1..20 {
        assert_eq!(world.byte(byte * 999), Action::Nothing);
    }
    world.due(19 * 999 + 1_000, Action::Ping);
}

// D372
#[test]
fn a_connection_that_has_rested_is_not_quiet_when_a_call_begins() {
    let mut world = World::new();
    world.calls(0, true);
    assert_eq!(world.byte(10), Action::Nothing);
    world.calls(20, false);
    world.waits_for_nothing();
    world.calls(3_600_000, true);
    world.due(3_601_000, Action::Ping);
}

// D372
#[test]
fn a_gap_between_calls_begins_anew() {
    let mut world = World::new();
    for begin in 0..10 {
        world.calls(begin * 1_000, true);
        world.calls(begin * 1_000 + 999, false);
        world.waits_for_nothing();
    }
}

// D372
#[test]
fn a_ping_without_an_answer_counts_though_its_calls_have_ended() {
    let mut world = World::new();
    world.calls(0, true);
    world.due(1_000, Action::Ping);
    world.calls(1_500, false);
    world.due(2_000, Action::BeginSilence);
    world.calls(2_500, true);
    world.waits_for_nothing();
    world.calls(2_600, false);
    assert_eq!(world.pong(9_000), Action::EndSilence);
    world.waits_for_nothing();
}

// D374
#[test]
fn between_data_there_are_2_pings_and_then_1_in_5_minutes() {
    let mut world = World::new();
    world.calls(0, true);
    world.due(1_000, Action::Ping);
    assert_eq!(world.pong(1_000), Action::Nothing);
    world.due(2_000, Action::Ping);
    assert_eq!(world.pong(2_000), Action::Nothing);
    let pause = u64::try_from(PING_PAUSE.as_millis()).unwrap();
    world.due(2_000 + pause, Action::Ping);
    assert_eq!(world.pong(2_000 + pause), Action::Nothing);
    assert_eq!(world.byte(2_010 + pause), Action::Nothing, "of no call");
    world.due(2_000 + 2 * pause, Action::Ping);
    assert_eq!(world.pong(2_000 + 2 * pause), Action::Nothing);

    let now = 10_000 + 2 * pause;
    assert_eq!(world.data(now), Action::Nothing);
    world.due(now + 1_000, Action::Ping);
    assert_eq!(world.pong(now + 1_000), Action::Nothing);
    world.due(now + 2_000, Action::Ping);
}

// D374
#[test]
fn data_from_before_the_answer_to_a_ping_does_not_count_as_after_it() {
    let mut world = World::new();
    world.calls(0, true);
    for ping in [1_000, 2_001] {
        world.due(ping, Action::Ping);
        assert_eq!(world.data(ping), Action::Nothing, "sent before the PING");
        assert_eq!(world.pong(ping + 1), Action::Nothing);
    }
    let at = world.quiet.deadline().expect("calls are in flight");
    assert_eq!(at, world.at(2_001) + PING_PAUSE);
}

// D374
#[test]
fn a_ping_on_its_way_serves_for_the_next() {
    let mut world = World::new();
    world.calls(0, true);
    for ping in 0..5 {
        world.due(ping * 1_500 + 1_000, Action::Ping);
        assert_eq!(world.byte(ping * 1_500 + 1_500), Action::Nothing);
    }
    assert_eq!(world.quiet.pings.count, 1);
    world.due(8_500, Action::Ping);
    world.due(9_500, Action::BeginSilence);
}

#[test]
fn no_limit_is_too_long() {
    let mut quiet = Quiet::new(Duration::MAX, Duration::MAX);
    let now = Instant::now();
    let seen = Seen {
        has_calls: true,
        ..Seen::default()
    };
    assert_eq!(quiet.on_polled(seen, || now), Action::Nothing);
    let at = quiet.deadline().expect("calls are in flight");
    assert!(at > now + 1_000 * PING_PAUSE);
    assert_eq!(quiet.on_deadline(at), Action::Ping);
    assert!(quiet.deadline() > Some(at));
}
