//! The memory of a watcher, and the time until a change has reached all of them.
//!
//! ```sh
//! cargo bench -p grpc-health-service --bench fan_out
//! ```
//!
//! 10,000 streams of `Watch` in this process, without connections: requests enter at the
//! service, and the bodies of its answers are read. The bytes are those on the heap after each
//! stream was polled until it had to wait. Then a runtime with 1 thread has a task for each
//! stream, and the time is from `set` until the last task has the message. The bench fails
//! above 4 KiB or 200 ms. `tonic-health` is measured in the same way, without a limit.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures real time, and paces nothing by it"
)]

use std::{
    alloc::System,
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use grpc_health_service::{HealthService, ServingStatus};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::Notify;
use tonic::{body::Body, codegen::Service};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WATCHERS: usize = 10_000;
const MAX_BYTES: usize = 4 * 1024;
const MAX_TIME: Duration = Duration::from_millis(200);
const ROUNDS: usize = 11;

type Stream = Pin<Box<Body>>;
type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    // `cargo test --benches` runs it without this argument, and wants no figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<(), Failure> {
    println!(
        "{WATCHERS} watchers        bytes each   all told, ms: median and slowest of {ROUNDS}"
    );
    let longest = |number: usize| format!("{number:0200}");
    for (case, name) in [("of one name", None), ("of a name each", Some(longest))] {
        let (health, service) = HealthService::new();
        let names = |number| name.map_or_else(String::new, |name| name(number));
        let (bytes, streams) = open(service, names).await?;
        let set = |status| match name {
            None => health.set("", status),
            Some(name) => health.set_each((0..WATCHERS).map(name), status),
        };
        let mut serving = name.is_some();
        let times = tell(streams, || {
            let status = match serving {
                true => ServingStatus::Serving,
                false => ServingStatus::NotServing,
            };
            serving = !serving;
            set(status);
            std::future::ready(())
        })
        .await;
        let slowest = print(case, bytes, times);
        if bytes > MAX_BYTES || slowest > MAX_TIME {
            return Err(format!("{case}: above {MAX_BYTES} bytes or {MAX_TIME:?}").into());
        }
    }

    let (reporter, service) = tonic_health::server::health_reporter();
    let (bytes, streams) = open(service, |_| String::new()).await?;
    let times = tell(streams, || async {
        let serving = tonic_health::ServingStatus::Serving;
        reporter.set_service_status("", serving).await;
    })
    .await;
    print("tonic-health", bytes, times);
    Ok(())
}

/// Opens all streams, and polls each until it has to wait. Also the bytes of each.
async fn open<S, E>(
    mut service: S,
    name: impl Fn(usize) -> String,
) -> Result<(usize, Vec<Stream>), Failure>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = E>,
    E: Error + 'static,
{
    let mut streams = Vec::with_capacity(WATCHERS);
    let region = Region::new(COUNTED);
    for number in 0..WATCHERS {
        let answer = service.call(request(&name(number))?).await?;
        let mut stream = Box::pin(answer.into_body());
        let mut cx = Context::from_waker(Waker::noop());
        let first = stream.as_mut().poll_frame(&mut cx);
        assert!(first.is_ready(), "the first message is there at once");
        drop(first);
        assert!(stream.as_mut().poll_frame(&mut cx).is_pending());
        streams.push(stream);
    }
    let change = region.change();
    let bytes = change.bytes_allocated - change.bytes_deallocated;
    Ok((bytes / WATCHERS, streams))
}

fn request(name: &str) -> Result<http::Request<Body>, Failure> {
    let length = name.len();
    // The field and its length, which has 2 bytes from 128 on.
    let mut message = vec![0x0a];
    match u8::try_from(length)? {
        short @ 0..128 => message.push(short),
        long => message.extend([long, 1]),
    }
    message.extend(name.as_bytes());
    let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len())?];
    frame.extend(message);
    let request = http::Request::post("/grpc.health.v1.Health/Watch");
    Ok(request.body(Body::new(Full::from(frame)))?)
}

/// How long each change takes until the last task has it.
async fn tell<F: Future<Output = ()>>(
    streams: Vec<Stream>,
    mut change: impl FnMut() -> F,
) -> Vec<Duration> {
    let read = Arc::new(AtomicUsize::new(0));
    let all_read = Arc::new(Notify::new());
    let mut tasks = tokio::task::JoinSet::new();
    for mut stream in streams {
        let (read, all_read) = (Arc::clone(&read), Arc::clone(&all_read));
        tasks.spawn(async move {
            while let Some(Ok(_)) = stream.frame().await {
                if read.fetch_add(1, Relaxed) + 1 == WATCHERS {
                    all_read.notify_one();
                }
            }
        });
    }
    // Each task waits before the first change.
    tokio::task::yield_now().await;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        read.store(0, Relaxed);
        let began = Instant::now();
        change().await;
        all_read.notified().await;
        times.push(began.elapsed());
    }
    times
}

/// The slowest.
fn print(case: &str, bytes: usize, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let (median, slowest) = (times[ROUNDS / 2], times[ROUNDS - 1]);
    println!(
        "{case:<22} {bytes:>10}   {:.1} and {:.1}",
        millis(median),
        millis(slowest)
    );
    slowest
}
