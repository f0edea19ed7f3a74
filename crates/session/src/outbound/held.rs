//! Packets that wait for a commit. Deliberately absent: what they are.

use std::collections::VecDeque;

use martlet_codec::PacketId;
use martlet_storage::Lsn;

/// Identifiers of in-flight messages whose next packet waits for a batch, in order. Most sessions have none most of the
/// time, and are eight bytes then.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "eight bytes where there is none")]
pub(super) struct Held(Option<Box<VecDeque<One>>>);

#[derive(Debug)]
struct One {
    /// `None` until the batch is submitted.
    lsn: Option<Lsn>,
    id: PacketId,
}

impl Held {
    /// A packet that waits for the batch that is submitted next.
    pub(super) fn push(&mut self, id: PacketId) {
        let held = self.0.get_or_insert_default();
        held.push_back(One { lsn: None, id });
    }

    /// The next batch was submitted under `lsn`.
    pub(super) fn submitted(&mut self, lsn: Lsn) {
        // New ones are at the back.
        for held in self.0.iter_mut().flat_map(|held| held.iter_mut().rev()) {
            if held.lsn.is_some() {
                return;
            }
            held.lsn = Some(lsn);
        }
    }

    /// The oldest batch that a packet waits for.
    #[inline]
    pub(super) fn waits_for(&self) -> Option<Lsn> {
        self.0.as_ref()?.front()?.lsn
    }

    /// Takes the oldest if its batch is committed, with everything up to `watermark`.
    pub(super) fn pop(&mut self, watermark: Lsn) -> Option<PacketId> {
        if self.waits_for()? > watermark {
            return None;
        }
        self.0.as_mut()?.pop_front().map(|held| held.id)
    }

    /// Nothing waits for `id` any more.
    pub(super) fn forget(&mut self, id: PacketId) {
        if let Some(held) = &mut self.0 {
            held.retain(|held| held.id != id);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.len())
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        let bytes = |held: &VecDeque<One>| size_of_val(held) + held.capacity() * size_of::<One>();
        self.0.as_deref().map_or(0, bytes)
    }

    /// Gives back memory that is not in use.
    pub(super) fn shrink(&mut self) {
        if self.len() == 0 {
            self.0 = None;
        }
    }
}
