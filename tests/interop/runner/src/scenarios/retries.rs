//! Calls with a retry policy, and backends that fail by script (gRFC A6).
//!
//! A backend does what the name in a request says: `README.md` beside `run` has the orders. With
//! n backends the first n attempts of a call fail, 1 on each: a retry prefers a backend without an
//! earlier attempt.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_health_channel::Channel;

use crate::{
    greeter::{HelloReply, HelloRequest},
    report::Verdict,
    server::PATIENCE,
    stage::{self, Stage, Target, client},
};

/// How long a backend asks the client to wait.
const PUSHBACK: Duration = Duration::from_millis(300);

fn hello(name: &str) -> HelloRequest {
    HelloRequest {
        name: name.to_owned(),
        count: 1,
    }
}

/// At most as many attempts, with a backoff that begins at this many seconds.
fn policy(attempts: usize, backoff: &str) -> String {
    format!(
        r#""retryPolicy": {{"maxAttempts": {attempts}, "initialBackoff": "{backoff}s",
            "maxBackoff": "{backoff}s", "backoffMultiplier": 1,
            "retryableStatusCodes": ["UNAVAILABLE"]}}"#
    )
}

pub(super) async fn retries(target: Target) -> Verdict {
    let stage = target.start_serving(2, &[]).await?;
    let count = stage.servers.len();
    let channel = stage.ready_with_policy(&policy(count + 1, "0.01")).await?;
    let retries = Retries {
        stage: &stage,
        channel,
    };
    retries.succeeds_when_each_backend_has_failed().await?;
    retries.is_exhausted().await?;
    retries.an_unlisted_code_is_not_repeated().await?;
    retries.a_negative_pushback_stops().await?;
    retries.nothing_is_repeated_after_headers().await?;
    retries.a_stream_of_requests_is_replayed().await?;
    retries.a_retry_goes_to_another_backend().await?;
    let waits = Retries {
        channel: stage.ready_with_policy(&policy(count + 1, "60")).await?,
        ..retries
    };
    let waited = waits.a_pushback_is_waited_for().await?;
    Ok(stage.note(format!(
        "{} attempts; {count} pushbacks of {PUSHBACK:?} took {waited:.1?}",
        tally(&stage).await?.values().sum::<u64>()
    )))
}

/// How many attempts all backends saw, by their `grpc-previous-rpc-attempts`.
async fn tally(stage: &Stage) -> Result<BTreeMap<String, u64>, String> {
    let mut tally = BTreeMap::new();
    for server in &stage.servers {
        for (previous, count) in server.seen().await?.attempts {
            *tally.entry(previous).or_default() += count;
        }
    }
    Ok(tally)
}

struct Retries<'a> {
    stage: &'a Stage,
    channel: Channel,
}

impl Retries<'_> {
    fn backends(&self) -> usize {
        self.stage.servers.len()
    }

    async fn call(&self, name: &str) -> Result<HelloReply, Status> {
        let reply = client(&self.channel).say_hello(hello(name)).await;
        reply.map(tonic::Response::into_inner)
    }

    /// Calls `name`, which has to fail with `code`.
    async fn fails(&self, name: &str, code: Code) -> Result<Status, String> {
        match self.call(name).await {
            Err(status) if status.code() == code => Ok(status),
            ended => {
                let ended = self.stage.named(format!("{ended:?}"));
                Err(format!("{name}: expected {code:?}; seen: {ended}"))
            }
        }
    }

    /// Fails unless the backends saw so many attempts since `before`: `expected[n]` with n
    /// attempts before them.
    async fn expect(
        &self,
        what: &str,
        before: &BTreeMap<String, u64>,
        expected: &[u64],
    ) -> Result<(), String> {
        let mut seen = tally(self.stage).await?;
        for (previous, count) in before {
            *seen.entry(previous.clone()).or_default() -= count;
        }
        seen.retain(|_, count| *count > 0);
        let previous = (0..).map(|number: u32| match number {
            0 => String::new(),
            number => number.to_string(),
        });
        let expected: BTreeMap<_, _> = previous.zip(expected.iter().copied()).collect();
        match seen == expected {
            true => Ok(()),
            false => Err(format!(
                "{what}: expected attempts {expected:?}; seen: {seen:?}"
            )),
        }
    }

    /// With 2 backends a call succeeds at its third attempt.
    async fn succeeds_when_each_backend_has_failed(&self) -> Result<(), String> {
        let before = tally(self.stage).await?;
        let count = self.backends();
        let name = format!("if:{count}:fail:14");
        let reply = self.call(&name).await;
        let reply = reply.map_err(|status| format!("{name}: {status:?}"))?;
        if reply.message != format!("Hello {name}!") {
            return Err(format!("{name}: expected a greeting; seen: {reply:?}"));
        }
        self.expect(&name, &before, &vec![1; count + 1]).await?;
        for server in &self.stage.servers {
            server.sees("an attempt", |seen| seen.calls > 0).await?;
        }
        Ok(())
    }

    async fn is_exhausted(&self) -> Result<(), String> {
        let before = tally(self.stage).await?;
        let made = self.backends() + 1;
        let status = self.fails("fail:14", Code::Unavailable).await?;
        let text = format!("({made} attempts, no more are allowed");
        if !status.message().contains(&text) || status.details().is_empty() {
            return Err(format!(
                "expected `{text}` and details; seen: {}",
                self.stage.named(format!("{status:?}"))
            ));
        }
        self.expect("exhausted", &before, &vec![1; made]).await
    }

    async fn an_unlisted_code_is_not_repeated(&self) -> Result<(), String> {
        self.is_not_repeated("fail:5", Code::NotFound).await
    }

    async fn a_negative_pushback_stops(&self) -> Result<(), String> {
        self.is_not_repeated("pushback:-1:fail:14", Code::Unavailable)
            .await
    }

    async fn nothing_is_repeated_after_headers(&self) -> Result<(), String> {
        self.is_not_repeated("headers:fail:14", Code::Unavailable)
            .await
    }

    /// Each backend has 1 call, which fails and is not repeated.
    async fn is_not_repeated(&self, name: &str, code: Code) -> Result<(), String> {
        let mut expected = self.calls().await?;
        expected.iter_mut().for_each(|calls| *calls += 1);
        for _ in &self.stage.servers {
            self.fails(name, code).await?;
        }
        let seen = self.calls().await?;
        match seen == expected {
            true => Ok(()),
            false => Err(format!(
                "{name}: expected calls {expected:?}; seen: {seen:?}"
            )),
        }
    }

    /// How many calls each backend saw.
    async fn calls(&self) -> Result<Vec<u64>, String> {
        let mut calls = Vec::new();
        for server in &self.stage.servers {
            calls.push(server.seen().await?.calls);
        }
        Ok(calls)
    }

    /// The caller sends 3 requests, of which the last makes the attempt fail. It sends the others
    /// when the last attempt has begun, whose backend has to count all of them.
    async fn a_stream_of_requests_is_replayed(&self) -> Result<(), String> {
        let before = tally(self.stage).await?;
        let count = self.backends();
        let (names, requests) = mpsc::channel(8);
        let send = async |name: &str| {
            let sent = names.send(hello(name)).await;
            sent.map_err(|_| format!("`{name}` is not taken: the call has ended"))
        };
        let mut client = client(&self.channel);
        let call =
            tokio::spawn(async move { client.greet_all(ReceiverStream::new(requests)).await });
        let script = format!("if:{count}:fail:14");
        let all = ["one", "two", &script, "four", "five"];
        for name in &all[..3] {
            send(name).await?;
        }
        self.begins(count, &before).await?;
        for name in &all[3..] {
            send(name).await?;
        }
        drop(names);
        let reply = timeout(PATIENCE, call).await;
        let reply = reply.map_err(|_| "a replayed stream has no reply".to_owned())?;
        let reply = reply.map_err(stage::text)?;
        let reply = reply.map_err(|status| self.stage.named(format!("a stream: {status:?}")))?;
        let message = reply.into_inner().message;
        let letters: usize = all.iter().map(|name| name.len()).sum();
        let expected = format!("{} names of {letters} letters", all.len());
        if message != expected {
            return Err(format!("a stream: expected {expected}; seen: {message}"));
        }
        self.expect("a stream", &before, &vec![1; count + 1]).await
    }

    /// Waits until a backend has an attempt with `previous` attempts before it.
    async fn begins(&self, previous: usize, before: &BTreeMap<String, u64>) -> Result<(), String> {
        let number = previous.to_string();
        let so_far = before.get(&number).copied().unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = tally(self.stage).await?;
            if seen.get(&number).is_some_and(|count| *count > so_far) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("expected attempt {number}; seen: {seen:?}"));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// While 1 backend fails each call, another one answers all.
    async fn a_retry_goes_to_another_backend(&self) -> Result<(), String> {
        for server in &self.stage.servers {
            let before = tally(self.stage).await?;
            let calls = 2 * self.backends() as u64;
            let name = format!("if:{}:fail:14", server.name);
            for _ in 0..calls {
                let reply = self.call(&name).await;
                let reply = reply.map_err(|status| self.stage.named(format!("{status:?}")))?;
                if reply.backend == server.name {
                    return Err(format!(
                        "expected that another one answers; seen: {reply:?}"
                    ));
                }
            }
            let seen = tally(self.stage).await?;
            let seconds = |seen: &BTreeMap<String, u64>| seen.get("1").copied().unwrap_or_default();
            let second = seconds(&seen) - seconds(&before);
            if second == 0 {
                return Err(format!("{name}: expected a retry; seen: {seen:?}"));
            }
            self.expect(&name, &before, &[calls, second]).await?;
        }
        Ok(())
    }

    /// The backoff of this channel is a minute.
    async fn a_pushback_is_waited_for(&self) -> Result<Duration, String> {
        let before = tally(self.stage).await?;
        let count = self.backends();
        let name = format!("if:{count}:pushback:{}:fail:14", PUSHBACK.as_millis());
        let began = Instant::now();
        let reply = timeout(PATIENCE, self.call(&name)).await;
        let reply = reply.map_err(|_| format!("{name}: expected a reply; seen: none"))?;
        reply.map_err(|status| self.stage.named(format!("{status:?}")))?;
        let took = began.elapsed();
        let least = PUSHBACK * u32::try_from(count).map_err(stage::text)?;
        if took < least {
            return Err(format!(
                "expected {least:?} of pushback; seen: a reply after {took:?}"
            ));
        }
        self.expect(&name, &before, &vec![1; count + 1]).await?;
        Ok(took)
    }
}
