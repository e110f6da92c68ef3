//! One connection of an [`H2Peer`](super::H2Peer): frames and orders in, frames
//! out.

use std::{
    collections::BTreeMap,
    io,
    ops::ControlFlow::{self, Break, Continue},
    sync::{Arc, atomic::Ordering},
};

use bytes::BytesMut;
use h2::Reason;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::broadcast,
};
use tonic::Code;
use tonic_health_channel_testing::Entered;

use super::{Answer, Order, Shared};
use crate::{
    http2::{self, Frame},
    wire::Wire,
};

/// `HealthCheckResponse { status: SERVING }`.
const SERVING: &[u8] = &[0x08, 0x01];

pub(crate) struct Connection {
    wire: Wire,
    number: usize,
    shared: Arc<Shared>,
    orders: broadcast::Receiver<Order>,
    /// Bytes that were read and not yet cut into frames.
    bytes: BytesMut,
    /// Streams that neither side has ended.
    open: BTreeMap<u32, Open>,
    last_stream: u32,
    /// Set by GOAWAY: streams above it are not looked at.
    final_stream: u32,
}

struct Open {
    is_watch: bool,
    answer: Answer,
    /// Whether response headers went out, so that only trailers may follow.
    has_headers: bool,
    _gauge: Entered,
}

impl Connection {
    pub(crate) fn new(wire: Wire, shared: Arc<Shared>) -> Self {
        Self {
            number: wire.number(),
            wire,
            orders: shared.orders.subscribe(),
            shared,
            bytes: BytesMut::new(),
            open: BTreeMap::new(),
            last_stream: 0,
            final_stream: u32::MAX,
        }
    }

    /// Until the client leaves or an order closes the connection.
    pub(crate) async fn run(mut self) {
        // An error is the client's leaving.
        let _ = self.converse().await;
    }

    async fn converse(&mut self) -> io::Result<()> {
        self.wire.read_exact(&mut [0; http2::PREFACE.len()]).await?;
        self.send_settings().await?;
        loop {
            // Both branches lose nothing when the other one wins.
            let flow = tokio::select! {
                read = self.wire.read_buf(&mut self.bytes) => match read? {
                    0 => Break(()),
                    _ => self.on_bytes().await?,
                },
                order = self.orders.recv() => match order {
                    Ok(order) => self.on_order(order).await?,
                    Err(_) => Break(()),
                },
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    async fn on_bytes(&mut self) -> io::Result<ControlFlow<()>> {
        while let Some(frame) = Frame::cut(&mut self.bytes) {
            self.on_frame(frame).await?;
        }
        Ok(Continue(()))
    }

    async fn on_frame(&mut self, frame: Frame) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let seen = &shared.seen;
        match frame.kind {
            http2::SETTINGS if frame.is_ack() => seen.settings_acks.add(),
            http2::SETTINGS => self.send(http2::settings_ack()).await?,
            http2::PING if !frame.is_ack() => self.on_ping(&frame.payload).await?,
            http2::GOAWAY => seen.client_goaways.add(),
            http2::RST_STREAM => {
                self.open.remove(&frame.stream);
                seen.client_resets.add();
            }
            http2::HEADERS => self.on_headers(&frame).await?,
            http2::DATA => self.on_data(&frame).await?,
            _ => {}
        }
        if frame.ends_stream() {
            self.on_request_end(frame.stream).await?;
        }
        Ok(())
    }

    async fn on_ping(&mut self, payload: &[u8]) -> io::Result<()> {
        if !self.shared.ignores_pings.load(Ordering::Relaxed) {
            self.send(http2::ping_ack(payload)).await?;
        }
        self.shared.seen.pings.add();
        Ok(())
    }

    async fn on_headers(&mut self, frame: &Frame) -> io::Result<()> {
        if frame.stream <= self.last_stream || frame.stream > self.final_stream {
            // Trailers of the client, or a stream after GOAWAY.
            return Ok(());
        }
        self.last_stream = frame.stream;
        let is_watch = frame.asks_for_watch();
        let seen = &self.shared.seen;
        let (plan, total, gauge) = if is_watch {
            (&self.shared.watches, &seen.watches, &seen.open_watches)
        } else {
            (&self.shared.calls, &seen.calls, &seen.open_calls)
        };
        let answer = plan.take();
        let open = Open {
            is_watch,
            answer,
            has_headers: false,
            _gauge: gauge.enter(),
        };
        self.open.insert(frame.stream, open);
        seen.peak.fetch_max(self.open.len(), Ordering::Relaxed);
        total.add();
        match answer {
            Answer::Reset(_) => self.answer(frame.stream, answer).await,
            Answer::Ok
            | Answer::Serving
            | Answer::Headers
            | Answer::Status(_)
            | Answer::KeepOpen => Ok(()),
        }
    }

    /// Gives the client its window back, so that it never has to stop.
    async fn on_data(&mut self, frame: &Frame) -> io::Result<()> {
        let len = u32::try_from(frame.payload.len()).expect("the length of a frame has 24 bits");
        if len == 0 {
            return Ok(());
        }
        self.send(http2::window_update(0, len)).await?;
        if !frame.ends_stream() && self.open.contains_key(&frame.stream) {
            self.send(http2::window_update(frame.stream, len)).await?;
        }
        Ok(())
    }

    async fn on_request_end(&mut self, stream: u32) -> io::Result<()> {
        match self.open.get(&stream) {
            Some(open) => self.answer(stream, open.answer).await,
            None => Ok(()),
        }
    }

    async fn on_order(&mut self, order: Order) -> io::Result<ControlFlow<()>> {
        match order {
            Order::SendSettings => self.send_settings().await?,
            Order::GoAwayOn(number) if number != self.number => {}
            Order::GoAwayOn(_) | Order::GoAway(_) => {
                let reason = match order {
                    Order::GoAway(reason) => reason,
                    _ => Reason::NO_ERROR,
                };
                self.final_stream = self.last_stream;
                self.send(http2::go_away(self.last_stream, reason, ""))
                    .await?;
            }
            Order::GoAwayCounting(last) => {
                self.final_stream = last;
                self.open.retain(|stream, _| *stream <= last);
                self.send(http2::go_away(last, Reason::NO_ERROR, ""))
                    .await?;
            }
            Order::GoAwayAndClose(reason, debug) => {
                self.send(http2::go_away(self.last_stream, reason, debug))
                    .await?;
                return self.close().await;
            }
            Order::GoAwayFromAll(reason) => {
                self.send(http2::go_away(0, reason, "")).await?;
                return self.close().await;
            }
            Order::AnswerCalls(answer) => self.answer_all(false, answer).await?,
            Order::EndWatches(answer) => self.answer_all(true, answer).await?,
            Order::Close => return self.close().await,
        }
        Ok(Continue(()))
    }

    async fn answer_all(&mut self, watches: bool, answer: Answer) -> io::Result<()> {
        let streams: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| open.is_watch == watches)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in streams {
            self.answer(stream, answer).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, stream: u32, answer: Answer) -> io::Result<()> {
        let Some(open) = self.open.get_mut(&stream) else {
            return Ok(());
        };
        let headers = match answer {
            Answer::Ok | Answer::Serving | Answer::Headers if !open.has_headers => {
                http2::response(stream)
            }
            _ => Vec::new(),
        };
        let (rest, ends) = match answer {
            Answer::Ok => {
                let rest = [
                    http2::message(stream, &[]),
                    http2::trailers(stream, Code::Ok),
                ];
                (rest.concat(), true)
            }
            Answer::Serving => (http2::message(stream, SERVING), false),
            Answer::Headers => (Vec::new(), false),
            Answer::Status(code) if open.has_headers => (http2::trailers(stream, code), true),
            Answer::Status(code) => (http2::status_only(stream, code), true),
            Answer::KeepOpen => return Ok(()),
            Answer::Reset(reason) => (http2::reset(stream, reason), true),
        };
        open.has_headers |= !headers.is_empty();
        if ends {
            // First, so that the gauge is right when the client hears of it.
            self.open.remove(&stream);
        }
        self.send([headers, rest].concat()).await
    }

    async fn send_settings(&mut self) -> io::Result<()> {
        let max = *self
            .shared
            .max_concurrent_streams
            .lock()
            .expect("no holder of the limit panics");
        self.send(http2::settings(max)).await
    }

    async fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.wire.write_all(&bytes).await
    }

    /// Says goodbye to TCP, so that what was sent before still arrives.
    async fn close(&mut self) -> io::Result<ControlFlow<()>> {
        self.wire.shutdown().await?;
        Ok(Break(()))
    }
}
