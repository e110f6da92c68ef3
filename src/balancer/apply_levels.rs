//! Which backends calls choose among: the levels, and the policy in each.
//!
//! The shares are made anew once per turn of the task, after the policy has said which backends
//! run. A channel whose backends are of 1 level has the policy's choice alone.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    backend::Backend,
    effects::{Effects, SubchannelId},
    levels::{Count, Level, LevelSettings, Levels, Shares},
    machine::Balancer,
    subset::Subset,
};
use crate::{
    connectivity::ConnectivityState::{self, Idle, Ready},
    routing::{BackendId, BackendStatus, ByLevel, Choice, Cursor, LevelChoice, PriorityStatus},
};

impl<E: Clone + PartialEq, C: Clone + PartialEq> Balancer<E, C> {
    /// The options of the application. `seed` is for what is left to chance.
    pub(crate) fn set_levels(&mut self, settings: LevelSettings, seed: u64) {
        self.levels = Levels::new(settings, seed);
    }

    /// Shares the calls anew among the levels. To be called when it is known which backends run.
    pub(super) fn share_among_levels(&mut self, now: Instant) -> Effects<E> {
        let counts = (self.levels.matter() && self.runs()).then(|| self.counts());
        let before = self.priorities();
        let mut effects = Effects::changed(self.levels.share(counts.as_ref()));
        let priorities = self.priorities();
        let has_panic = priorities.iter().any(PriorityStatus::is_in_panic);
        // With the same shares, others may be of a priority in panic.
        if !effects.changed && !has_panic {
            return effects;
        }
        effects.panics = panic_changes(&before, &priorities);
        effects.changed |= self.apply_panic(now, &mut effects.panic_gates);
        effects
    }

    /// Opens the backends of priorities in panic, and closes the others. Of each subchannel whose
    /// backend is another by that, `gates` gets to know it.
    fn apply_panic(&mut self, now: Instant, gates: &mut Vec<(SubchannelId, bool)>) -> bool {
        let mut changed = false;
        for backend in self.backends.values_mut() {
            let shares = self.levels.shares();
            let in_panic = shares.is_some_and(|shares| shares.panics(backend.status.priority()));
            if backend.set_in_panic(now, in_panic) {
                changed = true;
                let pending = backend.pending.as_ref().map(|pending| &pending.subchannel);
                let all = [Some(&backend.current), pending];
                gates.extend(all.into_iter().flatten().map(|of| (of.id, in_panic)));
            }
        }
        changed
    }

    /// The backends of each level, as far as the policy uses them.
    fn counts(&self) -> BTreeMap<Level, Count> {
        let mut counts = BTreeMap::<Level, Count>::new();
        for backend in self.members() {
            let count = match backend.status.state {
                Ready => Count {
                    healthy: 1,
                    ..Count::default()
                },
                // It does not run.
                Idle => continue,
                _ if backend.is_new => Count {
                    new: 1,
                    ..Count::default()
                },
                _ => Count {
                    failed: 1,
                    ..Count::default()
                },
            };
            let level = self.levels.of(&backend.status.attributes);
            *counts.entry(level).or_default() += count;
        }
        counts
    }

    /// The backends that the policy may use.
    pub(super) fn members(&self) -> impl Iterator<Item = &Backend<E, C>> + Clone {
        members(&self.backends, self.subset.as_ref())
    }

    /// The priorities in force, for users.
    pub(super) fn priorities(&self) -> Arc<[PriorityStatus]> {
        let shares = self.levels.shares();
        shares.map_or_else(Arc::default, |shares| Arc::clone(&shares.priorities))
    }

    /// How calls choose among the backends that take calls. `cursor` is the channel's.
    pub(crate) fn choice(&mut self, now: Instant, cursor: &Arc<Cursor>) -> Choice {
        let members = members(&self.backends, self.subset.as_ref());
        let members = members.map(|backend| &*backend.status);
        let groups = match self.levels.shares() {
            Some(shares) => backends_of(shares, &self.levels, members.clone()),
            None => Vec::new(),
        };
        // Silent backends are numbered over all levels, by which a policy alone cannot go.
        let has_silent = members.clone().any(BackendStatus::is_probed);
        match &*groups {
            [] => return self.policy.choice(now, 0, cursor, members),
            // No other level takes calls, so calls do not wait for its backends either.
            [only] if !has_silent => {
                let statuses = only.backends.iter().map(|(_, status)| *status);
                return self.policy.choice(now, only.level, cursor, statuses);
            }
            _ => {}
        }
        let has_share = groups.iter().any(|group| group.share > 0);
        let levels = groups.iter().map(|group| {
            let statuses = group.backends.iter().map(|(_, status)| *status);
            let numbers = group.backends.iter().filter_map(|(number, _)| *number);
            LevelChoice {
                share: if has_share { group.share } else { 1 },
                members: numbers.collect(),
                choice: self.policy.choice(now, group.level, group.cursor, statuses),
            }
        });
        Choice::ByLevel(Box::new(ByLevel::new(levels.collect())))
    }

    /// The state of a backend, as far as calls go by it.
    pub(super) fn state_for_calls(backend: &Backend<E, C>) -> ConnectivityState {
        match backend.connection {
            Some(_) => Ready,
            None => backend.status.state,
        }
    }
}

/// The backends of one group, each with its number in the picker if it takes calls.
struct GroupBackends<'a> {
    /// Its number among all groups, of which some may have no backend that takes calls.
    level: usize,
    share: u32,
    cursor: &'a Arc<Cursor>,
    backends: Vec<(Option<u32>, &'a BackendStatus)>,
}

fn members<'a, E, C>(
    backends: &'a BTreeMap<BackendId, Backend<E, C>>,
    subset: Option<&'a Subset>,
) -> impl Iterator<Item = &'a Backend<E, C>> + Clone {
    let is_member = move |id| subset.is_none_or(|subset| subset.has(id));
    let all = backends.iter();
    all.filter(move |(id, _)| is_member(**id))
        .map(|(_, backend)| backend)
}

/// The groups that have a backend that takes calls.
fn backends_of<'a>(
    shares: &Shares,
    levels: &'a Levels,
    members: impl Iterator<Item = &'a BackendStatus>,
) -> Vec<GroupBackends<'a>> {
    let groups = shares.groups.iter().enumerate();
    let mut groups: Vec<_> = groups
        .filter_map(|(level, (group, share))| {
            Some(GroupBackends {
                level,
                share: *share,
                cursor: levels.cursor(*group)?,
                backends: Vec::new(),
            })
        })
        .collect();
    let mut numbers = 0_u32..;
    for status in members {
        let number = status.takes_calls.then(|| numbers.next()).flatten();
        let of = shares.group_of(levels.of(&status.attributes));
        // A backend of no group came after the shares were made, and is the last choice.
        let at = of.unwrap_or(groups.len().saturating_sub(1));
        if let Some(group) = groups.get_mut(at) {
            group.backends.push((number, status));
        }
    }
    let takes_calls = |group: &GroupBackends<'_>| group.backends.iter().any(|(n, _)| n.is_some());
    groups.retain(takes_calls);
    groups
}

/// The priorities whose panic begins or ends, as they are now.
fn panic_changes(before: &[PriorityStatus], now: &[PriorityStatus]) -> Vec<PriorityStatus> {
    let was = |priority| {
        let mut before = before.iter();
        before.any(|status| status.priority == priority && status.in_panic)
    };
    let changed = now.iter().filter(|now| was(now.priority) != now.in_panic);
    changed.copied().collect()
}

#[cfg(test)]
mod tests;
