//! The requests in the bytes that reach a socket.
//!
//! A server that stops may refuse a stream below tonic. So the requests are counted before
//! HTTP/2 sees them: each is one DATA frame.

use std::{io, sync::Arc};

use bytes::{Buf, BytesMut};
use prost::Message;
use testing::{
    Tap,
    greeter::HelloRequest,
    http2::{DATA, Frame, PREFACE},
};
use tokio::net::TcpStream;

use crate::ledger::Ledger;

/// Before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

pub(crate) struct Arrivals {
    ledger: Arc<Ledger>,
    bytes: BytesMut,
    is_past_preface: bool,
}

impl Arrivals {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            bytes: BytesMut::new(),
            is_past_preface: false,
        }
    }
}

impl Tap<TcpStream> for Arrivals {
    fn on_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        if !self.is_past_preface {
            if self.bytes.len() < PREFACE.len() {
                return Ok(());
            }
            self.bytes.advance(PREFACE.len());
            self.is_past_preface = true;
        }
        while let Some(frame) = Frame::cut(&mut self.bytes) {
            if frame.kind == DATA
                && let Some(number) = number_of(&frame.payload)
            {
                self.ledger.note_arrival(number);
            }
        }
        Ok(())
    }
}

/// The number of a call. The request of a `Watch` also has a name, which is not a number.
fn number_of(data: &[u8]) -> Option<u64> {
    let message = data.get(PREFIX..)?;
    let request = HelloRequest::decode(message).ok()?;
    request.name.parse().ok()
}

#[test]
fn a_request_that_arrives_twice_is_counted_twice() {
    let ledger = Arc::<Ledger>::default();
    let mut arrivals = Arrivals::new(Arc::clone(&ledger));
    let message = testing::request("17").encode_to_vec();
    let length = u8::try_from(message.len()).expect("a short message");
    let payload = [&[0, 0, 0, 0, length][..], &message].concat();
    let length = u8::try_from(payload.len()).expect("a short frame");
    let frame = |stream| [&[0, 0, length, DATA, 1, 0, 0, 0, stream][..], &payload].concat();
    for byte in [PREFACE, &frame(1), &frame(3)].concat() {
        arrivals.on_read(&[byte]).expect("bytes that it can read");
    }
    assert_eq!(ledger.counts()[&17].arrived, 2);
}
