//! How attempts end is recorded once, whatever ends them and in whatever order.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use proptest::prelude::*;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tonic::{Status, body::Body};
use tower::{ServiceExt, discover::Change};
use tower_service::Service;

use crate::{
    Channel, discover,
    transport::{
        CallCounts,
        tests::{self, Peer, dialled_endpoint, soon},
    },
};

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ok,
    /// Headers that are all there is, with OK or NOT_FOUND.
    OkAtOnce,
    NotFoundAtOnce,
    NotFound,
    HttpError,
    WithoutStatus,
    ResetBeforeHeaders,
    ResetInBody,
    DeadlineBeforeHeaders,
    DeadlineInBody,
    DroppedBeforeHeaders,
    DroppedInBody,
    RequestPanics,
    RequestFails,
    /// The body of the request goes on after the answer.
    AnsweredEarly,
    /// Refused unprocessed: then it is sent again, and answered with OK.
    RefusedOnce,
    RefusedTwice,
    /// It has no time left when it has a slot.
    Unsent,
}

use End::*;

const ENDS: [End; 18] = [
    Ok,
    OkAtOnce,
    NotFoundAtOnce,
    NotFound,
    HttpError,
    WithoutStatus,
    ResetBeforeHeaders,
    ResetInBody,
    DeadlineBeforeHeaders,
    DeadlineInBody,
    DroppedBeforeHeaders,
    DroppedInBody,
    RequestPanics,
    RequestFails,
    AnsweredEarly,
    RefusedOnce,
    RefusedTwice,
    Unsent,
];

impl End {
    /// Adds these to the numbers of its backend.
    fn counts(self) -> [u64; 5] {
        match self {
            Ok | OkAtOnce | AnsweredEarly => [1, 1, 0, 0, 0],
            NotFoundAtOnce
            | NotFound
            | HttpError
            | WithoutStatus
            | ResetBeforeHeaders
            | ResetInBody
            | DeadlineBeforeHeaders
            | DeadlineInBody
            | RequestPanics
            | RequestFails => [1, 0, 1, 0, 0],
            DroppedBeforeHeaders | DroppedInBody => [1, 0, 0, 1, 0],
            RefusedOnce => [2, 1, 0, 0, 1],
            RefusedTwice => [2, 0, 0, 0, 2],
            Unsent => [0; 5],
        }
    }
}

/// A call: how it ends, how long each side takes for each step, and which way it goes.
#[derive(Clone, Copy, Debug)]
struct Plan {
    end: End,
    begins: u64,
    answers: u64,
    goes_on: u64,
    reads: u64,
    by_backend: bool,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (
        0..ENDS.len(),
        0..9_u64,
        0..9_u64,
        0..9_u64,
        0..9_u64,
        0..4_u8,
    );
    let plan = plan.prop_map(|(end, begins, answers, goes_on, reads, way)| {
        let end = ENDS[end];
        // Deadlines and transparent retry are the channel's doing.
        let by_backend = way == 0
            && !matches!(
                end,
                DeadlineBeforeHeaders | DeadlineInBody | RefusedOnce | RefusedTwice | Unsent
            );
        Plan {
            end,
            begins,
            answers,
            goes_on,
            reads,
            by_backend,
        }
    });
    proptest::collection::vec(plan, 1..16)
}

async fn pass(millis: u64) {
    let _ = timeout(Duration::from_millis(millis), pending::<()>()).await;
}

fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(status),
    )])
}

/// The server's half.
async fn serve(mut call: tests::Call, plan: Plan, attempt: usize) {
    pass(plan.answers).await;
    let whole = |status: &'static str| {
        let mut head = Response::new(());
        *head.headers_mut() = trailers(status);
        head
    };
    match plan.end {
        OkAtOnce | AnsweredEarly => drop(call.respond.send_response(whole("0"), true)),
        NotFoundAtOnce => drop(call.respond.send_response(whole("5"), true)),
        HttpError => drop(call.answer_with(503, "text/plain")),
        ResetBeforeHeaders => call.respond.send_reset(Reason::INTERNAL_ERROR),
        RefusedOnce if attempt == 0 => call.respond.send_reset(Reason::REFUSED_STREAM),
        RefusedTwice => call.respond.send_reset(Reason::REFUSED_STREAM),
        DeadlineBeforeHeaders | DroppedBeforeHeaders | RequestPanics | RequestFails => {
            call.reset().await;
        }
        Ok | RefusedOnce | NotFound | WithoutStatus | ResetInBody | DeadlineInBody
        | DroppedInBody | Unsent => {
            let mut stream = call.answer();
            let message = Bytes::from_static(b"\0\0\0\0\0");
            drop(stream.send_data(message.clone(), false));
            pass(plan.goes_on).await;
            match plan.end {
                Ok | RefusedOnce => drop(stream.send_trailers(trailers("0"))),
                NotFound => drop(stream.send_trailers(trailers("5"))),
                WithoutStatus => drop(stream.send_data(message, true)),
                ResetInBody => stream.send_reset(Reason::INTERNAL_ERROR),
                _ => drop(soon(poll_fn(|cx| stream.poll_reset(cx))).await),
            }
        }
    }
}

fn request(plan: usize, end: End) -> Request<Body> {
    let message = Bytes::from_static(b"\0\0\0\0\0");
    let whole = Full::new(message.clone());
    let begun = futures_util::stream::iter([Result::<_, Status>::Ok(Frame::data(message))]);
    let body = match end {
        RequestPanics => Body::new(StreamBody::new(begun.chain(futures_util::stream::once(
            async {
                pass(3).await;
                panic!("a body that panics")
            },
        )))),
        RequestFails => Body::new(StreamBody::new(begun.chain(futures_util::stream::once(
            async {
                pass(3).await;
                Err(Status::data_loss("a body that fails"))
            },
        )))),
        AnsweredEarly => Body::new(StreamBody::new(begun.chain(futures_util::stream::once(
            async {
                pass(30).await;
                Err(Status::data_loss("late"))
            },
        )))),
        _ => Body::new(whole),
    };
    let request = Request::post("/demo.v1.Greeter/SayHello").header("plan", plan);
    let request = match end {
        DeadlineBeforeHeaders | DeadlineInBody => request.header("grpc-timeout", "20m"),
        Unsent => request.header("grpc-timeout", "0m"),
        _ => request,
    };
    request.body(body).expect("a request")
}

type Answer = Pin<Box<dyn Future<Output = Option<Response<Body>>> + Send>>;

/// The client's half.
async fn call(plan: Plan, answer: Answer) {
    pass(plan.begins).await;
    let answer = match plan.end {
        DroppedBeforeHeaders => {
            let _ = timeout_at(Instant::now() + Duration::from_millis(20), answer).await;
            return;
        }
        _ => soon(answer).await,
    };
    let Some(answer) = answer else { return };
    let mut body = answer.into_body();
    pass(plan.reads).await;
    if plan.end == DroppedInBody {
        let _ = soon(body.frame()).await;
        return;
    }
    while let Some(Result::Ok(_)) = soon(body.frame()).await {}
}

async fn run(plans: Vec<Plan>) -> (CallCounts, usize) {
    let (endpoint, mut dials) = dialled_endpoint();
    let source = discover::list([endpoint]).expect("a list of one");
    let channel = Channel::balance(source).count_calls(true).build();
    let io = soon(dials.recv()).await.expect("a dial");
    let server = soon(h2::server::handshake(io)).await.expect("a client");
    let mut peer = Peer::spawn(server);
    let mut ready = channel.ready_backends();
    let Some(Result::Ok(Change::Insert(_, connection))) = soon(ready.next()).await else {
        panic!("it is READY");
    };
    let (is_over, mut over) = oneshot::channel::<()>();
    let at_peer = plans.clone();
    let serving = tokio::spawn(async move {
        let mut attempts = vec![0; at_peer.len()];
        let mut calls = JoinSet::new();
        loop {
            let call = tokio::select! {
                call = peer.next_call() => call,
                _ = &mut over => break,
            };
            let plan = call.head.headers["plan"].to_str().expect("a number");
            let plan: usize = plan.parse().expect("a number");
            calls.spawn(serve(call, at_peer[plan], attempts[plan]));
            attempts[plan] += 1;
        }
        soon(calls.join_all()).await;
        peer
    });
    let mut calls = JoinSet::new();
    for (number, plan) in plans.into_iter().enumerate() {
        let request = request(number, plan.end);
        let (mut channel, connection) = (channel.clone(), connection.clone());
        let answer: Answer = match plan.by_backend {
            true => Box::pin(async move {
                let mut connection = connection;
                let ready = connection.ready().await.expect("a stream");
                ready.call(request).await.ok()
            }),
            false => Box::pin(async move { channel.call(request).await.ok() }),
        };
        calls.spawn(call(plan, answer));
    }
    soon(calls.join_all()).await;
    drop(is_over);
    let _peer = serving.await.expect("no panic");
    let backends = channel.backends();
    let backend = &backends[0];
    // A request that goes on after its answer leaves in its own time.
    pass(100).await;
    let counts = backend.calls().expect("they are counted");
    (counts, backend.calls_in_flight())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // D320
    #[test]
    fn each_attempt_has_one_outcome(plans in plans()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let mut expected = [0; 5];
        for plan in &plans {
            for (sum, count) in expected.iter_mut().zip(plan.end.counts()) {
                *sum += count;
            }
        }
        let (counts, in_flight) = runtime.block_on(run(plans));
        let CallCounts { started, succeeded, failed, cancelled, refused } = counts;
        prop_assert_eq!([started, succeeded, failed, cancelled, refused], expected);
        prop_assert_eq!(in_flight, 0);
    }
}
