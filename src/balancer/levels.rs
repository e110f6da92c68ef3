//! The shares of calls that priorities and localities have, by Envoy's rules: "Priority levels",
//! "Panic threshold" and "Zone aware routing" in its documentation.
//!
//! ```text
//!   priority 0, near ──┐ as far as healthy backends × 140 % suffice
//!   priority 0, far  ──┴──► 70 % ──┐
//!   priority 1       ───────► 30 % ┴──► calls
//! ```
//!
//! A priority has calls as far as its healthy backends are enough, and the next one has the rest.
//! Within a priority the same rule goes by distance from the channel's own locality. If too few
//! are healthy everywhere, a priority below the threshold is in panic: calls go to all of its
//! backends, near and far.
//!
//! A backend is new until it has been READY or has failed. New ones count neither way for the
//! shares: a channel that starts does not spill over. For the threshold they count as healthy.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    attributes::{Attributes, Locality},
    routing::{Cursor, PriorityStatus},
};

/// Where a backend stands: calls go to the least level first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level {
    priority: u32,
    /// From the channel's locality.
    distance: u32,
}

/// The options of the application about levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LevelSettings {
    /// Where this channel is.
    pub(crate) locality: Option<Locality>,
    /// In percent.
    pub(crate) overprovisioning_factor: u32,
    /// In percent. 0 is none.
    pub(crate) panic_threshold: u32,
}

#[cfg(test)]
impl Level {
    pub(super) fn of_priority(priority: u32) -> Self {
        Self {
            priority,
            distance: 0,
        }
    }
}

impl Default for LevelSettings {
    fn default() -> Self {
        Self {
            locality: None,
            overprovisioning_factor: 140,
            panic_threshold: 0,
        }
    }
}

/// The levels of a channel.
#[derive(Debug)]
pub(super) struct Levels {
    settings: LevelSettings,
    /// How many backends have another priority than 0.
    prioritized: usize,
    /// Each level rotates by itself.
    cursors: BTreeMap<Group, Arc<Cursor>>,
    rng: fastrand::Rng,
    shares: Option<Shares>,
}

/// The backends that share the calls of a level. In panic they are those of a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    priority: u32,
    distance: Option<u32>,
}

/// How the calls are shared.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    /// By priority, then by distance; each with its part of 10,000 calls.
    pub(super) groups: Vec<(Group, u32)>,
    pub(super) priorities: Arc<[PriorityStatus]>,
}

/// Backends of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) healthy: usize,
    pub(super) failed: usize,
    pub(super) new: usize,
}

impl Levels {
    pub(super) fn new(settings: LevelSettings, seed: u64) -> Self {
        Self {
            settings,
            prioritized: 0,
            cursors: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
            shares: None,
        }
    }

    /// A backend with these attributes is there from now on.
    pub(super) fn add(&mut self, attributes: &Attributes) {
        self.prioritized += usize::from(attributes.priority > 0);
    }

    /// It is there no longer.
    pub(super) fn remove(&mut self, attributes: &Attributes) {
        self.prioritized -= usize::from(attributes.priority > 0);
    }

    /// The level of a backend.
    pub(super) fn of(&self, attributes: &Attributes) -> Level {
        let own = self.settings.locality.as_ref();
        Level {
            priority: attributes.priority,
            distance: own.map_or(0, |own| own.distance(attributes.locality.as_ref())),
        }
    }

    /// Whether there may be more than 1 level, or panic.
    pub(super) fn matter(&self) -> bool {
        self.prioritized > 0
            || self.settings.locality.is_some()
            || self.settings.panic_threshold > 0
    }

    /// The shares in force, if levels matter.
    pub(super) fn shares(&self) -> Option<&Shares> {
        self.shares.as_ref()
    }

    /// Shares the calls anew, by the backends of each level. Whether anything is different.
    pub(super) fn share(&mut self, counts: Option<&BTreeMap<Level, Count>>) -> bool {
        let shares = counts.map(|counts| shares(counts, &self.settings));
        let changed = shares != self.shares;
        if changed {
            let groups = shares.iter().flat_map(|shares| &shares.groups);
            let cursor = |(group, _): &(Group, u32)| {
                let known = self.cursors.get(group).cloned();
                let new = || Arc::new(Cursor::new(self.rng.usize(..)));
                (*group, known.unwrap_or_else(new))
            };
            self.cursors = groups.map(cursor).collect();
            self.shares = shares;
        }
        changed
    }

    /// By which the calls of a group rotate.
    pub(super) fn cursor(&self, group: Group) -> Option<&Arc<Cursor>> {
        self.cursors.get(&group)
    }
}

impl Shares {
    /// Whether the backends of this priority have calls though they are not healthy.
    pub(super) fn panics(&self, priority: u32) -> bool {
        let mut priorities = self.priorities.iter();
        priorities.any(|status| status.priority == priority && status.in_panic)
    }

    /// The number of the group that this level is part of.
    pub(super) fn group_of(&self, level: Level) -> Option<usize> {
        let is_part = |group: &Group| {
            group.priority == level.priority
                && group
                    .distance
                    .is_none_or(|distance| distance == level.distance)
        };
        self.groups.iter().position(|(group, _)| is_part(group))
    }
}

impl Count {
    /// Those that count for the shares.
    fn known(self) -> usize {
        self.healthy + self.failed
    }

    fn total(self) -> usize {
        self.known() + self.new
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.healthy += other.healthy;
        self.failed += other.failed;
        self.new += other.new;
    }
}

fn shares(counts: &BTreeMap<Level, Count>, settings: &LevelSettings) -> Shares {
    let factor = settings.overprovisioning_factor;
    let mut priorities = BTreeMap::<u32, Count>::new();
    for (level, count) in counts {
        *priorities.entry(level.priority).or_default() += *count;
    }
    let totals: Vec<_> = priorities.values().copied().collect();
    let (loads, panics) = loads_and_panics(&totals, settings);
    let mut groups = Vec::new();
    for ((priority, load), panics) in priorities.keys().zip(&loads).zip(&panics) {
        let of_priority = counts
            .iter()
            .filter(|(level, _)| level.priority == *priority);
        if *panics {
            let group = Group {
                priority: *priority,
                distance: None,
            };
            groups.push((group, load * 100));
            continue;
        }
        let (distances, counts): (Vec<_>, Vec<_>) = of_priority
            .map(|(level, count)| (level.distance, *count))
            .unzip();
        for (distance, near) in distances.into_iter().zip(loads_of(&counts, factor)) {
            let group = Group {
                priority: *priority,
                distance: Some(distance),
            };
            groups.push((group, load * near));
        }
    }
    let statuses = priorities.iter().zip(loads).zip(panics);
    let statuses = statuses.map(|(((priority, count), load), in_panic)| PriorityStatus {
        priority: *priority,
        healthy: count.healthy,
        total: count.total(),
        load,
        in_panic,
    });
    Shares {
        groups,
        priorities: statuses.collect(),
    }
}

/// The load of each priority in percent, and whether it is in panic.
fn loads_and_panics(counts: &[Count], settings: &LevelSettings) -> (Vec<u32>, Vec<bool>) {
    let loads = loads_of(counts, settings.overprovisioning_factor);
    let health = counts
        .iter()
        .map(|count| health(*count, settings.overprovisioning_factor));
    let is_enough = health.sum::<u32>() >= 100;
    let threshold = settings.panic_threshold as usize;
    let below = |count: &Count| {
        let well = count.healthy + count.new;
        !is_enough && 100 * well < threshold * count.total()
    };
    let panics: Vec<_> = counts.iter().map(below).collect();
    let mut all = counts.iter().zip(&panics);
    let has_any = counts.iter().any(|count| count.total() > 0);
    match has_any && all.all(|(count, panics)| *panics || count.total() == 0) {
        // No priority is better than another.
        true => (loads_by_size(counts), panics),
        false => (loads, panics),
    }
}

/// The percentage that each has of the load: as much as its healthy backends can bear, and the
/// next one the rest. All 0 if none is healthy.
fn loads_of(counts: &[Count], factor: u32) -> Vec<u32> {
    let health: Vec<_> = counts.iter().map(|count| health(*count, factor)).collect();
    let sum = health.iter().sum::<u32>().min(100);
    if sum == 0 {
        return vec![0; counts.len()];
    }
    let mut left = 100;
    let load = |health: &u32| {
        let load = (100 * health / sum).min(left);
        left -= load;
        load
    };
    let mut loads: Vec<_> = health.iter().map(load).collect();
    if let Some(first) = health.iter().position(|health| *health > 0) {
        loads[first] += left;
    }
    loads
}

/// How much of all calls these backends can bear, in percent. 1 is enough to have some.
fn health(count: Count, factor: u32) -> u32 {
    if count.healthy == 0 {
        return 0;
    }
    let share = u64::from(factor) * count.healthy as u64 / count.known() as u64;
    share.clamp(1, 100) as u32
}

/// The percentage that each has of all backends. The first with any has the rest.
fn loads_by_size(counts: &[Count]) -> Vec<u32> {
    let all: usize = counts.iter().map(|count| count.total()).sum();
    let mut loads: Vec<_> = counts
        .iter()
        .map(|count| (100 * count.total() / all.max(1)) as u32)
        .collect();
    let rest = 100 - loads.iter().sum::<u32>();
    if let Some(first) = counts.iter().position(|count| count.total() > 0) {
        loads[first] += rest;
    }
    loads
}

#[cfg(test)]
mod tests;
