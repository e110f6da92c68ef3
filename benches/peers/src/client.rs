//! A load client's side of the protocol; the README beside has it.

use std::{
    io::{self, BufRead},
    net::SocketAddr,
    thread,
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};
use tonic::{
    body::Body,
    client::GrpcService,
    codegen::{Bytes, StdError},
};

use crate::common::{
    Result,
    greeter::greeter_client::GreeterClient,
    load::{Deadlines, Load, Sample, closed_loop, cpu_time},
};

const USAGE: &str = "usage: CLIENT ADDRESS,ADDRESS,… THREADS SERVICE_CONFIG";

/// What a load client is told when it starts.
pub(crate) struct Arguments {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) threads: usize,
    /// For those who read it.
    #[allow(dead_code, reason = "ginepro has no service config")]
    pub(crate) service_config: String,
}

impl Arguments {
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Self> {
        let words: Vec<_> = words.collect();
        let [addresses, threads, service_config] = &words[..] else {
            return Err(USAGE.into());
        };
        let addresses = addresses.split(',').map(str::parse);
        Ok(Self {
            addresses: addresses.collect::<std::result::Result<_, _>>()?,
            threads: threads.parse()?,
            service_config: service_config.clone(),
        })
    }

    /// tokio's for so many threads.
    pub(crate) fn runtime(&self) -> Result<Runtime> {
        let mut builder = match self.threads {
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        Ok(builder.worker_threads(self.threads).enable_all().build()?)
    }
}

/// Says that the client is ready, and makes the calls that stdin asks for, until it
/// closes. Fails with the first call that does.
pub(crate) fn serve<T>(version: &str, runtime: &Runtime, client: GreeterClient<T>) -> Result<()>
where
    T: GrpcService<Body> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<StdError> + Send,
{
    obey(version, |load| {
        runtime.block_on(closed_loop(client.clone(), load))
    })
}

/// The same with a runtime and a client in each of `clients`' threads, which share the
/// callers.
#[allow(dead_code, reason = "ginepro has one runtime")]
pub(crate) fn serve_each<T>(version: &str, clients: Vec<(Runtime, GreeterClient<T>)>) -> Result<()>
where
    T: GrpcService<Body> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<StdError> + Send,
{
    obey(version, |load| {
        let cpu = cpu_time();
        let samples: Result<Vec<_>> = thread::scope(|scope| {
            let shares = clients
                .iter()
                .enumerate()
                .map(|(number, (runtime, client))| {
                    let callers = (load.concurrency + number) / clients.len();
                    let load = Load {
                        concurrency: callers,
                        ..load
                    };
                    let client = client.clone();
                    scope.spawn(move || runtime.block_on(closed_loop(client, load)))
                });
            let shares: Vec<_> = shares.collect();
            let joined = shares
                .into_iter()
                .map(|share| share.join().expect("no panic"));
            joined.collect()
        });
        let mut samples = samples?.into_iter();
        let mut all = samples.next().ok_or("no thread")?;
        for sample in samples {
            all.calls += sample.calls;
            all.elapsed = all.elapsed.max(sample.elapsed);
            all.latency.add(&sample.latency)?;
        }
        all.cpu = cpu_time() - cpu;
        Ok(all)
    })
}

fn obey(version: &str, mut run: impl FnMut(Load) -> Result<Sample>) -> Result<()> {
    println!(r#"{{"version":"{version}"}}"#);
    for line in io::stdin().lock().lines() {
        let sample = run(load(&line?)?)?;
        println!("{}", json(&sample));
    }
    Ok(())
}

/// `run CONCURRENCY MILLISECONDS`
fn load(line: &str) -> Result<Load> {
    let words: Vec<_> = line.split(' ').collect();
    let ["run", concurrency, milliseconds] = words[..] else {
        return Err(format!("`{line}` is no order").into());
    };
    Ok(Load {
        concurrency: concurrency.parse()?,
        slice: Duration::from_millis(milliseconds.parse()?),
        deadlines: Deadlines::None,
    })
}

fn json(sample: &Sample) -> String {
    let quantile = |part| sample.latency.value_at_quantile(part) as f64 / 1e3;
    // A call that fails ends the client, so that none of these has.
    format!(
        r#"{{"calls":{},"failures":0,"elapsed_us":{},"cpu_us":{},"p50_us":{:.1},"p99_us":{:.1}}}"#,
        sample.calls,
        sample.elapsed.as_micros(),
        sample.cpu.as_micros(),
        quantile(0.5),
        quantile(0.99),
    )
}
