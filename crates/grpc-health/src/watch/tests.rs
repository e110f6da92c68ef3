//! The table by example: what it is told, and what is then to be seen.

use std::time::{Duration, Instant, SystemTime};

use tonic_health_channel::{
    ConnectivityState::{self, *},
    health::HealthStatus,
};

use super::{
    lines,
    table::{Event, Failure, Look, Question, Seen, Size, Table, What},
    until::Until,
};
use crate::report::Clock;

const WIDE: Size = Size {
    columns: 120,
    lines: 20,
};

/// A table and its time, in seconds since it was made.
struct Scene {
    start: Instant,
    table: Table<u8>,
}

impl Scene {
    /// Each target is asked about each service.
    fn new(targets: &[&str], services: &[&str]) -> Self {
        let start = Clock::now().now;
        let question = |target: &str, service: &str| Question {
            target: target.to_owned(),
            service: service.to_owned(),
        };
        let questions = targets
            .iter()
            .flat_map(|target| services.iter().map(|service| question(target, service)));
        Self {
            table: Table::new(questions.collect(), start),
            start,
        }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    /// A channel has these backends, each since this second.
    fn look(&mut self, second: u64, channel: usize, backends: &[(u8, Seen)]) -> Vec<Event> {
        let since = self.at(second);
        let backends = backends
            .iter()
            .cloned()
            .map(|(id, seen)| (id, Seen { since, ..seen }));
        let look = Look {
            state: Connecting,
            trouble: None,
            backends: backends.collect(),
        };
        self.table.on_look(channel, look, since)
    }

    fn trouble(&mut self, second: u64, channel: usize, trouble: Option<&str>) -> Vec<Event> {
        let look = Look {
            state: TransientFailure,
            trouble: trouble.map(str::to_owned),
            backends: Vec::new(),
        };
        self.table.on_look(channel, look, self.at(second))
    }

    #[track_caller]
    fn shows(&self, second: u64, size: Size, expected: &[&str]) {
        let lines = self.table.text(size, self.at(second));
        let text = |line: &Vec<crate::grid::Cell>| {
            line.iter()
                .map(|cell| cell.text.as_str())
                .collect::<String>()
        };
        assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), expected);
    }

    fn flips(&self) -> Vec<Option<u32>> {
        self.table.rows().map(|(_, _, flips)| flips).collect()
    }
}

fn seen(label: &str, state: ConnectivityState, health: HealthStatus) -> Seen {
    Seen {
        label: label.to_owned(),
        address: label.to_owned(),
        state,
        health,
        since: Clock::now().now,
        error: None,
    }
}

fn serving(label: &str) -> Seen {
    seen(label, Ready, HealthStatus::Serving)
}

fn not_serving(label: &str) -> Seen {
    seen(label, TransientFailure, HealthStatus::NotServing)
}

fn connecting(label: &str) -> Seen {
    seen(label, Connecting, HealthStatus::NotChecked)
}

fn kinds(events: &[Event]) -> Vec<(What, &str)> {
    let kind = |event: &Event| event.what;
    let kinds = events.iter().map(kind);
    kinds
        .zip(events.iter().map(|event| event.seen.label.as_str()))
        .collect()
}

#[test]
fn a_target_has_a_row_until_it_has_backends() {
    let mut scene = Scene::new(&["dns:///shop"], &[""]);
    let heading = "BACKEND      STATE       HEALTH  SINCE  FLIPS  LAST ERROR";
    scene.shows(
        3,
        WIDE,
        &[heading, "dns:///shop  CONNECTING  -       3s     -"],
    );
    scene.look(4, 0, &[(1, serving("10.0.0.1:1"))]);
    scene.shows(
        9,
        WIDE,
        &[
            "BACKEND     STATE  HEALTH   SINCE  FLIPS  LAST ERROR",
            "10.0.0.1:1  READY  SERVING  5s     0",
        ],
    );
}

#[test]
fn a_source_that_fails_is_a_row_and_one_event() {
    let mut scene = Scene::new(&["dns:///shop"], &[""]);
    let events = scene.trouble(1, 0, Some("no such name"));
    assert_eq!(kinds(&events), [(What::Source, "dns:///shop")]);
    assert_eq!(scene.trouble(2, 0, Some("no such name")), []);
    scene.shows(
        4,
        WIDE,
        &[
            "BACKEND      STATE              HEALTH  SINCE  FLIPS  LAST ERROR",
            "dns:///shop  TRANSIENT_FAILURE  -       3s     -      no such name (3s ago)",
        ],
    );
    let events = scene.look(5, 0, &[(1, serving("a"))]);
    assert_eq!(
        kinds(&events),
        [(What::Source, "dns:///shop"), (What::Added, "a")]
    );
}

#[test]
fn backends_come_and_go() {
    let mut scene = Scene::new(&["t"], &[""]);
    let events = scene.look(1, 0, &[(1, serving("a")), (2, serving("b"))]);
    assert_eq!(kinds(&events), [(What::Added, "a"), (What::Added, "b")]);
    let events = scene.look(2, 0, &[(2, serving("b")), (3, serving("a"))]);
    // The same name again is another backend.
    assert_eq!(kinds(&events), [(What::Removed, "a"), (What::Added, "a")]);
}

#[test]
fn coming_up_is_no_flip_and_each_change_after_that_is() {
    let mut scene = Scene::new(&["t"], &[""]);
    for (seen, flips) in [
        (connecting("a"), 0),
        (not_serving("a"), 0),
        (serving("a"), 0),
        (not_serving("a"), 1),
        (connecting("a"), 1),
        (serving("a"), 2),
        (serving("a"), 2),
        (connecting("a"), 3),
    ] {
        scene.look(1, 0, &[(1, seen)]);
        assert_eq!(scene.flips(), [Some(flips)]);
    }
}

#[test]
fn a_failure_that_is_asked_about_again_is_the_same_failure() {
    let mut scene = Scene::new(&["t"], &[""]);
    scene.look(1, 0, &[(1, not_serving("a"))]);
    let asked = seen("a", TransientFailure, HealthStatus::Pending);
    assert_eq!(scene.look(2, 0, &[(1, asked)]), []);
    assert_eq!(scene.look(3, 0, &[(1, not_serving("a"))]), []);
    let [_, row] = &scene.table.text(WIDE, scene.at(5))[..] else {
        panic!("a heading and a row")
    };
    assert_eq!(row[2].text.trim(), "NOT_SERVING");
    assert_eq!(row[3].text.trim(), "4s");
}

#[test]
fn another_attempt_that_fails_alike_is_no_news() {
    let mut scene = Scene::new(&["t"], &[""]);
    let refused = |second| Seen {
        error: Some(Failure {
            text: "connect: refused".to_owned(),
            at: scene.at(second),
        }),
        ..seen("a", TransientFailure, HealthStatus::NotChecked)
    };
    let (first, second) = (refused(1), refused(2));
    scene.look(1, 0, &[(1, first)]);
    assert_eq!(scene.look(2, 0, &[(1, second)]), []);
    // It is seen, though.
    let [_, row] = &scene.table.text(WIDE, scene.at(5))[..] else {
        panic!("a heading and a row")
    };
    assert_eq!(row[5].text, "connect: refused (3s ago)");
}

#[test]
fn targets_and_services_are_columns_where_they_tell_rows_apart() {
    let mut scene = Scene::new(&["one", "two"], &["", "shop"]);
    for channel in 0..4 {
        scene.look(0, channel, &[(1, serving("a"))]);
    }
    scene.shows(
        0,
        WIDE,
        &[
            "BACKEND  TARGET  SERVICE  STATE  HEALTH   SINCE  FLIPS  LAST ERROR",
            "a        one     \"\"       READY  SERVING  0s     0",
            "a        one     shop     READY  SERVING  0s     0",
            "a        two     \"\"       READY  SERVING  0s     0",
            "a        two     shop     READY  SERVING  0s     0",
        ],
    );
}

#[test]
fn a_target_that_is_its_backend_is_not_named_twice() {
    let mut scene = Scene::new(&["a", "b"], &[""]);
    scene.look(0, 0, &[(1, serving("a"))]);
    scene.look(0, 1, &[(1, serving("b"))]);
    scene.shows(
        0,
        WIDE,
        &[
            "BACKEND  STATE  HEALTH   SINCE  FLIPS  LAST ERROR",
            "a        READY  SERVING  0s     0",
            "b        READY  SERVING  0s     0",
        ],
    );
}

#[test]
fn rows_that_do_not_fit_are_counted() {
    let mut scene = Scene::new(&["t"], &[""]);
    let backends = [serving("a"), serving("b"), not_serving("c"), serving("d")];
    let backends: Vec<_> = (1..).zip(backends).collect();
    scene.look(0, 0, &backends);
    let sized = |lines| Size { columns: 44, lines };
    let heading = "BACKEND  STATE  HEALTH   SINCE  FLIPS  LAST…";
    scene.shows(
        0,
        sized(4),
        &[
            heading,
            "a        READY  SERVING  0s     0",
            "b        READY  SERVING  0s     0",
            "… and 2 more, 1 of them not READY",
        ],
    );
    assert_eq!(scene.table.text(sized(5), scene.start).len(), 5);
    scene.look(0, 0, &backends[..2]);
    assert_eq!(
        scene.table.text(sized(2), scene.start)[1][0].text,
        "… and 2 more"
    );
    for lines in 0..6 {
        assert!(scene.table.text(sized(lines), scene.start).len() <= lines);
    }
}

#[track_caller]
fn missing(scene: &Scene, until: Until, expected: &[&str]) {
    assert_eq!(until.missing(&scene.table), expected);
}

#[test]
fn until_serving_wants_every_backend_of_every_target() {
    let mut scene = Scene::new(&["one", "two"], &["shop"]);
    let line = "one: service shop: CONNECTING";
    let other = "two: service shop: CONNECTING";
    missing(&scene, Until::Serving, &[line, other]);
    scene.look(0, 0, &[(1, serving("a")), (2, not_serving("b"))]);
    scene.look(0, 1, &[(1, serving("c"))]);
    let line = "b: service shop: TRANSIENT_FAILURE, health NOT_SERVING";
    missing(&scene, Until::Serving, &[line]);
    scene.look(0, 0, &[(1, serving("a"))]);
    missing(&scene, Until::Serving, &[]);
}

#[test]
fn until_any_serving_wants_one_for_each_service() {
    let mut scene = Scene::new(&["one", "two"], &["", "shop"]);
    scene.look(0, 0, &[(1, serving("a"))]);
    let lines = [
        "one: service shop: CONNECTING",
        "two: service shop: CONNECTING",
    ];
    missing(&scene, Until::AnyServing, &lines);
    scene.look(0, 3, &[(1, serving("b"))]);
    missing(&scene, Until::AnyServing, &[]);
}

#[test]
fn a_server_without_health_service_is_not_serving() {
    let mut scene = Scene::new(&["t"], &[""]);
    scene.look(0, 0, &[(1, seen("a", Ready, HealthStatus::Unimplemented))]);
    missing(&scene, Until::Serving, &["a: READY, health unimplemented"]);
}

#[test]
fn an_event_is_a_line_for_people_and_an_object_for_programs() {
    let mut scene = Scene::new(&["shop:1"], &["cart"]);
    let failure = Failure {
        text: "health check: NOT_SERVING".to_owned(),
        at: scene.at(2),
    };
    let sick = Seen {
        label: "api-1".to_owned(),
        address: "10.0.0.1:1".to_owned(),
        error: Some(failure),
        ..not_serving("")
    };
    let mut events = scene.trouble(1, 0, Some("no\nname"));
    events.extend(scene.look(2, 0, &[(1, sick)]).into_iter().skip(1));
    events.extend(scene.look(3, 0, &[]));
    let clock = Clock {
        now: scene.at(4),
        today: SystemTime::UNIX_EPOCH + Duration::from_secs(4),
    };
    let texts = events.iter().map(|event| lines::text(event, &clock, true));
    assert_eq!(
        texts.collect::<Vec<_>>(),
        [
            "1970-01-01T00:00:04.000Z shop:1 cart TRANSIENT_FAILURE - no\\nname",
            "1970-01-01T00:00:04.000Z api-1 (10.0.0.1:1) cart TRANSIENT_FAILURE NOT_SERVING \
             health check: NOT_SERVING",
            "1970-01-01T00:00:04.000Z api-1 (10.0.0.1:1) cart removed",
        ]
    );
    let objects = events[..2].iter().map(|event| lines::json(event, &clock));
    assert_eq!(
        objects.collect::<Vec<_>>(),
        [
            "{\"time\":\"1970-01-01T00:00:04.000Z\",\"event\":\"source\",\"target\":\"shop:1\",\
             \"service\":\"cart\",\"backend\":null,\"address\":null,\
             \"state\":\"TRANSIENT_FAILURE\",\"health\":null,\
             \"since\":\"1970-01-01T00:00:01.000Z\",\"flips\":null,\"error\":\"no\\nname\",\
             \"error_time\":\"1970-01-01T00:00:01.000Z\"}",
            "{\"time\":\"1970-01-01T00:00:04.000Z\",\"event\":\"added\",\"target\":\"shop:1\",\
             \"service\":\"cart\",\"backend\":\"api-1\",\"address\":\"10.0.0.1:1\",\
             \"state\":\"TRANSIENT_FAILURE\",\"health\":\"NOT_SERVING\",\
             \"since\":\"1970-01-01T00:00:02.000Z\",\"flips\":0,\
             \"error\":\"health check: NOT_SERVING\",\
             \"error_time\":\"1970-01-01T00:00:02.000Z\"}",
        ]
    );
}
