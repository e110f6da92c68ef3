//! The addresses of a name, of which one is to be connected to.

use std::{net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    io::{HostPort, Progress},
    words::failure::Failure,
};
use crate::{
    error::Origin,
    util::{blocking, clock::now, real_time::timeout_io},
};

/// How long the newest attempts at addresses of one name may make no step until the next
/// begins (gRFC A61, "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The addresses of a name, in the order in which to try them.
pub(super) async fn look_up(
    target: &HostPort,
    progress: &Progress,
) -> Result<Vec<SocketAddr>, Failure> {
    progress.set(format!("looking up `{}`", target.host));
    let found = blocking::look_up(&target.host, target.port).await;
    let found = found.map_err(|error| {
        let text = format!("name `{}` does not resolve: {error}", target.host);
        Failure::new(text, Origin::new(error))
    })?;
    let addresses = interleaved(found.into_iter());
    match addresses.is_empty() {
        true => Err(format!("name `{}` produced zero addresses", target.host).into()),
        false => Ok(addresses),
    }
}

/// The families in turn, the first one's first (RFC 8305 §4): a broken family
/// then costs one attempt delay, not one for each of its addresses.
fn interleaved(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.peekable();
    let Some(leads_v6) = addresses.peek().map(SocketAddr::is_ipv6) else {
        return Vec::new();
    };
    let (lead, follow): (Vec<_>, Vec<_>) =
        addresses.partition(|address| address.is_ipv6() == leads_v6);
    let (mut lead, mut follow) = (lead.into_iter(), follow.into_iter());
    let mut order = Vec::new();
    loop {
        let pair = [lead.next(), follow.next()];
        if pair == [None, None] {
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

/// Makes an attempt at each address in order, the next one when the last has failed or no
/// attempt has made a step for [`ATTEMPT_DELAY`]. The first to succeed wins, and the others
/// are dropped.
///
/// An attempt is all that leads to a connection of use. So an address that accepts TCP and
/// then hangs up, or falls silent, does not hide the next.
pub(super) async fn race<T, F>(
    target: &HostPort,
    addresses: Vec<SocketAddr>,
    progress: &Progress,
    attempt: impl Fn(SocketAddr, Progress) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let (target, attempt) = (&*target.to_string(), &attempt);
    let mut untried = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        match untried.next() {
            Some(address) => {
                let progress = progress.another(format!("waiting for TCP with {address}"));
                attempts.push(async move {
                    let outcome = attempt(address, progress.clone()).await;
                    outcome.map_err(|failure| {
                        // Whose address it is, only where a name has been looked up.
                        let failure = match address.to_string() == target {
                            true => failure,
                            false => failure.told(|why| format!("{why} ({address})")),
                        };
                        progress.set(failure.text());
                        failure
                    })
                });
            }
            None if attempts.is_empty() => return Err(Failure::of_all(failures)),
            None => {}
        }
        let outcome = loop {
            if untried.len() == 0 {
                break attempts.next().await;
            }
            let left = (progress.since() + ATTEMPT_DELAY).saturating_duration_since(now());
            if left.is_zero() {
                break None;
            }
            if let Some(outcome) = timeout_io(left, true, attempts.next()).await {
                break outcome;
            }
        };
        match outcome {
            Some(Ok(connected)) => return Ok(connected),
            Some(Err(failure)) => failures.push(failure),
            // The next begins beside those that wait.
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::SocketAddr, time::Duration};

    use tokio::time::{self, Instant};

    use super::{ATTEMPT_DELAY, interleaved, race};
    use crate::transport::io::{HostPort, Progress};

    /// What an attempt does, by the last number of its address.
    async fn play(address: SocketAddr, progress: Progress) -> Result<u8, super::Failure> {
        let number = match address {
            SocketAddr::V4(address) => address.ip().octets()[3],
            SocketAddr::V6(_) => unreachable!("none is listed"),
        };
        match number {
            1 => pending().await,
            2 => Err("hung up".into()),
            3 => {
                for step in ["one", "two", "three"] {
                    time::sleep(Duration::from_millis(200)).await;
                    progress.set(step);
                }
                Ok(number)
            }
            _ => Ok(number),
        }
    }

    // D305
    #[tokio::test(start_paused = true)]
    async fn attempts_begin_as_others_fail_or_make_no_step() {
        let steps = Duration::from_millis(600);
        for (numbers, wins, after) in [
            (&[4][..], Ok(4), Duration::ZERO),
            (&[2, 4], Ok(4), Duration::ZERO),
            (&[1, 4], Ok(4), ATTEMPT_DELAY),
            (&[1, 2, 4], Ok(4), ATTEMPT_DELAY),
            (&[1, 1, 4], Ok(4), 2 * ATTEMPT_DELAY),
            (&[3, 4], Ok(3), steps),
            (&[1, 3, 4], Ok(3), ATTEMPT_DELAY + steps),
            (
                &[2, 2],
                Err("hung up (127.0.0.2:1), hung up (127.0.0.2:1)"),
                Duration::ZERO,
            ),
        ] {
            let addresses = numbers
                .iter()
                .map(|number| SocketAddr::from(([127, 0, 0, *number], 1)));
            let target = HostPort {
                host: "shop.test".to_owned(),
                port: 1,
            };
            let (began, progress) = (Instant::now(), Progress::new("starting"));
            let outcome = race(&target, addresses.collect(), &progress, play).await;
            let outcome = outcome.as_ref().map_err(|failure| failure.text());
            assert_eq!(outcome, wins.as_ref().map_err(|text| *text), "{numbers:?}");
            assert_eq!(began.elapsed(), after, "{numbers:?}");
        }
    }

    // D305
    #[tokio::test(start_paused = true)]
    async fn a_deadline_tells_of_every_attempt() {
        let target = HostPort {
            host: "shop.test".to_owned(),
            port: 1,
        };
        let addresses = [2, 1].map(|number| SocketAddr::from(([127, 0, 0, number], 1)));
        let progress = Progress::new("starting");
        let racing = race(&target, addresses.to_vec(), &progress, play);
        time::timeout(Duration::from_secs(1), racing)
            .await
            .expect_err("one falls silent");
        let text = "hung up (127.0.0.2:1), waiting for TCP with 127.0.0.1:1";
        assert_eq!(progress.to_string(), text);
    }

    #[test]
    fn families_take_turns() {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> {
            let addresses = texts.iter().map(|text| text.parse());
            addresses
                .map(|address| address.expect("an address"))
                .collect()
        };
        let given = parse(&[
            "[::1]:1",
            "[::2]:1",
            "[::3]:1",
            "127.0.0.1:1",
            "127.0.0.2:1",
        ]);
        let order = parse(&[
            "[::1]:1",
            "127.0.0.1:1",
            "[::2]:1",
            "127.0.0.2:1",
            "[::3]:1",
        ]);
        assert_eq!(interleaved(given.into_iter()), order);
        assert_eq!(interleaved(std::iter::empty()), []);
    }
}
