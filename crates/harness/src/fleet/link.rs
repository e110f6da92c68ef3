//! A line between a client and a server, over any two streams, and its weather.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    select,
    sync::watch,
    time::sleep,
};

use super::Fault;

/// What bytes under way meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// How long they are under way, and up to twice that where they come one after
    /// another.
    pub delay: Duration,
    /// Nothing gets through to the server. TCP sends lost bytes again, so they
    /// arrive when this is over; the end of a stream does, too.
    pub up_lost: bool,
    /// The same to the client.
    pub down_lost: bool,
    /// Lines that were there before this number grew are broken off.
    pub cuts: u64,
}

impl Weather {
    /// What a fault makes of it.
    pub fn worsen(&mut self, fault: Fault) {
        match fault {
            Fault::Cut => self.cuts += 1,
            Fault::Lose { up, down } => (self.up_lost, self.down_lost) = (up, down),
            Fault::Delay(delay) => self.delay = delay,
            Fault::Kill | Fault::Pause | Fault::Flap => {}
        }
    }

    /// Lines that were broken off stay so.
    pub fn clear(&mut self) {
        *self = Self {
            cuts: self.cuts,
            ..Self::default()
        };
    }
}

/// Carries bytes both ways until both sides have ended. False if the line broke
/// before: the streams are to be dropped then, without a farewell.
pub async fn join<C, S>(
    client: &mut C,
    server: &mut S,
    mut weather: watch::Receiver<Weather>,
) -> bool
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let cuts = weather.borrow_and_update().cuts;
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let up = carry(from_client, to_server, weather.clone(), |w| w.up_lost);
    let down = carry(from_server, to_client, weather.clone(), |w| w.down_lost);
    select! {
        biased;
        // Without anyone to make weather, the world is over.
        _ = weather.wait_for(|w| w.cuts != cuts) => false,
        both = async { tokio::try_join!(up, down) } => both.is_ok(),
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
    is_lost: impl Fn(&Weather) -> bool,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut bytes).await?;
        let delay = weather.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if weather.wait_for(|w| !is_lost(w)).await.is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..read]).await?;
    }
}
