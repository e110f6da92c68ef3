//! `grpc-health list`: every service that a server has a health of (gRFC A90).

use std::{io, time::Duration};

use clap::Args;
use futures_util::future::join_all;
use tokio::select;

use crate::{
    answer::{Answer, Record, worst},
    ask::{self, Backend, Target},
    connect::ConnectArgs,
    exit::Exit,
    grid::{Cell, Grid, printable},
    output::unwritable,
    pb::HealthListRequest,
    report::{self, Clock, Format, OutputArgs},
    signals::Signals,
    targets::{self, service_text},
};

/// List the services of a server, with their health
///
/// A name with several addresses is asked at each of them. The exit code is 0 if all have
/// told, whatever they told; else the lowest that one of them has: 2 no connection, 3 no
/// list.
#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// The server: host:port, dns:///host:port, unix:path, https://host:port, or a file with
    /// a JSON list of URIs (file:///path, ./path)
    target: String,
    #[command(flatten)]
    output: OutputArgs,
    /// End by exit code 4 if a service is not SERVING
    #[arg(long)]
    fail_unhealthy: bool,
    /// Bounds the call
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = targets::duration)]
    timeout: Duration,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The services of one backend by name, or why it does not tell.
type Listed = Result<Vec<(String, Answer)>, Answer>;

pub(crate) async fn run(args: ListArgs) -> Result<Exit, Exit> {
    let mut signals = Signals::new()?;
    select! {
        exit = list(&args) => exit,
        exit = signals.next() => Ok(exit),
    }
}

async fn list(args: &ListArgs) -> Result<Exit, Exit> {
    let names = [args.target.clone()];
    let mut targets = Target::open(&names, &args.connect)?;
    let backends = targets[0].backends().await;
    let asked = backends.iter().map(|backend| ask(backend, args.timeout));
    let listed = join_all(asked).await;
    let answers: Vec<_> = backends.iter().zip(listed).collect();
    let written = match args.output.format {
        Format::Text => say_text(&answers),
        Format::Json => say_json(&args.target, &answers),
    };
    match written.map_err(|error| unwritable(&error)) {
        Ok(()) | Err(Exit::Healthy) => Ok(exit(args, &answers)),
        Err(other) => Err(other),
    }
}

async fn ask(backend: &Backend, timeout: Duration) -> Listed {
    let connection = backend.connection.as_ref().map_err(Clone::clone)?;
    let request = HealthListRequest {};
    let response = ask::call(connection, timeout, request, async |mut client, request| {
        client.list(request).await
    });
    let lacking = "health service, or one without `List`; `check` can ask about a service by name";
    let response = response
        .await
        .map_err(|status| Answer::failed(&status, lacking))?;
    let statuses = response.statuses.into_iter();
    let mut services: Vec<_> = statuses
        .map(|(service, response)| (service, Answer::Status(response.status)))
        .collect();
    services.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(services)
}

/// A table of those that have told; why the others have not is how the program ends.
fn say_text(answers: &[(&Backend, Listed)]) -> io::Result<()> {
    let told = answers.iter().filter_map(|(backend, listed)| {
        let services = listed.as_ref().ok()?;
        Some((backend, services))
    });
    let told: Vec<_> = told.collect();
    let names_backend = answers.len() > 1;
    let mut grid = match names_backend {
        true => Grid::new(&["BACKEND", "SERVICE", "STATUS"]),
        false => Grid::new(&["SERVICE", "STATUS"]),
    };
    for (backend, services) in &told {
        for (service, answer) in *services {
            let mut row = vec![Cell::plain(service_text(service)), answer.cell()];
            if names_backend {
                row.insert(0, Cell::plain(backend.name()));
            }
            grid.push(row);
        }
    }
    match told.is_empty() {
        true => Ok(()),
        false => report::say_grid(&grid),
    }
}

fn say_json(target: &str, answers: &[(&Backend, Listed)]) -> io::Result<()> {
    let clock = Clock::now();
    for (backend, listed) in answers {
        let say = |service: Option<&str>, answer: &Answer| {
            let record = Record {
                event: "listed",
                time: clock.text(clock.now),
                target,
                service,
                backend: &backend.label,
                address: &backend.address,
                answer: Some(answer),
            };
            report::say(&record.json())
        };
        match listed {
            Ok(services) => services
                .iter()
                .try_for_each(|(service, answer)| say(Some(service), answer))?,
            Err(why) => say(None, why)?,
        }
    }
    Ok(())
}

fn exit(args: &ListArgs, answers: &[(&Backend, Listed)]) -> Exit {
    let failures = answers.iter().filter_map(|(backend, listed)| {
        let failure = listed.as_ref().err()?;
        let why = failure.error().unwrap_or_default();
        Some((
            failure.exit(),
            printable(&format!("error: {}: {why}", backend.name())),
        ))
    });
    let (failed, texts): (Vec<_>, Vec<_>) = failures.unzip();
    let listed = answers
        .iter()
        .filter_map(|(_, listed)| listed.as_ref().ok());
    let statuses = listed.flatten().map(|(_, answer)| answer.exit());
    let unhealthy = statuses.filter(|_| args.fail_unhealthy);
    worst(failed.into_iter().chain(unhealthy)).saying(texts.join("\n"))
}
