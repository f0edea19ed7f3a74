//! Cutting the incoming bytes into packets.

use bytes::{Bytes, BytesMut};
use martlet_codec::{DecodeError, Frame, Split, split};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Room for one read; small packets share such a block.
const READ_BYTES: usize = 16 * 1024;

/// Bytes read, and not yet taken as packets.
#[derive(Debug)]
pub(crate) struct Frames {
    buf: BytesMut,
    max_packet: u32,
}

impl Frames {
    pub(crate) fn new(max_packet: u32) -> Self {
        Self {
            buf: BytesMut::new(),
            max_packet,
        }
    }

    /// Reads once; 0 is the end. Cancel safe.
    pub(crate) async fn read<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        // Grows by doubling: an announced length alone costs nothing.
        if self.buf.capacity() - self.buf.len() < READ_BYTES / 4 {
            self.buf.reserve(READ_BYTES.max(self.buf.len()));
        }
        stream.read_buf(&mut self.buf).await
    }

    /// Takes the next whole packet, if it is here.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, DecodeError> {
        match split(&self.buf, self.max_packet)? {
            Split::Frame(Frame { len, .. }) => Ok(Some(self.buf.split_to(len).freeze())),
            Split::Partial { .. } => Ok(None),
        }
    }

    /// Takes all bytes, whatever they are.
    pub(crate) fn take_bytes(&mut self) -> Bytes {
        self.buf.split().freeze()
    }
}

/// The frame that `bytes`, taken by [`Frames::next`], are.
pub(crate) fn as_frame(bytes: &[u8]) -> Result<Frame<'_>, DecodeError> {
    match split(bytes, u32::MAX)? {
        Split::Frame(frame) => Ok(frame),
        Split::Partial { .. } => unreachable!("it was split off as a whole packet"),
    }
}
