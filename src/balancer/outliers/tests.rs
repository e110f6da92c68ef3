//! Each rule by counts that are made up, at times that are made up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{Outliers, Spared, Sweep, Tally, WhySpared, by_success_rate, mean_and_deviation};
use crate::{
    routing::{BackendId, DetectionMethod, Ejection},
    service_config::{FailurePercentageEjection, OutlierDetection, SuccessRateEjection},
    transport::Outcomes,
};

const INTERVAL: Duration = Duration::from_secs(10);
const BASE: Duration = Duration::from_secs(30);

/// The defaults of gRFC A50, without an algorithm.
const DEFAULTS: OutlierDetection = OutlierDetection {
    interval: INTERVAL,
    base_ejection_time: BASE,
    max_ejection_time: Duration::from_secs(300),
    max_ejection_percent: 10,
    server_errors_only: false,
    success_rate_ejection: None,
    failure_percentage_ejection: None,
};

const SUCCESS_RATE: SuccessRateEjection = SuccessRateEjection {
    stdev_factor: 1900,
    enforcement_percentage: 100,
    minimum_hosts: 5,
    request_volume: 100,
    only_below_percentage: 100,
};

const FAILURE_PERCENTAGE: FailurePercentageEjection = FailurePercentageEjection {
    threshold: 85,
    enforcement_percentage: 100,
    minimum_hosts: 5,
    request_volume: 50,
};

fn by_rate(rule: SuccessRateEjection) -> OutlierDetection {
    OutlierDetection {
        success_rate_ejection: Some(rule),
        ..DEFAULTS
    }
}

fn by_failures(rule: FailurePercentageEjection) -> OutlierDetection {
    OutlierDetection {
        failure_percentage_ejection: Some(rule),
        ..DEFAULTS
    }
}

/// Up to so many percent may be ejected.
fn up_to(max_ejection_percent: u32, config: OutlierDetection) -> OutlierDetection {
    OutlierDetection {
        max_ejection_percent,
        ..config
    }
}

/// Backends 1, 2, …, and what their calls come to.
struct World {
    now: Instant,
    outliers: Outliers,
    counts: BTreeMap<u64, Outcomes>,
    ejected: BTreeMap<u64, Ejection>,
}

impl World {
    fn new(hosts: u64, config: OutlierDetection) -> Self {
        let now = Instant::now();
        let counts: BTreeMap<_, _> = (1..=hosts).map(|id| (id, Outcomes::default())).collect();
        Self {
            now,
            outliers: Outliers::new(now, config, 7, shown(&counts)),
            counts,
            ejected: BTreeMap::new(),
        }
    }

    /// So many calls of each of these backends succeed, and so many fail.
    fn calls(&mut self, ids: impl IntoIterator<Item = u64>, succeed: u64, fail: u64) {
        for id in ids {
            let counts = self.counts.entry(id).or_default();
            counts.succeeded += succeed;
            counts.failed += fail;
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn sweep(&mut self) -> Sweep {
        let sweep = self.outliers.sweep(self.now, shown(&self.counts));
        for (id, ejection) in &sweep.changed {
            match ejection {
                Some(ejection) => {
                    let twice = self.ejected.insert(id.0, Ejection::clone(ejection));
                    assert_eq!(twice, None, "{id} was ejected already");
                }
                None => drop(self.ejected.remove(&id.0).expect("it was ejected")),
            }
        }
        sweep
    }

    /// At the end of this interval, these are ejected.
    #[track_caller]
    fn ends_with(&mut self, expected: &[u64]) -> Sweep {
        self.pass(INTERVAL);
        let sweep = self.sweep();
        self.has(expected);
        sweep
    }

    #[track_caller]
    fn has(&self, expected: &[u64]) {
        let ejected: Vec<_> = self.ejected.keys().copied().collect();
        assert_eq!(ejected, expected);
    }
}

fn shown(counts: &BTreeMap<u64, Outcomes>) -> impl Iterator<Item = (BackendId, Outcomes)> {
    counts.iter().map(|(id, counts)| (BackendId(*id), *counts))
}

// O01
#[test]
fn none_is_ejected_if_all_succeed() {
    for config in [by_rate(SUCCESS_RATE), by_failures(FAILURE_PERCENTAGE)] {
        let mut world = World::new(5, config);
        world.calls(1..=5, 1000, 0);
        assert_eq!(world.ends_with(&[]), Sweep::default());
    }
}

// O02
#[test]
fn one_that_always_fails_is_ejected_if_there_is_enough_to_compare() {
    for (config, volume) in [
        (by_rate(SUCCESS_RATE), 100),
        (by_failures(FAILURE_PERCENTAGE), 50),
    ] {
        let mut world = World::new(5, config.clone());
        world.calls(1..=4, volume, 0);
        world.calls([5], 0, volume);
        let _ = world.ends_with(&[5]);

        let mut world = World::new(5, config.clone());
        world.calls(1..=4, volume, 0);
        world.calls([5], 0, volume - 1);
        let _ = world.ends_with(&[]);

        let mut world = World::new(5, config.clone());
        world.calls(1..=3, volume, 0);
        world.calls([4], volume - 1, 0);
        world.calls([5], 0, volume);
        let _ = world.ends_with(&[]);
    }
}

#[test]
fn an_ejection_says_what_was_found() {
    let mut world = World::new(5, by_rate(SUCCESS_RATE));
    world.calls(1..=4, 100, 0);
    world.calls([5], 100, 100);
    let _ = world.ends_with(&[5]);
    let ejection = &world.ejected[&5];
    assert_eq!(ejection.since(), world.now);
    assert_eq!(ejection.until(), world.now + BASE);
    assert_eq!(ejection.multiplier(), 1);
    assert_eq!(ejection.volume(), 200);
    assert_eq!(ejection.method(), DetectionMethod::SuccessRate);
    let text = "success rate 50.00 % is below 52.00 % (200 attempts)";
    assert_eq!(ejection.to_string(), text);

    let mut world = World::new(5, by_failures(FAILURE_PERCENTAGE));
    world.calls(1..=4, 100, 0);
    world.calls([5], 10, 90);
    let _ = world.ends_with(&[5]);
    let ejection = &world.ejected[&5];
    assert_eq!(ejection.method(), DetectionMethod::FailurePercentage);
    assert_eq!((ejection.percentage(), ejection.bound()), (90.0, 85.0));
}

// O05
#[test]
fn without_enforcement_outliers_are_told_and_not_ejected() {
    let rate = SuccessRateEjection {
        enforcement_percentage: 0,
        ..SUCCESS_RATE
    };
    let failures = FailurePercentageEjection {
        enforcement_percentage: 0,
        ..FAILURE_PERCENTAGE
    };
    for config in [by_rate(rate), by_failures(failures)] {
        let mut world = World::new(5, config);
        world.calls(1..=4, 100, 0);
        world.calls([5], 0, 100);
        let sweep = world.ends_with(&[]);
        let [Spared { id, why, .. }] = sweep.spared[..] else {
            panic!("one outlier: {sweep:?}");
        };
        assert_eq!((id, why), (BackendId(5), WhySpared::EnforcementPercentage));
    }
}

// O05
#[test]
fn enforcement_is_a_share_of_the_outliers() {
    let half = FailurePercentageEjection {
        enforcement_percentage: 50,
        ..FAILURE_PERCENTAGE
    };
    let mut world = World::new(1000, up_to(100, by_failures(half)));
    world.calls(1..=1000, 0, 100);
    world.pass(INTERVAL);
    let sweep = world.sweep();
    assert_eq!(sweep.changed.len() + sweep.spared.len(), 1000);
    assert!((400..600).contains(&sweep.changed.len()));
}

// O06
#[test]
fn two_outliers_are_both_ejected() {
    let rule = SuccessRateEjection {
        stdev_factor: 1,
        ..SUCCESS_RATE
    };
    let mut world = World::new(5, up_to(20, by_rate(rule)));
    world.calls(1..=3, 100, 0);
    world.calls(4..=5, 0, 100);
    let sweep = world.ends_with(&[4]);
    assert_eq!(sweep.spared[0].why, WhySpared::MaxEjectionOverflow);

    let mut world = World::new(
        5,
        up_to(
            50,
            by_rate(SuccessRateEjection {
                stdev_factor: 1,
                ..SUCCESS_RATE
            }),
        ),
    );
    world.calls(1..=3, 100, 0);
    world.calls(4..=5, 0, 100);
    let _ = world.ends_with(&[4, 5]);
}

// O07
#[test]
fn the_maximum_is_looked_at_before_an_ejection() {
    for (max, expected) in [
        (0, &[][..]),
        (1, &[3]),
        (20, &[3]),
        (30, &[3, 4]),
        (40, &[3, 4]),
        (41, &[3, 4, 5]),
        (100, &[3, 4, 5]),
    ] {
        let mut world = World::new(5, up_to(max, by_failures(FAILURE_PERCENTAGE)));
        world.calls(1..=2, 100, 0);
        world.calls(3..=5, 0, 100);
        let sweep = world.ends_with(expected);
        assert_eq!(sweep.spared.len(), 3 - expected.len(), "{max} %");
    }
}

// O08
#[test]
fn both_algorithms_eject_and_none_ejects_twice() {
    let config = OutlierDetection {
        success_rate_ejection: Some(SuccessRateEjection {
            stdev_factor: 1400,
            ..SUCCESS_RATE
        }),
        ..up_to(
            100,
            by_failures(FailurePercentageEjection {
                threshold: 20,
                ..FAILURE_PERCENTAGE
            }),
        )
    };
    let mut world = World::new(10, config);
    world.calls(1..=7, 100, 0);
    world.calls([8], 70, 30);
    world.calls([9], 0, 100);
    // Too few attempts for the success rate.
    world.calls([10], 0, 60);
    let _ = world.ends_with(&[8, 9, 10]);
    let by = |id| world.ejected[&id].method();
    assert_eq!(by(8), DetectionMethod::FailurePercentage);
    assert_eq!(by(9), DetectionMethod::SuccessRate);
    assert_eq!(by(10), DetectionMethod::FailurePercentage);
    assert_eq!(world.ejected[&9].multiplier(), 1, "though both found it");
}

// O09
#[test]
fn one_is_taken_back_at_the_first_sweep_after_its_time() {
    let mut world = World::new(5, by_failures(FAILURE_PERCENTAGE));
    world.calls([5], 0, 100);
    world.calls(1..=4, 100, 0);
    let _ = world.ends_with(&[5]);
    let _ = world.ends_with(&[5]);
    let _ = world.ends_with(&[5]);
    let _ = world.ends_with(&[5]);
    assert_eq!(world.now, world.ejected[&5].until(), "and not later");
    let _ = world.ends_with(&[]);
}

#[test]
fn calls_of_one_that_is_ejected_count_and_eject_it_no_further() {
    let mut world = World::new(5, up_to(100, by_failures(FAILURE_PERCENTAGE)));
    for _ in 0..3 {
        world.calls(1..=4, 100, 0);
        world.calls([5], 0, 100);
        let _ = world.ends_with(&[5]);
    }
    assert_eq!(world.ejected[&5].multiplier(), 1);
    assert_eq!(world.ejected[&5].since(), world.now - 2 * INTERVAL);
}

/// Ejects backend 5, and waits until it is back. How long that took.
fn eject_once(world: &mut World) -> Duration {
    world.calls(1..=4, 100, 0);
    world.calls([5], 0, 100);
    let _ = world.ends_with(&[5]);
    let began = world.now;
    while !world.ejected.is_empty() {
        world.pass(INTERVAL);
        let _ = world.sweep();
    }
    world.now - began
}

// O10
#[test]
fn each_ejection_in_a_row_lasts_longer_up_to_the_maximum() {
    let mut world = World::new(5, by_failures(FAILURE_PERCENTAGE));
    let mut times = Vec::new();
    for _ in 0..12 {
        // The time, up to the sweep after it.
        times.push((eject_once(&mut world) - INTERVAL).as_secs());
    }
    let expected = [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300];
    assert_eq!(times, expected);
}

// O10
#[test]
fn each_interval_without_an_ejection_makes_the_next_one_shorter() {
    let mut world = World::new(5, by_failures(FAILURE_PERCENTAGE));
    for _ in 0..3 {
        eject_once(&mut world);
    }
    assert_eq!(world.outliers.hosts[&BackendId(5)].multiplier, 3);
    for expected in [2, 1, 0, 0] {
        let _ = world.ends_with(&[]);
        assert_eq!(world.outliers.hosts[&BackendId(5)].multiplier, expected);
    }
    assert_eq!(eject_once(&mut world) - INTERVAL, BASE);
}

#[test]
fn a_base_above_the_maximum_is_the_maximum() {
    let config = OutlierDetection {
        base_ejection_time: Duration::from_secs(500),
        ..by_failures(FAILURE_PERCENTAGE)
    };
    let mut world = World::new(5, config);
    for _ in 0..2 {
        assert_eq!(eject_once(&mut world) - INTERVAL, Duration::from_secs(500));
    }
}

// O13
#[test]
fn a_new_interval_counts_from_the_last_sweep() {
    let with = |interval| OutlierDetection {
        interval: Duration::from_secs(interval),
        ..by_failures(FAILURE_PERCENTAGE)
    };
    let mut world = World::new(5, with(10));
    let began = world.now;
    assert_eq!(world.outliers.deadline(), Some(began + INTERVAL));
    world.pass(Duration::from_secs(3));
    let _ = world.outliers.on_config(with(5));
    let deadline = world.outliers.deadline().expect("a time");
    assert_eq!(deadline - world.now, Duration::from_secs(2));

    let mut world = World::new(5, with(10));
    world.calls(1..=4, 100, 0);
    world.calls([5], 0, 100);
    world.pass(Duration::from_secs(7));
    assert_eq!(world.sweep(), Sweep::default(), "it is not due");
    let _ = world.outliers.on_config(with(5));
    assert!(world.outliers.deadline() < Some(world.now), "at once");
    let _ = world.sweep();
    // The counts from before the config have not been lost.
    world.has(&[5]);
    let next = world.now + Duration::from_secs(5);
    assert_eq!(world.outliers.deadline(), Some(next));
}

#[test]
fn an_interval_has_a_minimum_and_may_be_endless() {
    let with = |interval| OutlierDetection {
        interval,
        ..by_failures(FAILURE_PERCENTAGE)
    };
    let world = World::new(1, with(Duration::ZERO));
    let least = Duration::from_millis(10);
    assert_eq!(world.outliers.deadline(), Some(world.now + least));
    let world = World::new(1, with(Duration::MAX));
    assert_eq!(world.outliers.deadline(), None);
}

// O14
#[test]
fn those_ejected_stay_so_when_enforcement_ends() {
    let mut world = World::new(5, by_failures(FAILURE_PERCENTAGE));
    world.calls(1..=4, 100, 0);
    world.calls([5], 0, 100);
    let _ = world.ends_with(&[5]);
    let sweep = world
        .outliers
        .on_config(by_failures(FailurePercentageEjection {
            enforcement_percentage: 0,
            ..FAILURE_PERCENTAGE
        }));
    assert_eq!(sweep, Sweep::default());
    for _ in 0..3 {
        let _ = world.ends_with(&[5]);
    }
    let _ = world.ends_with(&[]);
}

#[test]
fn another_ejection_time_is_that_of_those_ejected_too() {
    let mut world = World::new(5, by_failures(FAILURE_PERCENTAGE));
    world.calls(1..=4, 100, 0);
    world.calls([5], 0, 100);
    let _ = world.ends_with(&[5]);
    let sweep = world.outliers.on_config(OutlierDetection {
        base_ejection_time: INTERVAL / 2,
        ..by_failures(FAILURE_PERCENTAGE)
    });
    let [(BackendId(5), Some(ejection))] = &sweep.changed[..] else {
        panic!("it ends sooner: {sweep:?}");
    };
    assert_eq!(ejection.until(), world.now + INTERVAL / 2);
    let _ = world.ends_with(&[]);
}

// O18
#[test]
fn a_backend_that_comes_again_is_fresh() {
    let mut world = World::new(5, by_failures(FAILURE_PERCENTAGE));
    world.calls(1..=4, 100, 0);
    world.calls([5], 0, 100);
    let _ = world.ends_with(&[5]);
    // Its key is another backend.
    world.counts.remove(&5);
    world.ejected.remove(&5);
    world.outliers.forget(BackendId(5));
    world.outliers.begin(BackendId(6), Outcomes::default());
    world.calls([6], 100, 0);
    let _ = world.ends_with(&[]);
    assert_eq!(world.outliers.hosts[&BackendId(6)].multiplier, 0);
}

// O18
#[test]
fn a_backend_at_another_address_is_fresh() {
    let mut world = World::new(5, by_failures(FAILURE_PERCENTAGE));
    eject_once(&mut world);
    world.calls(1..=4, 100, 0);
    world.calls([5], 0, 100);
    world.outliers.begin(BackendId(5), world.counts[&5]);
    assert_eq!(world.outliers.hosts[&BackendId(5)].multiplier, 0);
    let _ = world.ends_with(&[]);
}

#[test]
fn what_was_counted_before_does_not_matter() {
    let now = Instant::now();
    let counts = (1..=5).map(|id| {
        let before = Outcomes {
            succeeded: 0,
            failed: 1000,
            server_failed: 1000,
        };
        (id, before)
    });
    let counts: BTreeMap<_, _> = counts.collect();
    let config = by_failures(FAILURE_PERCENTAGE);
    let mut outliers = Outliers::new(now, config, 7, shown(&counts));
    assert_eq!(
        outliers.sweep(now + INTERVAL, shown(&counts)),
        Sweep::default()
    );
}

// O22
#[test]
fn the_deviation_is_that_of_the_population() {
    let (mean, deviation) = mean_and_deviation(&[0.8, 0.9, 1.0, 0.5, 0.8]);
    assert!((mean - 0.8).abs() < 1e-12);
    assert!((deviation - 0.028_f64.sqrt()).abs() < 1e-12);
}

/// The tallies of backends with these success rates, in thousandths.
fn rates(rates: &[u64]) -> Vec<(BackendId, Tally)> {
    let tally = |(id, rate): (u64, &u64)| {
        let tally = Tally {
            succeeded: *rate,
            failed: 1000 - rate,
        };
        (BackendId(id), tally)
    };
    (1..).zip(rates).map(tally).collect()
}

// O23
#[test]
fn a_small_gap_is_enough_among_equals_and_none_is_with_four() {
    let few = SuccessRateEjection {
        minimum_hosts: 2,
        ..SUCCESS_RATE
    };
    for (hosts, expected) in [
        (&[1000, 1000, 1000, 1000, 0][..], Some(4.0)),
        (&[1000, 1000, 1000, 1000, 100], Some(13.6)),
        (&[1000, 1000, 1000, 1000, 500], Some(52.0)),
        (&[1000, 1000, 1000, 1000, 990], Some(99.04)),
        (&[1000, 1000, 1000, 0], None),
        (&[1000, 0], None),
        (&[900, 900, 900, 900, 900], None),
    ] {
        let found = by_success_rate(&few, &rates(hosts));
        let bounds: Vec<_> = found.iter().map(|(_, outlier)| outlier.bound).collect();
        match (&bounds[..], expected) {
            ([bound], Some(expected)) => assert!((bound - expected).abs() < 1e-9, "{hosts:?}"),
            (bounds, expected) => assert!(bounds.is_empty() && expected.is_none(), "{hosts:?}"),
        }
    }
}

// D324
#[test]
fn a_floor_spares_a_backend_that_is_good_enough() {
    let floor = SuccessRateEjection {
        only_below_percentage: 95,
        ..SUCCESS_RATE
    };
    let [good, equal, bad] = [990, 950, 949].map(|rate| [1000, 1000, 1000, 1000, rate]);
    assert!(by_success_rate(&floor, &rates(&good)).is_empty());
    assert!(by_success_rate(&floor, &rates(&equal)).is_empty(), "strict");
    let found = by_success_rate(&floor, &rates(&bad));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.bound, 95.0, "it is the lower of both");
}

#[test]
fn rates_that_are_the_same_are_not_below_their_mean() {
    let any = SuccessRateEjection {
        stdev_factor: 0,
        ..SUCCESS_RATE
    };
    for rate in 0..=1000 {
        assert!(
            by_success_rate(&any, &rates(&[rate; 7])).is_empty(),
            "{rate}"
        );
    }
}

// O25
#[test]
fn failures_have_to_be_above_the_threshold() {
    for (failed, expected) in [(85, &[][..]), (86, &[5])] {
        let mut world = World::new(5, by_failures(FAILURE_PERCENTAGE));
        world.calls(1..=4, 100, 0);
        world.calls([5], 100 - failed, failed);
        let _ = world.ends_with(expected);
    }
}

// D325
#[test]
fn only_server_errors_count_as_failures_where_that_is_asked_for() {
    for (only, expected) in [(false, &[4, 5][..]), (true, &[5])] {
        let config = OutlierDetection {
            server_errors_only: only,
            ..up_to(100, by_failures(FAILURE_PERCENTAGE))
        };
        let mut world = World::new(5, config);
        world.calls(1..=3, 100, 0);
        world.calls([4, 5], 0, 100);
        if let Some(counts) = world.counts.get_mut(&5) {
            counts.server_failed = 100;
        }
        let _ = world.ends_with(expected);
    }
}

#[test]
fn without_attempts_there_is_no_outlier() {
    let config = OutlierDetection {
        success_rate_ejection: Some(SuccessRateEjection {
            request_volume: 0,
            minimum_hosts: 0,
            ..SUCCESS_RATE
        }),
        ..by_failures(FailurePercentageEjection {
            request_volume: 0,
            minimum_hosts: 0,
            threshold: 0,
            ..FAILURE_PERCENTAGE
        })
    };
    for hosts in [0, 1, 5] {
        let mut world = World::new(hosts, config.clone());
        assert_eq!(world.ends_with(&[]), Sweep::default());
    }
}

proptest! {
    /// No ejection begins where the maximum is reached, and a sweep ejects a backend once. All
    /// come back when nothing fails any more.
    #[test]
    fn never_too_many_are_ejected_and_all_come_back(
        intervals in proptest::collection::vec(
            proptest::collection::vec((0_u64..200, 0_u64..200), 8),
            1..20,
        ),
        max in 0_u32..=100,
        stdev_factor in 0_u32..3000,
        threshold in 0_u32..=100,
        base in 0_u64..100,
        seed in 0_u64..100,
    ) {
        let config = OutlierDetection {
            base_ejection_time: Duration::from_secs(base),
            success_rate_ejection: Some(SuccessRateEjection { stdev_factor, ..SUCCESS_RATE }),
            ..up_to(max, by_failures(FailurePercentageEjection {
                threshold,
                enforcement_percentage: 80,
                ..FAILURE_PERCENTAGE
            }))
        };
        let mut world = World::new(8, config);
        world.outliers.rng.seed(seed);
        for calls in intervals {
            for (id, (succeed, fail)) in (1..).zip(calls) {
                world.calls([id], succeed, fail);
            }
            world.pass(INTERVAL);
            let before = world.ejected.len() as u64;
            let sweep = world.sweep();
            let found: Vec<_> = sweep.changed.iter().filter(|(_, ejection)| ejection.is_some()).collect();
            if !found.is_empty() {
                // Before the last of them.
                let ejected = before + found.len() as u64 - 1;
                prop_assert!(max > 0 && (ejected == 0 || ejected * 100 < u64::from(max) * 8));
            }
            let unique: BTreeSet<_> = found.iter().map(|(id, _)| id).collect();
            prop_assert_eq!(unique.len(), found.len());
            for ejection in world.ejected.values() {
                prop_assert!(ejection.multiplier() >= 1);
                prop_assert!(ejection.percentage() >= 0.0 && ejection.percentage() <= 100.0);
                prop_assert!(ejection.until() <= ejection.since() + Duration::from_secs(300));
            }
        }
        for _ in 0..=31 {
            world.pass(INTERVAL);
            let _ = world.sweep();
        }
        prop_assert!(world.ejected.is_empty());
        for _ in 0..20 {
            world.pass(INTERVAL);
            let _ = world.sweep();
        }
        for host in world.outliers.hosts.values() {
            prop_assert_eq!(host.multiplier, 0);
        }
    }
}
