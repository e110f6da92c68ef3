//! A resolver that is slow or wrong for a minute, and the lookups of a fleet.

use std::time::{Duration, Instant};

use super::{
    super::{
        event::{Answer, Fate},
        plan::{MS, Plan, SECOND},
        world::World,
    },
    table::{Table, sized},
};

/// Backends that are named are the first half of all. The others are not there.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Fails,
    Late,
    NamesHalf,
    NamesOthersThatRefuse,
    NamesOthersThatAreSilent,
    /// A control plane does, which may.
    NamesNone,
    PushesHalf,
}

const WRONG: [Wrong; 7] = [
    Wrong::Fails,
    Wrong::Late,
    Wrong::NamesHalf,
    Wrong::NamesOthersThatRefuse,
    Wrong::NamesOthersThatAreSilent,
    Wrong::NamesNone,
    Wrong::PushesHalf,
];

const MINUTE: Duration = Duration::from_secs(60);

impl Wrong {
    fn is_pushed(self) -> bool {
        matches!(self, Self::NamesNone | Self::PushesHalf)
    }

    fn begin(self, world: &mut World, named: u32) {
        let others = named..2 * named;
        let answer = match self {
            Self::Fails => Answer::Fails,
            Self::Late => Answer::Late(SECOND * 20, (0..named).collect()),
            Self::NamesHalf => Answer::Names((0..named / 2).collect()),
            Self::NamesOthersThatRefuse => Answer::Names(others.collect()),
            Self::NamesOthersThatAreSilent => {
                world.befall(
                    Duration::ZERO,
                    others.clone().map(|of| of as usize),
                    Fate::Vanishes,
                );
                Answer::Names(others.collect())
            }
            Self::NamesNone => return world.push(0..0, SECOND),
            Self::PushesHalf => return world.push(0..named / 2, SECOND),
        };
        world.answer(Duration::ZERO, answer);
    }

    fn end(self, world: &mut World, named: u32) {
        match self.is_pushed() {
            true => world.push(0..named, SECOND),
            false => world.answer(Duration::ZERO, Answer::Names((0..named).collect())),
        }
    }
}

#[test]
fn naming() {
    let columns = "case,calls,failed,failed_share,lost_all,attempts_1s,lookups,lookups_10ms,\
                   whole_p50_s,whole_max_s";
    let mut table = Table::new("naming", columns);
    let (clients, named) = (sized(1_000, 10), sized(100, 10));
    for wrong in WRONG {
        let clock = Instant::now();
        let plan = Plan {
            clients,
            backends: 2 * named,
            named: Some(named),
            looks_up: !wrong.is_pushed(),
            calls_per_second: sized(10, 1) as f64,
            wait_for_ready: false,
            ..Plan::default()
        };
        let mut world = World::new(&plan);
        world.befall(Duration::ZERO, named..2 * named, Fate::Dies);
        world.pass(SECOND * 200);
        let (from, before) = (world.now(), world.net.calls);
        wrong.begin(&mut world, named as u32);
        let mut empty = vec![false; clients];
        let mut whole: Vec<Option<Duration>> = vec![None; clients];
        let step = MS * 100;
        let mut passed = Duration::ZERO;
        while passed < MINUTE * 4 {
            if passed == MINUTE {
                wrong.end(&mut world, named as u32);
            }
            world.pass(step);
            passed += step;
            for (number, client) in world.clients.iter().enumerate() {
                empty[number] |= client.ready() == 0;
                match client.ready() == named {
                    true => drop(whole[number].get_or_insert(passed.saturating_sub(MINUTE))),
                    false => whole[number] = None,
                }
            }
        }
        let calls = world.net.calls;
        let (begun, failed) = (
            (calls.begun - before.begun) as f64,
            (calls.unavailable - before.unavailable) as f64,
        );
        let back = whole.iter().flatten().copied();
        let back = super::super::report::Sorted::of_times(back);
        assert_eq!(back.len(), clients, "{wrong:?}: each client is whole again");
        let attempts = world.net.backends.iter();
        let attempts = attempts.map(|b| b.attempts.peak(from, SECOND) as f64);
        table.row(
            &[&format!("{wrong:?}")],
            &[
                begun,
                failed,
                failed / begun,
                empty.iter().filter(|empty| **empty).count() as f64,
                attempts.fold(0.0, f64::max),
                world.net.lookups.between(from, world.now()) as f64,
                world.net.lookups.peak(from, MS * 10) as f64,
                back.quantile(0.5),
                back.max(),
            ],
        );
        println!("{wrong:?}: {:.1} s", clock.elapsed().as_secs_f64());
    }
    println!("{}", table.text());
    table.write();
}

/// A twentieth of the backends restarts every 20 s.
#[test]
fn lookups() {
    let mut table = Table::new("lookups", "seconds,lookups_100ms");
    let (clients, backends) = (sized(1_000, 20), sized(100, 20));
    let plan = Plan {
        clients,
        backends,
        looks_up: true,
        ..Plan::default()
    };
    let mut world = World::new(&plan);
    world.pass(SECOND * 200);
    let from = world.now();
    let part = backends / 20;
    for step in 0..20 {
        let restarts = step * part..(step + 1) * part;
        let wait = SECOND * 20 * step as u32;
        world.befall(wait, restarts.clone(), Fate::Dies);
        world.befall(wait + SECOND * 2, restarts, Fate::Rises);
    }
    world.pass(SECOND * 400);
    let mut at = from;
    while at < world.now() {
        let to = at + MS * 100;
        let count = world.net.lookups.between(at, to) as f64;
        table.row(&[], &[(at - from).as_secs_f64(), count]);
        at = to;
    }
    println!(
        "lookups: {} in 400 s, {} in 10 ms, {} in 1 s",
        world.net.lookups.between(from, world.now()),
        world.net.lookups.peak(from, MS * 10),
        world.net.lookups.peak(from, SECOND)
    );
    table.write();
}
