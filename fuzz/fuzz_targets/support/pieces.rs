//! A stream in memory that gives and takes its bytes in pieces, with pauses, as a seed says.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

/// Gives `input` and then the end; keeps what is written.
pub struct Pieces {
    input: Vec<u8>,
    given: usize,
    written: Vec<u8>,
    state: u32,
}

impl Pieces {
    pub fn new(input: Vec<u8>, seed: u8) -> Self {
        Self {
            input,
            given: 0,
            written: Vec::new(),
            state: u32::from(seed).wrapping_mul(2_654_435_761) | 1,
        }
    }

    pub fn written(&self) -> &[u8] {
        &self.written
    }

    /// The size of the next piece.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        match self.state % 8 {
            0 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            1..=3 => Poll::Ready(1),
            4..=6 => Poll::Ready(2 + (self.state >> 8) as usize % 16),
            _ => Poll::Ready(usize::MAX),
        }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(self.turn(cx)).min(buf.remaining());
        let n = n.min(self.input.len() - self.given);
        buf.put_slice(&self.input[self.given..self.given + n]);
        self.given += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.turn(cx)).min(buf.len());
        self.written.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a future to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without sockets");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
