//! What the servers of each language can do, where they differ.

use std::{
    env,
    path::{Path, PathBuf},
};

/// A language whose backend is set up.
#[derive(Clone, Debug)]
pub(crate) struct Language {
    pub(crate) name: &'static str,
    /// Starts a backend of it.
    pub(crate) serve: PathBuf,
    /// Starts a watcher of it.
    pub(crate) watch: PathBuf,
    /// Whether its replies are compressed.
    pub(crate) compresses: bool,
    /// Whether its health service has `List`.
    pub(crate) lists: bool,
    /// What becomes of calls that meet its stop, if they are neither taken, nor refused
    /// so that they can go elsewhere.
    pub(crate) stops_abruptly: Option<&'static str>,
}

impl Language {
    pub(crate) fn new(name: &str, cache: &Path) -> Result<Self, String> {
        // No client may send a call again that was answered; grpcio's own does not either.
        let cancels = Some("it answers CANCELLED to calls that meet its stop");
        let hangs_up = Some("it hangs up on calls that meet its stop");
        let (name, compresses, lists, stops_abruptly) = match name {
            "go" => ("go", true, true, None),
            "python" => ("python", true, false, cancels),
            "java" => ("java", true, false, None),
            "js" => ("js", false, true, None),
            "dubbo" => ("dubbo", true, false, hangs_up),
            _ => {
                return Err(format!(
                    "language `{name}`: go, python, java, js and dubbo are known"
                ));
            }
        };
        Ok(Self {
            name,
            serve: cache.join(name).join("serve"),
            watch: cache.join(name).join("watch"),
            compresses,
            lists,
            stops_abruptly,
        })
    }

    /// The server with the health service of this repository, a binary beside the runner.
    pub(crate) fn health_server() -> Result<Self, String> {
        let runner = env::current_exe().map_err(|error| format!("no path: {error}"))?;
        Ok(Self {
            name: "rust",
            serve: runner.with_file_name("health_server"),
            watch: PathBuf::new(),
            compresses: false,
            lists: true,
            stops_abruptly: None,
        })
    }

    /// Why a scenario makes no sense with it.
    pub(crate) fn cannot(&self, scenario: &str) -> Option<&'static str> {
        match (self.name, scenario) {
            ("js", "pings") => Some("grpc-js does not count PINGs"),
            ("dubbo", "pings") => Some("dubbo-go does not count PINGs"),
            ("dubbo", "details") => Some("triple drops details and metadata of a failure"),
            ("dubbo", "tls") => Some("triple has no TLS"),
            ("dubbo", "max_age") => Some("connections of triple have no age"),
            ("js" | "dubbo", "watchers") => Some("it has no watcher here"),
            ("js" | "dubbo", "retries" | "hedging") => Some("it has no scripts here"),
            ("python" | "java" | "js" | "dubbo", "probe") => {
                Some("the original probe is a program in Go")
            }
            _ => None,
        }
    }
}
