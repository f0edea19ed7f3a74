//! Connections over a simulated network: bytes wait on the wire until the world lets some of them arrive, in pieces of
//! any size. A connection can be cut, which loses what is on the wire, and closed in one direction.
//!
//! Deliberately absent: what the bytes mean, and reordering, which no byte stream shows.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::executor::locked;

/// One direction.
#[derive(Default)]
struct Pipe {
    wire: VecDeque<u8>,
    arrived: VecDeque<u8>,
    /// The writer has closed; once the wire is empty the reader sees the end.
    closed: bool,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    /// Lets `bytes` of what is on the wire arrive, and the end after the last.
    fn carry(&mut self, bytes: usize) {
        let bytes = bytes.min(self.wire.len());
        self.arrived.extend(self.wire.drain(..bytes));
        if self.closed && self.wire.is_empty() {
            self.ended = true;
        }
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    fn has_news(&self) -> bool {
        !self.wire.is_empty() || self.closed && !self.ended
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// What both ends share.
struct Line {
    up: Pipe,
    down: Pipe,
    /// Bytes towards the client that may be on their way; a slow client makes the broker wait.
    window: usize,
    cut: bool,
    /// The broker let go of its end.
    dropped: bool,
}

/// The client's end, and the world's hand on the wire.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<Line>>);

/// The broker's end.
pub(crate) struct BrokerEnd(Arc<Mutex<Line>>);

/// A connection whose broker can have `window` bytes under way.
pub(crate) fn connection(window: usize) -> (Wire, BrokerEnd) {
    let line = Arc::new(Mutex::new(Line {
        up: Pipe::default(),
        down: Pipe::default(),
        window,
        cut: false,
        dropped: false,
    }));
    (Wire(Arc::clone(&line)), BrokerEnd(line))
}

impl Wire {
    /// The client writes.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut line = locked(&self.0);
        if !line.cut && !line.up.closed {
            line.up.wire.extend(bytes);
        }
    }

    /// The client reads what has arrived; `None` at the end of the connection.
    pub(crate) fn receive(&self, into: &mut Vec<u8>) -> Option<()> {
        let mut line = locked(&self.0);
        let had = into.len();
        into.extend(line.down.arrived.drain(..));
        let over = line.cut || line.down.ended;
        if had == into.len() && over {
            None
        } else {
            Some(())
        }
    }

    /// The client closes its direction, after what it has written.
    pub(crate) fn close(&self) {
        locked(&self.0).up.closed = true;
    }

    /// The connection breaks; what is on the wire is lost, what has arrived can still be read.
    pub(crate) fn cut(&self) {
        let mut line = locked(&self.0);
        line.cut = true;
        line.up.wire.clear();
        line.down.wire.clear();
        wake(&mut line.up.reader);
        wake(&mut line.down.writer);
    }

    /// Whether something is on its way to the broker, and to the client.
    pub(crate) fn has_news(&self) -> (bool, bool) {
        let line = locked(&self.0);
        if line.cut {
            (false, false)
        } else {
            (line.up.has_news(), line.down.has_news())
        }
    }

    /// Lets bytes arrive at the broker, or else at the client.
    pub(crate) fn carry(&self, up: bool, bytes: usize) {
        let mut line = locked(&self.0);
        if line.cut {
            return;
        }
        if up {
            line.up.carry(bytes);
        } else {
            line.down.carry(bytes);
        }
    }

    /// Whether the broker let go of its end.
    pub(crate) fn is_dropped(&self) -> bool {
        locked(&self.0).dropped
    }

    /// Whether the broker read all that was sent, and let go of its end.
    pub(crate) fn is_finished(&self) -> bool {
        let line = locked(&self.0);
        line.dropped && line.up.wire.is_empty() && line.up.arrived.is_empty() && !line.cut
    }
}

impl AsyncRead for BrokerEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut line = locked(&self.0);
        if line.up.arrived.is_empty() {
            if line.cut {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if line.up.ended {
                return Poll::Ready(Ok(()));
            }
            line.up.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes = line.up.arrived.len().min(buf.remaining());
        let (first, second) = line.up.arrived.as_slices();
        let first = &first[..bytes.min(first.len())];
        buf.put_slice(first);
        buf.put_slice(&second[..bytes - first.len()]);
        line.up.arrived.drain(..bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BrokerEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut line = locked(&self.0);
        if line.cut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = line.window.saturating_sub(line.down.wire.len());
        if room == 0 {
            line.down.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = room.min(bytes.len());
        line.down.wire.extend(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        locked(&self.0).down.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for BrokerEnd {
    fn drop(&mut self) {
        let mut line = locked(&self.0);
        line.down.closed = true;
        line.dropped = true;
    }
}
