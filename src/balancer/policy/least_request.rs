//! The rules of `least_request_experimental` (gRFC A48): those of `round_robin`, and calls go to
//! the least loaded of some backends that are drawn.

use std::{sync::Arc, time::Instant};

use super::control::ControlHalf;
use crate::{
    routing::{self, BackendStatus, Choice, Cursor},
    service_config,
};

#[derive(Debug)]
pub(in crate::balancer) struct LeastRequest {
    choices: u32,
}

impl LeastRequest {
    pub(in crate::balancer) fn new(config: &service_config::LeastRequest) -> Self {
        Self {
            choices: config.choice_count,
        }
    }
}

impl ControlHalf for LeastRequest {
    fn choice<'a>(
        &mut self,
        _now: Instant,
        _level: usize,
        _cursor: &Arc<Cursor>,
        members: impl Iterator<Item = &'a BackendStatus> + Clone,
    ) -> Choice {
        let ready = members.filter(|backend| backend.takes_calls);
        let calls = ready.map(|backend| backend.calls.clone());
        Choice::LeastRequest(routing::LeastRequest::new(self.choices, calls))
    }
}
