//! The IO under `h2`: tells the streams what goes over it, and `h2` not all at once.
//!
//! **After a GOAWAY, what was opened before it goes out before anything else is read.** A
//! server that shuts down gracefully says GOAWAY with a number that is no stream's yet, then
//! PING, and takes the answer to the PING for the end of the requests (RFC 9113 §6.8). What
//! comes later it counts out; netty even breaks the connection over the DATA of a stream that
//! it has counted out, and with it the calls that it has. `h2` answers a PING before it writes
//! the requests that wait to be written, so it is not shown the PING until they are.
//!
//! **One turn is bounded.** `h2` reads for as long as there is something, and works through all
//! streams for each SETTINGS. It is shown 64 KiB in a turn, or one SETTINGS, and other tasks
//! have theirs in between.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    frames::{Frames, Head},
    machine::{FORBIDDEN, Machine, Verdict},
};
use crate::{
    transport::{
        connection::{MAX_CANCELLED, StreamTable, Streams},
        io::SniffedIo,
    },
    util::clock::now,
};

/// What a client says before its first frame (RFC 9113 §3.4).
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// Bytes that `h2` is shown in one turn.
const TURN: usize = 64 << 10;

/// What is read at once where a frame's head is cut in two.
const PIECE: usize = 1 << 10;

/// What speaks HTTP/2 over it.
pub(in crate::transport::h2) type Http2Connection =
    h2::client::Connection<WireIo<SniffedIo>, Bytes>;

pub(in crate::transport::h2) struct WireIo<T> {
    io: T,
    streams: Streams,
    peer: Peer,
    /// What is read, and not shown to `h2` yet. What stands before `judged` may be.
    held: BytesMut,
    judged: usize,
    /// What `h2` was shown in this turn.
    shown: usize,
    pause: Pause,
    written: Frames,
}

/// Why nothing more is read for the moment, once what is judged was shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    None,
    /// The turn is over.
    Turn,
    /// A GOAWAY is shown.
    GoAway,
    /// A read has brought nothing after it, and what `h2` does next is to write.
    Writing,
}

impl Pause {
    /// None if the connection ends.
    fn after(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Pass | Verdict::Cut | Verdict::Malformed(_) => Some(Self::None),
            Verdict::Pause => Some(Self::Turn),
            Verdict::GoAway => Some(Self::GoAway),
            Verdict::Break => None,
        }
    }
}

/// How far the peer's frames are judged.
struct Peer {
    machine: Machine,
    /// The size of its largest frame.
    most: usize,
    /// Bytes that are not here of the frame that has begun.
    left: usize,
    head: Head,
}

impl Peer {
    /// The first frame in `bytes`, or what is there of one that has begun: its size, and what
    /// comes of it. None if more has to come first.
    #[inline]
    fn next(&mut self, bytes: &[u8], streams: &mut StreamTable) -> Option<(usize, Verdict)> {
        if self.left == 0 {
            let Some((head, rest)) = bytes.split_first_chunk() else {
                return self.next_of_garbage(bytes);
            };
            let head = Head::of(head);
            // Most come whole.
            if let Some(payload) = rest.get(..head.length) {
                let verdict = self.machine.on_frame(head, payload, streams, now);
                return Some((Head::SIZE + head.length, verdict));
            }
            // They are read. `h2` ends the connection over larger ones.
            let is_read = matches!(head.kind, Head::SETTINGS | Head::HEADERS);
            if is_read && head.length <= self.most {
                return None;
            }
            self.head = head;
            self.left = self.head.length - rest.len();
            return Some((bytes.len(), Verdict::Pass));
        }
        let part = self.left.min(bytes.len());
        if part == 0 {
            return None;
        }
        self.left -= part;
        match self.left {
            0 => Some((part, self.machine.on_frame(self.head, &[], streams, now))),
            _ => Some((part, Verdict::Pass)),
        }
    }

    /// The first bytes of a head tell whether it is of HTTP/2 at all, and a peer that speaks
    /// something else may say no more. `h2` ends the connection over them.
    fn next_of_garbage(&mut self, bytes: &[u8]) -> Option<(usize, Verdict)> {
        let [a, b, c] = *bytes.first_chunk()?;
        if u32::from_be_bytes([0, a, b, c]) as usize <= self.most {
            return None;
        }
        self.left = usize::MAX;
        Some((bytes.len(), Verdict::Pass))
    }
}

impl<T> WireIo<T> {
    /// Of a peer whose frames have `most` bytes at most.
    pub(in crate::transport::h2) fn new(io: T, streams: Streams, most: u32) -> Self {
        Self {
            io,
            streams,
            peer: Peer {
                machine: Machine::default(),
                most: most as usize,
                left: 0,
                head: Head::default(),
            },
            held: BytesMut::new(),
            judged: 0,
            shown: 0,
            pause: Pause::None,
            written: Frames::after(PREFACE),
        }
    }

    /// Judges what was read into `bytes`, and takes out what is not for `h2`. How much is left,
    /// or none if the connection ends. What has to wait is held.
    fn judge_read(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let mut streams = self.streams.lock();
        streams.on_bytes();
        let (mut from, mut to) = (0, 0);
        while let Some((size, verdict)) = self.peer.next(&bytes[from..], &mut streams) {
            if let Verdict::Malformed(at) = verdict {
                bytes[from + Head::SIZE + at] = FORBIDDEN;
            }
            if verdict != Verdict::Cut {
                if from > to {
                    bytes.copy_within(from..from + size, to);
                }
                to += size;
            }
            from += size;
            self.pause = Pause::after(verdict)?;
            if self.pause != Pause::None {
                break;
            }
        }
        if from < bytes.len() {
            self.held.extend_from_slice(&bytes[from..]);
        }
        self.shown += to;
        Some(to)
    }

    /// Judges what is held, up to the next pause. Whether something is for `h2`, or none if the
    /// connection ends.
    fn judge_held(&mut self) -> Option<bool> {
        let mut streams = self.streams.lock();
        while self.judged < TURN
            && let Some((size, verdict)) = self.peer.next(&self.held[self.judged..], &mut streams)
        {
            if verdict == Verdict::Cut {
                // Behind what is for `h2` already.
                let rest = self.held.split_off(self.judged + size);
                self.held.truncate(self.judged);
                self.held.unsplit(rest);
                continue;
            }
            if let Verdict::Malformed(at) = verdict {
                self.held[self.judged + Head::SIZE + at] = FORBIDDEN;
            }
            self.judged += size;
            self.pause = Pause::after(verdict)?;
            if self.pause != Pause::None {
                break;
            }
        }
        Some(self.judged > 0)
    }

    /// What comes of a write of these.
    ///
    /// # Errors
    ///
    /// If the peer reads again, and would find more cancelled calls than its server puts up
    /// with: that ends the connection in an orderly way, before the peer does.
    fn on_write(
        &mut self,
        outcome: Poll<io::Result<usize>>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut streams = self.streams.lock();
        let mut written = match outcome {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => return outcome,
            Poll::Pending => {
                streams.on_blocked(now);
                return outcome;
            }
        };
        let dead = streams.dead();
        if dead > MAX_CANCELLED && streams.blocked_since().is_some() {
            let why = format!("{dead} calls were cancelled while the peer read nothing");
            return Poll::Ready(Err(io::Error::other(why)));
        }
        streams.on_written();
        for buf in bufs {
            let mut bytes = &buf[..written.min(buf.len())];
            written -= bytes.len();
            while let Some(head) = self.written.next(&mut bytes) {
                self.peer.machine.on_written(head, &mut streams);
            }
            if written == 0 {
                break;
            }
        }
        outcome
    }

    /// The pass of writing is over. If that is because the peer takes no more, it is
    /// over as well: two sides that wait for each other wait for ever.
    fn has_written(&mut self, cx: &Context<'_>) {
        if self.pause == Pause::Writing {
            self.pause = Pause::None;
            cx.waker().wake_by_ref();
        }
    }
}

impl<T: AsyncWrite + Unpin> WireIo<T> {
    /// Says GOAWAY, if that does not stand within another frame and the socket takes it.
    fn break_off(&mut self, cx: &mut Context<'_>) -> io::Error {
        let why = self.peer.machine.why();
        if self.written.is_between() {
            let frame = goaway(Reason::ENHANCE_YOUR_CALM, why.as_bytes());
            if Pin::new(&mut self.io).poll_write(cx, &frame).is_ready() {
                let _ = Pin::new(&mut self.io).poll_flush(cx);
            }
        }
        io::Error::other(format!("the peer sends too much: {why}"))
    }
}

/// A GOAWAY of which no stream is of the peer's making.
fn goaway(reason: Reason, debug: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + debug.len()).expect("a short text");
    let reason = u32::from(reason).to_be_bytes();
    let (kind_and_flags, no_stream) = ([Head::GOAWAY, 0], [0; 4]);
    [
        &length.to_be_bytes()[1..],
        &kind_and_flags,
        &no_stream,
        &no_stream,
        &reason,
        debug,
    ]
    .concat()
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for WireIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.judged > 0 {
                let size = this.judged.min(buf.remaining());
                buf.put_slice(&this.held[..size]);
                this.held.advance(size);
                this.judged -= size;
                this.shown += size;
                return Poll::Ready(Ok(()));
            }
            if this.shown >= TURN && this.pause == Pause::None {
                this.pause = Pause::Turn;
            }
            match this.pause {
                Pause::None => {}
                Pause::Turn => {
                    this.pause = Pause::None;
                    this.shown = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Pause::GoAway | Pause::Writing => {
                    this.pause = Pause::Writing;
                    this.shown = 0;
                    return Poll::Pending;
                }
            }
            if !this.held.is_empty() {
                match this.judge_held() {
                    Some(true) => continue,
                    Some(false) if this.held.is_empty() => continue,
                    Some(false) => {}
                    None => return Poll::Ready(Err(this.break_off(cx))),
                }
                // A head that is cut in two.
                let mut piece = [0; PIECE];
                let mut piece = ReadBuf::new(&mut piece);
                let came = Pin::new(&mut this.io).poll_read(cx, &mut piece);
                if came.is_pending() {
                    this.shown = 0;
                }
                ready!(came)?;
                match piece.filled() {
                    // `h2` says that it is cut off.
                    [] => this.judged = this.held.len(),
                    more => {
                        this.held.extend_from_slice(more);
                        this.streams.lock().on_bytes();
                    }
                }
                continue;
            }
            let before = buf.filled().len();
            let came = Pin::new(&mut this.io).poll_read(cx, buf);
            if came.is_pending() {
                this.shown = 0;
            }
            ready!(came)?;
            let end = buf.filled().len();
            if end == before {
                return Poll::Ready(Ok(()));
            }
            match this.judge_read(&mut buf.filled_mut()[before..]) {
                Some(0) => buf.set_filled(before),
                Some(shown) => {
                    buf.set_filled(before + shown);
                    return Poll::Ready(Ok(()));
                }
                None => return Poll::Ready(Err(this.break_off(cx))),
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WireIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        let outcome = self.on_write(outcome, &[IoSlice::new(buf)]);
        if outcome.is_pending() {
            self.has_written(cx);
        }
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        let outcome = self.on_write(outcome, bufs);
        if outcome.is_pending() {
            self.has_written(cx);
        }
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.has_written(cx);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, task::Poll};

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

    use super::{Head, Streams, TURN, WireIo};

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short");
        let head = [&length.to_be_bytes()[1..], &[kind, flags, 0, 0, 0, stream]].concat();
        [&head, payload].concat()
    }

    /// What `h2` is shown of `bytes`, which come in pieces of `piece`, and are asked for in
    /// pieces of `asked`.
    async fn shown(bytes: &[u8], piece: usize, asked: usize) -> Vec<u8> {
        let (ours, mut theirs) = duplex(piece);
        let mut io: WireIo<DuplexStream> = WireIo::new(ours, Streams::default(), 1 << 14);
        let write = async {
            theirs.write_all(bytes).await.expect("a reader");
            drop(theirs);
        };
        let read = async {
            let mut shown = Vec::new();
            let mut some = vec![0; asked];
            loop {
                match io.read(&mut some).await.expect("nothing is wrong") {
                    0 => return shown,
                    read => shown.extend_from_slice(&some[..read]),
                }
                // As `h2` does when nothing is read: what a GOAWAY waits for.
                io.flush().await.expect("a peer");
            }
        };
        tokio::join!(read, write).0
    }

    #[tokio::test]
    async fn all_but_empty_data_is_shown_however_it_comes() {
        let empty = frame(Head::DATA, 0, 1, &[]);
        let kept = [
            frame(Head::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
            frame(Head::HEADERS, Head::END_HEADERS, 1, &[0x88; 30]),
            frame(Head::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 50]),
            frame(Head::DATA, 0, 1, &[7; 300]),
            frame(Head::DATA, Head::PADDED, 1, &[0]),
            frame(Head::DATA, Head::END_STREAM, 1, &[]),
            frame(Head::PING, 0, 0, &[9; 8]),
        ];
        let come: Vec<_> = kept
            .iter()
            .flat_map(|frame| [empty.repeat(3), frame.clone(), empty.clone()])
            .collect();
        let (kept, come) = (kept.concat(), come.concat());
        for piece in [1, 2, 3, 7, 8, 9, 10, 64, 1 << 10, 1 << 16] {
            for asked in [1, 2, 8, 9, 10, 100, 1 << 12] {
                let shown = shown(&come, piece, asked).await;
                assert_eq!(
                    shown, kept,
                    "in pieces of {piece}, read in pieces of {asked}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_cut_off_is_shown_as_it_is() {
        let frame = frame(Head::HEADERS, Head::END_HEADERS, 1, &[0x88; 30]);
        for end in 0..frame.len() {
            assert_eq!(shown(&frame[..end], 64, 64).await, frame[..end]);
        }
    }

    #[tokio::test]
    async fn what_is_not_http2_is_shown_at_once() {
        let (ours, mut theirs) = duplex(64);
        let mut io = WireIo::new(ours, Streams::default(), 1 << 14);
        // A server that expects TLS says this, and waits.
        let alert = [21, 3, 3, 0, 2, 2, 70];
        theirs.write_all(&alert).await.expect("space");
        let mut shown = [0; 64];
        let read = io.read(&mut shown).await.expect("nothing is wrong");
        assert_eq!(shown[..read], alert);
    }

    #[tokio::test]
    async fn settings_are_followed_up_to_the_largest_frame() {
        let settings = [0, 6, 0, 1, 0, 0].repeat(5_000);
        let settings = frame(Head::SETTINGS, 0, 0, &settings);
        for piece in [1 << 10, 1 << 16] {
            let (ours, mut theirs) = duplex(piece);
            let streams = Streams::default();
            let mut io = WireIo::new(ours, streams.clone(), 1 << 15);
            let mut shown = vec![0; settings.len()];
            let (read, written) =
                tokio::join!(io.read_exact(&mut shown), theirs.write_all(&settings));
            read.expect("all of it");
            written.expect("a reader");
            assert_eq!(shown, settings);
            let header_list = streams.lock().header_list();
            assert_eq!(header_list, Some(1 << 16), "in pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn one_turn_is_64_kib_or_one_settings() {
        let data = frame(Head::DATA, 0, 1, &[7; 1 << 14]);
        let settings = frame(Head::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 50]);
        for (bytes, turns) in [
            (data.repeat(16), 4),
            (settings.repeat(10), 9),
            (
                [settings.clone(), data.repeat(2), settings.repeat(2)].concat(),
                2,
            ),
        ] {
            let (ours, mut theirs) = duplex(1 << 20);
            let mut io = WireIo::new(ours, Streams::default(), 1 << 14);
            theirs.write_all(&bytes).await.expect("space");
            let (mut all, mut ended) = (0, 0);
            let mut turn = 0;
            while all < bytes.len() {
                let mut some = [0; 1 << 12];
                let mut some = ReadBuf::new(&mut some);
                let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_read(cx, &mut some)));
                if polled.await.is_pending() {
                    ended += 1;
                    turn = 0;
                }
                all += some.filled().len();
                turn += some.filled().len();
                assert!(turn <= TURN + (1 << 12), "{turn} bytes in one turn");
            }
            assert!(
                (turns - 1..=turns).contains(&ended),
                "{ended} turns of {turns}"
            );
        }
    }
}
