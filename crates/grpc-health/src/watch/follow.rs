//! Follows the channels, and shows what they know.

use std::{
    future::pending,
    io,
    time::{Duration, Instant},
};

use clap::Args;
use futures_util::{
    Stream, StreamExt,
    stream::{self, SelectAll},
};
use serde_json::json;
use tokio::{
    select,
    time::{self, MissedTickBehavior},
};
use tonic_health_channel::{
    BackendId, BackendStatus, Cause, Channel, HealthOptions, OnNotFound, OnUnimplemented, Status,
};

use super::{
    lines,
    screen::Screen,
    table::{Event, Failure, Look, Question, Seen, Table},
    until::Until,
};
use crate::{
    connect::ConnectArgs,
    exit::Exit,
    output::unwritable,
    report::{self, Clock, Format, OutputArgs},
    signals::{Resizes, Signals},
    targets::{self, TargetArgs},
};

/// Follow the health of many backends
///
/// On a terminal this is a table, redrawn in place. Elsewhere every event is a line.
#[derive(Args, Clone, Debug)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    targets: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// End as soon as this is so
    #[arg(long, value_enum, value_name = "WHAT")]
    until: Option<Until>,
    /// End after this time: with --until by exit code 4, else by 0
    #[arg(long, value_name = "DURATION", value_parser = targets::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Servers without `Watch`, or without the name that is asked about, are asked again
/// after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often ages are written anew.
const TICK: Duration = Duration::from_secs(1);

/// Who publishes faster than this is drawn is drawn less often.
const AT_ONCE: usize = 1024;

pub(crate) async fn run(args: WatchArgs) -> Result<Exit, Exit> {
    let mut signals = Signals::new()?;
    let mut resizes = Resizes::new()?;
    let (questions, channels) = open(&args)?;
    let mut looks = follow(&channels).ready_chunks(AT_ONCE);
    let mut watcher = Watcher::new(&args, questions)?;
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = async {
        match args.timeout {
            Some(timeout) => time::sleep(timeout).await,
            None => pending().await,
        }
    };
    tokio::pin!(deadline);
    loop {
        let exit = select! {
            // The end comes before more of the same.
            biased;
            exit = signals.next() => Some(exit),
            () = &mut deadline => Some(watcher.on_deadline()),
            // The channels live as long as this function: there is always another.
            Some(looks) = looks.next() => watcher.on_looks(looks)?,
            () = resizes.next() => watcher.on_resize(),
            _ = ticks.tick() => None,
        };
        watcher.show()?;
        if let Some(exit) = exit {
            return Ok(exit);
        }
    }
}

/// What is known, how it is shown, and what for. Some methods tell when that is over.
struct Watcher {
    table: Table<BackendId>,
    view: View,
    until: Option<Until>,
}

impl Watcher {
    fn new(args: &WatchArgs, questions: Vec<Question>) -> Result<Self, Exit> {
        let names_service = args.targets.services().len() > 1;
        let view = View::open(args.output.format, names_service);
        Ok(Self {
            table: Table::new(questions, Clock::now().now),
            view: view.map_err(|error| unwritable(&error))?,
            until: args.until,
        })
    }

    fn on_looks(&mut self, looks: Vec<(usize, Look<BackendId>)>) -> Result<Option<Exit>, Exit> {
        let clock = Clock::now();
        for (channel, look) in looks {
            let events = self.table.on_look(channel, look, clock.now);
            let told = self.view.tell(&events, &clock);
            told.map_err(|error| unwritable(&error))?;
        }
        let is_reached = |until: Until| until.missing(&self.table).is_empty();
        Ok(self.until.is_some_and(is_reached).then_some(Exit::Healthy))
    }

    fn on_resize(&mut self) -> Option<Exit> {
        if let View::Live(screen) = &mut self.view {
            screen.on_resize();
        }
        None
    }

    fn on_deadline(&self) -> Exit {
        let Some(until) = self.until else {
            return Exit::Healthy;
        };
        let missing = until.missing(&self.table).join("\n  ");
        Exit::Unhealthy(format!("error: timed out, and not SERVING:\n  {missing}"))
    }

    /// As it is now, with its ages.
    fn show(&mut self) -> Result<(), Exit> {
        let shown = self.view.show(&self.table);
        shown.map_err(|error| unwritable(&error))
    }
}

/// A channel for each target and service.
fn open(args: &WatchArgs) -> Result<(Vec<Question>, Vec<Channel>), Exit> {
    let template = args.connect.template()?;
    let health = HealthOptions::default()
        .backoff(targets::pauses())
        .on_not_found(OnNotFound::RetryEvery(ASK_AGAIN))
        .on_unimplemented(OnUnimplemented::PollCheck {
            interval: ASK_AGAIN,
            timeout: ASK_AGAIN,
        });
    let (mut questions, mut builders) = (Vec::new(), Vec::new());
    for target in args.targets.targets() {
        for service in args.targets.services() {
            let config = json!({
                "loadBalancingConfig": [{ "round_robin": {} }],
                "healthCheckConfig": { "serviceName": service },
            });
            let config = config.to_string().parse().map_err(Exit::bad_arguments)?;
            let channel = targets::channel(&target, &args.connect, &template)?;
            let channel = channel
                .service_config(config)
                .disable_service_config_updates()
                .health_options(health.clone());
            builders.push(channel);
            let target = target.clone();
            questions.push(Question { target, service });
        }
    }
    // Nothing is asked before all of the arguments are known to be good.
    let channels = builders.into_iter().map(|builder| builder.build());
    Ok((questions, channels.collect()))
}

/// Whatever the channels publish, with the number of the channel.
fn follow(
    channels: &[Channel],
) -> SelectAll<impl Stream<Item = (usize, Look<BackendId>)> + Unpin + use<>> {
    stream::select_all(channels.iter().enumerate().map(|(at, channel)| {
        let mut watch = channel.watch_status();
        let first = watch.status();
        let later = stream::unfold(watch, async |mut watch| {
            Some((watch.changed().await?, watch))
        });
        let looks = stream::iter([first]).chain(later);
        Box::pin(looks.map(move |status| (at, look(&status))))
    }))
}

fn look(status: &Status) -> Look<BackendId> {
    let backends = status.backends().iter();
    Look {
        state: status.state(),
        trouble: status.cause().map(targets::trouble),
        backends: backends
            .map(|backend| (backend.id(), seen(backend)))
            .collect(),
    }
}

fn seen(backend: &BackendStatus) -> Seen {
    let failure = |(cause, at): (&Cause, Instant)| Failure {
        text: cause.to_string(),
        at,
    };
    Seen {
        label: backend.label().to_owned(),
        address: backend.address().to_owned(),
        state: backend.state(),
        health: backend.health(),
        since: backend.since(),
        error: backend.last_error().map(failure),
    }
}

/// How it is shown.
enum View {
    Live(Screen),
    Lines { names_service: bool },
    Json,
}

impl View {
    fn open(format: Format, names_service: bool) -> io::Result<Self> {
        Ok(match format {
            Format::Json => Self::Json,
            Format::Text if report::is_terminal() => Self::Live(Screen::open()?),
            Format::Text => Self::Lines { names_service },
        })
    }

    /// Tells what happened, where that is how it is shown.
    fn tell(&self, events: &[Event], clock: &Clock) -> io::Result<()> {
        events.iter().try_for_each(|event| match self {
            Self::Live(_) => Ok(()),
            Self::Lines { names_service } => {
                report::say(&lines::text(event, clock, *names_service))
            }
            Self::Json => report::say(&lines::json(event, clock)),
        })
    }

    /// Shows how it is, where that is how it is shown.
    fn show(&mut self, table: &Table<BackendId>) -> io::Result<()> {
        match self {
            Self::Live(screen) => {
                let lines = table.text(screen.size(), Clock::now().now);
                screen.draw(&lines)
            }
            Self::Lines { .. } | Self::Json => Ok(()),
        }
    }
}
