//! Messages that have a packet id, in the order they were first sent.
//!
//! Deliberately absent: encoding, and the choice of what is sent next.

use std::collections::VecDeque;

use martlet_codec::{PacketId, QoS};
use martlet_sync::Planted;

use super::entry::{Entry, flag};
use crate::lanes::MAIN_LANE;

/// The in-flight messages of one session.
///
/// ```text
///   sender (this side), QoS 2                              receiver (the client)
///
///   [waiting]                                                 no state
///      |  packet id bound; durable: row written, GATED
///      v                  PUBLISH id
///   Published --------------------------------------------->  id stored
///      |   ^              PUBREC id, reason < 0x80                |
///      |   `- reconnect: PUBLISH id, DUP                          |
///      | <----------------------------------------------------    |
///      |  body let go; durable: row written, GATED                |
///      v                  PUBREL id                               |
///   Released  --------------------------------------------->  id forgotten
///      |   ^              PUBCOMP id                              |
///      |   `- reconnect, or PUBREC again: PUBREL id               |
///      | <----------------------------------------------------    v
///    done, id free                                            no state
///
///   Published --- PUBREC id, reason >= 0x80 ---> done, id free
///   Published --- cannot be sent again (now too large, body lost) ---> Released
///
///   sender, QoS 1: Published --- PUBACK id, any reason ---> done, id free
/// ```
///
/// Identifiers are given out in rising order, so the ring is sorted by the distance from its front:
/// an acknowledgement in order is found at the front, any other by halving. When the counter has gone
/// all the way round and meets a message that is still open, that message joins the `stragglers` at
/// the front, which are searched one by one; a client needs 65,535 acknowledgements to make one.
#[derive(Debug)]
pub(crate) struct Inflight {
    ring: VecDeque<Entry>,
    /// The first so many entries of `ring` are in no order of identifiers.
    stragglers: u16,
    /// The identifier to try next.
    next: PacketId,
    /// Entries with [`flag::ACTIVE`].
    active: u16,
    /// Entries before this index have been sent again on this connection.
    resent: u16,
}

const FIRST: PacketId = match PacketId::new(1) {
    Some(id) => id,
    None => unreachable!(),
};

/// How many steps `id` is ahead of `from`, counting 65,535 identifiers in a circle.
fn distance(from: PacketId, id: PacketId) -> u16 {
    if id >= from {
        id.get() - from.get()
    } else {
        u16::MAX - (from.get() - id.get())
    }
}

fn after(id: PacketId) -> PacketId {
    id.get()
        .checked_add(1)
        .and_then(PacketId::new)
        .unwrap_or(FIRST)
}

impl Inflight {
    pub(crate) fn new() -> Self {
        Self {
            ring: VecDeque::new(),
            stragglers: 0,
            next: FIRST,
            active: 0,
            resent: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Entries that take a place in this connection's window.
    pub(crate) fn active(&self) -> usize {
        usize::from(self.active)
    }

    /// Whether everything from earlier connections has been sent again.
    #[inline]
    pub(crate) fn all_resent(&self) -> bool {
        usize::from(self.resent) == self.ring.len()
    }

    /// A free identifier. Callers keep fewer than 65,535 entries, so that there is one.
    pub(crate) fn free_id(&mut self) -> PacketId {
        if Planted::ReusedIdentifier.is_active()
            && let Some(id) = self
                .ring
                .iter()
                .find(|e| e.has(flag::RELEASED))
                .and_then(Entry::id)
        {
            return id;
        }
        // Each turn passes an identifier in use, and there are fewer of those than identifiers.
        for _ in 0..=self.ring.len() {
            let id = self.next;
            self.next = after(id);
            let front = usize::from(self.stragglers);
            if self
                .ring
                .get(front)
                .is_some_and(|entry| entry.id() == Some(id))
            {
                self.stragglers += 1;
            } else if !self
                .ring
                .iter()
                .take(front)
                .any(|entry| entry.id() == Some(id))
            {
                return id;
            }
        }
        debug_assert!(false, "no identifier is free");
        self.next
    }

    /// Appends an entry whose identifier came from [`Inflight::free_id`] just now.
    pub(crate) fn push(&mut self, mut entry: Entry) {
        debug_assert!(self.all_resent());
        entry.set(flag::ACTIVE);
        self.active += 1;
        self.resent += 1;
        self.ring.push_back(entry);
    }

    /// Appends an entry from the store, in the order of first sending. Its identifier may be anything
    /// that is not in use.
    pub(crate) fn restore(&mut self, entry: Entry) {
        if let Some(id) = entry.id() {
            self.next = after(id);
        }
        self.ring.push_back(entry);
        self.stragglers = self.ring.len() as u16;
    }

    /// The index of an identifier.
    pub(crate) fn find(&self, id: PacketId) -> Option<usize> {
        let sorted_from = usize::from(self.stragglers);
        if let Some(front) = self.ring.get(sorted_from).and_then(Entry::id) {
            let wanted = distance(front, id);
            // Without gaps the distance is the index; gaps can only bring it nearer.
            let (mut low, mut high) = (
                sorted_from,
                self.ring.len().min(sorted_from + usize::from(wanted) + 1),
            );
            let mut probe = high - 1;
            while low < high {
                let here = self
                    .ring
                    .get(probe)
                    .and_then(Entry::id)
                    .map_or(0, |here| distance(front, here));
                match here.cmp(&wanted) {
                    core::cmp::Ordering::Equal => return Some(probe),
                    core::cmp::Ordering::Less => low = probe + 1,
                    core::cmp::Ordering::Greater => high = probe,
                }
                probe = low.midpoint(high).min(self.ring.len() - 1);
            }
        }
        self.ring
            .iter()
            .take(sorted_from)
            .position(|entry| entry.id() == Some(id))
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Entry> {
        self.ring.get(at)
    }

    /// Flags other than [`flag::ACTIVE`] may be changed, and the body.
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut Entry> {
        self.ring.get_mut(at)
    }

    pub(crate) fn remove(&mut self, at: usize) -> Option<Entry> {
        let entry = self.ring.remove(at)?;
        if at < usize::from(self.stragglers) {
            self.stragglers -= 1;
        }
        if at < usize::from(self.resent) {
            self.resent -= 1;
        }
        if entry.has(flag::ACTIVE) {
            self.active -= 1;
        }
        Some(entry)
    }

    /// A new connection: nothing counts against its window yet, and it has one stream.
    pub(crate) fn start_over(&mut self) {
        for entry in &mut self.ring {
            entry.clear(flag::ACTIVE);
            entry.set_lane(MAIN_LANE);
        }
        self.active = 0;
        self.resent = 0;
    }

    /// The first entry that has not been sent again.
    pub(crate) fn next_resend(&mut self) -> Option<&mut Entry> {
        self.ring.get_mut(usize::from(self.resent))
    }

    /// The entry of [`Inflight::next_resend`] takes its place in the window.
    pub(crate) fn mark_resent(&mut self) {
        if let Some(entry) = self.ring.get_mut(usize::from(self.resent)) {
            entry.set(flag::ACTIVE);
            self.active += 1;
            self.resent += 1;
        }
    }

    /// The index of [`Inflight::next_resend`].
    pub(crate) fn resent(&self) -> usize {
        usize::from(self.resent)
    }

    /// From [`Inflight::next_resend`] on.
    pub(crate) fn unsent_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.ring.iter_mut().skip(usize::from(self.resent))
    }

    /// The index of the first entry that `wanted` accepts.
    pub(crate) fn position(&self, wanted: impl FnMut(&Entry) -> bool) -> Option<usize> {
        self.ring.iter().position(wanted)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.ring.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.ring.iter_mut()
    }

    pub(crate) fn shrink(&mut self) {
        self.ring.shrink_to_fit();
    }

    /// What must hold between calls.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut ids: Vec<_> = self.ring.iter().map(Entry::id).collect();
        ids.sort_unstable();
        if ids.first() == Some(&None) {
            return Err("an in-flight message has no packet id");
        }
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("a packet id is in flight twice");
        }
        if self
            .ring
            .iter()
            .filter(|entry| entry.has(flag::ACTIVE))
            .count()
            != self.active()
        {
            return Err("the window count is not the number of active messages");
        }
        if self.ring.iter().any(|entry| entry.qos() == QoS::AtMostOnce) {
            return Err("a QoS 0 message is in flight");
        }
        if usize::from(self.stragglers) > self.ring.len()
            || usize::from(self.resent) > self.ring.len()
        {
            return Err("an index of the in-flight ring is out of range");
        }
        if self
            .ring
            .iter()
            .enumerate()
            .any(|(at, entry)| entry.id().and_then(|id| self.find(id)) != Some(at))
        {
            return Err("an in-flight message cannot be found by its packet id");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Body, NEVER};
    use super::*;
    use martlet_storage::MessageId;

    fn push(inflight: &mut Inflight) -> u16 {
        let id = inflight.free_id();
        let body = Body::Stored {
            id: MessageId::new(1),
            bytes: 1,
            expires: NEVER,
        };
        let mut entry = Entry::new(body, QoS::AtLeastOnce, false, &[], None);
        entry.set_id(id);
        inflight.push(entry);
        id.get()
    }

    fn take(inflight: &mut Inflight, id: u16) -> bool {
        let at = inflight.find(PacketId::new(id).expect("not zero"));
        at.is_some_and(|at| inflight.remove(at).is_some())
    }

    #[test]
    fn identifiers_rise_and_wrap_past_zero() {
        let mut inflight = Inflight::new();
        for expect in (1..=u16::MAX).chain(1..=3) {
            assert_eq!(push(&mut inflight), expect);
            assert!(take(&mut inflight, expect));
        }
    }

    #[test]
    fn identifiers_in_flight_are_passed_over_for_ever() {
        let mut inflight = Inflight::new();
        for _ in 0..5 {
            push(&mut inflight);
        }
        assert!(take(&mut inflight, 3));
        let stuck = [1, 2, 4, 5];
        for _ in 0..3 * 65_535 {
            let id = push(&mut inflight);
            assert!(!stuck.contains(&id));
            assert!(take(&mut inflight, id));
        }
        assert_eq!(inflight.check(), Ok(()));
        for id in [4, 1, 5, 2] {
            assert!(take(&mut inflight, id));
        }
        assert_eq!((inflight.len(), inflight.stragglers), (0, 0));
    }

    #[test]
    fn any_order_of_acknowledgement_finds_its_message() {
        // A fixed shuffle: multiplication by a generator of a prime field.
        let mut inflight = Inflight::new();
        for _ in 0..65_000 {
            let id = push(&mut inflight);
            take(&mut inflight, id);
        }
        let ids: Vec<u16> = (0..1_008).map(|_| push(&mut inflight)).collect();
        let mut at = 1_usize;
        for left in (0..1_008).rev() {
            at = at * 11 % 1_009;
            let id = ids[at - 1];
            assert!(take(&mut inflight, id), "id {id} is in flight");
            assert!(!take(&mut inflight, id), "id {id} was taken");
            assert_eq!(inflight.len(), left);
            if left % 100 == 0 {
                assert_eq!(inflight.check(), Ok(()));
            }
        }
    }

    #[test]
    fn restored_identifiers_are_found_and_not_reused() {
        let mut inflight = Inflight::new();
        for id in [40, 7, 65_535, 2] {
            let body = Body::Stored {
                id: MessageId::new(1),
                bytes: 1,
                expires: NEVER,
            };
            let mut entry = Entry::new(body, QoS::ExactlyOnce, false, &[], None);
            entry.set_id(PacketId::new(id).expect("not zero"));
            inflight.restore(entry);
        }
        assert_eq!(inflight.check(), Ok(()));
        while !inflight.all_resent() {
            inflight.mark_resent();
        }
        let given: Vec<u16> = (0..40).map(|_| push(&mut inflight)).collect();
        assert_eq!(given[..4], [3, 4, 5, 6]);
        assert!(!given.contains(&7) && !given.contains(&40));
        assert_eq!(inflight.check(), Ok(()));
    }
}
