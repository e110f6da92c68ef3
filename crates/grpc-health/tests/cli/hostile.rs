//! A server whose every text is made to harm a terminal or a log: no command prints it raw.

use std::{net::SocketAddr, pin::Pin};

use futures_util::Stream;
use testing::{
    RawPeer,
    health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_server::{Health, HealthServer},
    },
    http2,
};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, spawn},
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::run::{Ended, run};

/// A second line that looks like an answer, a title for the terminal, a cursor that moves,
/// and every character that has an effect but no shape.
fn harmful() -> String {
    let mut text = "\r\nstatus: SERVING\n\u{1b}]0;owned\u{7}\u{1b}[2J".to_owned();
    text.extend(
        (0..=u32::from(u8::MAX) + 1)
            .filter_map(char::from_u32)
            .filter(|c| c.is_control()),
    );
    text.extend(invisible());
    text
}

fn invisible() -> impl Iterator<Item = char> {
    let ranges = [
        '\u{202a}'..='\u{202e}',
        '\u{2066}'..='\u{2069}',
        '\u{200b}'..='\u{200f}',
    ];
    let single = [
        '\u{61c}', '\u{2060}', '\u{feff}', '\u{2028}', '\u{2029}', '\u{ad}',
    ];
    ranges.into_iter().flatten().chain(single)
}

/// What the server does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    /// Every call fails with this code and a harmful message.
    Fails(Code),
    /// `List` has a harmful name.
    Lists,
}

struct Hostile(Mood);

impl Hostile {
    fn failure(&self) -> Result<(), Status> {
        match self.0 {
            Mood::Fails(code) => Err(Status::new(code, harmful())),
            Mood::Lists => Ok(()),
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Hostile {
    type WatchStream = Answers;

    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.failure()?;
        Ok(Response::new(HealthCheckResponse { status: -7 }))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        self.failure()?;
        let status = HealthCheckResponse { status: 1 };
        Ok(Response::new(HealthListResponse {
            statuses: [(harmful(), status)].into(),
        }))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.failure()?;
        let answer = HealthCheckResponse { status: -7 };
        let answers = futures_util::stream::iter([Ok(answer), Err(Status::unknown(harmful()))]);
        Ok(Response::new(Box::pin(answers)))
    }
}

struct Running {
    addr: SocketAddr,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn start(mood: Mood) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("it listens");
    let server = Server::builder()
        .add_service(HealthServer::new(Hostile(mood)))
        .serve_with_incoming(TcpIncoming::from(listener));
    let task = spawn(server).abort_handle();
    Running { addr, task }
}

#[track_caller]
fn assert_tame(arguments: &[&str], ended: &Ended) {
    for (name, text) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
        let is_raw = |c: &char| c.is_control() && *c != '\n' || invisible().any(|i| i == *c);
        let raw: Vec<_> = text.chars().filter(is_raw).collect();
        assert!(
            raw.is_empty(),
            "{arguments:?}: raw on {name}: {raw:?} in {text:?}"
        );
        let has_fake = text.lines().any(|line| line.starts_with("status: SERVING"));
        assert!(!has_fake, "{arguments:?}: a fake line on {name}: {text:?}");
    }
}

/// Every command that talks to servers, in every format that it has.
fn commands(at: &str) -> Vec<Vec<&str>> {
    let mut commands = vec![
        vec!["probe", "-addr", at],
        vec!["probe", "-v", "-addr", at, "-service=a"],
    ];
    for format in ["text", "json"] {
        for command in [
            ["list"].as_slice(),
            &["check"],
            &["check", "--service", "a", "--service", "b"],
            &["watch", "--timeout", "300ms"],
            &["watch", "--timeout", "300ms", "--until", "serving"],
        ] {
            let mut arguments = command.to_vec();
            arguments.extend(["--output", format, at]);
            commands.push(arguments);
        }
    }
    commands
}

async fn all_are_tame(addr: SocketAddr) {
    let at = addr.to_string();
    for arguments in commands(&at) {
        let ended = run(&arguments).await;
        assert_tame(&arguments, &ended);
    }
}

#[tokio::test]
async fn messages_of_a_failed_call_are_tame() {
    for code in [
        Code::Unknown,
        Code::NotFound,
        Code::Unimplemented,
        Code::DeadlineExceeded,
    ] {
        let server = start(Mood::Fails(code)).await;
        all_are_tame(server.addr).await;
    }
}

#[tokio::test]
async fn names_and_statuses_are_tame() {
    let server = start(Mood::Lists).await;
    all_are_tame(server.addr).await;
}

/// Programs get the name itself.
#[tokio::test]
async fn json_keeps_a_harmful_name() {
    let server = start(Mood::Lists).await;
    let at = server.addr.to_string();
    let ended = run(["list", &at, "--output", "json"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.objects()[0]["service"], harmful());
}

/// Texts of the transport: the last words of a server in its GOAWAY.
#[tokio::test]
async fn words_of_a_connection_are_tame() {
    let peer = RawPeer::start(|mut connection| async move {
        let mut last_words = vec![0, 0, 0, 0, 0, 0, 0, 11];
        last_words.extend(harmful().bytes());
        connection.open().await?;
        let go_away = http2::frame(7, 0, 0, &last_words);
        connection.write(&go_away).await
    })
    .await;
    all_are_tame(peer.addr()).await;
}

/// Where a text of the user's comes back, from a template or a script.
#[tokio::test]
async fn arguments_come_back_tame() {
    let text = harmful().replace('\0', "");
    for arguments in [
        vec!["probe", "-addr", &text],
        vec![
            "probe",
            "-addr",
            ":1",
            "-connect-timeout=100ms",
            "-service",
            &text,
        ],
        vec!["check", &text],
        vec!["check", "--service", &text, "127.0.0.1:1"],
        vec!["check", "-o", "json", "--service", &text, "127.0.0.1:1"],
        vec!["check", "--timeout", &text, "127.0.0.1:1"],
        vec!["list", &text],
        vec!["watch", &text],
        vec!["man", &text],
        vec![&text],
    ] {
        let ended = run(&arguments).await;
        assert_tame(&arguments, &ended);
    }
}
