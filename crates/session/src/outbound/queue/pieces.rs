//! A double-ended queue in pieces of a fixed length. Deliberately absent: what is queued.
//!
//! One ring that doubles leaves rings behind that it has outgrown, and half of itself empty in the worst case, in every
//! one of thousands of sessions. Here growing copies nothing and at most a piece at each end has room to spare.

use std::collections::VecDeque;

/// Elements in a piece: forty bytes each fill a size class of jemalloc, 1,280 bytes.
pub(super) const PIECE: usize = 32;

/// The queue. All pieces between the first and the last are full; none is empty, unless it is the last.
#[derive(Debug)]
pub(super) struct Pieces<T>(VecDeque<VecDeque<T>>);

impl<T> Pieces<T> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn len(&self) -> usize {
        match (self.0.front(), self.0.back()) {
            (Some(first), Some(last)) if self.0.len() > 1 => {
                first.len() + (self.0.len() - 2) * PIECE + last.len()
            }
            (Some(only), _) => only.len(),
            (None, _) => 0,
        }
    }

    /// Elements there is room for; looks at every piece.
    pub(super) fn capacity(&self) -> usize {
        self.0.iter().map(VecDeque::capacity).sum()
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.0.front()?.front()
    }

    pub(super) fn push_back(&mut self, element: T) {
        match self.0.back_mut() {
            Some(piece) if piece.len() < PIECE => piece.push_back(element),
            last => {
                // Short queues are the rule: the only piece begins small.
                let room = if last.is_some() { PIECE } else { 0 };
                let mut piece = VecDeque::with_capacity(room);
                piece.push_back(element);
                self.0.push_back(piece);
            }
        }
    }

    pub(super) fn push_front(&mut self, element: T) {
        match self.0.front_mut() {
            Some(piece) if piece.len() < PIECE => piece.push_front(element),
            _ => self.0.push_front(VecDeque::from([element])),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let piece = self.0.front_mut()?;
        let element = piece.pop_front();
        if piece.is_empty() && self.0.len() > 1 {
            let emptied = self.0.pop_front();
            // A long queue that stays as long needs no allocator: this is the next piece at its end.
            if self.0.back().is_some_and(|last| last.len() == PIECE) {
                self.0.extend(emptied);
            }
        }
        element
    }

    /// Takes out the element at `at`; the pieces behind it move up by one element.
    pub(super) fn remove(&mut self, at: usize) -> Option<T> {
        if at == 0 {
            return self.pop_front();
        }
        if self.0.back()?.is_empty() {
            self.0.pop_back();
        }
        let first = self.0.front()?.len();
        let Some(behind) = at.checked_sub(first) else {
            return self.0.front_mut()?.remove(at);
        };
        let number = 1 + behind / PIECE;
        let element = self.0.get_mut(number)?.remove(behind % PIECE)?;
        for number in number + 1..self.0.len() {
            let moved = self.0[number].pop_front();
            self.0[number - 1].extend(moved);
        }
        Some(element)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }

    /// Gives back room that nothing needs.
    pub(super) fn shrink_to_fit(&mut self) {
        self.0.retain(|piece| !piece.is_empty());
        self.0.shrink_to_fit();
        for piece in &mut self.0 {
            piece.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        PushBack(u8),
        PushFront,
        PopFront(u8),
        Remove(prop::sample::Index),
        Shrink,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..80_u8).prop_map(Step::PushBack),
            1 => Just(Step::PushFront),
            2 => (1..80_u8).prop_map(Step::PopFront),
            8 => any::<prop::sample::Index>().prop_map(Step::Remove),
            1 => Just(Step::Shrink),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn it_is_a_queue(steps in steps()) {
            let (mut pieces, mut model) = (Pieces::new(), VecDeque::new());
            let mut next = 0;
            for step in steps {
                match step {
                    Step::PushBack(count) => for _ in 0..count {
                        next += 1;
                        pieces.push_back(next);
                        model.push_back(next);
                    },
                    Step::PushFront => {
                        next += 1;
                        pieces.push_front(next);
                        model.push_front(next);
                    }
                    Step::PopFront(count) => for _ in 0..count {
                        prop_assert_eq!(pieces.pop_front(), model.pop_front());
                    },
                    Step::Remove(at) => {
                        let at = at.index(model.len() + 1);
                        prop_assert_eq!(pieces.remove(at), model.remove(at));
                    }
                    Step::Shrink => pieces.shrink_to_fit(),
                }
                prop_assert_eq!(pieces.len(), model.len());
                prop_assert_eq!(pieces.front(), model.front());
                prop_assert!(pieces.iter().eq(model.iter()));
                prop_assert!(pieces.iter_mut().rev().eq(model.iter_mut().rev()));
            }
        }
    }

    #[test]
    fn it_takes_no_more_room_than_it_needs() {
        let mut pieces = Pieces::new();
        for element in 0..10_000 {
            pieces.push_back(element);
            assert!(pieces.capacity() < pieces.len() + PIECE, "{}", pieces.len());
        }
        // All but one of each piece leave from the middle.
        for at in 0..9_000 {
            pieces.remove((at * 7) % (pieces.len() - 1) + 1);
        }
        assert!(
            pieces.capacity() <= 3 * pieces.len(),
            "{}",
            pieces.capacity()
        );
        while pieces.pop_front().is_some() {}
        assert!(pieces.capacity() <= PIECE);
        pieces.shrink_to_fit();
        assert_eq!(pieces.capacity(), 0);
    }

    #[test]
    fn a_long_queue_keeps_what_it_has_emptied_while_its_end_is_full() {
        let mut pieces = Pieces::new();
        (0..2 * PIECE).for_each(|element| pieces.push_back(element));
        let room = pieces.capacity();
        for _ in 0..PIECE {
            pieces.pop_front();
        }
        assert_eq!(pieces.capacity(), room);
        (0..PIECE).for_each(|element| pieces.push_back(element));
        assert_eq!(pieces.capacity(), room);
    }
}
