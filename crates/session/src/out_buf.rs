//! Bytes on their way to one client. Deliberately absent: the socket, and any knowledge of packets.
//!
//! Small packets are copied into one growing buffer, because that is what costs least; bodies of about
//! a kibibyte and more are held by reference between stretches of that buffer and leave with one
//! vectored write.

use std::io::IoSlice;

use martlet_storage::Message;
use martlet_topic::TopicFilter;

use crate::lanes::{LANE_SHARE, Lanes, MAIN_LANE};

/// A shared body, and where in the inline bytes it belongs.
#[derive(Debug)]
struct Shared {
    /// Inline bytes that precede it.
    at: usize,
    message: Message,
    /// Where in the message's body it starts.
    from: usize,
}

impl Shared {
    fn bytes(&self) -> &[u8] {
        self.message.body().get(self.from..).unwrap_or_default()
    }
}

/// Bytes on their way to one client: small pieces copied in, large bodies shared by reference.
#[derive(Debug, Default)]
pub struct OutBuf {
    inline: Vec<u8>,
    shared: Vec<Shared>,
    /// Sum of the lengths of `shared`.
    shared_bytes: usize,
    /// Bytes handed out and not yet confirmed.
    taken: usize,
    /// Present while the client has further byte streams.
    lanes: Option<Box<Lanes>>,
}

/// Further byte streams of the same client. The functions above are about the main lane, the buffer itself.
impl OutBuf {
    /// Opens the output of a further byte stream; numbers are 1 to [`LANES_MAX`](crate::LANES_MAX).
    pub fn open_lane(&mut self, lane: u8) {
        self.lanes.get_or_insert_default().open(lane);
    }

    /// From now on messages whose topic `filter` matches go to `lane`; to none but the main one if that is not open.
    pub fn bind(&mut self, filter: TopicFilter<'_>, lane: u8) {
        if let Some(lanes) = &mut self.lanes {
            lanes.bind(filter, lane);
        }
    }

    /// No message goes to `lane` any more; what waits there stays.
    pub fn close_lane(&mut self, lane: u8) {
        if let Some(lanes) = &mut self.lanes {
            lanes.unbind_all(lane);
        }
    }

    /// Ends `lane`. What waits there, which is whole packets, moves to the end of the main one.
    pub fn remove_lane(&mut self, lane: u8) {
        let Some(lanes) = &mut self.lanes else {
            return;
        };
        let left = lanes.remove(lane);
        if lanes.is_empty() {
            self.lanes = None;
        }
        let Some(left) = left else { return };
        let base = self.inline.len();
        self.inline.extend_from_slice(&left.inline);
        self.shared_bytes += left.shared_bytes;
        self.shared
            .extend(left.shared.into_iter().map(|shared| Shared {
                at: base + shared.at,
                ..shared
            }));
    }

    /// The lane of messages of `topic`.
    #[inline]
    pub fn lane_of(&self, topic: &str) -> u8 {
        match &self.lanes {
            None => MAIN_LANE,
            Some(lanes) => lanes.of(topic),
        }
    }

    /// The lane of messages of `topic`, and its output.
    #[inline]
    pub(crate) fn of_topic(&mut self, topic: &str) -> (u8, &mut OutBuf) {
        if self.lanes.is_none() {
            return (MAIN_LANE, self);
        }
        let lane = self.lane_of(topic);
        (lane, self.lane_mut(lane))
    }

    /// The output of `lane`; of the main one if that is not open.
    #[inline]
    pub fn lane(&self, lane: u8) -> &OutBuf {
        if lane == MAIN_LANE {
            return self;
        }
        let lanes = self.lanes.as_ref();
        lanes.and_then(|lanes| lanes.get(lane)).unwrap_or(self)
    }

    /// The same, to append to.
    #[inline]
    pub fn lane_mut(&mut self, lane: u8) -> &mut OutBuf {
        if lane == MAIN_LANE {
            return self;
        }
        self.further_lane(lane)
    }

    #[cold]
    fn further_lane(&mut self, lane: u8) -> &mut OutBuf {
        if !self.lanes.as_ref().is_some_and(|lanes| lanes.has(lane)) {
            return self;
        }
        // They are there; the borrow checker would not see it in a `match`.
        self.lanes.get_or_insert_default().own(lane)
    }

    /// Whether anything waits in any lane.
    #[inline]
    pub fn has_output(&self) -> bool {
        self.has_output_besides(0)
    }

    /// Whether anything waits in a lane whose bit is not in `besides`.
    #[inline]
    pub fn has_output_besides(&self, besides: u32) -> bool {
        let counts = |lane: u8, out: &OutBuf| besides & 1 << lane == 0 && !out.is_empty();
        counts(MAIN_LANE, self) || self.any_further(|lane, out| counts(lane, out))
    }

    /// Whether at least `bytes` are pending in the main lane, or the part of it that is a further lane's in one of those.
    #[inline]
    pub fn is_above(&self, bytes: usize) -> bool {
        self.pending_bytes() >= bytes
            || self.any_further(|_, out| out.pending_bytes() >= bytes / LANE_SHARE)
    }

    /// Whether `f` holds for any further lane. Asked for each message, of clients that mostly have none.
    #[inline]
    fn any_further(&self, f: impl Fn(u8, &OutBuf) -> bool) -> bool {
        #[cold]
        fn any(lanes: &Lanes, f: impl Fn(u8, &OutBuf) -> bool) -> bool {
            lanes.iter().any(|(lane, out)| f(lane, out))
        }
        self.lanes.as_deref().is_some_and(|lanes| any(lanes, f))
    }
}

impl OutBuf {
    /// An empty buffer, without memory of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes waiting here plus bytes handed out by [`OutBuf::take`] and not yet confirmed by [`OutBuf::written`].
    #[inline]
    pub fn pending_bytes(&self) -> usize {
        self.len() + self.taken
    }

    /// Bytes waiting here.
    #[inline]
    pub fn len(&self) -> usize {
        self.inline.len() + self.shared_bytes
    }

    /// Whether nothing waits here; taken bytes may still be on their way.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a copy.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.inline.extend_from_slice(bytes);
    }

    /// The buffer small packets are encoded into (only ever append to it).
    #[inline]
    pub fn inline(&mut self) -> &mut Vec<u8> {
        &mut self.inline
    }

    /// Appends `message.body()[from..]` by reference.
    pub fn put_shared(&mut self, message: Message, from: usize) {
        let shared = Shared {
            at: self.inline.len(),
            message,
            from,
        };
        let bytes = shared.bytes().len();
        if bytes > 0 {
            self.shared_bytes += bytes;
            self.shared.push(shared);
        }
    }

    /// Hands the waiting bytes to a writer; they stay counted as pending until confirmed.
    /// `spare` gives its capacity back to `self`.
    #[inline]
    pub fn take(&mut self, mut spare: Vec<u8>) -> Chunk {
        spare.clear();
        let left = self.len();
        self.taken += left;
        self.shared_bytes = 0;
        Chunk {
            inline: std::mem::replace(&mut self.inline, spare),
            shared: std::mem::take(&mut self.shared),
            inline_done: 0,
            shared_done: 0,
            next: 0,
            left,
        }
    }

    /// Confirms that `bytes` of what was taken have been written.
    pub fn written(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.taken, "more confirmed than taken");
        self.taken = self.taken.saturating_sub(bytes);
    }

    /// Forgets everything, also what was taken (the connection is gone).
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Gives back memory above `keep_bytes` that holds nothing.
    pub fn shrink(&mut self, keep_bytes: usize) {
        self.inline.shrink_to(keep_bytes);
        self.shared.shrink_to_fit();
    }
}

/// A taken piece of output that its writer consumes without a lock.
#[derive(Debug, Default)]
pub struct Chunk {
    inline: Vec<u8>,
    shared: Vec<Shared>,
    /// Consumed inline bytes.
    inline_done: usize,
    /// Consumed bytes of `shared[next]`.
    shared_done: usize,
    /// The first entry of `shared` that is not consumed.
    next: usize,
    left: usize,
}

impl Chunk {
    /// Whether everything has been consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Bytes not yet consumed.
    pub fn len(&self) -> usize {
        self.left
    }

    /// What is left, where it is in one piece.
    #[inline]
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.shared
            .is_empty()
            .then(|| self.inline.get(self.inline_done..).unwrap_or_default())
    }

    /// Fills `slices` from the front with non-empty slices, returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.slices_within(slices, usize::MAX)
    }

    /// Copies the bytes from `at` on, as far as `into` and they reach; returns how many. It looks at all that lies before.
    pub fn peek(&self, at: usize, into: &mut [u8]) -> usize {
        let mut skip = at;
        let mut copied = 0;
        let mut put = |bytes: &[u8]| {
            let from = skip.min(bytes.len());
            skip -= from;
            let room = into.get_mut(copied..).unwrap_or_default();
            let len = room.len().min(bytes.len() - from);
            room[..len].copy_from_slice(&bytes[from..from + len]);
            copied += len;
        };
        let (mut inline_from, mut shared_from) = (self.inline_done, self.shared_done);
        for shared in &self.shared[self.next..] {
            put(&self.inline[inline_from..shared.at]);
            put(&shared.bytes()[shared_from..]);
            (inline_from, shared_from) = (shared.at, 0);
        }
        put(&self.inline[inline_from..]);
        copied
    }

    /// Fills `slices` as [`Chunk::slices`] does, with at most `bytes` from the front.
    pub fn slices_within<'a>(&'a self, slices: &mut [IoSlice<'a>], bytes: usize) -> usize {
        let mut left = bytes;
        let mut filled = 0;
        // Whether there is room for more.
        let mut put = |bytes: &'a [u8]| {
            let bytes = &bytes[..bytes.len().min(left)];
            if !bytes.is_empty() {
                let Some(slot) = slices.get_mut(filled) else {
                    return false;
                };
                *slot = IoSlice::new(bytes);
                filled += 1;
                left -= bytes.len();
            }
            left > 0
        };
        let (mut inline_from, mut shared_from) = (self.inline_done, self.shared_done);
        for shared in &self.shared[self.next..] {
            if !put(&self.inline[inline_from..shared.at]) || !put(&shared.bytes()[shared_from..]) {
                return filled;
            }
            (inline_from, shared_from) = (shared.at, 0);
        }
        put(&self.inline[inline_from..]);
        filled
    }

    /// Consumes `bytes` from the front; what has left is let go at once.
    pub fn advance(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.left, "more consumed than there was");
        let mut bytes = bytes.min(self.left);
        self.left -= bytes;
        while let Some(shared) = self.shared.get(self.next) {
            let inline = bytes.min(shared.at - self.inline_done);
            self.inline_done += inline;
            bytes -= inline;
            if self.inline_done < shared.at {
                return;
            }
            let rest = shared.bytes().len() - self.shared_done;
            if bytes < rest {
                self.shared_done += bytes;
                return;
            }
            bytes -= rest;
            self.shared_done = 0;
            self.next += 1;
        }
        self.inline_done += bytes;
        if self.next == self.shared.len() && self.next > 0 {
            self.shared.clear();
            self.next = 0;
        }
    }

    /// The emptied buffer with its capacity, for reuse.
    #[inline]
    pub fn into_spare(self) -> Vec<u8> {
        let mut spare = self.inline;
        spare.clear();
        spare
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_codec::QoS;
    use martlet_storage::{MessageHead, MessageId, SessionId, Timestamp};

    fn message(payload: &[u8]) -> Message {
        let head = MessageHead {
            id: MessageId::NONE,
            qos: QoS::AtMostOnce,
            retain: false,
            publisher: SessionId::NONE,
            received: Timestamp::from_millis(0),
            expires: None,
        };
        Message::new(head, "t", &[], payload, &mut Vec::new())
    }

    /// Writes a chunk with calls that take at most `slices` slices and `step` bytes each.
    fn drain(mut chunk: Chunk, slices: usize, step: usize) -> Vec<u8> {
        let mut written = Vec::new();
        while !chunk.is_empty() {
            let mut vector = vec![IoSlice::new(&[]); slices];
            let filled = chunk.slices(&mut vector);
            assert!(filled > 0, "bytes are left but no slice");
            let bytes: Vec<u8> = vector[..filled]
                .iter()
                .flat_map(|s| s.iter().copied())
                .take(step)
                .collect();
            drop(vector);
            written.extend_from_slice(&bytes);
            chunk.advance(bytes.len());
        }
        let mut vector = [IoSlice::new(&[])];
        assert_eq!(chunk.slices(&mut vector), 0);
        written
    }

    fn filled() -> OutBuf {
        let mut out = OutBuf::new();
        out.put_shared(message(b"first"), 1);
        out.put(b"ab");
        out.inline().extend_from_slice(b"cd");
        out.put_shared(message(b"second"), 1);
        out.put_shared(message(b""), 1);
        out.put_shared(message(b"third"), 1);
        out.put(b"end");
        out
    }

    #[test]
    fn a_chunk_is_in_one_piece_where_nothing_shared_is_left() {
        let mut out = OutBuf::new();
        out.put(b"ab");
        assert_eq!(out.take(Vec::new()).contiguous(), Some(&b"ab"[..]));
        let mut chunk = filled().take(Vec::new());
        assert_eq!(chunk.contiguous(), None);
        chunk.advance(20);
        assert_eq!(chunk.contiguous(), Some(&b"end"[..]));
        chunk.advance(1);
        assert_eq!(chunk.contiguous(), Some(&b"nd"[..]));
    }

    #[test]
    fn any_way_of_writing_gives_the_same_bytes() {
        for slices in 1..7 {
            for step in 1..30 {
                let mut out = filled();
                assert_eq!(out.len(), 23);
                let chunk = out.take(Vec::new());
                assert_eq!(chunk.len(), 23);
                assert_eq!(drain(chunk, slices, step), b"firstabcdsecondthirdend");
            }
        }
    }

    #[test]
    fn a_part_is_seen_and_written_wherever_it_begins() {
        let all = b"firstabcdsecondthirdend";
        for done in 0..all.len() {
            let mut chunk = filled().take(Vec::new());
            chunk.advance(done);
            let rest = &all[done..];
            for at in 0..=rest.len() {
                for len in 0..9 {
                    let mut peeked = vec![0; len];
                    let copied = chunk.peek(at, &mut peeked);
                    assert_eq!(peeked[..copied], rest[at..(at + len).min(rest.len())]);
                }
                let mut slices = [IoSlice::new(&[]); 8];
                let filled = chunk.slices_within(&mut slices, at);
                let bytes: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
                assert_eq!(bytes, rest[..at], "{done} {at}");
            }
        }
    }

    #[test]
    fn pending_counts_taken_bytes_until_they_are_written() {
        let mut out = filled();
        let _chunk = out.take(Vec::new());
        assert!(out.is_empty());
        assert_eq!(out.pending_bytes(), 23);
        out.put(b"x");
        out.written(20);
        assert_eq!(out.pending_bytes(), 4);
        out.reset();
        assert_eq!(out.pending_bytes(), 0);
    }

    #[test]
    fn the_spare_buffer_is_used_again() {
        let mut out = OutBuf::new();
        out.put(b"hello");
        let spare = out.take(Vec::with_capacity(512)).into_spare();
        assert!(spare.is_empty() && spare.capacity() >= 5);
        assert!(out.inline().capacity() >= 512);
        out.shrink(0);
        assert_eq!(out.inline().capacity(), 0);
    }
}
