//! Follows the channels, and shows what they know.

use std::{
    future::{pending, ready},
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
use tonic::metadata::MetadataMap;
use tonic_health_channel::{
    Channel, ChannelBuilder, HealthOptions,
    health::{OnNotFound, OnUnimplemented},
    status::{BackendId, BackendStatus, Cause, ChannelStatus},
};

use super::{
    lines,
    screen::Screen,
    table::{Event, Failure, Look, Question, Seen, Table},
    until::Until,
};
use crate::{
    connect::ConnectArgs,
    exit::{Exit, Message},
    limits,
    output::{self, Stdout},
    report::{self, Clock, Format, OutputArgs},
    signals::Resizes,
    targets::{self, TargetArgs},
};

/// Follow the health of many backends
///
/// On a terminal, the output is a table that is redrawn in place. Elsewhere, each event is
/// a line.
#[derive(Args, Clone, Debug)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    targets: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Exit when this condition holds
    #[arg(long, value_enum, value_name = "CONDITION")]
    until: Option<Until>,
    /// Exit after this time: with code 4 if --until is set, otherwise with code 0
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
    let (questions, channels) = open(&args)?;
    args.connect.log_plan(&args.targets.targets(), None);
    output::run(async |stdout| {
        let mut watcher = Watcher::new(&args, questions, stdout);
        let deadline = async {
            match args.timeout {
                Some(timeout) => time::sleep(timeout).await,
                None => pending().await,
            }
        };
        let followed = select! {
            // The end comes before more of the same.
            biased;
            () = deadline => None,
            exit = watcher.follow(&channels) => Some(exit),
        };
        followed.unwrap_or_else(|| Ok(watcher.on_deadline()))
    })
    .await
}

/// What is known, how it is shown, and what for.
struct Watcher {
    table: Table<BackendId>,
    view: View,
    stdout: Stdout,
    until: Option<Until>,
}

impl Watcher {
    fn new(args: &WatchArgs, questions: Vec<Question>, stdout: Stdout) -> Self {
        let names_service = args.targets.services().len() > 1;
        Self {
            table: Table::new(questions, Clock::now().now),
            view: View::open(args.output.format, names_service, &stdout),
            stdout,
            until: args.until,
        }
    }

    /// Shows what the channels know, until that is what was to be waited for.
    async fn follow(&mut self, channels: &[Channel]) -> Result<Exit, Exit> {
        let mut resizes = Resizes::new()?;
        let mut looks = follow(channels).ready_chunks(AT_ONCE);
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_reached = select! {
                biased;
                // The channels live as long as this function: there is always another.
                Some(looks) = looks.next() => self.on_looks(looks).await?,
                () = resizes.next() => self.on_resize(),
                _ = ticks.tick() => false,
            };
            self.show().await?;
            if is_reached {
                self.stdout.drained().await?;
                return Ok(Exit::Healthy);
            }
        }
    }

    async fn on_looks(&mut self, looks: Vec<(usize, Look<BackendId>)>) -> Result<bool, Exit> {
        let clock = Clock::now();
        for (channel, look) in looks {
            let events = self.table.on_look(channel, look, clock.now);
            for line in self.view.lines(&events, &clock) {
                self.stdout.line(line).await?;
            }
        }
        Ok(self.until.is_some_and(|until| self.is_reached(until)))
    }

    fn is_reached(&self, until: Until) -> bool {
        until.missing(&self.table).is_empty()
    }

    fn on_resize(&mut self) -> bool {
        if let View::Live(screen) = &mut self.view {
            screen.on_resize();
        }
        false
    }

    fn on_deadline(&self) -> Exit {
        match self.until {
            None => Exit::Healthy,
            // Only the last line of it has not been read.
            Some(until) if self.is_reached(until) => Exit::Healthy,
            Some(until) => {
                let missing = until.missing(&self.table);
                let missing = missing.iter().map(|line| format!("  {line}"));
                let first = "error: timed out, and not SERVING:".to_owned();
                Exit::Unhealthy(Message::of_lines([first].into_iter().chain(missing)))
            }
        }
    }

    /// As it is now, with its ages.
    async fn show(&mut self) -> Result<(), Exit> {
        match &mut self.view {
            View::Live(screen) => {
                let lines = self.table.text(screen.size(), Clock::now().now);
                self.stdout.bytes(screen.frame(&lines)).await
            }
            View::Lines { .. } | View::Json => Ok(()),
        }
    }
}

/// A channel for each target and service.
fn open(args: &WatchArgs) -> Result<(Vec<Question>, Vec<Channel>), Exit> {
    let all = args.targets.targets();
    args.connect.check(&all)?;
    let headers = args.connect.headers()?;
    let health = HealthOptions::default()
        .backoff(targets::pauses())
        .on_not_found(OnNotFound::RetryEvery(ASK_AGAIN))
        .on_unimplemented(OnUnimplemented::PollCheck {
            interval: ASK_AGAIN,
            timeout: ASK_AGAIN,
        });
    let (mut questions, mut builders) = (Vec::new(), Vec::new());
    for target in all {
        for service in args.targets.services() {
            let config = json!({
                "loadBalancingConfig": [{ "round_robin": {} }],
                "healthCheckConfig": { "serviceName": service },
            });
            let config = config.to_string().parse().map_err(Exit::bad_arguments)?;
            let channel = targets::channel(&target, &args.connect)?;
            let channel = match headers.is_empty() {
                true => channel,
                // They are the user's, and so is the choice of the network.
                false => with_headers(channel, &headers).allow_plaintext_credentials(true),
            };
            let channel = channel
                .service_config(config)
                .disable_service_config_updates(true)
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

fn with_headers(channel: ChannelBuilder, headers: &MetadataMap) -> ChannelBuilder {
    let headers = headers.clone();
    channel.call_credentials(move |_| ready(Ok(headers.clone())))
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

fn look(status: &ChannelStatus) -> Look<BackendId> {
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
        text: limits::blamed(cause.to_string()),
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
    fn open(format: Format, names_service: bool, stdout: &Stdout) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Text if report::is_terminal() => Self::Live(Screen::open(stdout.clone())),
            Format::Text => Self::Lines { names_service },
        }
    }

    /// What happened, where that is how it is shown.
    fn lines(&self, events: &[Event], clock: &Clock) -> Vec<String> {
        let lines = events.iter().filter_map(|event| match self {
            Self::Live(_) => None,
            Self::Lines { names_service } => Some(lines::text(event, clock, *names_service)),
            Self::Json => Some(lines::json(event, clock)),
        });
        lines.collect()
    }
}
