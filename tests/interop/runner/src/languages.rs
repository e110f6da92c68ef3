//! What the servers of each language can do, where they differ.

use std::path::{Path, PathBuf};

/// A language whose backend is set up.
#[derive(Clone, Debug)]
pub(crate) struct Language {
    pub(crate) name: &'static str,
    /// Starts a backend of it.
    pub(crate) serve: PathBuf,
    /// Whether its replies are compressed.
    pub(crate) compresses: bool,
    /// Whether its health service has `List`.
    pub(crate) lists: bool,
    /// Whether calls that meet its stop are taken, or refused so that they can go
    /// elsewhere. grpcio answers them with CANCELLED, which no client may send again;
    /// its own does not either.
    pub(crate) stops_gently: bool,
}

impl Language {
    pub(crate) fn new(name: &str, cache: &Path) -> Result<Self, String> {
        let (name, compresses, lists, stops_gently) = match name {
            "go" => ("go", true, true, true),
            "python" => ("python", true, false, false),
            "java" => ("java", true, false, true),
            "js" => ("js", false, true, true),
            _ => {
                return Err(format!(
                    "language `{name}`: go, python, java and js are known"
                ));
            }
        };
        Ok(Self {
            name,
            serve: cache.join(name).join("serve"),
            compresses,
            lists,
            stops_gently,
        })
    }

    /// Why a scenario makes no sense with it.
    pub(crate) fn cannot(&self, scenario: &str) -> Option<&'static str> {
        match (self.name, scenario) {
            ("js", "pings") => Some("grpc-js does not count PINGs"),
            _ => None,
        }
    }
}
