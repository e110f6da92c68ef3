//! Work that blocks, on a thread of its own.
//!
//! The system may refuse a thread for a moment: a limit on processes, or on the tasks of a
//! container. tokio's `spawn_blocking` panics then, or its work waits for ever. Here the
//! refusal is a value, and what needed the thread is tried again later.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    thread,
};

use tokio::sync::{Semaphore, oneshot};

use super::contained::contained;

/// The most threads at a time, in the whole process; the rest of the work waits. As many as
/// tokio has, for the same reason: lookups that hang must not take all that the system has.
static THREADS: Semaphore = Semaphore::const_new(512);

type Job = Box<dyn FnOnce() + Send>;

/// What `work` returns.
///
/// # Errors
///
/// Why there was no thread for it, or what it said when it panicked.
///
/// # Cancel safety
///
/// Work that has begun goes on; nothing waits for its end.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    run_by(start, work).await
}

/// The addresses of `host`, as the system's resolver knows them.
///
/// # Errors
///
/// Why there are none.
pub(crate) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    let found = run(move || (host.as_str(), port).to_socket_addrs()).await;
    Ok(found.map_err(io::Error::other)??.collect())
}

fn start(job: Job) -> io::Result<()> {
    let name = "tonic-health-channel".to_owned();
    thread::Builder::new().name(name).spawn(job).map(drop)
}

async fn run_by<T: Send + 'static>(
    start: impl FnOnce(Job) -> io::Result<()>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let place = THREADS.acquire().await.expect("it is never closed");
    let (tell, told) = oneshot::channel();
    let job = move || {
        let outcome = contained(work);
        drop(place);
        let _ = tell.send(outcome);
    };
    start(Box::new(job)).map_err(|error| format!("cannot start a thread: {error}"))?;
    match told.await {
        Ok(outcome) => outcome.map_err(|text| format!("panicked: {text}")),
        Err(_) => Err("the thread was ended".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::{THREADS, look_up, run, run_by};

    // D255
    #[tokio::test]
    async fn a_thread_that_is_refused_is_an_error() {
        let refused = |_| Err(Error::new(ErrorKind::WouldBlock, "no thread to spare"));
        let outcome = run_by(refused, || 5).await;
        let expected = "cannot start a thread: no thread to spare";
        assert_eq!(outcome, Err(expected.to_owned()));
        assert_eq!(run(|| 5).await, Ok(5), "the next one is there");
    }

    // D255
    #[tokio::test]
    async fn work_that_panics_is_an_error_and_gives_its_place_back() {
        for _ in 0..2 * THREADS.available_permits() {
            let inline = |job: super::Job| {
                job();
                Ok(())
            };
            let outcome = run_by(inline, || panic!("bad day")).await;
            assert_eq!(outcome, Err::<(), _>("panicked: bad day".to_owned()));
        }
    }

    #[tokio::test]
    async fn an_address_needs_no_thread_and_a_name_has_one() {
        let addresses = look_up("::1", 5).await.expect("it is one");
        assert_eq!(addresses[0].to_string(), "[::1]:5");
        assert!(look_up("localhost", 5).await.is_ok());
        assert!(look_up("no such name", 5).await.is_err());
    }
}
