//! The one source of chance: everything a run does follows from its seed (SplitMix64).

use std::cell::Cell;

/// A generator of numbers; interior, so that every part of the world can roll it.
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    /// A generator that depends on `seed` alone.
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds begin far apart.
        Self(Cell::new(seed.wrapping_mul(0xD134_2543_DE82_EF95)))
    }

    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to one below `sides`.
    pub(crate) fn roll(&self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }

    /// True once in `of` rolls.
    pub(crate) fn once_in(&self, of: usize) -> bool {
        self.roll(of) == 0
    }

    /// One of `items`.
    pub(crate) fn pick<T: Copy>(&self, items: &[T]) -> T {
        items[self.roll(items.len())]
    }
}
