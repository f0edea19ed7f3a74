//! A publisher's memory of where its recent topics lead.

use std::sync::Arc;

use crate::router::Node;

/// Topics a memo remembers. A publisher that takes turns on a few topics never walks the trie; the bound
/// keeps one that never repeats a topic at a few kilobytes.
const MEMO_TOPICS: usize = 16;

/// The routes of the last topics asked for. One per connection, empty until the first PUBLISH.
///
/// An entry keeps the nodes it names alive, even pruned ones, until it is refreshed or makes room.
pub(crate) struct RouteMemo<S> {
    entries: Vec<Entry<S>>,
    /// The entry asked for last.
    last: usize,
    /// The entry to make room next, once there are [`MEMO_TOPICS`].
    oldest: usize,
}

pub(super) struct Entry<S> {
    topic: String,
    pub(super) hash: u64,
    pub(super) exact_generation: u64,
    pub(super) wildcard_generation: u64,
    pub(super) nodes: Vec<Arc<Node<S>>>,
}

/// Generations count up from 0 and never come near this.
const NEVER: u64 = u64::MAX;

impl<S> Default for RouteMemo<S> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            last: 0,
            oldest: 0,
        }
    }
}

impl<S> RouteMemo<S> {
    /// Number of topics remembered.
    #[cfg(all(test, not(martlet_loom)))]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry of `topic`: the last one, or another that has it, or one made for it with generations
    /// that are never current.
    pub(super) fn entry(&mut self, topic: &str, hash: impl FnOnce(&str) -> u64) -> &mut Entry<S> {
        if self
            .entries
            .get(self.last)
            .is_none_or(|entry| entry.topic != topic)
        {
            self.select(topic, hash(topic));
        }
        &mut self.entries[self.last]
    }

    fn select(&mut self, topic: &str, hash: u64) {
        let known = self
            .entries
            .iter()
            .position(|entry| entry.hash == hash && entry.topic == topic);
        self.last = known.unwrap_or_else(|| {
            if self.entries.len() < MEMO_TOPICS {
                if self.entries.is_empty() {
                    // One topic is what most connections publish to; do not make room for four.
                    self.entries.reserve_exact(1);
                }
                self.entries.push(Entry {
                    topic: topic.to_owned(),
                    hash,
                    exact_generation: NEVER,
                    wildcard_generation: NEVER,
                    nodes: Vec::new(),
                });
                return self.entries.len() - 1;
            }
            let at = self.oldest;
            self.oldest = (at + 1) % MEMO_TOPICS;
            // The memory of the old entry is used again: a warm memo allocates nothing.
            let entry = &mut self.entries[at];
            entry.topic.clear();
            entry.topic.push_str(topic);
            entry.hash = hash;
            entry.exact_generation = NEVER;
            entry.nodes.clear();
            at
        });
    }
}
