//! Clients that start together, with calls that wait.

use std::time::Duration;

use super::{
    super::{
        plan::{MS, Plan, ROUND_ROBIN, SECOND, subset},
        world::World,
    },
    table::{Table, sized},
};

#[test]
fn start() {
    let mut table = Table::new(
        "start",
        "case,clients,backends,first_calls,max_to_mean,calls_of_busiest,backends_with_calls,\
         attempts_10ms,accept_wait_ms,all_ready_s",
    );
    let size = sized(1_000, 20);
    let rr = || ROUND_ROBIN.to_owned();
    for (case, backends, config, starts_in_order) in [
        ("in the order of names", size / 10, rr(), true),
        ("in an order of chance", size / 10, rr(), false),
        ("in the order of names", size, rr(), true),
        ("in an order of chance", size, rr(), false),
        ("subsets of 20", size, subset(20, ROUND_ROBIN), false),
    ] {
        let plan = Plan {
            clients: size,
            backends,
            config,
            starts_in_order,
            start_within: Duration::ZERO,
            first_calls: 16,
            bin: MS,
            ..Plan::default()
        };
        let mut world = World::new(&plan);
        let from = world.now();
        let mut ready = Duration::ZERO;
        let wanted = if case.starts_with("subset") {
            20.min(backends)
        } else {
            backends
        };
        while ready < SECOND * 5 && world.ready().min() < wanted as f64 {
            world.pass(MS * 10);
            ready += MS * 10;
        }
        let calls = world.called(from, world.now());
        let attempts = world.net.backends.iter();
        let attempts = attempts.map(|b| b.attempts.peak(from, MS * 10) as f64);
        let waits = world
            .net
            .backends
            .iter()
            .map(|b| b.longest_accept.as_secs_f64());
        table.row(
            &[case],
            &[
                plan.clients as f64,
                backends as f64,
                plan.first_calls as f64,
                calls.max_to_mean(),
                calls.max(),
                calls.len() as f64 - calls.zeros(),
                attempts.fold(0.0, f64::max),
                waits.fold(0.0, f64::max) * 1e3,
                ready.as_secs_f64(),
            ],
        );
    }
    println!("{}", table.text());
    table.write();
}
