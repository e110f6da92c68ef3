//! The command: asks each backend of a target, and prints what it tells.

use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;

use super::{
    record::{self, Origin},
    tree::Tree,
    view, walk,
};
use crate::{
    answer::{Answer, worst},
    ask::{Backend, Target},
    connect::ConnectArgs,
    exit::{Exit, Message},
    output::{self, Stdout},
    report::{self, Clock, Format, OutputArgs},
    targets,
};

/// Show the channels of a program, with their backends and connections
///
/// The program is any that serves channelz (grpc.channelz.v1), in Go, Java, C++ or Rust. The
/// command asks every address of a name. Channelz has what the program knows of its own channels as
/// a client, and not what others know of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct ChannelsArgs {
    /// The program: host:port, :port for this host, dns:///host:port, unix:path,
    /// https://host:port, or a file with a JSON list of URIs (file:///path, ./path)
    target: String,
    #[command(flatten)]
    output: OutputArgs,
    /// How many events to show of each channel and subchannel
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    events: usize,
    /// Time limit of each call
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = targets::duration)]
    timeout: Duration,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The channels of one program, or why it does not tell.
type Walked = Result<Tree, Answer>;

pub(crate) async fn run(args: ChannelsArgs) -> Result<Exit, Exit> {
    let names = [args.target.clone()];
    let mut targets = Target::open(&names, &args.connect)?;
    args.connect.log_plan(&names, Some(args.timeout));
    output::run(async |stdout| show(&args, &mut targets[0], &stdout).await).await
}

async fn show(args: &ChannelsArgs, target: &mut Target, stdout: &Stdout) -> Result<Exit, Exit> {
    let backends = target.backends().await;
    let walks = backends
        .iter()
        .map(|backend| walk::walk(backend, args.timeout));
    let walked = join_all(walks).await;
    let answers: Vec<_> = backends.iter().zip(walked).collect();
    let written = stdout
        .all_within(args.timeout, async || match args.output.format {
            Format::Text => say_text(args, stdout, &answers).await,
            Format::Json => say_json(args, stdout, &answers).await,
        })
        .await;
    match written {
        Ok(()) | Err(Exit::Healthy) => Ok(exit(&answers)),
        Err(other) => Err(other),
    }
}

async fn say_text(
    args: &ChannelsArgs,
    stdout: &Stdout,
    answers: &[(&Backend, Walked)],
) -> Result<(), Exit> {
    let now = Clock::now().since_1970();
    let mut is_first = true;
    for (backend, walked) in answers {
        let Ok(tree) = walked else {
            continue;
        };
        if !is_first {
            stdout.line(String::new()).await?;
        }
        is_first = false;
        if answers.len() > 1 {
            stdout.line(format!("{}:", backend.name())).await?;
        }
        if tree.nodes.is_empty() {
            stdout.line("no channels".to_owned()).await?;
            continue;
        }
        report::say_grid(stdout, &view::tree(tree, now)).await?;
        if tree.is_cut {
            let count = tree.nodes.len();
            stdout
                .line(format!("There are more: {count} are shown."))
                .await?;
        }
        if let Some(events) = view::events(tree, args.events) {
            stdout.line(String::new()).await?;
            report::say_grid(stdout, &events).await?;
        }
    }
    Ok(())
}

async fn say_json(
    args: &ChannelsArgs,
    stdout: &Stdout,
    answers: &[(&Backend, Walked)],
) -> Result<(), Exit> {
    let clock = Clock::now();
    for (backend, walked) in answers {
        let origin = Origin {
            time: clock.text(clock.now),
            target: &args.target,
            backend: &backend.label,
            address: &backend.address,
        };
        match walked {
            Ok(tree) => {
                for line in record::lines(tree, &origin) {
                    stdout.line(line).await?;
                }
            }
            Err(why) => {
                let error = why.error().unwrap_or_default();
                let line = record::failure(&origin, error, why.exit().number());
                stdout.line(line).await?;
            }
        }
    }
    Ok(())
}

fn exit(answers: &[(&Backend, Walked)]) -> Exit {
    let failures = answers.iter().filter_map(|(backend, walked)| {
        let why = walked.as_ref().err()?;
        Some(backend.failure(why))
    });
    let (failed, texts): (Vec<_>, Vec<_>) = failures.unzip();
    worst(failed).saying(Message::of_lines(texts))
}
