//! A backend in memory, and the line to it.
//!
//! ```text
//! channel ─ connector ─► pipe ── weather ──► the test kit's network ─► its backend
//! ```

use std::{
    future::ready,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use testing::{
    fleet::{Fault, Host, Numbered, Result, SERVICE, Weather, join},
    greeter::greeter_server::GreeterServer,
    kit::{
        Backend, Connector, Network,
        ServingStatus::{NotServing, Serving},
    },
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::watch,
};
use tonic_health_channel::{Endpoint, Uri};
use tower::{Service, service_fn};

/// Bytes that either side may write ahead of the other.
const PIPE: usize = 64 << 10;

/// Calls take so long that some are under way whatever happens.
const UNIT: Duration = Duration::from_millis(15);

/// The weather of each line to a backend.
///
/// A watch wakes those that wait in an order drawn by tokio. One for each line, told in turn,
/// makes a seed the same run each time.
#[derive(Clone, Default)]
struct Skies(Arc<Mutex<Sky>>);

#[derive(Default)]
struct Sky {
    weather: Weather,
    lines: Vec<watch::Sender<Weather>>,
}

impl Skies {
    fn subscribe(&self) -> watch::Receiver<Weather> {
        let mut sky = self.0.lock().expect("nobody panics with the sky");
        let line = watch::Sender::new(sky.weather);
        let weather = line.subscribe();
        sky.lines.push(line);
        weather
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        let mut sky = self.0.lock().expect("nobody panics with the sky");
        change(&mut sky.weather);
        let weather = sky.weather;
        sky.lines.retain(|line| line.send(weather).is_ok());
    }
}

pub(super) struct Simulated {
    network: Network,
    backend: Backend,
    weather: Skies,
    calls: Arc<Mutex<Vec<u64>>>,
}

impl Simulated {
    pub(super) fn start(number: usize) -> Self {
        Self::with_unit(number, UNIT)
    }

    /// The same, and its calls take up to 15 times as long as `unit`.
    pub(super) fn with_unit(number: usize, unit: Duration) -> Self {
        let calls = Arc::<Mutex<Vec<u64>>>::default();
        let noted = calls.clone();
        let note = move |number| {
            noted.lock().expect("nobody panics with them").push(number);
            Ok(())
        };
        let network = Network::new();
        let backend = Backend::builder(GreeterServer::new(Numbered { note, unit }))
            .in_network(&network, &format!("host-{number}.test"))
            .health(SERVICE, Serving)
            .start();
        Self {
            network,
            backend,
            weather: Skies::default(),
            calls,
        }
    }
}

impl Host for Simulated {
    fn endpoint(&self) -> Result<Endpoint> {
        let (mut network, weather) = (self.network.connector(), self.weather.clone());
        let connector = service_fn(move |uri: Uri| {
            let io = dial(&mut network, uri, &weather).map(TokioIo::new);
            ready(io)
        });
        let uri = format!("{}:50051", self.backend.uri());
        Ok(Endpoint::from_shared(uri)?.connector(connector))
    }

    fn ledger(&self) -> Result<Vec<u64>> {
        Ok(self.calls.lock().expect("nobody panics with them").clone())
    }

    async fn kill(&mut self) -> Result<()> {
        self.backend.kill().await;
        self.disturb(Fault::Cut).await
    }

    async fn stop(&mut self) -> Result<()> {
        self.backend.stop().await;
        self.disturb(Fault::Cut).await
    }

    async fn restart(&mut self) -> Result<()> {
        self.backend.set_health(SERVICE, Serving);
        self.backend.restart().await;
        Ok(())
    }

    /// Seen from outside, who is paused is who is not heard and does not hear.
    fn pause(&mut self, pause: bool) -> Result<()> {
        let (up, down) = (pause, pause);
        let silence = Fault::Lose { up, down };
        self.weather.change(|weather| weather.worsen(silence));
        Ok(())
    }

    async fn serve(&mut self, serving: bool) -> Result<()> {
        let status = if serving { Serving } else { NotServing };
        self.backend.set_health(SERVICE, status);
        Ok(())
    }

    async fn disturb(&mut self, fault: Fault) -> Result<()> {
        self.weather.change(|weather| weather.worsen(fault));
        Ok(())
    }

    async fn mend(&mut self, _: Fault) -> Result<()> {
        self.weather.change(Weather::clear);
        Ok(())
    }
}

/// The client's end of a new line.
fn dial(network: &mut Connector, uri: Uri, weather: &Skies) -> io::Result<DuplexStream> {
    let mut far = network.call(uri).into_inner()?.into_inner();
    let (ours, mut near) = duplex(PIPE);
    let weather = weather.subscribe();
    tokio::spawn(async move { join(&mut near, &mut far, weather).await });
    Ok(ours)
}
