//! How many files this process may open, each connection being one.

use std::io;

use crate::exit::Message;

/// Takes all that the system allows.
pub(crate) fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        /// What macOS allows where it calls the limit endless.
        const OPEN_MAX: u64 = 10_240;
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raise = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum });
        if raise(maximum).is_err() && current.is_some_and(|current| current < OPEN_MAX) {
            // Where even that cannot be had, the limit is what it was.
            let _ = raise(Some(OPEN_MAX));
        }
    }
}

/// A failure to connect. One that is for want of files says so: its backend is not to blame.
pub(crate) fn blamed(failure: String) -> String {
    match is_too_many(&failure) {
        true => too_few_files(),
        false => failure,
    }
}

pub(crate) fn is_too_few_files(failure: &str) -> bool {
    failure == too_few_files()
}

pub(crate) fn no_runtime(error: &io::Error) -> Message {
    let why = blamed(format!("cannot start the tokio runtime: {error}"));
    format!("error: {why}").into()
}

fn too_few_files() -> String {
    let most = match most_open_files() {
        Some(most) => format!("{most} files"),
        None => "a limited number of files".to_owned(),
    };
    format!(
        "this command may open {most} (ulimit -n), but its connections need more; raise the limit, \
         or name fewer backends"
    )
}

/// The library has the words of the system.
fn is_too_many(failure: &str) -> bool {
    const EMFILE: i32 = 24;
    cfg!(unix) && failure.contains(&io::Error::from_raw_os_error(EMFILE).to_string())
}

#[cfg(unix)]
fn most_open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current
}

#[cfg(not(unix))]
fn most_open_files() -> Option<u64> {
    None
}
