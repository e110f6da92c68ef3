//! A backend in memory, and the line to it.
//!
//! ```text
//! channel ─ connector ─► pipe ── weather ──► pipe ─► tonic's server, while it lives
//! ```

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use testing::{
    fleet::{Fault, Host, Numbered, Result, SERVICE, Weather, join},
    greeter::greeter_server::GreeterServer,
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tonic::service::Routes;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_health_channel::{Endpoint, Uri};
use tower::service_fn;

use super::server;

/// Bytes that either side may write ahead of the other.
const PIPE: usize = 64 << 10;

/// Calls take so long that some are under way whatever happens.
const UNIT: Duration = Duration::from_millis(15);

/// Where those connect who dial: nowhere while the server is down.
type Door = Arc<Mutex<Option<mpsc::UnboundedSender<DuplexStream>>>>;

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
    number: usize,
    door: Door,
    weather: Skies,
    calls: Arc<Mutex<Vec<u64>>>,
    life: Option<Life>,
}

struct Life {
    health: HealthReporter,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Simulated {
    pub(super) async fn start(number: usize) -> Result<Self> {
        let mut host = Self {
            number,
            door: Door::default(),
            weather: Skies::default(),
            calls: Arc::default(),
            life: None,
        };
        host.restart().await?;
        Ok(host)
    }

    fn set_door(&self, door: Option<mpsc::UnboundedSender<DuplexStream>>) {
        *self.door.lock().expect("nobody panics with the door") = door;
    }

    fn life(&self) -> Result<&Life> {
        Ok(self.life.as_ref().ok_or("the backend is not there")?)
    }
}

impl Host for Simulated {
    fn endpoint(&self) -> Result<Endpoint> {
        let (door, weather) = (self.door.clone(), self.weather.clone());
        let connector = service_fn(move |_: Uri| {
            let io = dial(&door, &weather).map(TokioIo::new);
            std::future::ready(io)
        });
        let uri = format!("http://host-{}.test:50051", self.number);
        Ok(Endpoint::from_shared(uri)?.connector(connector))
    }

    fn ledger(&self) -> Result<Vec<u64>> {
        Ok(self.calls.lock().expect("nobody panics with them").clone())
    }

    async fn kill(&mut self) -> Result<()> {
        self.set_door(None);
        if let Some(life) = self.life.take() {
            life.server.abort();
        }
        self.disturb(Fault::Cut).await?;
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        let life = self.life.take().ok_or("the backend is not there")?;
        let _ = life.stop.send(());
        life.server.await?;
        self.set_door(None);
        self.disturb(Fault::Cut).await?;
        Ok(())
    }

    async fn restart(&mut self) -> Result<()> {
        let health = HealthReporter::new();
        health
            .set_service_status(SERVICE, ServingStatus::Serving)
            .await;
        let calls = self.calls.clone();
        let note = move |number| {
            calls.lock().expect("nobody panics with them").push(number);
            Ok(())
        };
        let greeter = Numbered { note, unit: UNIT };
        let routes = Routes::new(HealthServer::new(HealthService::from_health_reporter(
            health.clone(),
        )))
        .add_service(GreeterServer::new(greeter));
        let (stop, stopped) = oneshot::channel();
        let (door, dials) = mpsc::unbounded_channel();
        let server = server::serve(routes, dials, stopped);
        self.set_door(Some(door));
        self.life = Some(Life {
            health,
            stop,
            server: tokio::spawn(server),
        });
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
        let status = match serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        let health = &self.life()?.health;
        health.set_service_status(SERVICE, status).await;
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
fn dial(door: &Door, weather: &Skies) -> io::Result<DuplexStream> {
    let (ours, mut near) = duplex(PIPE);
    let (mut far, theirs) = duplex(PIPE);
    let door = door.lock().expect("nobody panics with the door");
    let door = door.as_ref().ok_or(io::ErrorKind::ConnectionRefused)?;
    door.send(theirs)
        .map_err(|_| io::ErrorKind::ConnectionRefused)?;
    let weather = weather.subscribe();
    tokio::spawn(async move { join(&mut near, &mut far, weather).await });
    Ok(ours)
}
