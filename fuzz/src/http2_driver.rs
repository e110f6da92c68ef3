//! Whatever a server may send over its connection, and whether or not it reads, while calls
//! of every kind and a `Watch` run on it: sound frames in any order, broken ones, and bytes
//! that are none. Some calls are not read, not polled, or dropped before they are written.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tonic::body::Body;
use tonic_health_channel::{Channel, Endpoint};

use super::{
    http2_server::serve,
    input::Input,
    rig::{
        Due, FAREWELL, Outcome, PIPE, call, channel, dialled, play, read, request, respond, settle,
    },
};

/// What the callers do, and with what kind of server: the begin of an input.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    flags: u8,
    held: u8,
    left: u8,
    dropped: u8,
    dead: [u8; 2],
}

impl Plan {
    pub(crate) fn read(input: &mut Input<'_>) -> Self {
        let flags = input.byte();
        let mut given = |flag| match flags & flag {
            0 => 0,
            _ => input.byte(),
        };
        Self {
            flags,
            held: given(8),
            left: given(16),
            dropped: given(32),
            dead: [given(64), given(64)],
        }
    }

    pub(crate) fn checks_health(self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether the server says its SETTINGS, and a bit of health.
    pub(crate) fn has_preamble(self) -> bool {
        self.flags & 2 == 0
    }

    fn endpoint(self, endpoint: Endpoint) -> Endpoint {
        match self.flags & 12 {
            0 => endpoint,
            // What comes is soon too much.
            8 => endpoint
                .initial_stream_window_size(1 << 16)
                .initial_connection_window_size(1 << 16),
            // Windows that one frame can fill.
            _ => endpoint
                .initial_stream_window_size(256)
                .initial_connection_window_size(1 << 16)
                .concurrency_limit(2),
        }
    }

    /// How many responses are held, and for how long after their call has begun.
    fn held(self) -> (usize, Duration) {
        let millis = [0, 100, 400, 900, 999, 1_000, 1_001, 2_500];
        let hold = Duration::from_millis(millis[usize::from(self.held % 8)]);
        let many = usize::from(self.held >> 3 & 7) + 1;
        (if self.flags & 8 != 0 { many } else { 0 }, hold)
    }

    /// How many calls are polled a few times, and left.
    fn left(self) -> usize {
        match self.flags & 16 {
            0 => 0,
            _ => usize::from(self.left >> 6) + 1,
        }
    }

    /// Calls that are dropped before anything of them is written, at one of four times.
    async fn drop_some(self, channel: &Channel, at: u8) {
        if self.flags & 32 != 0 && self.dropped >> at & 1 != 0 {
            let many = [24, 16, 17, 100][usize::from(self.dropped >> 4 & 3)];
            for _ in 0..many {
                let _ = once(&mut pin!(request(channel, message(), 2))).await;
            }
        }
    }

    /// Whether the server stops reading.
    fn is_dead(self) -> bool {
        self.flags & 64 != 0
    }

    /// How many bytes the server reads before it stops, and for how long it does then. Without
    /// a time it stops for ever.
    pub(crate) fn reads(self) -> Option<(usize, Option<Duration>)> {
        let [bytes, quarters] = self.dead;
        let bytes = usize::from(bytes >> 2) * 64;
        let pause = (quarters > 0).then(|| Duration::from_millis(250) * quarters.into());
        self.is_dead().then_some((bytes, pause))
    }

    fn pipe(self) -> usize {
        [PIPE, 4 << 10, 1 << 10, 512][usize::from(self.dead[0] & 3)]
    }

    /// Whether the server answers SETTINGS and PING as it reads them.
    pub(crate) fn answers(self) -> bool {
        self.flags & 128 != 0
    }

    /// The most time that a call is given, in seconds.
    fn longest(self) -> u64 {
        match self.is_dead() {
            // Longer than a peer may take nothing of what is written to it.
            true => 30,
            false => 3,
        }
    }
}

pub fn check(data: &[u8]) {
    let data = data.to_vec();
    play(scene(data));
}

async fn scene(data: Vec<u8>) {
    let plan = Plan::read(&mut Input::new(&data));
    let (endpoint, dials) = dialled(plan.pipe());
    let channel = channel(plan.endpoint(endpoint), plan.checks_health()).build();
    let server = tokio::spawn(serve(dials, data));
    make_calls(plan, &channel).await;
    // Whatever happened to those before.
    let _ = call(&channel, message(), 1).await;
    let backends = channel.backends();
    drop(channel);
    // A request whose answer has ended goes on until the deadline of its call.
    sleep(Duration::from_secs(plan.longest())).await;
    settle().await;
    let in_flight = backends[0].calls_in_flight();
    assert_eq!(in_flight, 0, "calls hold slots that have ended");
    // Whether or not the server ever notices.
    sleep(FAREWELL).await;
    let servers = usize::from(!server.is_finished());
    let left = Handle::current().metrics().num_alive_tasks() - servers;
    assert_eq!(left, 0, "tasks outlive their channel");
    server.abort();
    if let Err(error) = server.await {
        assert!(error.is_cancelled(), "the server: {error}");
    }
}

async fn make_calls(plan: Plan, channel: &Channel) {
    plan.drop_some(channel, 0).await;
    let left = leave_some(plan, channel).await;
    // Each is polled when it is woken, and not with the others.
    let mut calls = FuturesUnordered::<Pin<Box<dyn Future<Output = ()> + '_>>>::new();
    let make = |body, seconds| {
        calls.push(Box::pin(async move {
            let _ = call(channel, body, seconds).await;
        }));
    };
    make(message(), 1);
    make(Body::empty(), 2);
    make(endless(), 2);
    make(a_few(), 3);
    if plan.is_dead() {
        make(slow(), plan.longest());
    }
    calls.push(Box::pin(async {
        let given_up = timeout(Duration::from_millis(20), call(channel, endless(), 3));
        let _ = given_up.await;
        plan.drop_some(channel, 2).await;
    }));
    calls.push(Box::pin(async {
        settle().await;
        settle().await;
        plan.drop_some(channel, 1).await;
    }));
    let (many, hold) = plan.held();
    for _ in 0..many {
        calls.push(Box::pin(held(channel, hold)));
    }
    while calls.next().await.is_some() {}
    for (due, call) in left {
        let due = due.or_now();
        due.assert_met(&call.await);
    }
    plan.drop_some(channel, 3).await;
}

/// A call of a second whose response is not read before `hold` has passed.
async fn held(channel: &Channel, hold: Duration) {
    let due = Due::within(1);
    let read_on = sleep(hold);
    match respond(channel, message(), 1).await {
        Ok(response) => {
            due.assert_met(&Ok(None));
            read_on.await;
            let due = due.or_now();
            due.assert_met(&read(response).await);
        }
        Err(code) => due.assert_met(&Err(code)),
    }
}

type Left<'a> = (Due, Pin<Box<dyn Future<Output = Outcome> + 'a>>);

/// Calls that are polled a few times, and then not before the others have ended.
async fn leave_some(plan: Plan, channel: &Channel) -> Vec<Left<'_>> {
    let mut left = Vec::<Left<'_>>::new();
    for _ in 0..plan.left() {
        let body = match plan.left & 32 {
            0 => message(),
            _ => endless(),
        };
        let seconds = 1 + u64::from(plan.left >> 3 & 3);
        let mut call = Box::pin(request(channel, body, seconds));
        let due = Due::within(seconds);
        let mut outcome = once(&mut call).await;
        for _ in 0..plan.left & 3 {
            if outcome.is_none() {
                if plan.left & 4 != 0 {
                    settle().await;
                }
                outcome = once(&mut call).await;
            }
        }
        if outcome.is_none() {
            left.push((due, call));
        }
    }
    left
}

/// Polls it, and nothing else meanwhile.
async fn once<F: Future>(
    future: &mut Pin<impl std::ops::DerefMut<Target = F>>,
) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn message() -> Body {
    Body::new(Full::from(&[0, 0, 0, 0, 1, b'x'][..]))
}

fn a_few() -> Body {
    let frames = stream::iter(0..8).then(async |_| {
        sleep(Duration::from_millis(3)).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 5])))
    });
    Body::new(StreamBody::new(Box::pin(frames)))
}

/// As fast as anybody takes it. Time stands still while something can be done, so that
/// there are pauses, or no deadline would ever come.
fn endless() -> Body {
    let frames = stream::iter(0_u64..).then(async |n| {
        if n % 32 == 31 {
            sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 4 << 10])))
    });
    Body::new(StreamBody::new(Box::pin(frames)))
}

/// Enough to fill what a server that does not read lets through, and no more.
fn slow() -> Body {
    let frames = stream::iter(0..120).then(async |_| {
        sleep(Duration::from_millis(250)).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 4 << 10])))
    });
    Body::new(StreamBody::new(Box::pin(frames)))
}
