//! What is known of the backends, in rows: pure.
//!
//! ```text
//!   Look, of one channel ──► Table ──► what changed: events
//!                              ├─────► rows, as text of a given size
//!                              └─────► what `--until` waits for
//! ```
//!
//! A channel's source has a row of its own while it has named no backend, and while
//! something is wrong with it.

use std::{collections::BTreeMap, mem, sync::Arc, time::Instant};

use tonic_health_channel::{ConnectivityState, health::HealthStatus};

use crate::{
    grid::{Cell, Grid, Line, Tone, age, cut_line},
    targets::service_text,
};

/// A target that is asked about a service, which is one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) target: String,
    pub(crate) service: String,
}

/// A channel at one moment. Backends are told apart by `Id`.
#[derive(Debug)]
pub(crate) struct Look<Id> {
    pub(crate) state: ConnectivityState,
    /// What is wrong with the source.
    pub(crate) trouble: Option<String>,
    pub(crate) backends: Vec<(Id, Seen)>,
}

/// A backend, or a source, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) label: String,
    /// Where it is. Empty if it is a source.
    pub(crate) address: String,
    pub(crate) state: ConnectivityState,
    pub(crate) health: HealthStatus,
    /// When its state or health last changed.
    pub(crate) since: Instant,
    pub(crate) error: Option<Failure>,
}

/// The last failure. It stays after recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) at: Instant,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) what: What,
    pub(crate) question: Arc<Question>,
    pub(crate) seen: Seen,
    pub(crate) flips: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Added,
    /// Its state, its health or its error.
    Changed,
    Removed,
    /// Something is wrong with the source, or no longer is.
    Source,
}

/// All rows.
#[derive(Debug)]
pub(crate) struct Table<Id> {
    channels: Vec<Channel<Id>>,
}

#[derive(Debug)]
struct Channel<Id> {
    question: Arc<Question>,
    source: Seen,
    backends: Vec<Row<Id>>,
}

#[derive(Debug)]
struct Row<Id> {
    id: Id,
    seen: Seen,
    flips: u32,
    has_been_ready: bool,
}

/// How much text there is room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) lines: usize,
}

impl<Id: Copy + Ord> Table<Id> {
    /// Of channels that have just been made, numbered from zero.
    pub(crate) fn new(questions: Vec<Question>, now: Instant) -> Self {
        let channel = |question: Question| Channel {
            source: Seen {
                label: question.target.clone(),
                address: String::new(),
                state: ConnectivityState::Connecting,
                health: HealthStatus::NotChecked,
                since: now,
                error: None,
            },
            question: Arc::new(question),
            backends: Vec::new(),
        };
        Self {
            channels: questions.into_iter().map(channel).collect(),
        }
    }

    /// Takes over what a channel has published, and tells what is different.
    pub(crate) fn on_look(&mut self, channel: usize, look: Look<Id>, now: Instant) -> Vec<Event> {
        let channel = &mut self.channels[channel];
        let source = channel.on_source(look.state, look.trouble, now);
        let rows = mem::take(&mut channel.backends).into_iter();
        let mut old: BTreeMap<Id, Row<Id>> = rows.map(|row| (row.id, row)).collect();
        let mut named = Vec::new();
        for (id, seen) in look.backends {
            let (row, what) = match old.remove(&id) {
                None => (Row::new(id, seen), Some(What::Added)),
                Some(row) => row.with(seen),
            };
            named.extend(what.map(|what| channel.event(what, &row)));
            channel.backends.push(row);
        }
        let removed = old.values().map(|row| channel.event(What::Removed, row));
        source.into_iter().chain(removed).chain(named).collect()
    }

    /// Every row: whom it is about, and how often it flipped if it is a backend.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Question, &Seen, Option<u32>)> {
        self.channels.iter().flat_map(|channel| {
            let source = channel.shows_source().then_some((&channel.source, None));
            let backends = channel.backends.iter();
            let rows = source
                .into_iter()
                .chain(backends.map(|row| (&row.seen, Some(row.flips))));
            rows.map(|(seen, flips)| (&*channel.question, seen, flips))
        })
    }

    /// Whose health a script may wait for: every backend, and sources that have named
    /// none yet.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (&Question, &Seen)> {
        self.channels.iter().flat_map(|channel| {
            let none_yet = channel.backends.is_empty().then_some(&channel.source);
            let backends = channel.backends.iter().map(|row| &row.seen);
            let wanted = none_yet.into_iter().chain(backends);
            wanted.map(|seen| (&*channel.question, seen))
        })
    }

    /// The rows as text that fits, from the first on, and how many do not.
    pub(crate) fn text(&self, size: Size, now: Instant) -> Vec<Line> {
        let shown = Columns::of(self);
        let mut grid = Grid::new(&shown.heading());
        let rows: Vec<_> = self.rows().collect();
        let room = size.lines.saturating_sub(1);
        let fitting = match rows.len() <= room {
            true => rows.len(),
            false => room.saturating_sub(1),
        };
        for (question, seen, flips) in &rows[..fitting] {
            grid.push(shown.row(question, seen, *flips, now));
        }
        let mut lines: Vec<_> = grid.lines(Some(size.columns)).collect();
        if let Some(left_out) = left_out(&rows[fitting..]) {
            lines.push(cut_line(vec![left_out], size.columns));
        }
        lines.truncate(size.lines);
        lines
    }
}

impl<Id> Channel<Id> {
    fn on_source(
        &mut self,
        state: ConnectivityState,
        trouble: Option<String>,
        now: Instant,
    ) -> Option<Event> {
        if self.source.state != state {
            self.source.state = state;
            self.source.since = now;
        }
        if self.source.error_text() == trouble.as_deref() {
            return None;
        }
        self.source.error = trouble.map(|text| Failure { text, at: now });
        Some(Event {
            what: What::Source,
            question: self.question.clone(),
            seen: self.source.clone(),
            flips: 0,
        })
    }

    fn event(&self, what: What, row: &Row<Id>) -> Event {
        Event {
            what,
            question: self.question.clone(),
            seen: row.seen.clone(),
            flips: row.flips,
        }
    }

    fn shows_source(&self) -> bool {
        self.backends.is_empty() || self.source.error.is_some()
    }
}

impl<Id> Row<Id> {
    fn new(id: Id, seen: Seen) -> Self {
        Self {
            id,
            flips: 0,
            has_been_ready: seen.is_ready(),
            seen,
        }
    }

    /// The same backend later, and whether that is news. The first time that it is
    /// READY is no flip: it comes up.
    fn with(self, seen: Seen) -> (Self, Option<What>) {
        let seen = seen.after(&self.seen);
        let flipped = self.has_been_ready && self.seen.is_ready() != seen.is_ready();
        let what = self.seen.differs_from(&seen).then_some(What::Changed);
        let row = Self {
            flips: self.flips + u32::from(flipped),
            has_been_ready: self.has_been_ready || seen.is_ready(),
            seen,
            ..self
        };
        (row, what)
    }
}

impl Seen {
    fn is_ready(&self) -> bool {
        self.state == ConnectivityState::Ready
    }

    /// Its backend has said that it is SERVING, and is used.
    pub(crate) fn is_serving(&self) -> bool {
        self.is_ready() && self.health == HealthStatus::Serving
    }

    /// The same in the light of what it was before. A failure that is asked about once
    /// more is the same failure since it began, until there is another answer.
    fn after(self, before: &Self) -> Self {
        let is_asked_again = self.state == ConnectivityState::TransientFailure
            && self.health == HealthStatus::Pending;
        let health = match is_asked_again && before.state == self.state {
            true => before.health,
            false => self.health,
        };
        let is_the_same = (before.state, before.health) == (self.state, health);
        Self {
            health,
            since: if is_the_same {
                before.since
            } else {
                self.since
            },
            ..self
        }
    }

    /// In more than how often, and when, the same thing failed.
    fn differs_from(&self, other: &Self) -> bool {
        let told = |seen: &Self| (seen.state, seen.health);
        told(self) != told(other) || self.error_text() != other.error_text()
    }

    pub(crate) fn error_text(&self) -> Option<&str> {
        self.error.as_ref().map(|error| error.text.as_str())
    }

    /// Its label, and its address if that is something else.
    pub(crate) fn name(&self) -> String {
        match self.address.is_empty() || self.label == self.address {
            true => self.label.clone(),
            false => format!("{} ({})", self.label, self.address),
        }
    }

    /// What is known of its health, in one word if it is nothing.
    pub(crate) fn health_text(&self) -> String {
        match self.health {
            HealthStatus::NotChecked => "-".to_owned(),
            health => health.to_string(),
        }
    }
}

/// Which columns tell rows apart.
#[derive(Clone, Copy)]
struct Columns {
    target: bool,
    service: bool,
}

impl Columns {
    fn of<Id: Copy + Ord>(table: &Table<Id>) -> Self {
        let mut questions = table.channels.iter().map(|channel| &channel.question);
        let Some(first) = questions.next() else {
            return Self {
                target: false,
                service: false,
            };
        };
        let several_targets = questions.clone().any(|q| q.target != first.target);
        let is_named_otherwise =
            |(question, seen, _): (&Question, &Seen, _)| seen.label != question.target;
        Self {
            target: several_targets && table.rows().any(is_named_otherwise),
            service: questions.any(|q| q.service != first.service),
        }
    }

    fn heading(self) -> Vec<&'static str> {
        let names = [
            (true, "BACKEND"),
            (self.target, "TARGET"),
            (self.service, "SERVICE"),
            (true, "STATE"),
            (true, "HEALTH"),
            (true, "SINCE"),
            (true, "FLIPS"),
            (true, "LAST ERROR"),
        ];
        names
            .into_iter()
            .filter_map(|(shown, name)| shown.then_some(name))
            .collect()
    }

    fn row(self, question: &Question, seen: &Seen, flips: Option<u32>, now: Instant) -> Line {
        let ago = |at: Instant| age(now.saturating_duration_since(at));
        let error = seen.error.as_ref();
        let error = error.map(|error| format!("{} ({} ago)", error.text, ago(error.at)));
        let flips = flips.map_or("-".to_owned(), |flips| flips.to_string());
        let cells = [
            (true, Cell::plain(seen.name())),
            (self.target, Cell::plain(&question.target)),
            (self.service, Cell::plain(service_text(&question.service))),
            (
                true,
                Cell::new(seen.state.to_string(), state_tone(seen.state)),
            ),
            (
                true,
                Cell::new(seen.health_text(), health_tone(seen.health)),
            ),
            (true, Cell::plain(ago(seen.since))),
            (true, Cell::plain(flips)),
            (true, Cell::plain(error.unwrap_or_default())),
        ];
        cells
            .into_iter()
            .filter_map(|(shown, cell)| shown.then_some(cell))
            .collect()
    }
}

fn state_tone(state: ConnectivityState) -> Tone {
    match state {
        ConnectivityState::Ready => Tone::Good,
        ConnectivityState::Idle | ConnectivityState::Connecting => Tone::Waiting,
        ConnectivityState::TransientFailure | ConnectivityState::Shutdown => Tone::Bad,
    }
}

fn health_tone(health: HealthStatus) -> Tone {
    match health {
        HealthStatus::Serving => Tone::Good,
        HealthStatus::NotChecked | HealthStatus::Disabled => Tone::Plain,
        HealthStatus::Pending | HealthStatus::Unimplemented => Tone::Waiting,
        _ => Tone::Bad,
    }
}

fn left_out(rows: &[(&Question, &Seen, Option<u32>)]) -> Option<Cell> {
    let bad = rows.iter().filter(|(_, seen, _)| !seen.is_ready()).count();
    match (rows.len(), bad) {
        (0, _) => None,
        (more, 0) => Some(Cell::new(format!("… and {more} more"), Tone::Heading)),
        (more, bad) => {
            let text = format!("… and {more} more, {bad} of them not READY");
            Some(Cell::new(text, Tone::Bad))
        }
    }
}
