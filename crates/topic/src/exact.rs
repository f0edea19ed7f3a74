//! The exact map: filters without wildcards, or any other text, found with one hash probe.

use crate::TopicHasher;
use core::fmt;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A map from topic text to `V`, with `&str` look-ups and a random seed.
///
/// What sets it apart from a `HashMap<Box<str>, V>`: callers that hold the hash of a topic already
/// (to choose a shard, say) use the `_hashed` methods and hash once, and memory is given back as
/// entries leave.
pub struct ExactMap<V> {
    table: HashTable<(Box<str>, V)>,
    hasher: TopicHasher,
}

impl<V> ExactMap<V> {
    /// An empty map with a random seed. Allocates nothing.
    pub fn new() -> Self {
        Self::with_hasher(TopicHasher::random())
    }

    /// An empty map that hashes with `hasher`. Allocates nothing.
    pub const fn with_hasher(hasher: TopicHasher) -> Self {
        Self {
            table: HashTable::new(),
            hasher,
        }
    }

    /// The hasher; its hashes are what the `_hashed` methods want.
    pub const fn hasher(&self) -> &TopicHasher {
        &self.hasher
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The value at `key`.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.get_hashed(self.hasher.hash(key), key)
    }

    /// The value at `key`, whose hash the caller has.
    pub fn get_hashed(&self, hash: u64, key: &str) -> Option<&V> {
        self.table
            .find(hash, |(text, _)| **text == *key)
            .map(|(_, value)| value)
    }

    /// The value at `key`, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let hash = self.hasher.hash(key);
        self.table
            .find_mut(hash, |(text, _)| **text == *key)
            .map(|(_, value)| value)
    }

    /// Stores `value` at `key` and returns the one it replaces.
    pub fn insert(&mut self, key: &str, value: V) -> Option<V> {
        let hasher = &self.hasher;
        let entry = self.table.entry(
            hasher.hash(key),
            |(text, _)| **text == *key,
            |(text, _)| hasher.hash(text),
        );
        match entry {
            Entry::Occupied(mut slot) => Some(core::mem::replace(&mut slot.get_mut().1, value)),
            Entry::Vacant(slot) => {
                slot.insert((key.into(), value));
                None
            }
        }
    }

    /// The value at `key`, made by `make` if there is none.
    pub fn get_or_insert_with(&mut self, key: &str, make: impl FnOnce() -> V) -> &mut V {
        let hasher = &self.hasher;
        let entry = self.table.entry(
            hasher.hash(key),
            |(text, _)| **text == *key,
            |(text, _)| hasher.hash(text),
        );
        let slot = entry.or_insert_with(|| (key.into(), make()));
        &mut slot.into_mut().1
    }

    /// Removes and returns the value at `key`. Memory shrinks with the number of entries.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        let hash = self.hasher.hash(key);
        let entry = self
            .table
            .find_entry(hash, |(text, _)| **text == *key)
            .ok()?;
        let ((_, value), _) = entry.remove();
        // A quarter leaves room before the next growth, so the cost stays constant on average.
        let len = self.table.len();
        if len == 0 || len < self.table.capacity() / 4 {
            let hasher = &self.hasher;
            self.table.shrink_to(len * 2, |(text, _)| hasher.hash(text));
        }
        Some(value)
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.table.iter().map(|(text, value)| (&**text, value))
    }
}

impl<V> Default for ExactMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: fmt::Debug> fmt::Debug for ExactMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
