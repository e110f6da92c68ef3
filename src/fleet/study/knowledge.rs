//! The time until each client knows.

use std::time::{Duration, Instant};

use super::{
    super::{
        event::{Answer, Fate},
        plan::{MS, Plan, SECOND},
        world::World,
    },
    table::{Table, sized},
};

type Event = fn(&mut World, usize);

/// Events, and whether the first backend takes calls by each.
const EVENTS: [(&str, bool, Event); 9] = [
    ("NOT_SERVING", false, |world, _| serving(world, 1, false)),
    ("SERVING", true, |world, _| serving(world, 1, true)),
    ("a tenth NOT_SERVING", false, |world, all| {
        serving(world, all / 10, false)
    }),
    ("a tenth SERVING", true, |world, all| {
        serving(world, all / 10, true)
    }),
    ("killed", false, |world, _| befall(world, Fate::Dies)),
    ("up again after 160 s", true, |world, _| {
        befall(world, Fate::Rises)
    }),
    (
        "removed by a control plane within 1 s",
        false,
        |world, all| {
            world.push(1..all as u32, SECOND);
        },
    ),
    ("added by a control plane within 1 s", true, |world, all| {
        world.push(0..all as u32, SECOND);
    }),
    ("removed from DNS", false, |world, all| {
        names(world, 1..all as u32)
    }),
];

fn serving(world: &mut World, count: usize, is_serving: bool) {
    // The probed one is the last that is told.
    let order = (0..count).rev();
    world.befall(Duration::ZERO, order, Fate::Serving(is_serving));
}

fn befall(world: &mut World, fate: Fate) {
    world.befall(Duration::ZERO, [0], fate);
}

fn names(world: &mut World, names: std::ops::Range<u32>) {
    world.answer(Duration::ZERO, Answer::Names(names.collect()));
}

#[test]
fn knowledge() {
    let columns = "event,clients,backends,knows,gate_p50_ms,gate_p99_ms,gate_max_ms,picker_p50_ms,\
                   picker_p99_ms,picker_max_ms";
    let mut table = Table::new("knowledge", columns);
    let size = sized(1_000, 20);
    let plan = Plan {
        clients: size,
        backends: size,
        ..Plan::default()
    };
    let mut world = World::new(&plan);
    world.pass(SECOND * 20);
    for (name, is_ready, event) in &EVENTS[..8] {
        let wait = if name.starts_with("up") { 60 } else { 10 };
        world.pass(SECOND * wait);
        tell(&mut table, &mut world, name, *is_ready, |world| {
            event(world, size)
        });
    }
    drop(world);
    let looks_up = true;
    let mut world = World::new(&Plan { looks_up, ..plan });
    world.pass(SECOND * 200);
    let (name, is_ready, event) = EVENTS[8];
    tell(&mut table, &mut world, name, is_ready, |world| {
        event(world, size)
    });
    tell(&mut table, &mut world, "added to DNS", true, |world| {
        names(world, 0..size as u32);
    });
    println!("{}", table.text());
    table.write();
}

fn tell(
    table: &mut Table,
    world: &mut World,
    name: &str,
    is_ready: bool,
    event: impl FnOnce(&mut World),
) {
    let clock = Instant::now();
    let from = world.now();
    world.probe(0, is_ready);
    event(world);
    world.pass(SECOND * 100);
    let [gated, published] = world.known(from);
    let ms = |seconds: f64| seconds * 1e3;
    let plan = world.plan();
    table.row(
        &[name],
        &[
            plan.clients as f64,
            plan.backends as f64,
            published.len() as f64,
            ms(gated.quantile(0.5)),
            ms(gated.quantile(0.99)),
            ms(gated.max()),
            ms(published.quantile(0.5)),
            ms(published.quantile(0.99)),
            ms(published.max()),
        ],
    );
    let _ = MS;
    println!("{name}: {:.1} s", clock.elapsed().as_secs_f64());
}
