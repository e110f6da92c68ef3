//! How large the headers of a request may be for its peer.

use http::Request;
use tonic::{Code, body::Body};

use super::Exchange;
use super::{
    ADDRESS, Connection, open, soon,
    wire::{Wire, wired},
};
use crate::transport::{OutgoingRequest, SendError};

const MAX_HEADER_LIST_SIZE: u16 = 6;
const MOST: u32 = 16 << 10;

/// A request with a header of so many bytes.
fn with_header(bytes: usize) -> Request<Body> {
    let value = "x".repeat(bytes);
    let request = Request::post("/demo.Greeter/Hello").header("large", value);
    request.body(Body::empty()).expect("a request")
}

async fn try_open(connection: &Connection, request: Request<Body>) -> Result<Exchange, SendError> {
    let mut request = OutgoingRequest::new(request);
    request.prefetch().await.expect("a sound body");
    let slot = connection.admit().expect("a free slot");
    slot.open(&mut request)
}

/// The connection works.
async fn assert_works(connection: &Connection, wire: &mut Wire) {
    let call = open(connection, with_header(1)).await;
    let stream = wire.next_request().await;
    wire.answer(stream, b"").await;
    soon(call).await.map(drop).expect("an answer");
}

// D273
#[tokio::test(start_paused = true)]
async fn a_call_above_what_the_peer_takes_fails_alone_and_is_not_sent() {
    let (connection, mut wire) = wired(100).await;
    wire.settings(&[(MAX_HEADER_LIST_SIZE, MOST)]).await;
    assert_works(&connection, &mut wire).await;
    for bytes in [MOST as usize, 40_000, 70_000, 1 << 20] {
        let Err(SendError::Refused(error)) = try_open(&connection, with_header(bytes)).await else {
            panic!("{bytes} bytes are too many");
        };
        assert_eq!(error.code(), Code::ResourceExhausted);
        let text = error.message();
        assert!(text.starts_with("header list size to send ("), "{text}");
        let takes = format!("the maximum size (16384 bytes) set by server {ADDRESS}");
        assert!(text.contains(&takes), "{text}");
        assert_eq!(connection.streams(), 0);
    }
    assert_works(&connection, &mut wire).await;
}
