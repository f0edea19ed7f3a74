//! The retained tree: many topics, asked with one filter, in slices.
//!
//! The tree is an ordered set by topic text, and a walk is a skip search over it. All topics below a
//! level stand side by side in that order (`a/b/` to just before `a/b0`, since `0` follows `/`), so
//! a walk that meets a topic which cannot match knows the next text that could, and seeks it. Compared
//! with a tree of nodes per level this stores each topic once and nothing else (no inner nodes, so
//! there is nothing to prune), and the place where a walk stopped is a plain text that stays valid
//! whatever is added or removed in between.

use crate::{TopicFilter, TopicName};
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::ops::Bound;
use std::collections::{BTreeSet, btree_set};

/// A value that carries the topic it is kept at, so that a tree needs no second copy of the text.
///
/// The topic must be a valid topic name and must not change while the value is in a tree: it would
/// not be found again, as a key of a map that changes.
pub trait HasTopic {
    /// The topic name.
    fn topic(&self) -> &str;

    /// Its bytes, for values that have them at hand without checking that they are UTF-8.
    fn topic_bytes(&self) -> &[u8] {
        self.topic().as_bytes()
    }
}

impl<T: AsRef<str>, V> HasTopic for (T, V) {
    fn topic(&self) -> &str {
        self.0.as_ref()
    }
}

/// One value per topic, found by topic or by filter.
pub struct RetainedTree<V> {
    topics: BTreeSet<Entry<V>>,
}

/// A value in the order of its topic.
struct Entry<V>(V);

impl<V: HasTopic> Ord for Entry<V> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.topic_bytes().cmp(other.0.topic_bytes())
    }
}

impl<V: HasTopic> PartialOrd for Entry<V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<V: HasTopic> PartialEq for Entry<V> {
    fn eq(&self, other: &Self) -> bool {
        self.0.topic_bytes() == other.0.topic_bytes()
    }
}

impl<V: HasTopic> Eq for Entry<V> {}

impl<V: HasTopic> Borrow<[u8]> for Entry<V> {
    fn borrow(&self) -> &[u8] {
        self.0.topic_bytes()
    }
}

/// Where a walk stopped. Valid for any tree, changed or not: it is the smallest topic text not
/// examined yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

/// What a seek is charged against the budget, in examined topics: it descends the set's tree from
/// the root, which costs about as much as this many steps to a neighbour (measured with 1 M topics).
const SEEK_COST: usize = 8;

/// Neighbours looked at before a skip becomes a seek. The next candidate is usually near: the topics
/// to skip are the few other measurements of one device.
const STEPS_BEFORE_SEEK: usize = SEEK_COST;

impl<V> RetainedTree<V> {
    /// An empty tree. Allocates nothing.
    pub const fn new() -> Self {
        Self {
            topics: BTreeSet::new(),
        }
    }

    /// Number of topics.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there is no topic.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

impl<V: HasTopic> RetainedTree<V> {
    /// The value at `topic`.
    pub fn get(&self, topic: TopicName<'_>) -> Option<&V> {
        self.topics
            .get(topic.as_str().as_bytes())
            .map(|entry| &entry.0)
    }

    /// Stores `value` at its topic and returns the one it replaces.
    pub fn insert(&mut self, value: V) -> Option<V> {
        self.topics.replace(Entry(value)).map(|entry| entry.0)
    }

    /// Removes and returns the value at `topic`.
    pub fn remove(&mut self, topic: TopicName<'_>) -> Option<V> {
        self.topics
            .take(topic.as_str().as_bytes())
            .map(|entry| entry.0)
    }

    /// Like [`RetainedTree::walk`] over all topics, those that begin with `$` included.
    pub fn scan<'t>(
        &'t self,
        after: Option<&Cursor>,
        budget: &mut usize,
        mut visit: impl FnMut(&'t V),
    ) -> Option<Cursor> {
        let start = after.map_or("", |cursor| cursor.0.as_str());
        let mut looked_at_one = false;
        for Entry(value) in self.topics_from(start) {
            if looked_at_one && *budget == 0 {
                return Some(Cursor(value.topic().to_string()));
            }
            looked_at_one = true;
            *budget = budget.saturating_sub(1);
            visit(value);
        }
        None
    }

    /// All values, in the order of their topics' bytes.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        self.topics.iter().map(|entry| &entry.0)
    }

    /// Calls `visit` with each value whose topic matches `filter`, in the order of the topics' bytes, and
    /// stops when `budget` is used up: one for each topic looked at and a few for each seek are taken
    /// off it.
    ///
    /// `after` is `None` to begin, and what the last call returned to go on. Returns `None` when the
    /// walk is complete. Each call looks at one topic at least, so a walk always ends.
    ///
    /// Every topic that is there for the whole walk and matches is visited once. A topic that comes,
    /// goes or changes between two calls is visited if it is there when its turn comes.
    pub fn walk<'t>(
        &'t self,
        filter: TopicFilter<'_>,
        after: Option<&Cursor>,
        budget: &mut usize,
        mut visit: impl FnMut(&'t V),
    ) -> Option<Cursor> {
        let pattern = filter.as_str();
        if !filter.has_wildcards() {
            *budget = budget.saturating_sub(1);
            if let Some(Entry(value)) = self.topics.get(pattern.as_bytes()) {
                visit(value);
            }
            return None;
        }
        let prefix = literal_prefix(pattern);
        let start = after.map_or(prefix, |cursor| prefix.max(cursor.0.as_str()));
        let mut target = String::new();
        let mut topics = self.topics_from(start);
        let mut current = topics.next();
        let mut looked_at_one = false;
        while let Some(Entry(value)) = current {
            let topic = value.topic();
            if !below(topic, prefix) {
                return None;
            }
            if looked_at_one && *budget == 0 {
                return Some(Cursor(topic.to_string()));
            }
            looked_at_one = true;
            *budget = budget.saturating_sub(1);
            match examine(pattern, topic, &mut target) {
                Verdict::Match => visit(value),
                Verdict::No => {}
                Verdict::End => return None,
                Verdict::Skip => {
                    // A few steps first, then a seek.
                    let mut near = None;
                    for step in (&mut topics).take(STEPS_BEFORE_SEEK) {
                        *budget = budget.saturating_sub(1);
                        if step.0.topic_bytes() >= target.as_bytes() {
                            near = Some(step);
                            break;
                        }
                    }
                    current = near;
                    if current.is_none() {
                        if *budget < SEEK_COST {
                            *budget = 0;
                            return Some(Cursor(target));
                        }
                        *budget -= SEEK_COST;
                        topics = self.topics_from(&target);
                        current = topics.next();
                    }
                    continue;
                }
            }
            current = topics.next();
        }
        None
    }

    fn topics_from(&self, text: &str) -> btree_set::Range<'_, Entry<V>> {
        self.topics
            .range::<[u8], _>((Bound::Included(text.as_bytes()), Bound::Unbounded))
    }
}

impl<V> Default for RetainedTree<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: fmt::Debug> fmt::Debug for RetainedTree<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.topics.iter().map(|entry| &entry.0);
        f.debug_set().entries(values).finish()
    }
}

/// The text before the first wildcard, without the `/` that leads to a `#`, since `a/#` has `a`.
fn literal_prefix(pattern: &str) -> &str {
    let end = pattern.find(['+', '#']).unwrap_or(pattern.len());
    match pattern[..end].strip_suffix('/') {
        Some(parent) if pattern[end..].starts_with('#') => parent,
        _ => &pattern[..end],
    }
}

/// Whether topics that match may still come once `topic` was reached: it begins with the prefix.
fn below(topic: &str, prefix: &str) -> bool {
    topic.starts_with(prefix)
}

enum Verdict {
    Match,
    /// No match; nothing is known of the topics that follow.
    No,
    /// No match, and none before the target.
    Skip,
    /// No match, and none to come.
    End,
}

/// Compares `topic` with the levels of `pattern` and says where the next match can be: for a skip, in
/// `target`.
fn examine(pattern: &str, topic: &str, target: &mut String) -> Verdict {
    if topic.starts_with('$') && pattern.starts_with(['+', '#']) {
        // All topics that begin with '$' are hidden; they end where those with the next byte begin.
        return skip_to(target, "", "%");
    }
    let (mut p, mut t) = (0, 0);
    // End of the topic's text at the last level that met a `+`.
    let mut last_plus = None;
    // Invariant: both positions are at the start of a level, and all levels before them matched.
    loop {
        let want = &pattern[p..];
        if want == "#" {
            return Verdict::Match;
        }
        let want_len = want.find('/').unwrap_or(want.len());
        let have = &topic[t..];
        let have_len = have.find('/').unwrap_or(have.len());
        if &want[..want_len] == "+" {
            last_plus = Some(t + have_len);
        } else if want[..want_len] != have[..have_len] {
            let (first, second) = literal_targets(want, want_len);
            return if have < first {
                skip_to(target, &topic[..t], first)
            } else if have < second {
                skip_to(target, &topic[..t], second)
            } else {
                past_level(topic, last_plus, target)
            };
        }
        match (want_len == want.len(), have_len == have.len()) {
            (true, true) => return Verdict::Match,
            // The topic goes on below where the pattern ends.
            (true, false) => return past_level(topic, last_plus, target),
            (false, true) if &want[want_len..] == "/#" => return Verdict::Match,
            // The topic ends above. What comes below it need not come next: `a-b` is between `a`
            // and `a/b`.
            (false, true) => return Verdict::No,
            (false, false) => {
                p += want_len + 1;
                t += have_len + 1;
            }
        }
    }
}

/// The two texts a level that has to be this literal can begin with, in order. They are equal but for
/// `/#`, which allows the literal alone (`a`) and something below (`a/`), with others between (`a-b`).
fn literal_targets(want: &str, literal_len: usize) -> (&str, &str) {
    let alone = &want[..literal_len];
    match &want[literal_len..] {
        "" => (alone, alone),
        "/#" => (alone, &want[..=literal_len]),
        _ => (&want[..=literal_len], &want[..=literal_len]),
    }
}

/// The first text after everything below the level that ended at `end`: that level has to change
/// before anything can match again.
fn past_level(topic: &str, end: Option<usize>, target: &mut String) -> Verdict {
    match end {
        // '0' is the byte after '/'.
        Some(end) => skip_to(target, &topic[..end], "0"),
        None => Verdict::End,
    }
}

fn skip_to(target: &mut String, head: &str, tail: &str) -> Verdict {
    target.clear();
    target.push_str(head);
    target.push_str(tail);
    Verdict::Skip
}
