//! A table: results, and the status after each.

use std::num::NonZeroU32;

use super::Thresholds;
use crate::status::ServingStatus;

/// `+` is a success or SERVING, `-` a failure or NOT_SERVING.
#[track_caller]
fn check((up_after, down_after): (u32, u32), results: &str, statuses: &str) {
    let threshold = |number| NonZeroU32::new(number).expect("above zero");
    let mut thresholds = Thresholds::new(threshold(up_after), threshold(down_after));
    assert_eq!(thresholds.status(), ServingStatus::NotServing);
    let letters = results.chars().map(|result| {
        let status = thresholds.on_result(result == '+');
        match status {
            ServingStatus::Serving => '+',
            ServingStatus::NotServing | ServingStatus::Unknown => '-',
        }
    });
    assert_eq!(letters.collect::<String>(), statuses);
}

#[test]
fn each_row_of_results_has_its_statuses() {
    // Each result counts.
    check((1, 1), "-+-+", "-+-+");
    // The defaults: a success between failures begins the count again.
    check((1, 3), "+--+---+", "++++++-+");
    // A failure between successes, too.
    check((3, 1), "++-+++-+", "-----+--");
    check((2, 2), "+-++-+--+", "---++++--");
}
