//! What hosts have noted, against what callers have seen.

use std::collections::HashMap;

use super::{
    Host, Result,
    load::{End, Notes},
};

/// What does not agree, or should not be so.
pub(super) fn complaints<H: Host>(hosts: &[H], notes: &Notes) -> Result<Vec<String>> {
    let mut times = vec![0_u8; notes.ends.len()];
    let mut places = HashMap::new();
    let failed: HashMap<_, _> = notes.failed.iter().copied().collect();
    let mut complaints = Vec::new();
    for (place, host) in hosts.iter().enumerate() {
        for number in host.ledger()? {
            let number = usize::try_from(number)?;
            let times = times.get_mut(number);
            let times = times.ok_or_else(|| format!("backend {place} made up call {number}"))?;
            *times = times.saturating_add(1);
            if failed.contains_key(&number) {
                places.insert(number, place);
            }
        }
    }
    for (number, (end, times)) in notes.ends.iter().zip(times).enumerate() {
        match (end, times) {
            (Some(End::Answered), 1) | (Some(End::Failed), 0 | 1) => {}
            _ => complaints.push(format!("call {number}: {end:?}, processed {times} times")),
        }
    }
    for (number, place) in places {
        if failed[&number] & (1 << place) == 0 {
            complaints.push(format!(
                "call {number} failed at backend {place}, which had no trouble"
            ));
        }
    }
    complaints.truncate(20);
    Ok(complaints)
}
