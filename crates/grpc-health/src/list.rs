//! `grpc-health list`: every service that a server has a health of (gRFC A90).

use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    answer::{Answer, Record, worst},
    ask::{Backend, Target},
    connect::ConnectArgs,
    exit::{Exit, Message},
    grid::{Cell, Columns, cut_line, heading_of},
    output::{self, Stdout},
    pb::{HealthListRequest, health_client::HealthClient},
    report::{self, Clock, Format, OutputArgs},
    targets::{self, service_text},
};

/// List the services of a server, with their health
///
/// The command asks every address of a name. The exit code is 0 if all servers list their
/// services, in any state. Otherwise it is the lowest code of all servers: 2 no connection,
/// 3 no list.
#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// The server: host:port, :port for this host, dns:///host:port, unix:path,
    /// https://host:port, or a file with a JSON list of URIs (file:///path, ./path)
    target: String,
    #[command(flatten)]
    output: OutputArgs,
    /// Exit with code 4 if a service is not SERVING
    #[arg(long)]
    fail_unhealthy: bool,
    /// Time limit of the call
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = targets::duration)]
    timeout: Duration,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The services of one backend by name, or why it does not tell.
type Listed = Result<Vec<(String, Answer)>, Answer>;

pub(crate) async fn run(args: ListArgs) -> Result<Exit, Exit> {
    let names = [args.target.clone()];
    let mut targets = Target::open(&names, &args.connect)?;
    args.connect.log_plan(&names, Some(args.timeout));
    output::run(async |stdout| list(&args, &mut targets[0], &stdout).await).await
}

async fn list(args: &ListArgs, target: &mut Target, stdout: &Stdout) -> Result<Exit, Exit> {
    let backends = target.backends().await;
    let asked = backends.iter().map(|backend| ask(args, backend));
    let listed = join_all(asked).await;
    let answers: Vec<_> = backends.iter().zip(listed).collect();
    let written = stdout
        .all_within(args.timeout, async || match args.output.format {
            Format::Text => say_text(stdout, &answers).await,
            Format::Json => say_json(stdout, &args.target, &answers).await,
        })
        .await;
    match written {
        Ok(()) | Err(Exit::Healthy) => Ok(exit(args, &answers)),
        Err(other) => Err(other),
    }
}

async fn ask(args: &ListArgs, backend: &Backend) -> Listed {
    let began = Instant::now();
    let lacking = "health service, or one without `List`; `check` can ask about a service by name";
    let list = async |connection, request| HealthClient::new(connection).list(request).await;
    let request = HealthListRequest {};
    let response = backend.call(args.timeout, request, lacking, list).await?;
    let statuses = response.statuses.into_iter();
    let mut services: Vec<_> = statuses
        .map(|(service, response)| (service, Answer::Status(response.status)))
        .collect();
    services.sort_by(|(one, _), (other, _)| one.cmp(other));
    args.connect.log(format_args!(
        "{}: listed {} services in {:?}",
        backend.name(),
        services.len(),
        began.elapsed()
    ));
    Ok(services)
}

/// A table of those that have told; why the others have not is how the program ends. Its
/// rows are made one by one, and twice: a server may have very many, and very long, names.
async fn say_text(stdout: &Stdout, answers: &[(&Backend, Listed)]) -> Result<(), Exit> {
    if answers.iter().all(|(_, listed)| listed.is_err()) {
        return Ok(());
    }
    let names_backend = answers.len() > 1;
    let rows = || {
        let told = answers.iter().flat_map(|(backend, listed)| {
            let services = listed.iter().flatten();
            services.map(move |service| (backend, service))
        });
        told.map(move |(backend, (service, answer))| {
            let mut row = vec![Cell::plain(service_text(service)), answer.cell()];
            if names_backend {
                row.insert(0, Cell::plain(backend.name()));
            }
            row
        })
    };
    let heading = match names_backend {
        true => heading_of(&["BACKEND", "SERVICE", "STATUS"]),
        false => heading_of(&["SERVICE", "STATUS"]),
    };
    let width = report::width();
    let mut columns = Columns::of(&heading);
    rows().for_each(|row| columns.widen(&row));
    columns.fit(width);
    let colours = report::has_colours();
    for row in std::iter::once(heading).chain(rows()) {
        let line = columns.padded(&row);
        let line = match width {
            None => line,
            Some(width) => cut_line(line, width),
        };
        stdout.line(report::painted(&line, colours)).await?;
    }
    Ok(())
}

async fn say_json(
    stdout: &Stdout,
    target: &str,
    answers: &[(&Backend, Listed)],
) -> Result<(), Exit> {
    let clock = Clock::now();
    for (backend, listed) in answers {
        let line = |service: Option<&str>, answer: &Answer| {
            let record = Record {
                event: "listed",
                time: clock.text(clock.now),
                target,
                service,
                backend: &backend.label,
                address: &backend.address,
                answer: Some(answer),
            };
            record.json()
        };
        match listed {
            Ok(services) => {
                for (service, answer) in services {
                    stdout.line(line(Some(service), answer)).await?;
                }
            }
            Err(why) => stdout.line(line(None, why)).await?,
        }
    }
    Ok(())
}

fn exit(args: &ListArgs, answers: &[(&Backend, Listed)]) -> Exit {
    let failures = answers.iter().filter_map(|(backend, listed)| {
        let why = listed.as_ref().err()?;
        Some(backend.failure(why))
    });
    let (failed, texts): (Vec<_>, Vec<_>) = failures.unzip();
    let listed = answers
        .iter()
        .filter_map(|(_, listed)| listed.as_ref().ok());
    let statuses = listed.flatten().map(|(_, answer)| answer.exit());
    let unhealthy = statuses.filter(|_| args.fail_unhealthy);
    worst(failed.into_iter().chain(unhealthy)).saying(Message::of_lines(texts))
}
