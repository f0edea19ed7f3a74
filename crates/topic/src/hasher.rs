//! The seeded hash that the maps of this crate share.

use core::fmt;
use core::hash::{BuildHasher, Hasher};
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use std::hash::RandomState;

/// Hashes topics under a seed of its own.
///
/// Topics come from strangers, so the seed is random unless a test wants a fixed one. Cloning keeps
/// the seed: structures that share a hasher can share one hash of a topic.
#[derive(Clone)]
pub struct TopicHasher {
    seed: SharedSeed,
}

impl TopicHasher {
    /// A seed from the operating system.
    pub fn random() -> Self {
        // `RandomState` is the standard library's only source of system randomness.
        Self::with_seed(RandomState::new().hash_one(0_u8))
    }

    /// A seed that the caller chose, for runs that must repeat.
    pub const fn with_seed(seed: u64) -> Self {
        Self {
            seed: SharedSeed::from_u64(seed),
        }
    }

    /// The hash of `text`. All 64 bits are well mixed.
    pub fn hash(&self, text: &str) -> u64 {
        let mut hasher = FoldHasher::with_seed(0, &self.seed);
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

impl Default for TopicHasher {
    fn default() -> Self {
        Self::random()
    }
}

impl fmt::Debug for TopicHasher {
    // The seed is a secret of the process: who knows it can make keys collide.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicHasher").finish_non_exhaustive()
    }
}
