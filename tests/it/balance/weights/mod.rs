//! `weighted_round_robin`: each backend has calls by the load that it reports.

mod fleet;
mod periods;
mod reports;
mod shares;
