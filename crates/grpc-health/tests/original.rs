//! The exit codes of `probe` beside those of the original, grpc-health-probe.
//!
//! The original is written in Go. `tests/interop/run` builds it and plays this test, which
//! `cargo test` alone leaves out.

#![cfg(unix)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsStr,
    fs,
    process::Stdio,
};

use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use testing::{
    Authority, Backend, CheckScript, HealthKind, Made, Peer, PeerScript, ServerTls, TlsFront,
    UnixDoor, dead_addr, within,
};
use tokio::process::Command;

const COMMAND: &str = env!("CARGO_BIN_EXE_grpc-health");

/// The path of the original.
const ORIGINAL: &str = "GRPC_HEALTH_PROBE";

/// Both end by the same code. `{…}` is a server or a file of the test.
const SAME: &str = "
    -addr={plain}
    -addr {plain}
    --addr={plain}
    --addr {plain}
    -addr=nowhere:1 -addr={plain}
    -addr={plain} -v
    -addr={plain} -v=true
    -addr={plain} -v=false
    -addr={plain} -v=perhaps
    -addr={plain} -service=well
    -addr={plain} -service well
    -addr={plain} -service=sick
    -addr={plain} -service=odd
    -addr={plain} -service=stranger
    -addr={plain} -service=
    -addr={plain} -service=sick -service=well
    -addr={plain} -user-agent=me
    -addr={plain} -user-agent=
    -addr={plain} -rpc-header=x-token:a
    -addr={plain} -rpc-header x-token:a -rpc-header=x-token:b
    -addr={plain} -rpc-header=x-token
    -addr={plain} -rpc-header=x-raw-bin:three
    -addr={plain} -rpc-timeout=2s
    -addr={plain} -rpc-timeout=2000ms
    -addr={plain} -rpc-timeout=0.5m
    -addr={plain} -rpc-timeout=1m30s
    -addr={plain} -rpc-timeout=2
    -addr={plain} -rpc-timeout=soon
    -addr={plain} -rpc-timeout=0s
    -addr={plain} -rpc-timeout=-1s
    -addr={plain} -rpc-timeout
    -addr={plain} -connect-timeout=3s
    -addr={plain} -connect-timeout=3000000us
    -addr={plain} -connect-timeout=0
    -addr={plain} -connect-timeout=-1s
    -addr={plain} -connect-timeout=ten
    -addr={plain} -connect-timeout=
    -addr={plain} -gzip=false
    -addr={plain} -gzip=2
    -addr={plain} -gzip
    -addr={plain} -tls=false
    -addr={plain} -tls=maybe
    -addr={plain} -nonsense
    -addr={plain} -tls-no-verify
    -addr={plain} -tls-ca-cert={ca}
    -addr={plain} -tls-client-cert={cert}
    -addr={plain} -tls-client-key={key}
    -addr={plain} -tls-client-cert={cert} -tls-client-key={key}
    -addr={plain} -tls-server-name=localhost
    -addr={plain} -tls -tls-no-verify -connect-timeout=300ms
    -addr={plain} -tls -tls-ca-cert={ca} -connect-timeout=300ms
    -addr={plain} -alts=false
    -addr={plain} -spiffe=false
    -addr=dns:///{plain}
    -addr=passthrough:///{plain}
    -addr=:{port}
    -addr=localhost:{port}
    -addr={down}
    -addr={down} -service=well
    -addr={healthless}
    -addr={healthless} -service=well
    -addr={mute} -rpc-timeout=200ms
    -addr={mute} -rpc-timeout=200ms -v
    -addr={dead} -connect-timeout=200ms
    -addr={dead} -connect-timeout=200ms -v
    -addr={dead} -connect-timeout=200ms -service=well
    -addr={dead} -connect-timeout=200ms -tls -tls-no-verify
    -addr={silent} -connect-timeout=200ms
    -addr={silent} -connect-timeout=200ms -tls -tls-no-verify
    -addr={http1} -connect-timeout=200ms
    -addr={closes} -connect-timeout=200ms
    -addr=nobody.invalid:1 -connect-timeout=200ms
    -addr={tls} -connect-timeout=200ms
    -addr={tls} -tls -connect-timeout=300ms
    -addr={tls} -tls -tls-no-verify
    -addr={tls} -tls=true -tls-no-verify=true
    -addr={tls} -tls -tls-no-verify -service=well
    -addr={tls} -tls -tls-no-verify -service=sick
    -addr={tls} -tls -tls-no-verify -service=stranger
    -addr={tls} -tls -tls-ca-cert={ca}
    -addr={tls} -tls -tls-ca-cert={ca} -service=sick
    -addr={tls} -tls -tls-ca-cert={ca} -tls-server-name=localhost
    -addr={tls} -tls -tls-ca-cert={ca} -tls-server-name=elsewhere -connect-timeout=300ms
    -addr={named} -tls -tls-ca-cert={ca} -tls-server-name=127.0.0.1
    -addr={named} -tls -tls-ca-cert={ca} -tls-server-name=[::1]
    -addr={named} -tls -tls-ca-cert={ca} -tls-server-name=[127.0.0.1]
    -addr={named} -tls -tls-ca-cert={ca} -tls-server-name=::2 -connect-timeout=300ms
    -addr={named} -tls -tls-ca-cert={ca} -tls-server-name=LOCALHOST
    -addr={named} -tls -tls-ca-cert={ca} -tls-server-name=localhost.
    -addr={named} -tls -tls-ca-cert={ca} -tls-server-name=localhost:443 -connect-timeout=300ms
    -addr={named} -tls -tls-ca-cert={ca} -tls-server-name=127.0.0.1:443 -connect-timeout=300ms
    -addr={named} -tls -tls-ca-cert={ca} -tls-server-name=[::1]:443 -connect-timeout=300ms
    -addr={named} -tls -tls-ca-cert={ca} -tls-server-name=under_score.example -connect-timeout=300ms
    -addr={self-signed} -tls -tls-ca-cert={self-signed-ca}
    -addr={self-signed} -tls -tls-no-verify
    -addr={v1} -tls -tls-no-verify
    -addr={tls} -tls -tls-ca-cert={other} -connect-timeout=300ms
    -addr={tls} -tls -tls-ca-cert={missing}
    -addr={tls} -tls -tls-ca-cert={nonsense}
    -addr={tls} -tls -tls-no-verify -tls-ca-cert={ca}
    -addr={tls} -tls -tls-no-verify -tls-server-name=localhost
    -addr={tls} -tls -tls-ca-cert={ca} -tls-client-cert={cert}
    -addr={tls} -tls -tls-ca-cert={ca} -tls-client-key={key}
    -addr={tls} -tls -tls-ca-cert={ca} -tls-client-cert={cert} -tls-client-key={key}
    -addr={tls} -tls -tls-ca-cert={ca} -tls-client-cert={missing} -tls-client-key={key}
    -addr={tls} -tls -tls-ca-cert={ca} -tls-client-cert={cert} -tls-client-key={nonsense}
    -addr={mtls} -tls -tls-ca-cert={ca} -tls-client-cert={cert} -tls-client-key={key}
    -addr={mtls} -tls -tls-no-verify -tls-client-cert={cert} -tls-client-key={key}
    -addr={mtls} -tls -tls-ca-cert={ca} -tls-client-cert={cert} -tls-client-key={key} -service=sick
    -addr={mtls} -tls -tls-ca-cert={ca} -connect-timeout=300ms
    -addr={mtls} -tls -tls-no-verify -connect-timeout=300ms
    -addr={mtls} -tls -tls-ca-cert={ca} -tls-client-cert={foreign} -tls-client-key={foreign-key} -connect-timeout=300ms
    -addr={mtls} -tls -tls-ca-cert={ca} -tls-client-cert={stranger} -tls-client-key={key}
    -addr=unix:{socket}
    -addr=unix://{socket}
    -addr=unix://{escaped}
    -addr=unix:{socket} -service=well
    -addr=unix:{socket} -service=sick
    -addr=unix:{socket} -service=stranger
    -addr=unix:{socket} -tls-no-verify
    -addr=unix:/nowhere/at/all.sock -connect-timeout=200ms
    -addr=
    -addr
    -service=well
    -v
";

/// Where ours has another code: the words, the original's and ours. `docs/grpc-health.md`
/// has the reasons.
const DIFFERENT: [(&str, i32, i32); 11] = [
    ("-addr=localhost -connect-timeout=200ms", 2, 1),
    ("-addr={plain} word -v", 0, 1),
    ("-addr={plain} -spiffe -connect-timeout=200ms", 20, 1),
    ("-addr={plain} -alts -connect-timeout=200ms", 2, 1),
    ("-addr=unix:{socket} -tls -tls-no-verify", 2, 1),
    ("-help", 1, 0),
    // Its authority is `::1`, which a server refuses.
    (
        "-addr={named} -tls -tls-ca-cert={ca} -tls-server-name=::1",
        3,
        0,
    ),
    (
        "-addr={named} -tls -tls-ca-cert={ca} -tls-server-name=::1%lo -connect-timeout=300ms",
        2,
        1,
    ),
    (
        "-addr={named} -tls -tls-ca-cert={ca} -tls-server-name=a/b -connect-timeout=300ms",
        2,
        1,
    ),
    (
        "-addr={named} -tls -tls-ca-cert={ca} -tls-server-name=a@b -connect-timeout=300ms",
        2,
        1,
    ),
    (
        "-addr={named} -tls -tls-ca-cert={ca} -tls-server-name=ö -connect-timeout=300ms",
        2,
        1,
    ),
];

/// What a run of the test has, by its name in braces.
struct Scene {
    words: BTreeMap<&'static str, String>,
}

impl Scene {
    fn arguments(&self, line: &str) -> Vec<String> {
        let mut line = line.to_owned();
        for (name, word) in &self.words {
            line = line.replace(&format!("{{{name}}}"), word);
        }
        line.split_whitespace().map(str::to_owned).collect()
    }
}

async fn code(program: impl AsRef<OsStr>, first: Option<&str>, arguments: &[String]) -> i32 {
    let mut command = Command::new(program);
    command.args(first).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = within(&format!("{arguments:?} to end"), command.output()).await;
    let output = output.expect("it can be run");
    output.status.code().expect("it ends by itself")
}

#[tokio::test]
async fn exit_codes_are_those_of_the_original() {
    let original = env::var_os(ORIGINAL).expect("GRPC_HEALTH_PROBE names the original");
    let folder = TempDir::new().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path.to_str().expect("a plain name").to_owned()
    };
    let builder = Backend::builder().scripted().serving("well");
    let builder = builder.not_serving("sick").status("odd", 0);
    let backend = builder.start().await;
    let down = Backend::builder().not_serving("").start().await;
    let healthless = Backend::builder().health(HealthKind::None).start().await;
    let mute = Backend::builder().scripted().start().await;
    mute.script_check(CheckScript::NeverAnswer);
    let (authority, clients) = (Authority::new(), Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let mutual = ServerTls::new(&authority.server(&["localhost"])).asks_for(&clients);
    let mutual = TlsFront::start(&backend, mutual).await;
    let named = ServerTls::new(&authority.server(&["localhost", "::1"]));
    let named = TlsFront::start(&backend, named).await;
    let self_signed = TlsFront::start(&backend, ServerTls::made(Made::SelfSigned)).await;
    let v1 = TlsFront::start(&backend, ServerTls::made(Made::V1)).await;
    let (self_signed_ca, _) = Made::SelfSigned.signed().pem();
    let (chain, key) = clients.client("prober").pem();
    let (stranger, _) = clients.client("stranger").pem();
    let (foreign, foreign_key) = authority.client("prober").pem();
    let dead = dead_addr();
    let silent = Peer::start(PeerScript::Silent).await;
    let http1 = Peer::start(PeerScript::SpeaksHttp1).await;
    let closes = Peer::start(PeerScript::ClosesAtOnce).await;
    let door = UnixDoor::to(backend.addr());
    let spaced = folder.path().join("a b");
    std::os::unix::fs::symlink(door.path(), &spaced).expect("a link");
    let spaced = spaced.to_str().expect("a plain name");
    let scene = Scene {
        words: BTreeMap::from([
            ("plain", backend.addr().to_string()),
            ("port", backend.addr().port().to_string()),
            ("down", down.addr().to_string()),
            ("healthless", healthless.addr().to_string()),
            ("mute", mute.addr().to_string()),
            ("dead", dead.addr().to_string()),
            ("silent", silent.addr().to_string()),
            ("http1", http1.addr().to_string()),
            ("closes", closes.addr().to_string()),
            ("tls", front.addr().to_string()),
            ("named", named.addr().to_string()),
            ("mtls", format!("localhost:{}", mutual.addr().port())),
            ("self-signed", self_signed.addr().to_string()),
            ("v1", v1.addr().to_string()),
            ("self-signed-ca", file("self.pem", &self_signed_ca)),
            ("ca", file("ca.pem", &authority.pem())),
            ("other", file("other.pem", &clients.pem())),
            ("cert", file("cert.pem", &chain)),
            ("key", file("key.pem", &key)),
            ("stranger", file("stranger.pem", &stranger)),
            ("foreign", file("foreign.pem", &foreign)),
            ("foreign-key", file("foreign-key.pem", &foreign_key)),
            ("nonsense", file("nonsense.pem", "nonsense")),
            ("missing", "/nowhere/at/all.pem".to_owned()),
            ("socket", door.path().to_owned()),
            ("escaped", spaced.replace(' ', "%20")),
        ]),
    };
    let same = SAME.lines().map(str::trim).filter(|line| !line.is_empty());
    let lists: Vec<_> = same
        .map(|line| (line, None))
        .chain(DIFFERENT.map(|(line, theirs, ours)| (line, Some((theirs, ours)))))
        .collect();
    assert!(lists.len() >= 100, "only {} lists", lists.len());
    let compared = stream::iter(&lists).map(async |(line, known)| {
        let arguments = scene.arguments(line);
        let theirs = code(&original, None, &arguments).await;
        let ours = code(COMMAND, Some("probe"), &arguments).await;
        let is_right = match known {
            None => theirs == ours,
            Some(known) => (theirs, ours) == *known,
        };
        let wrong = format!("{line}: the original {theirs}, ours {ours}");
        (theirs, (!is_right).then_some(wrong))
    });
    let compared: Vec<_> = compared.buffered(4).collect().await;
    let (codes, wrong): (BTreeSet<_>, Vec<_>) = compared.into_iter().unzip();
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!((0..=4).all(|code| codes.contains(&code)), "only {codes:?}");
    println!(
        "{} argument lists: the exit codes are as they should be",
        lists.len()
    );
}
