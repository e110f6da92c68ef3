//! A source that writes many lines, in simulated time.

use std::time::Duration;

use tokio::time::Instant;

use super::{LogBudget, LogDecision, MAX_LINES, PERIOD};

#[test]
fn a_source_is_loud_again_in_the_next_minute() {
    let start = Instant::now().into_std();
    let mut budget = LogBudget::default();
    for second in 1..MAX_LINES {
        let now = start + Duration::from_millis(second.into());
        assert_eq!(budget.spend(now), LogDecision::Emit);
    }
    let end = start + PERIOD;
    assert_eq!(budget.spend(end), LogDecision::EmitLast);
    assert_eq!(budget.spend(end), LogDecision::Demote);
    assert_eq!(
        budget.spend(start),
        LogDecision::Demote,
        "a clock goes back"
    );
    let next = end + Duration::from_millis(1);
    assert_eq!(budget.spend(next), LogDecision::Emit);
}
