//! How calls spread over the backends, by the policy. A tenth of them is slow.

use std::time::{Duration, Instant};

use super::{
    super::{
        backend::Backend,
        plan::{
            MS, PICK_FIRST, Plan, ROUND_ROBIN, SECOND, WEIGHTED, least_request, ring_hash, subset,
        },
        report::Sorted,
        world::World,
    },
    table::{Table, sized},
};

/// Calls per second of each client, and how many clients there are.
const LOADS: [(usize, f64); 2] = [(1_000, 100.0), (100, 1_000.0)];

fn policies() -> Vec<(&'static str, String)> {
    let rr = ROUND_ROBIN.to_owned();
    vec![
        ("round_robin", rr.clone()),
        ("least_request 2", least_request(2)),
        ("least_request 5", least_request(5)),
        ("weighted_round_robin", WEIGHTED.to_owned()),
        ("ring_hash 1024", ring_hash(1024)),
        ("ring_hash 4096", ring_hash(4096)),
        ("subset 20 round_robin", subset(20, &rr)),
        ("subset 50 round_robin", subset(50, &rr)),
        ("subset 20 least_request 2", subset(20, &least_request(2))),
        ("subset 20 least_request 5", subset(20, &least_request(5))),
        ("subset 20 weighted_round_robin", subset(20, WEIGHTED)),
        ("pick_first shuffled", PICK_FIRST.to_owned()),
    ]
}

#[test]
fn spread() {
    let mut table = Table::new(
        "spread",
        "policy,clients,calls_per_client,backends,calls_mean,min_to_mean,p99_to_mean,\
         max_to_mean,slow_share,p50_ms,p99_ms",
    );
    let only = std::env::var("FLEET_CASE").ok();
    for (policy, config) in policies() {
        if only.as_ref().is_some_and(|only| !policy.contains(only)) {
            continue;
        }
        for (clients, rate) in LOADS {
            let clock = Instant::now();
            let backends = sized(1_000, 20);
            let plan = Plan {
                clients: sized(clients, clients / 50),
                backends,
                config: config.clone(),
                calls_per_second: rate / sized(1, 10) as f64,
                workers: 4,
                slow: (backends / 10, 3.0),
                bin: MS * 100,
                ..Plan::default()
            };
            measure(&mut table, policy, &plan);
            let seconds = clock.elapsed().as_secs_f64();
            println!("{policy}, {clients} clients: {seconds:.1} s");
        }
    }
    println!("{}", table.text());
    table.write();
}

fn measure(table: &mut Table, policy: &str, plan: &Plan) {
    let mut world = World::new(plan);
    // Weights count after 10 s.
    world.pass(plan.start_within + SECOND * 12);
    let from = world.now();
    world.net.times = Some(Vec::new());
    world.pass(Duration::from_secs(sized(20, 5) as u64));
    let to = world.now();
    world.assert_that_no_call_is_lost();
    let times = world.net.times.take().unwrap_or_default();
    let times = Sorted::new(times.into_iter().map(|time| f64::from(time) * 1e3));
    let calls = |b: &Backend| b.calls.between(from, to) as f64;
    let (slow, others) = world.net.backends.split_at(plan.slow.0);
    let of_others = Sorted::new(others.iter().map(calls));
    let of_slow = Sorted::new(slow.iter().map(calls));
    table.row(
        &[policy],
        &[
            plan.clients as f64,
            plan.calls_per_second,
            plan.backends as f64,
            of_others.mean(),
            of_others.min() / of_others.mean(),
            of_others.quantile(0.99) / of_others.mean(),
            of_others.max_to_mean(),
            of_slow.mean() / of_others.mean(),
            times.quantile(0.5),
            times.quantile(0.99),
        ],
    );
}
