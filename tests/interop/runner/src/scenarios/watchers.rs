//! Health clients of other languages at a server with `grpc-health-service`.

use std::{env, process::Stdio};

use tokio::{
    process::Command,
    time::{Instant, timeout},
};

use crate::{
    languages::Language,
    report::Verdict,
    server::{PATIENCE, Server},
    stage::{GREETER, Target, text},
    watcher::Watcher,
};

/// It has no status when the watchers come.
const LATE: &str = "demo.v1.Late";

/// The environment variable with the path of the original grpc-health-probe.
const PROBE: &str = "GRPC_HEALTH_PROBE";

async fn start_server() -> Result<Server, String> {
    let health = format!("{GREETER}=SERVING");
    let arguments = ["--health".to_owned(), health];
    Server::start(&Language::health_server()?, "rust".to_owned(), &arguments).await
}

/// The health of a service, as a `Watch` and a channel with health checks tell it.
#[derive(Clone, Copy)]
enum Seen {
    Serving,
    NotServing,
    Unknown,
}

impl Seen {
    fn message(self) -> &'static str {
        match self {
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::Unknown => "SERVICE_UNKNOWN",
        }
    }

    /// The state, and the code of a call: OK, or UNAVAILABLE.
    fn state(self) -> &'static str {
        match self {
            Self::Serving => "READY 0",
            Self::NotServing | Self::Unknown => "TRANSIENT_FAILURE 14",
        }
    }
}

async fn all_see(watchers: &mut [Watcher], service: &str, seen: Seen) -> Result<(), String> {
    for watcher in watchers {
        watcher.expect(service, "watch", seen.message()).await?;
        watcher.expect(service, "channel", seen.state()).await?;
    }
    Ok(())
}

/// Each status, a name that is cleared, names that are registered late, and a drain.
pub(super) async fn watchers(target: Target) -> Verdict {
    let server = start_server().await?;
    let mut watchers = Vec::new();
    for language in target.languages()? {
        watchers.push(Watcher::start(language, &server.address(), &[GREETER, LATE]).await?);
    }
    all_see(&mut watchers, GREETER, Seen::Serving).await?;
    all_see(&mut watchers, LATE, Seen::Unknown).await?;

    let changes = [
        ("not_serving", GREETER, Seen::NotServing),
        ("serving", GREETER, Seen::Serving),
        ("clear", GREETER, Seen::Unknown),
        ("serving", GREETER, Seen::Serving),
        ("serving", LATE, Seen::Serving),
    ];
    let began = Instant::now();
    for (order, service, seen) in changes {
        // The second changes nothing, and the next line of each watcher shows that.
        for _ in 0..2 {
            server.order(&format!("{order} {service}")).await?;
        }
        all_see(&mut watchers, service, seen).await?;
    }
    let change = began.elapsed() / changes.len() as u32;

    server.order("retire").await?;
    let stop = server.ends().await?;
    for service in [GREETER, LATE] {
        all_see(&mut watchers, service, Seen::NotServing).await?;
        for watcher in &mut watchers {
            watcher.expect(service, "watch", "end 14").await?;
        }
    }
    let versions: Vec<_> = watchers.iter().map(|it| it.version.as_str()).collect();
    let versions = versions.join(", ");
    Ok(target.note(format!(
        "{versions}: a change in {change:.1?}, the stop in {stop:.1?}"
    )))
}

/// The exit codes of the original grpc-health-probe.
pub(super) async fn probe(target: Target) -> Verdict {
    target.languages()?;
    let probe = env::var(PROBE).map_err(|_| format!("{PROBE} names no program"))?;
    let server = start_server().await?;
    let address = format!("-addr={}", server.address());
    let service = format!("-service={GREETER}");
    let exit = async |arguments: &[&str]| {
        let mut command = Command::new(&probe);
        command
            .args(arguments)
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        let status = timeout(PATIENCE, command.kill_on_drop(true).status()).await;
        let status = status.map_err(|_| format!("the probe runs for {PATIENCE:?}"))?;
        Ok::<_, String>(status.map_err(text)?.code())
    };
    let expect = async |what: &str, arguments: &[&str], code: i32| match exit(arguments).await? {
        Some(seen) if seen == code => Ok(()),
        seen => Err(format!(
            "expected {code} of the probe when {what}; seen: {seen:?}"
        )),
    };
    let of_service = [address.as_str(), service.as_str()];
    expect("the server serves", &[&address], 0).await?;
    expect("the service serves", &of_service, 0).await?;
    server.set_serving(GREETER, false).await?;
    expect("it does not serve", &of_service, 4).await?;
    server.order(&format!("clear {GREETER}")).await?;
    expect("it is unknown", &of_service, 3).await?;
    server.set_serving(GREETER, true).await?;
    expect("it serves again", &of_service, 0).await?;
    server.order("retire").await?;
    server.ends().await?;
    expect("the server has stopped", &[&address], 2).await?;
    Ok(target.note("0, 4, 3, 0, and 2 after the stop".to_owned()))
}
