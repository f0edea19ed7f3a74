//! WebSocket framing over a stream, seen as a byte stream.

use super::frame::{
    self, BINARY, CLOSE, Closed, Ended, FrameError, FrameReader, OutHead, PONG, control_frame,
};
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest frame we write; a longer write becomes several. Far above what is written at
/// once in practice, and below the limits that WebSocket libraries start with (some: 16 MiB).
const OUT_FRAME_BYTES_MAX: u64 = 1 << 20;
/// Slices of one vectored write that are passed on together, the header included.
const OUT_SLICES_MAX: usize = 64;
/// A client has to mask, hence to copy, what it sends: this much at a time. What the stream below
/// does not take of it is copied again, so it is not much more than a socket takes at once.
const MASK_CHUNK_BYTES: usize = 16 * 1024;
/// Reads without a payload byte (pings, empty frames, parts of headers) within one poll, after
/// which other tasks get their turn.
const FRUITLESS_READS_MAX: u32 = 32;

/// Which side of the connection we are: clients mask their frames, servers do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We connected.
    Client,
    /// We accepted.
    Server,
}

/// Puts WebSocket framing on `stream`, whose HTTP upgrade is over. `max_frame_bytes` bounds the
/// payload of one incoming frame.
///
/// [`ws_accept`](crate::ws_accept) and [`ws_connect`](crate::ws_connect) do the upgrade as well.
pub fn ws_stream<S>(stream: S, role: Role, max_frame_bytes: u64) -> WsStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    WsStream::new(stream, role, max_frame_bytes, Vec::new())
}

/// The payload of binary WebSocket frames as a byte stream.
///
/// * Reading: frame borders vanish. Pings are answered from within reads and writes. A peer that
///   breaks a rule (a text frame, for one) yields an [`io::Error`] of kind `InvalidData` that
///   holds a [`FrameError`], and is told the matching close code. Its close frame is answered and
///   reads as the end of the stream; the connection breaking inside a frame as `UnexpectedEof`.
/// * Writing: each write, plain or vectored, starts one frame that announces all bytes it was
///   given (up to 1 MiB). If the stream below takes only a part, the bytes of the following
///   writes complete that frame. A caller that gives up in the middle of what it wanted to write
///   thereby leaves a frame open; it can only shut down. Bytes reported as written have left;
///   flushing is of use for control frames only.
/// * Shutting down sends a close frame, unless a frame is open, and shuts the stream below down.
///
/// State beside the stream below is one small allocation, without buffers, while idle.
pub struct WsStream<S> {
    inner: S,
    state: Box<State>,
}

struct State {
    role: Role,
    reader: FrameReader,
    /// Bytes that were read together with the HTTP head.
    early: Vec<u8>,
    /// The stream below has ended.
    eof: bool,
    writer: Writer,
}

/// The writing side.
#[derive(Default)]
struct Writer {
    /// Header of the frame being written, and how much of it is out.
    head: Option<OutHead>,
    head_sent: u8,
    /// Payload bytes of the open frame that are still to come.
    owed: u64,
    mask: [u8; 4],
    mask_offset: u8,
    /// The control frame being written, and how much of it is out.
    control: Vec<u8>,
    control_sent: usize,
    /// Control frames to write when the open frame is complete.
    pong: Option<Vec<u8>>,
    close: Option<(Option<u16>, String)>,
    /// A close frame was queued: no more data [RFC 6455, 5.5.1].
    closing: bool,
    /// A write waits for the stream below. Reads keep away from writing then: the stream wakes
    /// one task for writing only, and it must be the one that waits.
    blocked: bool,
}

impl<S> WsStream<S> {
    pub(super) fn new(inner: S, role: Role, max_frame_bytes: u64, early: Vec<u8>) -> Self {
        Self {
            inner,
            state: Box::new(State {
                role,
                reader: FrameReader::new(role == Role::Server, max_frame_bytes),
                early,
                eof: false,
                writer: Writer::default(),
            }),
        }
    }

    /// The stream below.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: fmt::Debug> fmt::Debug for WsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsStream")
            .field("inner", &self.inner)
            .field("role", &self.state.role)
            .field("reader", &self.state.reader)
            .finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, state } = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..FRUITLESS_READS_MAX {
            match state.reader.ended() {
                Some(Ended::Closed(_)) => return Poll::Ready(Ok(())),
                Some(Ended::Failed(error)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                None if state.eof => return Poll::Ready(Ok(())),
                None => {}
            }
            let before = buf.filled().len();
            if state.early.is_empty() {
                let poll = Pin::new(&mut *inner).poll_read(cx, buf);
                if poll.is_pending() {
                    state.writer.opportunity(cx, inner, state.role);
                }
                ready!(poll)?;
            } else {
                let n = state.early.len().min(buf.remaining());
                buf.put_slice(&state.early[..n]);
                state.early.drain(..n);
                if state.early.is_empty() {
                    state.early = Vec::new();
                }
            }
            if buf.filled().len() == before {
                state.eof = true;
                if state.reader.mid_message() {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "connection lost inside a WebSocket frame",
                    )));
                }
                return Poll::Ready(Ok(()));
            }
            let payload = state.reader.process(&mut buf.filled_mut()[before..]);
            buf.set_filled(before + payload);
            if let Some(ping) = state.reader.take_ping() {
                state.writer.pong = Some(ping);
            }
            match state.reader.ended() {
                None => {}
                Some(Ended::Closed(Closed::Plain)) => state.writer.close(None, String::new()),
                Some(Ended::Closed(Closed::Code(code))) => {
                    state.writer.close(Some(code), String::new());
                }
                Some(Ended::Failed(error)) => {
                    state
                        .writer
                        .close(Some(error.close_code()), error.to_string());
                }
            }
            state.writer.opportunity(cx, inner, state.role);
            if payload > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { inner, state } = self.get_mut();
        let poll = state.writer.poll_data(cx, inner, state.role, bufs);
        state.writer.blocked = poll.is_pending();
        if poll.is_ready() {
            // A pong may have waited for the end of this frame.
            state.writer.opportunity(cx, inner, state.role);
        }
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, state } = self.get_mut();
        let poll = match state.writer.poll_control(cx, inner, state.role) {
            Poll::Ready(Ok(())) => Pin::new(inner).poll_flush(cx),
            other => other,
        };
        state.writer.blocked = poll.is_pending();
        poll
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, state } = self.get_mut();
        state.writer.close(Some(1000), String::new());
        let poll = match state.writer.poll_control(cx, inner, state.role) {
            Poll::Pending => Poll::Pending,
            // An error here does not excuse from shutting down, which reports it again.
            Poll::Ready(_) => Pin::new(inner).poll_shutdown(cx),
        };
        state.writer.blocked = poll.is_pending();
        poll
    }
}

impl Writer {
    /// Queues a close frame unless there was one.
    fn close(&mut self, code: Option<u16>, reason: String) {
        if !self.closing {
            self.closing = true;
            self.close = Some((code, reason));
        }
    }

    fn frame_open(&self) -> bool {
        self.head.is_some() || self.owed > 0
    }

    /// Writes control frames as far as that is possible without waiting; errors are left to the
    /// next write, which meets them again.
    fn opportunity<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        inner: &mut S,
        role: Role,
    ) {
        if !self.blocked {
            let _: Poll<io::Result<()>> = self.poll_control(cx, inner, role);
        }
    }

    /// Writes all control frames that may be written now. While a data frame is open, none may.
    fn poll_control<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        inner: &mut S,
        role: Role,
    ) -> Poll<io::Result<()>> {
        loop {
            while let rest @ [_, ..] = &self.control[self.control_sent..] {
                match ready!(Pin::new(&mut *inner).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => self.control_sent += n,
                }
            }
            self.control = Vec::new();
            self.control_sent = 0;
            if self.frame_open() {
                return Poll::Ready(Ok(()));
            }
            let mask = new_mask(role);
            if let Some(ping) = self.pong.take() {
                self.control = control_frame(PONG, &ping, mask);
            } else if let Some((code, reason)) = self.close.take() {
                let mut payload = Vec::new();
                if let Some(code) = code {
                    payload.extend_from_slice(&code.to_be_bytes());
                    payload.extend_from_slice(reason.as_bytes());
                }
                self.control = control_frame(CLOSE, &payload, mask);
            } else {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes bytes of `bufs` as payload and returns how many left.
    fn poll_data<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        inner: &mut S,
        role: Role,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.closing {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the WebSocket is closed",
            )));
        }
        let total: u64 = bufs.iter().map(|buf| buf.len() as u64).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_control(cx, inner, role))?;
        if !self.frame_open() {
            let mask = new_mask(role);
            let len = total.min(OUT_FRAME_BYTES_MAX);
            self.head = Some(OutHead::new(BINARY, len, mask));
            self.head_sent = 0;
            self.owed = len;
            self.mask = mask.unwrap_or_default();
            self.mask_offset = 0;
        }
        loop {
            let poll = match role {
                Role::Server => self.write_plain(cx, inner, bufs),
                Role::Client => self.write_masked(cx, inner, bufs),
            };
            let n = match poll {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // Nothing of this frame is out: the caller may come back with other bytes.
                    if self.head.is_some() && self.head_sent == 0 {
                        self.head = None;
                        self.owed = 0;
                    }
                    return Poll::Pending;
                }
            };
            let payload = self.advance(n);
            if payload > 0 {
                return Poll::Ready(Ok(payload));
            }
        }
    }

    fn head_rest(&self) -> &[u8] {
        match &self.head {
            Some(head) => &head.as_bytes()[usize::from(self.head_sent)..],
            None => &[],
        }
    }

    /// The server's way: header and the caller's own slices in one vectored write.
    fn write_plain<S: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        inner: &mut S,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); OUT_SLICES_MAX];
        let mut count = 0;
        let head = self.head_rest();
        if !head.is_empty() {
            slices[0] = IoSlice::new(head);
            count = 1;
        }
        let payload = limited(bufs, self.owed).filter(|part| !part.is_empty());
        for (slot, part) in slices[count..].iter_mut().zip(payload) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        Pin::new(inner).poll_write_vectored(cx, &slices[..count])
    }

    /// The client's way: a masked copy, thrown away after what was not taken of it.
    fn write_masked<S: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        inner: &mut S,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let head = self.head_rest();
        let limit = self.owed.min(MASK_CHUNK_BYTES as u64);
        let len: usize = limited(bufs, limit).map(<[u8]>::len).sum();
        let mut copy = Vec::with_capacity(head.len() + len);
        copy.extend_from_slice(head);
        for part in limited(bufs, limit) {
            copy.extend_from_slice(part);
        }
        frame::apply_mask(&mut copy[head.len()..], self.mask, self.mask_offset);
        Pin::new(inner).poll_write(cx, &copy)
    }

    /// Accounts for `n` bytes that left; returns how many of them were payload.
    fn advance(&mut self, n: usize) -> usize {
        let head = self.head_rest().len().min(n);
        self.head_sent += head as u8;
        if self.head_rest().is_empty() {
            self.head = None;
        }
        let payload = n - head;
        self.owed -= payload as u64;
        self.mask_offset = (self.mask_offset + (payload % 4) as u8) % 4;
        payload
    }
}

/// The first `limit` bytes of `bufs`.
fn limited<'a>(bufs: &'a [IoSlice<'_>], limit: u64) -> impl Iterator<Item = &'a [u8]> {
    let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
    bufs.iter().map_while(move |buf| {
        if left == 0 {
            return None;
        }
        let n = left.min(buf.len());
        left -= n;
        Some(&buf[..n])
    })
}

/// Clients mask each frame with a fresh random value, servers never mask [RFC 6455, 5.3].
fn new_mask(role: Role) -> Option<[u8; 4]> {
    match role {
        Role::Client => Some(rand::random()),
        Role::Server => None,
    }
}

/// The frame error inside an error of [`WsStream`], if it is one.
impl TryFrom<&io::Error> for FrameError {
    type Error = ();

    fn try_from(error: &io::Error) -> Result<Self, ()> {
        error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Self>())
            .copied()
            .ok_or(())
    }
}
