//! The rules of `weighted_round_robin` (gRFC A58): those of `round_robin`, and each backend has
//! calls by the load that it reports.
//!
//! ```text
//!   trailers of calls ──► record of each backend ──► weights ──► Stride ──► calls
//!                                                      ▲
//!                                  each update period, and each publication
//! ```
//!
//! With fewer than 2 weights that can be used, calls go by the weights of the source alone, and
//! rotate if those are equal. Otherwise a backend's weight is the product of both.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use super::control::{BackendView, ControlHalf, Decision, Run};
use crate::{
    connectivity::ConnectivityState::Ready,
    routing::{BackendStatus, Choice, Cursor, Rotation, Stride},
    service_config,
    transport::{LoadRules, WeightPeriods},
    util::instant,
};

#[derive(Debug)]
pub(in crate::balancer) struct WeightedRoundRobin {
    rules: Arc<LoadRules>,
    periods: WeightPeriods,
    update_period: Duration,
    /// While at least 2 backends are READY: when the weights are looked at again.
    next_update: Option<Instant>,
}

impl WeightedRoundRobin {
    pub(in crate::balancer) fn new(config: &service_config::WeightedRoundRobin) -> Self {
        let metrics = &config.metric_names_for_computing_utilization;
        let rules = LoadRules::new(
            config.error_utilization_penalty,
            metrics.iter().map(String::as_str),
        );
        Self {
            rules: Arc::new(rules),
            periods: WeightPeriods {
                blackout: config.blackout_period,
                expiration: config.weight_expiration_period,
            },
            update_period: config.weight_update_period,
            next_update: None,
        }
    }
}

impl ControlHalf for WeightedRoundRobin {
    fn decide(
        &mut self,
        now: Instant,
        backends: impl ExactSizeIterator<Item = BackendView>,
    ) -> Decision {
        let ready = backends.filter(|backend| backend.state == Ready).take(2);
        let has_choice = ready.count() == 2;
        let is_due = self.next_update.is_some_and(|next| next <= now);
        if !has_choice || is_due {
            self.next_update = None;
        }
        if has_choice {
            let next = || instant::after(now, self.update_period);
            self.next_update.get_or_insert_with(next);
        }
        Decision {
            run: Run::All,
            changed: false,
            chooses_anew: has_choice && is_due,
        }
    }

    fn deadline(&self, _backends: usize) -> Option<Instant> {
        self.next_update
    }

    fn load_rules(&self) -> Option<&Arc<LoadRules>> {
        Some(&self.rules)
    }

    fn choice<'a>(
        &mut self,
        now: Instant,
        _level: usize,
        cursor: &Arc<Cursor>,
        members: impl Iterator<Item = &'a BackendStatus> + Clone,
    ) -> Choice {
        let ready = members.filter(|backend| backend.takes_calls);
        let weights: Vec<_> = ready
            .map(|backend| Weight {
                of_load: backend.calls.weight_at(now, self.periods),
                of_source: backend.weight(),
            })
            .collect();
        let weights = combined(&weights);
        match Stride::new(&weights, Arc::clone(cursor)) {
            Some(stride) => Choice::Stride(stride),
            None => Choice::Rotation(Rotation::new(Arc::clone(cursor))),
        }
    }
}

/// A backend's weight by the load that it reports, which is 0 if it is not known, and by its source.
#[derive(Clone, Copy, Debug)]
struct Weight {
    of_load: f64,
    of_source: NonZeroU32,
}

/// The product of both weights. An unknown one by load counts as the mean of the others, and while
/// fewer than 2 are known, all are equal. 0 is not known: without weights of the source that is
/// left to [`Stride`].
fn combined(weights: &[Weight]) -> Vec<f64> {
    let of_load = |weight: &Weight| weight.of_load;
    if weights.iter().all(|w| w.of_source == NonZeroU32::MIN) {
        return weights.iter().map(of_load).collect();
    }
    let known = weights.iter().map(of_load).filter(|weight| *weight > 0.0);
    let (count, sum) = known.fold((0_u32, 0.0), |(count, sum), weight| {
        (count + 1, sum + weight)
    });
    let usable = count >= 2;
    let mean = if usable { sum / f64::from(count) } else { 1.0 };
    let combine = |weight: &Weight| {
        let is_known = usable && weight.of_load > 0.0;
        let of_load = if is_known { weight.of_load } else { mean };
        of_load * f64::from(weight.of_source.get())
    };
    weights.iter().map(combine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connectivity::ConnectivityState, routing::BackendId};

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> WeightedRoundRobin {
        WeightedRoundRobin::new(&service_config::WeightedRoundRobin::default())
    }

    fn decide(policy: &mut WeightedRoundRobin, now: Instant, ready: usize) -> Decision {
        let view = |id: usize| BackendView {
            id: BackendId(id as u64),
            state: match id < ready {
                true => Ready,
                false => ConnectivityState::Connecting,
            },
            level: Default::default(),
            is_ipv6: false,
        };
        policy.decide(now, (0..3).map(view))
    }

    // D423
    #[test]
    fn the_weights_of_the_source_and_of_the_load_are_multiplied() {
        let weighed = |weights: &[(f64, u32)]| {
            let weight = |(of_load, of_source): &(f64, u32)| Weight {
                of_load: *of_load,
                of_source: NonZeroU32::new(*of_source).unwrap(),
            };
            combined(&weights.iter().map(weight).collect::<Vec<_>>())
        };
        assert_eq!(weighed(&[(0.0, 1), (5.0, 1)]), [0.0, 5.0], "as without");
        assert_eq!(weighed(&[(0.0, 1), (0.0, 3)]), [1.0, 3.0]);
        let one_report = weighed(&[(7.0, 1), (0.0, 3)]);
        assert_eq!(one_report, [1.0, 3.0], "1 is not comparable to any other");
        assert_eq!(weighed(&[(2.0, 1), (4.0, 3), (0.0, 2)]), [2.0, 12.0, 6.0]);
    }

    // W02
    #[test]
    fn weights_are_looked_at_in_each_period_while_there_is_a_choice() {
        let (mut policy, start) = (policy(), Instant::now());
        assert!(!decide(&mut policy, start, 1).chooses_anew);
        assert_eq!(policy.deadline(3), None, "1 backend has all calls");

        assert!(!decide(&mut policy, start, 2).chooses_anew);
        assert_eq!(policy.deadline(3), Some(start + SECOND));
        assert!(!decide(&mut policy, start + SECOND / 2, 3).chooses_anew);
        assert_eq!(policy.deadline(3), Some(start + SECOND), "as it was");

        let late = start + SECOND * 3;
        assert!(decide(&mut policy, late, 3).chooses_anew);
        assert_eq!(policy.deadline(3), Some(late + SECOND));
        assert!(!decide(&mut policy, late, 3).chooses_anew, "once");

        assert!(!decide(&mut policy, late + SECOND, 1).chooses_anew);
        assert_eq!(policy.deadline(3), None);
    }

    #[test]
    fn every_backend_runs() {
        assert_eq!(decide(&mut policy(), Instant::now(), 2).run, Run::All);
    }
}
