//! When which backend of the lean server changes its health.
//!
//! They go down one after the other, and each comes back when a few more have: the
//! flips, both ways counted, are spread evenly over time and over the backends.

use std::time::Duration;

use tokio::time::Instant;

/// How many are down at a time.
pub(crate) const DOWN: usize = 25;
/// Not less than the system's clock of events knows.
const STEP: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Flips {
    going_on: Option<GoingOn>,
    down: usize,
    /// The next to go down.
    next: usize,
}

#[derive(Debug)]
struct GoingOn {
    since: Instant,
    per_second: u32,
    done: u32,
}

impl Flips {
    /// How long to wait for something else, where there are flips.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.going_on.as_ref().map(|_| STEP)
    }

    /// What has become due since it was asked last, at a rate for all of `backends`:
    /// who, and whether it serves now. With a rate of 0 all come back.
    pub(super) fn due(&mut self, per_second: u32, backends: usize) -> Vec<(usize, bool)> {
        let mut flips = Vec::new();
        if self.going_on.as_ref().map(|on| on.per_second) != Some(per_second) {
            self.going_on = (per_second > 0).then(|| GoingOn {
                since: Instant::now(),
                per_second,
                done: 0,
            });
        }
        let Some(on) = &mut self.going_on else {
            while self.down > 0 {
                flips.push(up(&mut self.down, self.next, backends));
            }
            return flips;
        };
        let due = on.since.elapsed().as_secs_f64() * f64::from(per_second);
        while f64::from(on.done) < due {
            on.done += 1;
            if self.down == DOWN {
                flips.push(up(&mut self.down, self.next, backends));
            } else {
                flips.push((self.next, false));
                self.next = (self.next + 1) % backends;
                self.down += 1;
            }
        }
        flips
    }
}

/// The one that has been down for longest.
fn up(down: &mut usize, next: usize, backends: usize) -> (usize, bool) {
    let first = (next + backends - *down) % backends;
    *down -= 1;
    (first, true)
}
