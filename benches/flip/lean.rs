//! Lean servers on a core of their own, beside a client of one thread on another: what
//! the client alone takes to act upon a flip.

use std::sync::{Arc, Mutex};

use tokio::task::spawn_blocking;

use crate::{
    BACKENDS, Flippable,
    common::process::{Kind, Servers, pin},
    support::{Result, server::Flipped},
};

const CLIENT_CORE: usize = 0;
const SERVERS_CORE: usize = 1;

pub(crate) struct Lean(Arc<Mutex<Servers>>);

impl Lean {
    /// Starts them, and keeps this thread and those that it starts on the other core.
    pub(crate) fn start() -> Result<(Self, Vec<String>)> {
        pin(CLIENT_CORE)?;
        let servers = Servers::start(Kind::Lean, BACKENDS, Some(SERVERS_CORE))?;
        let uris = servers.uris();
        Ok((Self(Arc::new(Mutex::new(servers))), uris))
    }
}

impl Flippable for Lean {
    /// By a thread beside the servers, so that the client goes on meanwhile.
    async fn flip(&mut self, backend: usize, serving: bool) -> Result<Flipped> {
        let servers = self.0.clone();
        let flipped = spawn_blocking(move || {
            pin(SERVERS_CORE)?;
            let mut servers = servers.lock().expect("no order panics");
            let [told, sent] = servers.set_serving(backend, serving)?;
            Ok(Flipped { told, sent })
        });
        flipped.await?
    }
}
