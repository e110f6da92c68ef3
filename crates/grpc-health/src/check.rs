//! `grpc-health check`: each backend asked by one unary `Check` for each service, once or
//! again and again.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use futures_util::future::join_all;
use tokio::time::{self, Instant, MissedTickBehavior};

use crate::{
    answer::{Answer, Record, worst},
    ask::{Backend, Target},
    connect::ConnectArgs,
    exit::Exit,
    grid::{Cell, Grid},
    output::{self, Stdout},
    pb::{HealthCheckRequest, health_client::HealthClient},
    report::{self, Clock, Format, OutputArgs},
    targets::{self, TargetArgs, service_text},
    text::tame,
};

/// Ask servers about their health, once or at intervals
///
/// The command asks every address of a name, all at the same time. The exit code is 0 if
/// every answer is SERVING. Otherwise it is the lowest code of all answers: 2 no
/// connection, 3 no answer, 4 not SERVING.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    targets: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Repeat at this interval until Ctrl-C. After the first round, print only changes
    #[arg(long, value_name = "DURATION", value_parser = targets::interval)]
    every: Option<Duration>,
    /// Time limit of each call
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = targets::duration)]
    timeout: Duration,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Who was asked, and what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    target: usize,
    /// The backend.
    name: String,
    label: String,
    address: String,
    service: String,
}

pub(crate) async fn run(args: CheckArgs) -> Result<Exit, Exit> {
    let names = args.targets.targets();
    let mut targets = Target::open(&names, &args.connect)?;
    args.connect.log_plan(&names, Some(args.timeout));
    output::run(async |stdout| match args.every {
        None => once(&args, &names, &mut targets, &stdout).await,
        Some(every) => again_and_again(&args, &names, &mut targets, &stdout, every).await,
    })
    .await
}

async fn once(
    args: &CheckArgs,
    names: &[String],
    targets: &mut [Target],
    stdout: &Stdout,
) -> Result<Exit, Exit> {
    let answers = round(args, targets).await;
    let exit = worst(answers.iter().map(|(_, answer)| answer.exit()));
    let exit = match answers
        .iter()
        .find(|(_, answer)| answer.is_for_want_of_files())
    {
        Some((_, answer)) => {
            let why = answer.error().unwrap_or_default();
            exit.saying(format!("error: {why}").into())
        }
        None => exit,
    };
    let written = stdout
        .all_within(args.timeout, async || match args.output.format {
            Format::Json => {
                let clock = Clock::now();
                for (question, answer) in &answers {
                    let line = json(names, question, Some(answer), &clock);
                    stdout.line(line).await?;
                }
                Ok(())
            }
            Format::Text => report::say_grid(stdout, &grid(args, &answers)).await,
        })
        .await;
    match written {
        Ok(()) | Err(Exit::Healthy) => Ok(exit),
        Err(other) => Err(other),
    }
}

async fn again_and_again(
    args: &CheckArgs,
    names: &[String],
    targets: &mut [Target],
    stdout: &Stdout,
    every: Duration,
) -> Result<Exit, Exit> {
    let mut rounds = time::interval(every);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let names_service = args.targets.services().len() > 1;
    let mut known: BTreeMap<Question, Answer> = BTreeMap::new();
    loop {
        rounds.tick().await;
        let answers = round(args, targets).await;
        let clock = Clock::now();
        let news = answers
            .iter()
            .filter(|(question, answer)| known.get(question) != Some(answer))
            .map(|(question, answer)| (question, Some(answer)));
        let is_gone = |question: &&Question| !answers.iter().any(|(asked, _)| asked == *question);
        let gone = known
            .keys()
            .filter(is_gone)
            .map(|question| (question, None));
        let news = gone
            .chain(news)
            .map(|(question, answer)| match args.output.format {
                Format::Json => json(names, question, answer, &clock),
                Format::Text => text(question, answer, &clock, names_service),
            });
        let news: Vec<_> = news.collect();
        stdout
            .all_within(args.timeout, async || {
                for line in news {
                    stdout.line(line).await?;
                }
                Ok(())
            })
            .await?;
        known = answers.into_iter().collect();
    }
}

/// All answers, in the order of the targets, of their backends and of the services.
async fn round(args: &CheckArgs, targets: &mut [Target]) -> Vec<(Question, Answer)> {
    let services = args.targets.services();
    let asked = targets.iter_mut().enumerate().map(async |(at, target)| {
        let backends = target.backends().await;
        let asked = backends.iter().flat_map(|backend| {
            let services = services.iter();
            services.map(async |service| {
                let question = Question {
                    target: at,
                    name: backend.name(),
                    label: backend.label.clone(),
                    address: backend.address.clone(),
                    service: service.clone(),
                };
                (question, check(args, backend, service).await)
            })
        });
        join_all(asked).await
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn check(args: &CheckArgs, backend: &Backend, service: &str) -> Answer {
    let began = Instant::now();
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let check = async |connection, request| HealthClient::new(connection).check(request).await;
    let response = backend.call(args.timeout, request, "health service", check);
    match response.await {
        Ok(response) => {
            let about = match service {
                "" => "the server".to_owned(),
                service => format!("the service `{service}`"),
            };
            args.connect.log(format_args!(
                "{}: answered about {about} in {:?}",
                backend.name(),
                began.elapsed()
            ));
            Answer::Status(response.status)
        }
        Err(failure) => failure,
    }
}

fn grid(args: &CheckArgs, answers: &[(Question, Answer)]) -> Grid {
    let names_service = args.targets.services().len() > 1;
    let mut grid = match names_service {
        true => Grid::new(&["BACKEND", "SERVICE", "STATUS", "ERROR"]),
        false => Grid::new(&["BACKEND", "STATUS", "ERROR"]),
    };
    for (question, answer) in answers {
        let mut row = vec![Cell::plain(&question.name)];
        if names_service {
            row.push(Cell::plain(service_text(&question.service)));
        }
        row.push(answer.cell());
        row.push(Cell::plain(answer.error().unwrap_or_default()));
        grid.push(row);
    }
    grid
}

/// `2026-01-01T12:00:00.000Z 10.0.0.1:50051 NOT_SERVING`, with the service after the
/// backend if there are several.
fn text(
    question: &Question,
    answer: Option<&Answer>,
    clock: &Clock,
    names_service: bool,
) -> String {
    let mut words = vec![clock.text(clock.now), question.name.clone()];
    if names_service {
        words.push(service_text(&question.service).to_owned());
    }
    match answer {
        None => words.push("removed".to_owned()),
        Some(answer) => {
            words.push(answer.cell().text);
            words.extend(answer.error().map(str::to_owned));
        }
    }
    tame(&words.join(" ")).into_owned()
}

fn json(names: &[String], question: &Question, answer: Option<&Answer>, clock: &Clock) -> String {
    let record = Record {
        event: match answer {
            Some(_) => "checked",
            None => "removed",
        },
        time: clock.text(clock.now),
        target: &names[question.target],
        service: Some(&question.service),
        backend: &question.label,
        address: &question.address,
        answer,
    };
    record.json()
}
