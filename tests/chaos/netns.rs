//! A network of its own, as Linux has them, in which packets are lost, late and refused.
//!
//! ```text
//!              ┌─ tc: late ─┐      ┌─ nft: lost, refused ─┐
//! 127.0.0.1 ───┴────────────┴─ lo ─┴──────────────────────┴──► 127.0.1.N, backend N
//! ```
//!
//! The program starts itself again in a namespace that only it and its backends are in.
//! The namespace ends with the last of them, and its filters with it: outside nothing is
//! changed, so nothing is to be cleaned up.
//!
//! Packets meet the filters where they arrive. Where they leave, the kernel would know
//! that they are lost, and treat its TCP otherwise than one that waits for an answer.

use std::{
    fmt,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Output, Stdio},
};

use testing::fleet::{Fault, Result};
use tokio::io::AsyncWriteExt;

/// What it takes and is not here, by name.
#[derive(Debug)]
pub(crate) struct Lack(String);

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--netns takes {}", self.0)
    }
}

impl std::error::Error for Lack {}

/// Says that the program is inside.
const INSIDE: &str = "CHAOS_IN_NAMESPACE";

/// Of the backends.
const PORT: u16 = 50051;

/// One packet of so many is lost on a line that is slow.
const LOST_OF: u32 = 50;

/// Where the backend with this number listens, in all its lives.
pub(crate) fn address(number: usize) -> Result<SocketAddr> {
    Ok((Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1)?), PORT).into())
}

/// Returns inside a namespace, in this process or, after a start, in the one that takes
/// its place.
///
/// # Errors
///
/// A [`Lack`] of tools or rights.
pub(crate) fn enter() -> Result<()> {
    let tools = [
        ("unshare", "--version"),
        ("ip", "-V"),
        ("tc", "-V"),
        ("nft", "-v"),
    ];
    let missing = |(tool, version): &(&str, &str)| {
        let answer = Command::new(tool).arg(version).output();
        answer.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    let missing: Vec<_> = tools
        .into_iter()
        .filter(missing)
        .map(|(tool, _)| tool)
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(Lack(format!("{missing}: not on this machine")).into());
    }
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    // Of root, or of a user who is root inside.
    let mut words = String::new();
    for how in ["-n", "-rn"] {
        let tried = Command::new("unshare").args([how, "true"]).output()?;
        if tried.status.success() {
            return Err(restart(how));
        }
        words += &format!("\nunshare {how}: {}", said(&tried));
    }
    let what = "the right to make a namespace of the network";
    Err(Lack(format!("{what}:{words}")).into())
}

/// Only returns if that fails.
#[cfg(unix)]
fn restart(how: &str) -> testing::fleet::Error {
    use std::os::unix::process::CommandExt;

    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    let mut unshare = Command::new("unshare");
    unshare.arg(how).arg("--").arg(program);
    unshare.args(std::env::args_os().skip(1)).env(INSIDE, "1");
    unshare.exec().into()
}

#[cfg(not(unix))]
fn restart(_: &str) -> testing::fleet::Error {
    "--netns takes Linux".into()
}

fn said(tried: &Output) -> String {
    String::from_utf8_lossy(&tried.stderr).trim().to_owned()
}

/// What the kernel does to packets, by the backend they come from or go to.
#[derive(Clone, Debug)]
pub(crate) struct Filters {
    /// Whether the kernel can delay packets.
    delays: bool,
}

impl Filters {
    /// The network, with lines that are well.
    pub(crate) async fn set_up(backends: usize) -> Result<Self> {
        run("ip", "link set lo up").await?;
        let table = format!(
            "table ip chaos {{
                 counter lost {{}}
                 counter refused {{}}
                 set up {{ type ipv4_addr; }}
                 set down {{ type ipv4_addr; }}
                 set broken {{ type ipv4_addr; }}
                 set bad {{ type ipv4_addr; }}
                 chain arrives {{
                     type filter hook input priority 0;
                     ip daddr @up counter name lost drop
                     ip saddr @down counter name lost drop
                     ip daddr @bad numgen random mod {LOST_OF} == 0 counter name lost drop
                     ip saddr @bad numgen random mod {LOST_OF} == 0 counter name lost drop
                     ip daddr @broken tcp flags ! rst counter name refused reject with tcp reset
                     ip saddr @broken tcp flags ! rst counter name refused reject with tcp reset
                 }}
             }}"
        );
        let filters = |error| Lack(format!("a kernel that filters packets: {error}"));
        nft(&table).await.map_err(filters)?;
        let can_delay = classes(backends).await;
        if let Err(error) = &can_delay {
            println!("!!!! lines that are slow lose packets, and delay none: {error}");
        }
        let delays = can_delay.is_ok();
        Ok(Self { delays })
    }

    /// A fault of the line to a backend begins.
    pub(crate) async fn disturb(&self, number: usize, fault: Fault) -> Result<()> {
        match fault {
            Fault::Cut => put("add", "broken", number).await,
            Fault::Lose { up, down } => {
                if up {
                    put("add", "up", number).await?;
                }
                if down {
                    put("add", "down", number).await?;
                }
                Ok(())
            }
            Fault::Delay(by) => {
                put("add", "bad", number).await?;
                match self.delays {
                    true => late(number, by.as_millis()).await,
                    false => Ok(()),
                }
            }
            Fault::Kill | Fault::Pause | Fault::Flap => Ok(()),
        }
    }

    /// And ends.
    pub(crate) async fn mend(&self, number: usize, fault: Fault) -> Result<()> {
        match fault {
            Fault::Cut => put("delete", "broken", number).await,
            Fault::Lose { up, down } => {
                if up {
                    put("delete", "up", number).await?;
                }
                if down {
                    put("delete", "down", number).await?;
                }
                Ok(())
            }
            Fault::Delay(_) => {
                put("delete", "bad", number).await?;
                match self.delays {
                    true => in_time(number).await,
                    false => Ok(()),
                }
            }
            Fault::Kill | Fault::Pause | Fault::Flap => Ok(()),
        }
    }

    /// How many packets have met a filter.
    pub(crate) async fn met(&self) -> Result<Met> {
        let text = run("nft", "list counters table ip chaos").await?;
        let count = |name: &str| {
            let mut words = text.split_whitespace();
            words.find(|word| *word == name)?;
            words.find(|word| *word == "packets")?;
            words.next()?.parse().ok()
        };
        let unread = || format!("nft says of its counters: {text}");
        Ok(Met {
            lost: count("lost").ok_or_else(unread)?,
            refused: count("refused").ok_or_else(unread)?,
            delays: self.delays,
        })
    }
}

/// What became of packets.
#[derive(Debug)]
pub(crate) struct Met {
    lost: u64,
    refused: u64,
    delays: bool,
}

impl Met {
    pub(crate) fn is_nothing(&self) -> bool {
        self.lost == 0 && self.refused == 0
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            refused,
            delays,
        } = self;
        let late = if *delays { "" } else { ", none late" };
        write!(f, "{lost} lost, {refused} refused{late}")
    }
}

async fn put(how: &str, set: &str, number: usize) -> Result<()> {
    let ip = address(number)?.ip();
    nft(&format!("{how} element ip chaos {set} {{ {ip} }}")).await
}

/// Of the backend with this number.
fn class(number: usize) -> String {
    format!("1:{:x}", number + 1)
}

/// For the packets of each backend, so that they can be delayed.
async fn classes(backends: usize) -> Result<()> {
    run("tc", "qdisc add dev lo root handle 1: htb").await?;
    for number in 0..backends {
        let (class, ip) = (class(number), address(number)?.ip());
        let rate = "htb rate 10gbit burst 1mb quantum 60000";
        let add = format!("class add dev lo parent 1: classid {class} {rate}");
        run("tc", &add).await?;
        for end in ["src", "dst"] {
            let which = format!("u32 match ip {end} {ip}/32 flowid {class}");
            let add = format!("filter add dev lo parent 1: protocol ip prio 1 {which}");
            run("tc", &add).await?;
        }
    }
    // Whether there is netem shows when it is used.
    late(0, 1).await?;
    in_time(0).await
}

/// By so much, and a half more or less, so that packets overtake each other.
async fn late(number: usize, millis: u128) -> Result<()> {
    let netem = format!("netem delay {millis}ms {}ms", millis / 2);
    let parent = class(number);
    run("tc", &format!("qdisc add dev lo parent {parent} {netem}")).await?;
    Ok(())
}

async fn in_time(number: usize) -> Result<()> {
    run("tc", &format!("qdisc del dev lo parent {}", class(number))).await?;
    Ok(())
}

async fn nft(rules: &str) -> Result<()> {
    run_with("nft", "-f -", rules).await?;
    Ok(())
}

async fn run(tool: &str, words: &str) -> Result<String> {
    run_with(tool, words, "").await
}

/// What it says.
async fn run_with(tool: &str, words: &str, input: &str) -> Result<String> {
    let mut child = tokio::process::Command::new(tool)
        .args(words.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{tool}: {error}"))?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let ended = child.wait_with_output().await?;
    match ended.status.success() {
        true => Ok(String::from_utf8_lossy(&ended.stdout).into_owned()),
        false => Err(format!("{tool} {words} {input}: {}", said(&ended)).into()),
    }
}
