//! Backends restart, and their clients come back.

use std::time::{Duration, Instant};

use super::{
    super::{
        backend::Backend,
        event::Fate,
        plan::{MS, Plan, SECOND},
        report::{Bins, Sorted},
        world::World,
    },
    table::{Table, sized},
};
use crate::util::backoff::BackoffConfig;

/// The fate of the first `restarts` backends.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    restarts: usize,
    fate: Fate,
    down: Duration,
    /// They rise one after the other, within this time.
    stagger: Duration,
}

const COLUMNS: &str = "case,clients,backends,connections,attempts_10ms,attempts_100ms,attempts_1s,\
                       later_100ms,later_1s,watches_100ms,accept_wait_ms,overflows,attempts_each,\
                       back_p50_s,back_max_s,calls_100ms,calls_mean_100ms";

/// The figures of a case, from `began` on.
struct Figures<'a> {
    case: &'a Case,
    began: Instant,
    world: &'a World,
    back: Sorted,
}

fn play(world: &mut World, case: &Case, summary: &mut Table, series: &mut Table) {
    let clock = Instant::now();
    let began = world.now();
    let bin = world.plan().bin;
    let full: Vec<_> = world.net.backends.iter().map(|b| b.connections).collect();
    for backend in &mut world.net.backends {
        let fresh = || Bins::new(began, bin);
        (backend.attempts, backend.watches, backend.calls) = (fresh(), fresh(), fresh());
        (backend.longest_accept, backend.overflows) = (Duration::ZERO, 0);
    }
    world.befall(Duration::ZERO, 0..case.restarts, case.fate);
    for number in 0..case.restarts {
        let wait = case.down + world.net.within(case.stagger);
        if !matches!(case.fate, Fate::EndsConnections) {
            world.befall(wait, [number], Fate::Rises);
        }
    }
    let mut back = vec![None; case.restarts];
    let (step, mut passed) = (MS * 10, Duration::ZERO);
    while back.contains(&None) || passed < case.down + SECOND * 5 {
        world.pass(step);
        passed += step;
        if passed <= case.down {
            continue;
        }
        for (number, back) in back.iter_mut().enumerate() {
            let is_whole = world.net.backends[number].connections >= full[number];
            if back.is_none() && is_whole {
                *back = Some(passed - case.down);
            }
        }
        assert!(
            passed < case.down * 3 + SECOND * 60,
            "{}: some are lost",
            case.name
        );
    }
    world.assert_that_no_call_is_lost();
    let figures = Figures {
        case,
        began,
        world,
        back: Sorted::of_times(back.into_iter().flatten()),
    };
    figures.sum_up(summary);
    figures.draw(series);
    println!("{}: {:.1} s", case.name, clock.elapsed().as_secs_f64());
    // Until all backoffs are over.
    world.pass(SECOND * 10);
}

impl Figures<'_> {
    fn backends(&self) -> &[Backend] {
        &self.world.net.backends[..self.case.restarts]
    }

    fn most(&self, of: impl Fn(&Backend) -> f64) -> f64 {
        self.backends().iter().map(of).fold(0.0, f64::max)
    }

    fn sum(&self, of: impl Fn(&Backend) -> f64) -> f64 {
        self.backends().iter().map(of).sum()
    }

    fn sum_up(&self, table: &mut Table) {
        let (began, end) = (self.began, self.world.now());
        let up = began + self.case.down;
        let later = began + SECOND / 2;
        let peak = |from, window| self.most(|b| b.attempts.peak(from, window) as f64);
        let connections = self.sum(|b| f64::from(b.connections));
        let calls = self.sum(|b| b.calls.between(end - SECOND * 2, end) as f64);
        table.row(
            &[self.case.name],
            &[
                self.world.plan().clients as f64,
                self.world.plan().backends as f64,
                connections / self.case.restarts as f64,
                peak(began, MS * 10),
                peak(began, MS * 100),
                peak(began, SECOND),
                peak(later, MS * 100),
                peak(later, SECOND),
                self.most(|b| b.watches.peak(up, MS * 100) as f64),
                self.most(|b| b.longest_accept.as_secs_f64() * 1e3),
                self.sum(|b| b.overflows as f64),
                self.sum(|b| b.attempts.between(began, end) as f64) / connections,
                self.back.quantile(0.5),
                self.back.max(),
                self.most(|b| b.calls.peak(up, MS * 100) as f64),
                calls / self.case.restarts as f64 / 20.0,
            ],
        );
    }

    /// The mean of the backends that restart, per second.
    fn draw(&self, table: &mut Table) {
        let step = MS * 100;
        let per_second = 10.0 / self.case.restarts as f64;
        let mut at = self.began;
        while at < self.world.now() {
            let to = at + step;
            let seconds = (at - self.began).as_secs_f64();
            let attempts = self.sum(|b| b.attempts.between(at, to) as f64);
            let watches = self.sum(|b| b.watches.between(at, to) as f64);
            let calls = self.sum(|b| b.calls.between(at, to) as f64);
            if attempts + watches + calls > 0.0 {
                let counts = [attempts, watches, calls].map(|count| count * per_second);
                table.row(&[self.case.name], &[&[seconds], &counts[..]].concat());
            }
            at = to;
        }
    }
}

#[test]
fn herd() {
    let mut summary = Table::new("herd", COLUMNS);
    let mut series = Table::new("herd-time", "case,seconds,attempts,watches,calls");
    let mut play_all = |plan: &Plan, cases: &[Case]| {
        let mut world = World::new(plan);
        world.pass(plan.start_within + SECOND * 10);
        for case in cases {
            play(&mut world, case, &mut summary, &mut series);
        }
    };
    let size = sized(1_000, 20);
    let plan = Plan {
        clients: size,
        backends: size,
        ..Plan::default()
    };
    let case = |name, restarts, fate, down: u32| Case {
        name,
        restarts,
        fate,
        down: SECOND * down,
        stagger: Duration::ZERO,
    };
    let tenth = size / 10;
    play_all(
        &plan,
        &[
            case("GOAWAY", tenth, Fate::EndsConnections, 0),
            case("a tenth 2 s", tenth, Fate::Dies, 2),
            case("a tenth 30 s", tenth, Fate::Dies, 30),
        ],
    );
    // With a tenth of the backends, as a publication costs as much as there are. The herd of one
    // backend does not go by the number of the others.
    play_all(
        &Plan {
            backends: tenth,
            ..plan.clone()
        },
        &[
            case(
                "a tenth cut off 30 s",
                tenth.div_ceil(10),
                Fate::Vanishes,
                30,
            ),
            case("all 2 s", tenth, Fate::Dies, 2),
            case("all 30 s", tenth, Fate::Dies, 30),
            case("all 300 s", tenth, Fate::Dies, 300),
        ],
    );
    let no_jitter = BackoffConfig::default().jitter(0.0);
    play_all(
        &Plan {
            backoff: no_jitter.expect("a valid backoff"),
            backends: size / 10,
            ..plan.clone()
        },
        &[case("no jitter 30 s", size / 10, Fate::Dies, 30)],
    );
    play_all(
        &Plan {
            clients: size * 10,
            backends: size / 10,
            ..plan.clone()
        },
        &[
            case(
                "10 times the clients GOAWAY",
                size / 100,
                Fate::EndsConnections,
                0,
            ),
            case("10 times the clients 30 s", size / 100, Fate::Dies, 30),
        ]
        .map(|case| Case {
            restarts: case.restarts.max(1),
            ..case
        }),
    );
    play_all(
        &Plan {
            clients: size * 10,
            drawn: Some(sized(20, 5) as u32),
            ..plan.clone()
        },
        &[
            case("subsets GOAWAY", tenth, Fate::EndsConnections, 0),
            case("subsets a tenth 30 s", tenth, Fate::Dies, 30),
            case("subsets all 30 s", size, Fate::Dies, 30),
        ],
    );
    let called = Plan {
        backends: size / 10,
        calls_per_second: 10.0,
        ..plan
    };
    let stagger = |case| Case {
        stagger: SECOND * 20,
        ..case
    };
    play_all(
        &called,
        &[
            case("calls a tenth 30 s", size.div_ceil(100), Fate::Dies, 30),
            case("calls all 30 s", size / 10, Fate::Dies, 30),
            stagger(case("calls all 30 to 50 s", size / 10, Fate::Dies, 30)),
        ],
    );
    println!("{}", summary.text());
    summary.write();
    series.write();
}
