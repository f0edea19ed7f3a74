//! What belongs to one byte stream of a connection. Most connections have one for good; see `streams` for the others.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use martlet_session::{Chunk, InboundAliases};
use martlet_transport::ByteStream;

use super::{acks::Acks, parked::Parked, replay::Replay};

/// Segments handed to one vectored write; Linux takes up to 1,024, and 64 cover a 256 KiB chunk of 4 KiB bodies.
const SLICES: usize = 64;

/// Own packets waiting for the stream above which reading stops (rule 8).
const OWN_BYTES_MAX: usize = 64 << 10;

/// One byte stream: what came in and is not processed, what is owed and not written.
pub(super) struct Lane<S> {
    /// Its place in the session's output; `MAIN_LANE` for the stream that carried CONNECT.
    pub(super) number: u8,
    pub(super) stream: S,
    /// Own packets not yet in the outbox.
    pub(super) local: Vec<u8>,
    /// Bytes of own packets that went into the outbox ahead of their turn and are not fetched.
    pub(super) ahead: usize,
    pub(super) acks: Acks,
    pub(super) chunk: Chunk,
    /// Bytes written and not yet confirmed to the outbox.
    pub(super) confirm: usize,
    pub(super) needs_flush: bool,
    /// Unread bytes: an incomplete packet, or what was left when the batch had to stop.
    pub(super) partial: Vec<u8>,
    /// How many bytes `partial` needs before another look is worth it.
    pub(super) partial_need: usize,
    pub(super) aliases: InboundAliases,
    pub(super) replays: VecDeque<Replay>,
    pub(super) parked: Option<Box<Parked>>,
}

impl<S> Lane<S> {
    /// Whether too much of our own waits for the stream to read more that has to be answered (rule 8).
    pub(super) fn is_behind(&self) -> bool {
        self.local.len() + self.ahead > OWN_BYTES_MAX || self.acks.is_full()
    }

    /// A stream of which `unread` has been read.
    pub(super) fn new(number: u8, stream: S, aliases: InboundAliases, unread: Vec<u8>) -> Self {
        Self {
            number,
            stream,
            local: Vec::new(),
            ahead: 0,
            acks: Acks::default(),
            chunk: Chunk::default(),
            confirm: 0,
            needs_flush: false,
            partial: unread,
            partial_need: 1,
            aliases,
            replays: VecDeque::new(),
            parked: None,
        }
    }

    /// Whether it has nothing of its own to write.
    pub(super) fn has_written_all(&self) -> bool {
        self.chunk.is_empty()
            && self.local.is_empty()
            && self.acks.is_empty()
            && self.replays.is_empty()
            && !self.needs_flush
            && self.confirm == 0
    }
}

impl<S: ByteStream> Lane<S> {
    /// Writes from the front of the chunk, at most `bytes`; what was written is not yet consumed.
    #[inline]
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
    ) -> Poll<io::Result<usize>> {
        match self.chunk.contiguous() {
            Some(all) => {
                let allowed = all.get(..bytes).unwrap_or(all);
                Pin::new(&mut self.stream).poll_write(cx, allowed)
            }
            None => self.poll_write_vectored(cx, bytes),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = self.chunk.slices_within(&mut slices, bytes);
        Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..filled])
    }
}
