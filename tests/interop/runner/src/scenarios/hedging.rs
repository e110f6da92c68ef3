//! Calls with a hedging policy, over 1 backend that does not answer and others that do (gRFC A6).

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    greeter::HelloRequest,
    report::Verdict,
    stage::{Target, client},
};

const POLICY: &str = r#""hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": "0.1s",
    "nonFatalStatusCodes": ["UNAVAILABLE"]}"#;

/// Each backend in turn does not answer. Every call has the answer of another backend, and the
/// one that did not answer sees each of its calls cancelled.
pub(super) async fn hedging(target: Target) -> Verdict {
    let stage = target.start_serving(2, &[]).await?;
    let channel = stage.ready_with_policy(POLICY).await?;
    let (mut calls, mut hedges, mut slowest) = (0, 0, Duration::ZERO);
    for slow in &stage.servers {
        let before = slow.seen().await?;
        for _ in 0..2 * stage.servers.len() {
            let request = HelloRequest {
                name: format!("if:{}:hold", slow.name),
                count: 1,
            };
            let began = Instant::now();
            let reply = client(&channel).say_hello(request).await;
            let reply = reply.map_err(|status| stage.named(format!("{status:?}")))?;
            let backend = reply.into_inner().backend;
            if backend == slow.name {
                return Err(format!("expected that {backend} holds; seen: its reply").into());
            }
            slowest = slowest.max(began.elapsed());
            calls += 1;
        }
        let seen = slow
            .sees("its calls cancelled", |seen| {
                let held = seen.calls - before.calls;
                held > 0 && seen.cancelled - before.cancelled >= held
            })
            .await?;
        hedges += seen.cancelled - before.cancelled;
    }
    Ok(stage.note(format!(
        "{calls} calls, each within {slowest:.1?}; {hedges} were held and cancelled"
    )))
}
