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
}

impl Language {
    pub(crate) fn new(name: &str, cache: &Path) -> Result<Self, String> {
        let (name, compresses, lists) = match name {
            "go" => ("go", true, true),
            "python" => ("python", true, false),
            "java" => ("java", true, false),
            "js" => ("js", false, true),
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
