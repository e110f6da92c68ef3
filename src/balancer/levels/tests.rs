//! Shares of priorities, as Envoy's own tests and its documentation give them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Count, Level, LevelSettings, Shares, shares};

/// In percent: Envoy's default.
const THRESHOLD: u32 = 50;

fn settings(panic_threshold: u32) -> LevelSettings {
    LevelSettings {
        panic_threshold,
        ..LevelSettings::default()
    }
}

fn count(total: usize, healthy: usize) -> Count {
    Count {
        healthy,
        failed: total - healthy,
        new: 0,
    }
}

/// Of priorities with so many backends, of which so many are healthy.
fn shared(settings: &LevelSettings, priorities: &[(usize, usize)]) -> Shares {
    let levels = (0..).map(Level::of_priority);
    let counts = priorities
        .iter()
        .map(|(total, healthy)| count(*total, *healthy));
    shares(&levels.zip(counts).collect(), settings)
}

/// The load of each priority, and whether it is in panic.
fn loads(threshold: u32, priorities: &[(usize, usize)]) -> (Vec<u32>, Vec<bool>) {
    let shares = shared(&settings(threshold), priorities);
    let statuses = shares.priorities.iter();
    statuses
        .map(|status| (status.load, status.in_panic))
        .unzip()
}

// N17
#[test]
fn the_next_priority_has_what_the_first_cannot_bear() {
    let of = |percent| loads(0, &[(100, percent), (100, 100)]).0;
    assert_eq!(of(100), [100, 0]);
    assert_eq!(of(72), [100, 0]);
    assert_eq!(of(71), [99, 1]);
    assert_eq!(of(50), [70, 30]);
    assert_eq!(of(25), [35, 65]);
    assert_eq!(of(0), [0, 100]);
}

// N11
#[test]
fn priorities_fail_over_gently() {
    let none = vec![false, false];
    assert_eq!(
        loads(THRESHOLD, &[(2, 1), (2, 1)]),
        (vec![70, 30], none.clone())
    );
    assert_eq!(loads(THRESHOLD, &[(4, 1), (2, 2)]), (vec![35, 65], none));
    let all = vec![true, true];
    assert_eq!(loads(THRESHOLD, &[(4, 1), (4, 1)]), (vec![50, 50], all));
}

// N12
#[test]
fn with_too_few_everywhere_calls_go_by_the_number_of_backends() {
    let of = |priorities: &[_]| loads(THRESHOLD, priorities);
    let all = vec![true; 3];
    assert_eq!(
        of(&[(5, 1), (5, 1), (5, 1)]),
        (vec![34, 33, 33], all.clone())
    );
    assert_eq!(
        of(&[(5, 0), (5, 0), (5, 5)]),
        (vec![0, 0, 100], vec![false; 3])
    );
    assert_eq!(
        of(&[(5, 0), (5, 0), (5, 2)]),
        (vec![34, 33, 33], all.clone())
    );
    assert_eq!(
        of(&[(5, 0), (3, 0), (2, 0)]),
        (vec![50, 30, 20], all.clone())
    );
    assert_eq!(of(&[(5, 0), (6, 2), (3, 1)]), (vec![37, 42, 21], all));
}

// N12
/// Two priorities that bear 98 % of the calls together, of which the first is in panic.
#[test]
fn a_priority_in_panic_keeps_the_load_of_its_healthy_backends() {
    let (loads, panics) = loads(THRESHOLD, &[(100, 5), (100, 65)]);
    assert_eq!((loads, panics), (vec![8, 92], vec![true, false]));
}

// N14
#[test]
fn without_overprovisioning_each_backend_counts() {
    let settings = LevelSettings {
        overprovisioning_factor: 100,
        ..settings(0)
    };
    let shares = shared(&settings, &[(4, 2), (4, 2)]);
    let loads: Vec<_> = shares.priorities.iter().map(|status| status.load).collect();
    assert_eq!(loads, [50, 50]);
}

// N16
#[test]
fn a_threshold_of_0_is_no_panic() {
    assert_eq!(loads(0, &[(4, 0)]), (vec![0], vec![false]));
    assert_eq!(loads(THRESHOLD, &[(4, 1)]), (vec![100], vec![true]));
    assert_eq!(loads(THRESHOLD, &[(4, 2)]), (vec![100], vec![false]));
    assert_eq!(loads(THRESHOLD, &[(4, 3)]), (vec![100], vec![false]));
    assert_eq!(
        loads(25, &[(4, 1)]),
        (vec![100], vec![false]),
        "not below it"
    );
}

// D428
#[test]
fn one_healthy_backend_of_very_many_has_calls() {
    assert_eq!(loads(0, &[(1_000, 0), (1_000, 1)]).0, [0, 100]);
    assert_eq!(loads(0, &[(1_000, 1), (1_000, 1_000)]).0, [1, 99]);
}

// D429
#[test]
fn new_backends_count_neither_way() {
    let level = Level::of_priority;
    let new = |healthy, failed, new| Count {
        healthy,
        failed,
        new,
    };
    let starting = [(level(0), new(1, 0, 9)), (level(1), new(10, 0, 0))];
    let loads = |counts: &[(Level, Count)], threshold| {
        let shares = shares(&counts.iter().copied().collect(), &settings(threshold));
        let statuses = shares.priorities.iter();
        let loads: Vec<_> = statuses
            .map(|status| (status.load, status.in_panic))
            .collect();
        loads
    };
    assert_eq!(loads(&starting, 0), [(100, false), (0, false)]);
    let one_failed = [(level(0), new(0, 1, 9))];
    assert_eq!(
        loads(&one_failed, THRESHOLD),
        [(0, false)],
        "9 may be healthy"
    );
    let six_failed = [(level(0), new(0, 6, 4))];
    assert_eq!(loads(&six_failed, THRESHOLD), [(100, true)]);
    let none_known = [(level(0), new(0, 0, 10))];
    assert_eq!(loads(&none_known, 100), [(0, false)]);
}

/// At these distances, with so many backends of which so many are healthy.
fn by_distance(threshold: u32, levels: &[(u32, usize, usize)]) -> Vec<(Option<u32>, u32)> {
    let level = |(distance, total, healthy): &(u32, usize, usize)| {
        let level = Level {
            priority: 0,
            distance: *distance,
        };
        (level, count(*total, *healthy))
    };
    let shares = shares(&levels.iter().map(level).collect(), &settings(threshold));
    let groups = shares.groups.iter();
    groups
        .map(|(group, share)| (group.distance, *share))
        .collect()
}

// D430
#[test]
fn the_own_locality_comes_first_and_spills_over() {
    let shared = by_distance(0, &[(0, 10, 10), (1, 90, 90)]);
    assert_eq!(shared, [(Some(0), 10_000), (Some(1), 0)]);
    let shared = by_distance(0, &[(0, 10, 5), (1, 90, 90)]);
    assert_eq!(shared, [(Some(0), 7_000), (Some(1), 3_000)]);
    let shared = by_distance(0, &[(0, 10, 5), (1, 10, 1), (2, 10, 10)]);
    assert_eq!(
        shared,
        [(Some(0), 7_000), (Some(1), 1_400), (Some(2), 1_600)]
    );
    let shared = by_distance(THRESHOLD, &[(0, 10, 1), (1, 10, 1)]);
    assert_eq!(shared, [(None, 10_000)], "in panic all are equal");
}

// D430
/// Both rules together: the near backends have their part of what the priority has.
#[test]
fn a_locality_has_its_share_of_the_priority() {
    let level = |priority, distance| Level { priority, distance };
    let counts = [
        (level(0, 0), count(4, 2)),
        (level(0, 1), count(4, 2)),
        (level(1, 0), count(4, 4)),
    ];
    let shares = shares(&BTreeMap::from(counts), &settings(0));
    let groups: Vec<_> = shares.groups.iter().map(|(_, share)| *share).collect();
    assert_eq!(groups, [70 * 70, 70 * 30, 30 * 100]);
}

proptest! {
    #[test]
    fn all_calls_are_shared_where_there_is_a_backend_for_them(
        levels in prop::collection::btree_map(
            (0_u32..4, 0_u32..3),
            (0_usize..300, 0_usize..300, 0_usize..300),
            1..8,
        ),
        threshold in 0_u32..=100,
        factor in 100_u32..300,
    ) {
        let counts = levels.iter().map(|((priority, distance), (healthy, failed, new))| {
            let level = Level { priority: *priority, distance: *distance };
            (level, Count { healthy: *healthy, failed: *failed, new: *new })
        });
        let counts: BTreeMap<_, _> = counts.collect();
        let settings = LevelSettings {
            overprovisioning_factor: factor,
            ..settings(threshold)
        };
        let shares = shares(&counts, &settings);
        let sum: u32 = shares.groups.iter().map(|(_, share)| share).sum();
        let has_healthy = counts.values().any(|count| count.healthy > 0);
        let in_panic = shares.priorities.iter().any(|status| status.in_panic);
        prop_assert_eq!(sum, if has_healthy || in_panic { 10_000 } else { 0 });
        for (group, share) in &shares.groups {
            let of = |level: &Level| {
                level.priority == group.priority
                    && group.distance.is_none_or(|distance| distance == level.distance)
            };
            let healthy: usize = counts.iter().filter(|(l, _)| of(l)).map(|(_, c)| c.healthy).sum();
            prop_assert!(*share == 0 || healthy > 0 || group.distance.is_none());
        }
        for level in counts.keys() {
            prop_assert!(shares.group_of(*level).is_some());
        }
    }
}
