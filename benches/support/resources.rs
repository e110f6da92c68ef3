//! What this process uses, as the kernel counts it.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

use super::Result;

/// Descriptors that a process needs besides its connections.
const SPARE_FILES: u64 = 200;

/// Resident memory in KiB, pages of the executable included. From the page
/// tables: the cheaper `/proc/self/statm` lags behind by up to 64 pages for each
/// thread.
pub(crate) fn resident_kib() -> Result<f64> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = rss.and_then(|rest| rest.trim().strip_suffix("kB"));
    let kib = kib.ok_or("/proc/self/smaps_rollup has no line `Rss: … kB`")?;
    Ok(kib.trim().parse()?)
}

/// CPU time of all threads so far, user and system, in milliseconds.
pub(crate) fn cpu_ms() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let [user, system] = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3);
    Ok(user + system)
}

/// Lets this process and its children open `connections` sockets each, as far as
/// the hard limit allows.
///
/// # Errors
///
/// If it does not; the text says what would be enough.
pub(crate) fn allow_connections(connections: usize) -> Result<()> {
    let needed = connections as u64 + SPARE_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < needed {
        return Err(format!(
            "{connections} connections need {needed} open files, and the hard limit is {hard} \
             (`ulimit -Hn`)"
        )
        .into());
    }
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard)?;
    }
    Ok(())
}
