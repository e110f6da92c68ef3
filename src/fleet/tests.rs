//! 100 clients of 100 backends, held to bounds. The full sizes are in [`study`](super::study).

use std::time::Duration;

use super::{
    backend::Backend,
    event::{Answer, Fate},
    plan::{MS, PICK_FIRST, Plan, ROUND_ROBIN, SECOND, WEIGHTED, least_request, ring_hash, subset},
    report::Sorted,
    world::World,
};

fn started(plan: &Plan) -> World {
    let mut world = World::new(plan);
    world.pass(plan.start_within + SECOND * 5);
    world
}

fn sometimes_called() -> Plan {
    Plan {
        calls_per_second: 2.0,
        ..Plan::default()
    }
}

#[test]
fn a_plan_has_the_same_run_each_time() {
    let run = || {
        let mut world = started(&Plan {
            clients: 10,
            backends: 10,
            ..sometimes_called()
        });
        world.befall(Duration::ZERO, 0..3, Fate::Dies);
        world.pass(SECOND * 10);
        let calls = world.net.backends.iter();
        let calls: Vec<_> = calls
            .map(|b| b.calls.between(world.net.epoch, world.now()))
            .collect();
        (world.net.calls, calls)
    };
    assert_eq!(run(), run());
}

// D395
#[test]
fn subsets_spread_connections_over_the_backends() {
    let all = started(&Plan::default()).connections();
    assert_eq!((all.min(), all.max()), (100.0, 100.0));

    let subsets = started(&Plan {
        config: subset(20, ROUND_ROBIN),
        ..Plan::default()
    });
    let of_subsets = subsets.connections();
    assert_eq!(of_subsets.mean(), 20.0);
    // 5 standard deviations of 100 draws are 20.
    assert!(of_subsets.min() >= 5.0, "{}", of_subsets.min());
    assert!(of_subsets.max() <= 40.0, "{}", of_subsets.max());
    assert_eq!(subsets.ready().min(), 20.0);
}

/// The peaks of attempts on one backend, at the first moment and after it, and the time until all
/// connections are back.
fn restart(backends: usize, down: Duration) -> (u64, u64, Duration) {
    let mut world = started(&sometimes_called());
    let from = world.now();
    world.befall(Duration::ZERO, 0..backends, Fate::Dies);
    world.befall(down, 0..backends, Fate::Rises);
    world.pass(down);
    let mut back = Duration::ZERO;
    while world.connections().min() < 100.0 {
        assert!(back < SECOND * 60, "some are not back");
        world.pass(MS * 100);
        back += MS * 100;
    }
    world.pass(SECOND);
    world.assert_that_no_call_is_lost();
    assert_eq!(world.net.calls.unavailable, 0);
    let waiting = world.clients.iter().map(|client| client.waiting.len());
    assert_eq!(waiting.sum::<usize>(), 0, "calls wait though all is well");
    let peak = |after, window| {
        let backends = world.net.backends[..backends].iter();
        let peaks = backends.map(|b| b.attempts.peak(from + after, window));
        peaks.max().unwrap_or(0)
    };
    (
        peak(Duration::ZERO, SECOND / 2),
        peak(SECOND / 2, MS * 100),
        back,
    )
}

// D396
#[test]
fn clients_come_back_to_restarted_backends_one_after_the_other() {
    for backends in [10, 100] {
        let (first, later, back) = restart(backends, SECOND * 5);
        assert_eq!(first, 100, "each client dials once at first");
        // The second attempts spread over 400 ms, and all later ones over more.
        assert!(later <= 50, "{later} attempts of 100 clients in 100 ms");
        assert!(back <= SECOND * 6, "back after {back:?}");
    }
}

/// The most calls of a backend that is not slow, and the mean of the slow ones. Each is a part of
/// the mean of those that are not slow.
fn spread(config: &str, clients: usize) -> (f64, f64) {
    let plan = Plan {
        clients,
        config: config.to_owned(),
        calls_per_second: 5_000.0 / clients as f64,
        workers: 4,
        slow: (10, 3.0),
        start_within: SECOND,
        ..Plan::default()
    };
    let mut world = World::new(&plan);
    // Weights count after 10 s.
    let warm_up = if config == WEIGHTED { 12 } else { 2 };
    world.pass(SECOND * warm_up);
    let from = world.now();
    world.pass(SECOND * 3);
    world.assert_that_no_call_is_lost();
    let calls = |b: &Backend| b.calls.between(from, world.now()) as f64;
    let (slow, others) = world.net.backends.split_at(10);
    let others = Sorted::new(others.iter().map(calls));
    let slow = Sorted::new(slow.iter().map(calls));
    (others.max_to_mean(), slow.mean() / others.mean())
}

#[test]
fn calls_spread_as_the_policy_says() {
    let rr = ROUND_ROBIN;
    for (config, clients, most, of_slow) in [
        (rr, 100, 1.15, 0.95..=1.05),
        // With few calls in flight of each client it chooses at random.
        (&*least_request(2), 100, 1.4, 0.9..=1.1),
        (&*least_request(2), 2, 1.4, 0.5..=0.9),
        (WEIGHTED, 100, 1.4, 0.2..=0.6),
        (&ring_hash(4096), 100, 1.8, 0.6..=1.4),
        (&subset(20, rr), 100, 1.8, 0.7..=1.3),
        (PICK_FIRST, 100, 6.5, 0.0..=3.0),
    ] {
        let (max, share) = spread(config, clients);
        assert!(max <= most, "{config}: {max} times the mean");
        assert!(of_slow.contains(&share), "{config}: {share} for the slow");
    }
}

// D397
#[test]
fn clients_that_start_together_begin_at_different_backends() {
    let mut world = World::new(&Plan {
        start_within: Duration::ZERO,
        first_calls: 4,
        bin: MS,
        ..Plan::default()
    });
    let from = world.now();
    world.pass(SECOND);
    let calls = world.called(from, world.now());
    assert_eq!(calls.mean(), 4.0);
    let max = calls.max_to_mean();
    assert!(
        max <= 6.0,
        "the first calls are {max} times the mean on one backend"
    );
    let attempts = world.net.backends.iter();
    let peaks = attempts.map(|b| b.attempts.peak(from, MS));
    let peak = peaks.max().unwrap_or(0);
    assert!(peak <= 40, "{peak} of 100 clients dial one backend in 1 ms");
}

#[test]
fn each_client_knows_of_a_flip_at_once() {
    let mut world = started(&Plan::default());
    for is_serving in [false, true] {
        let from = world.now();
        world.probe(0, is_serving);
        world.befall(Duration::ZERO, [0], Fate::Serving(is_serving));
        world.pass(SECOND);
        for known in world.known(from) {
            assert_eq!(known.len(), 100, "each client knows");
            assert!(known.max() <= 0.005, "{} s", known.max());
        }
    }
}

#[test]
fn each_client_knows_of_a_name_after_at_most_72_seconds() {
    let mut world = started(&Plan {
        looks_up: true,
        ..Plan::default()
    });
    for (names, is_ready) in [(1..100, false), (0..100, true)] {
        let from = world.now();
        world.probe(0, is_ready);
        world.answer(Duration::ZERO, Answer::Names(names.collect()));
        world.pass(SECOND * 75);
        let [_, published] = world.known(from);
        assert_eq!(published.len(), 100, "each client knows");
        assert!(published.max() <= 72.1, "{} s", published.max());
        assert!(published.quantile(0.5) >= 20.0, "lookups are in step");
    }
}

/// A resolver answers so for 60 s. The calls that failed.
fn answers(answer: Answer) -> u64 {
    let mut world = started(&Plan {
        backends: 40,
        named: Some(20),
        looks_up: true,
        wait_for_ready: false,
        ..sometimes_called()
    });
    world.befall(Duration::ZERO, 20..40, Fate::Dies);
    world.answer(Duration::ZERO, answer);
    world.answer(SECOND * 60, Answer::Names((0..20).collect()));
    world.pass(SECOND * 180);
    world.assert_that_no_call_is_lost();
    let ready = world.ready();
    assert_eq!((ready.min(), ready.max()), (20.0, 20.0), "all are back");
    world.net.calls.unavailable
}

#[test]
fn a_resolver_that_is_wrong_for_a_minute_does_no_lasting_harm() {
    assert_eq!(answers(Answer::Fails), 0);
    assert_eq!(answers(Answer::Late(SECOND * 20, (0..20).collect())), 0);
    assert_eq!(answers(Answer::Names((0..10).collect())), 0);
    // Nothing is wrong with these names that a client could see.
    assert!(answers(Answer::Names((20..40).collect())) > 0);
}

// D398
#[test]
fn clients_in_trouble_do_not_look_up_in_step() {
    let mut world = started(&Plan {
        backends: 20,
        looks_up: true,
        ..Plan::default()
    });
    // Until lookups are in no step.
    world.pass(SECOND * 1_000);
    let from = world.now();
    for step in 0..5 {
        let restarts = step * 4..step * 4 + 4;
        let wait = SECOND * 20 * step as u32;
        world.befall(wait, restarts.clone(), Fate::Dies);
        world.befall(wait + SECOND * 2, restarts, Fate::Rises);
    }
    world.pass(SECOND * 100);
    let peak = world.net.lookups.peak(from, MS * 10);
    assert!(peak <= 10, "{peak} of 100 clients look up in 10 ms");
}

// D368
#[test]
fn clients_of_a_silent_backend_do_not_dial_it_in_step() {
    let mut world = started(&Plan {
        backends: 10,
        ..Plan::default()
    });
    let from = world.now();
    world.befall(Duration::ZERO, [0], Fate::Vanishes);
    world.befall(SECOND * 90, [0], Fate::Rises);
    world.pass(SECOND * 150);
    assert_eq!(world.connections().min(), 100.0, "all are back");
    let attempts = &world.net.backends[0].attempts;
    // The first dials have no answer for 20 s, which is longer than their backoff.
    let peak = attempts.peak(from + SECOND * 15, MS * 100);
    assert!(peak <= 20, "{peak} of 100 clients dial in 100 ms");
}
