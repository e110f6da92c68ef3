//! A closed loop of calls: so many callers, each with one call in flight.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use tokio::{task::JoinSet, time::Instant};
use tonic::{
    Request,
    body::Body,
    client::GrpcService,
    codegen::{Bytes, StdError},
};

use super::{
    Result,
    frames::PAYLOAD,
    greeter::{HelloRequest, greeter_client::GreeterClient},
};

/// How hard to call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) concurrency: usize,
    pub(crate) slice: Duration,
    pub(crate) deadlines: Deadlines,
}

/// What each call is given to end by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadlines {
    None,
    Same(Duration),
    /// This, and up to a second more.
    Different(Duration),
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) calls: u64,
    pub(crate) elapsed: Duration,
    /// Of the whole process, all threads, user and system.
    pub(crate) cpu: Duration,
    /// In nanoseconds.
    pub(crate) latency: Histogram<u32>,
}

/// Calls for one slice of time. Fails with the first call that does.
pub(crate) async fn closed_loop<T>(client: GreeterClient<T>, load: Load) -> Result<Sample>
where
    T: GrpcService<Body> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<StdError> + Send,
{
    let recorder = Arc::new(Recorder::new()?);
    let started = Instant::now();
    let until = started + load.slice;
    let cpu = cpu_time();
    let mut callers = JoinSet::new();
    for number in 0..load.concurrency {
        let recorder = recorder.clone();
        callers.spawn(call_on(client.clone(), load, until, number, recorder));
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    let (cpu, elapsed) = (cpu_time() - cpu, started.elapsed());
    let latency = recorder.total()?;
    Ok(Sample {
        calls: latency.len(),
        elapsed,
        cpu,
        latency,
    })
}

async fn call_on<T>(
    mut client: GreeterClient<T>,
    load: Load,
    until: Instant,
    caller: usize,
    recorder: Arc<Recorder>,
) -> Result<()>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<StdError> + Send,
{
    let message = HelloRequest {
        name: "x".repeat(PAYLOAD),
        count: 0,
    };
    let mut more = caller as u64;
    let mut started = Instant::now();
    loop {
        let mut request = Request::new(message.clone());
        match load.deadlines {
            Deadlines::None => {}
            Deadlines::Same(timeout) => request.set_timeout(timeout),
            Deadlines::Different(timeout) => {
                // Comes by every number once before the first again.
                more = (more + 7_919) % 1_000_003;
                request.set_timeout(timeout + Duration::from_micros(more));
            }
        }
        let reply = client.say_hello(request).await?;
        if reply.get_ref().message.len() != PAYLOAD {
            return Err("a reply was cut".into());
        }
        let ended = Instant::now();
        recorder.record(caller, ended - started)?;
        if ended >= until {
            return Ok(());
        }
        started = ended;
    }
}

/// User and system time of this process so far.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("CPU time is not negative");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("less than a second");
    Duration::new(seconds, nanoseconds)
}

/// Latencies from many callers, in so few histograms that they stay in the cache,
/// and so many that two threads seldom want the same.
struct Recorder(Vec<Mutex<Histogram<u32>>>);

impl Recorder {
    const SHARDS: usize = 8;

    fn new() -> Result<Self> {
        let shards = (0..Self::SHARDS).map(|_| Ok(Mutex::new(empty()?)));
        Ok(Self(shards.collect::<Result<_>>()?))
    }

    fn record(&self, caller: usize, latency: Duration) -> Result<()> {
        let nanoseconds = u64::try_from(latency.as_nanos())?;
        lock(&self.0[caller % Self::SHARDS]).record(nanoseconds)?;
        Ok(())
    }

    fn total(&self) -> Result<Histogram<u32>> {
        let mut total = empty()?;
        for shard in &self.0 {
            total.add(&*lock(shard))?;
        }
        Ok(total)
    }
}

fn lock(shard: &Mutex<Histogram<u32>>) -> MutexGuard<'_, Histogram<u32>> {
    shard.lock().expect("nothing panics while it is held")
}

/// From a microsecond to a minute, two digits.
fn empty() -> Result<Histogram<u32>> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 2)?)
}
