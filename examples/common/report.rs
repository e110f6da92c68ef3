//! A channel's life in lines of text.

use std::{io::IsTerminal, time::Duration};

use tokio::time::Instant;
use tonic_health_channel::{
    ConnectivityState,
    health::HealthStatus,
    status::{BackendStatus, ChannelStatus},
};

/// What people call a backend.
pub(crate) type Name<'a> = &'a dyn Fn(&BackendStatus) -> String;

/// Every line that tells how `after` differs from `before`; all there is to tell
/// if nothing was `before`.
pub(crate) fn changes(
    before: Option<&ChannelStatus>,
    after: &ChannelStatus,
    name: Name<'_>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for backend in after.backends() {
        let old = before.and_then(|before| same(before, backend));
        if old.is_none_or(|old| news(old) != news(backend)) {
            let step = step(old.map(BackendStatus::state), backend.state());
            let detail = detail(old, backend);
            lines.push(format!("{} {step}{detail}", name(backend)));
        }
    }
    for gone in before.into_iter().flat_map(ChannelStatus::backends) {
        if same(after, gone).is_none() {
            lines.push(format!("{} removed", name(gone)));
        }
    }
    let old = before.map(ChannelStatus::state);
    if old != Some(after.state()) {
        lines.push(format!("channel {}", step(old, after.state())));
    }
    lines
}

/// One line for each backend.
pub(crate) fn table(status: &ChannelStatus, name: Name<'_>) -> Vec<String> {
    let paint = Paint::stdout();
    let line = |backend: &std::sync::Arc<BackendStatus>| {
        let mut line = format!(
            "{}  {}  {}  {:<11}  for {}",
            name(backend),
            backend.address(),
            paint.state(backend.state(), 17),
            backend.health(),
            short(backend.since().elapsed()),
        );
        let said = format!("health check: {}", backend.health());
        if let Some(why) = why(backend).filter(|why| *why != said) {
            line += &format!("  {why}");
        }
        if let (attempts @ 1.., Some(next)) = (backend.failed_attempts(), backend.next_attempt()) {
            let wait = next.saturating_duration_since(Instant::now().into_std());
            line += &format!(" (attempt {attempts}, next in {})", short(wait));
        }
        line
    };
    status.backends().iter().map(line).collect()
}

/// `1.2 ms`, `340 ms`, `2.5 s`.
pub(crate) fn short(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    match millis {
        ..10.0 => format!("{millis:.1} ms"),
        ..1000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}

fn same<'a>(status: &'a ChannelStatus, backend: &BackendStatus) -> Option<&'a BackendStatus> {
    status.backends().get(backend.id()).map(|found| &**found)
}

/// `CONNECTING → READY`, or the state alone if it is the first or the same.
fn step(from: Option<ConnectivityState>, to: ConnectivityState) -> String {
    let paint = Paint::stdout();
    match from.filter(|from| *from != to) {
        Some(from) => format!("{} → {}", paint.state(from, 0), paint.state(to, 0)),
        None => paint.state(to, 0),
    }
}

/// Why it failed, or what is known of its health; of the two, what is new.
fn detail(old: Option<&BackendStatus>, backend: &BackendStatus) -> String {
    match why(backend) {
        Some(why) if old.and_then(self::why).as_ref() != Some(&why) => format!(", {why}"),
        _ if backend.health() == HealthStatus::NotChecked => String::new(),
        _ => format!(", health {}", backend.health()),
    }
}

/// What of a backend is worth a line when it changes.
fn news(backend: &BackendStatus) -> impl PartialEq {
    (backend.state(), backend.health(), why(backend))
}

/// Why it takes no calls, if it has failed.
fn why(backend: &BackendStatus) -> Option<String> {
    let (cause, _) = backend.last_error()?;
    (backend.state() == ConnectivityState::TransientFailure).then(|| cause.to_string())
}

/// Colours, where somebody sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// None when stdout is not a terminal, or when `NO_COLOR` is set.
    pub(crate) fn stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !unwanted)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.code("32", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.code("31", text)
    }

    /// `state`, padded to `width`.
    fn state(self, state: ConnectivityState, width: usize) -> String {
        let text = format!("{state:<width$}");
        match state {
            ConnectivityState::Ready => self.green(&text),
            ConnectivityState::TransientFailure => self.red(&text),
            ConnectivityState::Idle
            | ConnectivityState::Connecting
            | ConnectivityState::Shutdown => self.code("33", &text),
        }
    }

    fn code(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}
