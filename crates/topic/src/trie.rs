//! The wildcard trie: many filters, asked with one topic.
//!
//! Nodes live in one list and refer to each other by index. A node is found from its parent through
//! one hash table that is shared by the whole trie and keyed by `(parent, level)`: a node with a
//! million children costs the same probe as a node with one, and a leaf carries no container of its
//! own. `+` is a direct slot of the parent. `#`, which never has children, and a `+` that ends a filter
//! are second and third values of their parent, so that neither takes a node.
//!
//! Matching visits at most two children per node: the literal one and the `+` one. Its cost is
//! bounded by the nodes that exist and by 2^levels; branches still to be visited wait on a stack that
//! is as deep as the topic at most and lives on the thread's stack for the first [`INLINE`] of them.

use crate::{TopicFilter, TopicHasher, TopicName, pages::Pages};
use core::fmt;
use hashbrown::HashTable;

/// A set of filters, each with a value, asked with topics.
///
/// Filters without wildcards are welcome too; a broker keeps those in an [`ExactMap`](crate::ExactMap)
/// because one probe for the whole topic beats one per level.
pub struct Trie<V> {
    nodes: Pages<Node<V>>,
    /// Literal children, keyed by parent and level.
    children: HashTable<Child>,
    hasher: TopicHasher,
    /// First node of the list of vacant ones, linked through `parent`.
    vacant: u32,
    /// Nodes in use, the root not counted.
    node_count: usize,
    /// Values.
    len: usize,
}

const ROOT: u32 = 0;
/// "No node". The list never grows this far: each node needs tens of bytes.
const NONE: u32 = u32::MAX;
/// Waiting branches kept without allocation: topics of up to this many levels never allocate.
const INLINE: usize = 24;

/// 64 bytes for a `V` of one word, on a cache line of its own: matching touches one line per node.
#[repr(align(64))]
struct Node<V> {
    /// Text of the level; empty for the root and for `+`.
    level: Level,
    parent: u32,
    /// The `+` child.
    plus: u32,
    /// Number of literal children.
    literals: u32,
    /// Hash of `(parent, level)`; of no meaning for the root and for `+`.
    tag: u32,
    /// Value of the filter that ends here.
    value: Option<V>,
    /// Value of the filter that goes on with `#` and ends.
    multi: Option<V>,
    /// Value of the filter that goes on with `+` and ends.
    single: Option<V>,
}

impl<V> Node<V> {
    fn new(level: &str, parent: u32, tag: u32) -> Self {
        Self {
            level: Level::new(level),
            parent,
            plus: NONE,
            literals: 0,
            tag,
            value: None,
            multi: None,
            single: None,
        }
    }

    const fn is_unused(&self) -> bool {
        self.value.is_none()
            && self.multi.is_none()
            && self.single.is_none()
            && self.plus == NONE
            && self.literals == 0
    }

    const fn slot(&self, slot: Slot) -> Option<&V> {
        match slot {
            Slot::Value => self.value.as_ref(),
            Slot::Multi => self.multi.as_ref(),
            Slot::Single => self.single.as_ref(),
        }
    }

    const fn slot_mut(&mut self, slot: Slot) -> &mut Option<V> {
        match slot {
            Slot::Value => &mut self.value,
            Slot::Multi => &mut self.multi,
            Slot::Single => &mut self.single,
        }
    }
}

/// Text of a level. Short ones, nearly all, are kept in the node, which saves an allocation and a cache
/// miss per level and topic.
enum Level {
    Short(u8, [u8; SHORT]),
    Long(Box<str>),
}

/// As many bytes as make a level three words.
const SHORT: usize = 22;
const _: () = assert!(size_of::<Level>() == 24 || size_of::<usize>() != 8);

impl Level {
    fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..text.len()) {
            Some(start) => {
                start.copy_from_slice(text.as_bytes());
                Self::Short(text.len() as u8, bytes)
            }
            None => Self::Long(text.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(text) => text.as_bytes(),
        }
    }

    fn as_str(&self) -> &str {
        // The bytes came from a text, so the check cannot fail.
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// An entry of the child table. The tag spares a look at the node for nearly all others, and lets
/// the table grow without touching a single node.
#[derive(Clone, Copy)]
struct Child {
    tag: u32,
    node: u32,
}

impl Child {
    const fn hash(self) -> u64 {
        spread(self.tag)
    }
}

/// 32 well-mixed bits on both ends of a 64-bit word, where the table looks.
const fn spread(tag: u32) -> u64 {
    (tag as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Where a filter's value sits: at the node its levels lead to, or in that node's slot for a final wildcard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Value,
    Multi,
    Single,
}

/// The levels before a final wildcard, and the slot the value has at their end. A wildcard alone has no levels.
fn path(filter: TopicFilter<'_>) -> (Option<&str>, Slot) {
    let text = filter.as_str();
    let (rest, slot) = match text.as_bytes().last() {
        Some(b'#') => (&text[..text.len() - 1], Slot::Multi),
        Some(b'+') => (&text[..text.len() - 1], Slot::Single),
        _ => return (Some(text), Slot::Value),
    };
    // What is left ends with the separator, or is empty.
    (rest.strip_suffix('/'), slot)
}

fn levels(path: Option<&str>) -> impl Iterator<Item = &str> {
    path.into_iter().flat_map(|text| text.split('/'))
}

impl<V> Trie<V> {
    /// An empty trie with a random seed.
    pub fn new() -> Self {
        Self::with_hasher(TopicHasher::random())
    }

    /// An empty trie that hashes with `hasher`.
    pub fn with_hasher(hasher: TopicHasher) -> Self {
        Self {
            nodes: Pages::of(Node::new("", NONE, 0)),
            children: HashTable::new(),
            hasher,
            vacant: NONE,
            node_count: 0,
            len: 0,
        }
    }

    /// Number of filters.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no filter.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of nodes in use, the root not counted; 0 when the trie is empty.
    pub const fn node_count(&self) -> usize {
        self.node_count
    }

    /// The value of this very filter.
    pub fn get(&self, filter: TopicFilter<'_>) -> Option<&V> {
        let (path, slot) = path(filter);
        self.nodes[self.find(path)?].slot(slot)
    }

    /// The value of this very filter, to change.
    pub fn get_mut(&mut self, filter: TopicFilter<'_>) -> Option<&mut V> {
        let (path, slot) = path(filter);
        let node = self.find(path)?;
        self.nodes[node].slot_mut(slot).as_mut()
    }

    /// Stores `value` at `filter` and returns the one it replaces.
    pub fn insert(&mut self, filter: TopicFilter<'_>, value: V) -> Option<V> {
        let (path, slot) = path(filter);
        let node = self.find_or_add(path);
        let old = self.nodes[node].slot_mut(slot).replace(value);
        self.len += usize::from(old.is_none());
        old
    }

    /// The value at `filter`, made by `make` if there is none.
    pub fn get_or_insert_with(
        &mut self,
        filter: TopicFilter<'_>,
        make: impl FnOnce() -> V,
    ) -> &mut V {
        let (path, slot) = path(filter);
        let node = self.find_or_add(path);
        if self.nodes[node].slot_mut(slot).is_none() {
            self.len += 1;
        }
        self.nodes[node].slot_mut(slot).get_or_insert_with(make)
    }

    /// Removes and returns the value at `filter`, with every node that only led there.
    pub fn remove(&mut self, filter: TopicFilter<'_>) -> Option<V> {
        let (path, slot) = path(filter);
        let node = self.find(path)?;
        let value = self.nodes[node].slot_mut(slot).take()?;
        self.len -= 1;
        if self.len == 0 {
            // Nothing is left: give the memory back as a whole.
            self.nodes = Pages::of(Node::new("", NONE, 0));
            self.children = HashTable::new();
            self.vacant = NONE;
            self.node_count = 0;
        } else {
            self.prune(node);
        }
        Some(value)
    }

    /// Calls `visit` with the value of every filter that matches `topic`, once each, in no particular
    /// order. Allocates nothing for topics of up to 24 levels.
    pub fn for_each_match<'a>(&'a self, topic: TopicName<'_>, mut visit: impl FnMut(&'a V)) {
        if self.len == 0 {
            return;
        }
        let text = topic.as_str();
        let mut waiting = Waiting::new();
        // A node and where the level below it starts; past the end when the topic ends at the node.
        let mut at = (ROOT, 0);
        loop {
            let (index, start) = at;
            let node = &self.nodes[index];
            // Wildcards in the first level do not see topics that begin with '$' [MQTT-4.7.2-1].
            let hidden = index == ROOT && topic.is_dollar();
            if let (Some(value), false) = (&node.multi, hidden) {
                visit(value);
            }
            let mut next = None;
            if start > text.len() {
                if let Some(value) = &node.value {
                    visit(value);
                }
            } else if node.literals > 0 || node.plus != NONE || node.single.is_some() {
                let rest = &text[start..];
                let len = rest.find('/').unwrap_or(rest.len());
                let after = start + len + 1;
                if let (Some(value), true, false) = (&node.single, after > text.len(), hidden) {
                    visit(value);
                }
                if node.plus != NONE && !hidden {
                    next = Some((node.plus, after));
                }
                if node.literals > 0
                    && let Some(child) = self.literal(index, &rest[..len])
                    && let Some(plus) = next.replace((child, after))
                {
                    waiting.push(plus);
                }
            }
            match next.or_else(|| waiting.pop()) {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    /// Every filter with its value, in no particular order.
    pub fn for_each(&self, mut visit: impl FnMut(TopicFilter<'_>, &V)) {
        let mut text = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for (slot, ending) in [(Slot::Value, ""), (Slot::Multi, "#"), (Slot::Single, "+")] {
                let Some(value) = node.slot(slot) else {
                    continue;
                };
                self.spell(index as u32, &mut text);
                if index != ROOT as usize && !ending.is_empty() {
                    text.push('/');
                }
                text.push_str(ending);
                visit(TopicFilter::trusted(&text), value);
            }
        }
    }

    /// Writes the path that leads to `index`.
    fn spell(&self, index: u32, text: &mut String) {
        let mut nodes = Vec::new();
        let mut at = index;
        while at != ROOT {
            nodes.push(at);
            at = self.nodes[at].parent;
        }
        text.clear();
        for (depth, &at) in nodes.iter().rev().enumerate() {
            if depth > 0 {
                text.push('/');
            }
            let node = &self.nodes[at];
            if self.nodes[node.parent].plus == at {
                text.push('+');
            } else {
                text.push_str(node.level.as_str());
            }
        }
    }

    /// Hash of a literal child's key.
    fn tag(&self, parent: u32, level: &str) -> u32 {
        // The level's hash is seeded and mixed; the parent only has to tell equal levels apart.
        let word = self.hasher.hash(level) ^ u64::from(parent).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (word.wrapping_mul(0xFF51_AFD7_ED55_8CCD) >> 32) as u32
    }

    /// The literal child `level` of `parent`.
    fn literal(&self, parent: u32, level: &str) -> Option<u32> {
        let tag = self.tag(parent, level);
        self.children
            .find(spread(tag), |child| {
                self.is_child(*child, tag, parent, level)
            })
            .map(|child| child.node)
    }

    fn is_child(&self, child: Child, tag: u32, parent: u32, level: &str) -> bool {
        let node = &self.nodes[child.node];
        child.tag == tag && node.parent == parent && node.level.as_bytes() == level.as_bytes()
    }

    fn find(&self, path: Option<&str>) -> Option<u32> {
        let mut at = ROOT;
        for level in levels(path) {
            at = if level == "+" {
                Some(self.nodes[at].plus).filter(|&plus| plus != NONE)?
            } else {
                self.literal(at, level)?
            };
        }
        Some(at)
    }

    fn find_or_add(&mut self, path: Option<&str>) -> u32 {
        let mut at = ROOT;
        for level in levels(path) {
            at = if level == "+" {
                match self.nodes[at].plus {
                    NONE => {
                        let plus = self.add(Node::new("", at, 0));
                        self.nodes[at].plus = plus;
                        plus
                    }
                    plus => plus,
                }
            } else {
                match self.literal(at, level) {
                    Some(child) => child,
                    None => self.add_literal(at, level),
                }
            };
        }
        at
    }

    fn add_literal(&mut self, parent: u32, level: &str) -> u32 {
        let tag = self.tag(parent, level);
        let node = self.add(Node::new(level, parent, tag));
        self.nodes[parent].literals += 1;
        let child = Child { tag, node };
        self.children
            .insert_unique(child.hash(), child, |child| child.hash());
        node
    }

    fn add(&mut self, node: Node<V>) -> u32 {
        self.node_count += 1;
        if self.vacant == NONE {
            return self.nodes.push(node);
        }
        let index = self.vacant;
        self.vacant = self.nodes[index].parent;
        self.nodes[index] = node;
        index
    }

    /// Removes `index` and then its ancestors, up to the first that is still of use.
    fn prune(&mut self, index: u32) {
        let mut at = index;
        while at != ROOT && self.nodes[at].is_unused() {
            let Node { parent, tag, .. } = self.nodes[at];
            if self.nodes[parent].plus == at {
                self.nodes[parent].plus = NONE;
            } else {
                self.nodes[parent].literals -= 1;
                if let Ok(entry) = self
                    .children
                    .find_entry(spread(tag), |child| child.node == at)
                {
                    entry.remove();
                }
            }
            self.nodes[at] = Node::new("", self.vacant, 0);
            self.vacant = at;
            self.node_count -= 1;
            at = parent;
        }
        if self.children.len() < self.children.capacity() / 4 {
            self.children
                .shrink_to(self.children.len() * 2, |child| child.hash());
        }
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: fmt::Debug> fmt::Debug for Trie<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        self.for_each(|filter, value| {
            map.entry(&filter.as_str(), value);
        });
        map.finish()
    }
}

/// Branches still to be visited. They have different depths, so there are never more of them than the
/// topic has levels.
struct Waiting {
    inline: [(u32, usize); INLINE],
    len: usize,
    spilled: Vec<(u32, usize)>,
}

impl Waiting {
    const fn new() -> Self {
        Self {
            inline: [(NONE, 0); INLINE],
            len: 0,
            spilled: Vec::new(),
        }
    }

    fn push(&mut self, branch: (u32, usize)) {
        match self.inline.get_mut(self.len) {
            Some(slot) => {
                *slot = branch;
                self.len += 1;
            }
            None => self.spilled.push(branch),
        }
    }

    fn pop(&mut self) -> Option<(u32, usize)> {
        if let Some(branch) = self.spilled.pop() {
            return Some(branch);
        }
        self.len = self.len.checked_sub(1)?;
        Some(self.inline[self.len])
    }
}
