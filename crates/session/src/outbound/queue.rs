//! Messages waiting for the window or the client. Deliberately absent: packet ids.

mod pieces;

use martlet_codec::QoS;
use martlet_storage::Timestamp;

use pieces::Pieces;

use super::entry::{Entry, NEVER};
use crate::limits::{DropReason, OutboundLimits, Overflow};

/// The waiting messages of one session, oldest first.
#[derive(Debug)]
pub(crate) struct Queue {
    entries: Pieces<Entry>,
    /// Sum of [`Entry::bytes`].
    bytes: usize,
    /// Waiting messages; four thousand million of them would not fit any memory.
    len: u32,
    /// Those of QoS 0 among them.
    qos0: u32,
    /// Nothing expires before this; the queue is searched for expired messages only when it has come.
    expires_from: Timestamp,
}

/// What happens to a message that meets a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The new message is not taken.
    Refuse(DropReason),
    /// The connection ends.
    Disconnect,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            entries: Pieces::new(),
            bytes: 0,
            len: 0,
            qos0: 0,
            expires_from: NEVER,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Waiting QoS 0 messages.
    #[inline]
    pub(crate) fn qos0(&self) -> usize {
        self.qos0 as usize
    }

    pub(crate) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.count(&entry);
        self.entries.push_back(entry);
    }

    /// Puts back what [`Queue::pop_qos0`] took.
    pub(crate) fn push_front(&mut self, entry: Entry) {
        self.count(&entry);
        self.entries.push_front(entry);
    }

    fn count(&mut self, entry: &Entry) {
        self.len += 1;
        self.bytes += entry.bytes();
        self.qos0 += u32::from(entry.qos() == QoS::AtMostOnce);
        self.expires_from = self.expires_from.min(entry.expires());
    }

    fn uncount(&mut self, entry: &Entry) {
        self.len -= 1;
        self.bytes -= entry.bytes();
        self.qos0 -= u32::from(entry.qos() == QoS::AtMostOnce);
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        self.remove(0)
    }

    fn remove(&mut self, at: usize) -> Option<Entry> {
        let entry = self.entries.remove(at)?;
        self.uncount(&entry);
        if self.is_empty() {
            self.expires_from = NEVER;
        }
        Some(entry)
    }

    /// Makes room for one message of `bytes`, so that [`Queue::push`] keeps both bounds. `spare` more
    /// messages than the limit are allowed.
    ///
    /// The order is: expired messages; then, by policy, the oldest waiting QoS 0 message, a new QoS 0
    /// message, the oldest waiting message. Nothing is given up for a message that will not fit anyway.
    pub(crate) fn make_room(
        &mut self,
        now: Timestamp,
        limits: &OutboundLimits,
        spare: usize,
        online: bool,
        (qos, bytes): (QoS, usize),
        give_up: &mut impl FnMut(Entry, DropReason),
    ) -> Result<(), Full> {
        let messages_max = limits.queued_messages_max.saturating_add(spare);
        let full = |queue: &Self| {
            if queue.len() >= messages_max {
                Some(DropReason::QueueFull)
            } else if queue.bytes.saturating_add(bytes) > limits.queued_bytes_max {
                Some(DropReason::QueueBytesFull)
            } else {
                None
            }
        };
        if full(self).is_some() {
            self.expire(now, give_up);
        }
        while let Some(reason) = full(self) {
            if bytes > limits.queued_bytes_max {
                return Err(Full::Refuse(DropReason::QueueBytesFull));
            }
            match limits.overflow {
                Overflow::DropNewest => return Err(Full::Refuse(reason)),
                Overflow::Disconnect if online => return Err(Full::Disconnect),
                Overflow::DropOldest | Overflow::Disconnect => {}
            }
            let victim = if self.qos0 > 0 {
                self.entries
                    .iter()
                    .position(|entry| entry.qos() == QoS::AtMostOnce)
            } else if qos == QoS::AtMostOnce {
                return Err(Full::Refuse(reason));
            } else {
                Some(0)
            };
            match victim.and_then(|at| self.remove(at)) {
                Some(entry) => give_up(entry, reason),
                // The limit is zero messages.
                None => return Err(Full::Refuse(reason)),
            }
        }
        Ok(())
    }

    /// Gives up what has expired.
    pub(crate) fn expire(&mut self, now: Timestamp, give_up: &mut impl FnMut(Entry, DropReason)) {
        if self.expires_from > now {
            return;
        }
        let mut expires_from = NEVER;
        self.extract(
            |entry| {
                let expired = entry.is_expired(now);
                if !expired {
                    expires_from = expires_from.min(entry.expires());
                }
                expired
            },
            |entry| give_up(entry, DropReason::Expired),
        );
        self.expires_from = expires_from;
    }

    /// Takes out, in order, the entries that `wanted` names.
    pub(crate) fn extract(
        &mut self,
        mut wanted: impl FnMut(&Entry) -> bool,
        mut taken: impl FnMut(Entry),
    ) {
        if !self.entries.iter().any(&mut wanted) {
            return;
        }
        for _ in 0..self.len {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            if wanted(&entry) {
                self.uncount(&entry);
                taken(entry);
            } else {
                self.entries.push_back(entry);
            }
        }
    }

    /// The oldest QoS 0 message, taken from between the others.
    pub(crate) fn pop_qos0(&mut self) -> Option<Entry> {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.qos() == QoS::AtMostOnce)?;
        self.remove(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Lengths, QoS and expiry must stay.
    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// What must hold between calls.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.bytes != self.entries.iter().map(Entry::bytes).sum::<usize>() {
            return Err("the queued bytes are not the sum of the queued messages");
        }
        if self.len() != self.entries.len() {
            return Err("the number of queued messages is wrong");
        }
        if self.qos0()
            != self
                .entries
                .iter()
                .filter(|entry| entry.qos() == QoS::AtMostOnce)
                .count()
        {
            return Err("the QoS 0 count is not the number of queued QoS 0 messages");
        }
        if self
            .entries
            .iter()
            .any(|entry| entry.expires() < self.expires_from)
        {
            return Err("a queued message expires before the queue expects it");
        }
        if self.entries.iter().any(|entry| entry.id().is_some()) {
            return Err("a waiting message has a packet id");
        }
        Ok(())
    }
}
