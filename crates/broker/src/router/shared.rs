//! Share groups: which member gets a message.

use std::sync::Arc;

use crate::{
    config::SharedStrategy,
    router::{Availability, Subscriber, Subscription},
    sync::{AtomicU64, AtomicUsize, Ordering, RwLock},
};

/// The clients that share one filter under one name.
pub(crate) struct Group<S> {
    name: Box<str>,
    tag: u64,
    members: RwLock<Arc<Vec<Subscription<S>>>>,
    /// Where to look first: after the member chosen last (in turn), or at it (sticky). For random choice it
    /// counts messages. Lost updates between publishers cost evenness, nothing else.
    cursor: AtomicUsize,
    /// Id of the member a sticky group stays with.
    favourite: AtomicU64,
}

impl<S> std::fmt::Debug for Group<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<S: Subscriber> Group<S> {
    pub(super) fn new(name: &str, tag: u64, first: Subscription<S>) -> Self {
        Self {
            name: name.into(),
            tag,
            members: RwLock::new(Arc::new(vec![first])),
            cursor: AtomicUsize::new(0),
            favourite: AtomicU64::new(0),
        }
    }

    /// The share name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Identity of the group among all groups of this router, equal for its whole life and beyond: messages
    /// queued for a member carry it, so that they can be found again when the member leaves.
    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }

    /// The members at this moment.
    pub(crate) fn members(&self) -> Arc<Vec<Subscription<S>>> {
        Arc::clone(&self.members.read())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.read().is_empty()
    }

    /// Adds a member, or replaces it and returns true.
    pub(super) fn put(&self, member: Subscription<S>) -> bool {
        let mut members = self.members.write();
        let known = members.iter().position(|known| known.id == member.id);
        let members = Arc::make_mut(&mut members);
        match known {
            Some(at) => members[at] = member,
            None => members.push(member),
        }
        known.is_some()
    }

    /// Removes and returns a member, if there is one with this id.
    pub(super) fn remove(&self, id: u64) -> Option<S> {
        let mut members = self.members.write();
        let at = members.iter().position(|member| member.id == id)?;
        // In order, so that a turn goes on where it was.
        Some(Arc::make_mut(&mut members).remove(at).subscriber)
    }

    /// The members in the order in which they should be offered a message.
    pub(super) fn candidates(&self, strategy: SharedStrategy, key: u64) -> Candidates<'_, S> {
        let members = self.members();
        let start = match members.len() {
            0 => 0,
            count => self.start(strategy, key, &members) % count,
        };
        Candidates {
            group: self,
            strategy,
            members,
            start,
            offset: 0,
            pass: Pass::Online,
            first: None,
            tried: Vec::new(),
        }
    }

    /// Where in `members`, which is not empty, to look first.
    fn start(&self, strategy: SharedStrategy, key: u64, members: &[Subscription<S>]) -> usize {
        match strategy {
            // Every member is local until a cluster says otherwise.
            SharedStrategy::RoundRobin | SharedStrategy::Local => {
                self.cursor.load(Ordering::Relaxed)
            }
            SharedStrategy::Random => {
                let count = self.cursor.fetch_add(1, Ordering::Relaxed) as u64;
                mix(self.tag.wrapping_add(mix(count))) as usize
            }
            SharedStrategy::Sticky => {
                let favourite = self.favourite.load(Ordering::Relaxed);
                let cursor = self.cursor.load(Ordering::Relaxed) % members.len();
                if members[cursor].id == favourite {
                    return cursor;
                }
                members
                    .iter()
                    .position(|member| member.id == favourite)
                    .unwrap_or(cursor)
            }
            SharedStrategy::HashClient | SharedStrategy::HashTopic => highest(key, members),
        }
    }

    /// Remembers that the member at `at` was chosen.
    fn chose(&self, strategy: SharedStrategy, at: usize, id: u64) {
        match strategy {
            SharedStrategy::RoundRobin | SharedStrategy::Local => {
                self.cursor.store(at + 1, Ordering::Relaxed);
            }
            SharedStrategy::Sticky => {
                self.cursor.store(at, Ordering::Relaxed);
                self.favourite.store(id, Ordering::Relaxed);
            }
            SharedStrategy::Random | SharedStrategy::HashClient | SharedStrategy::HashTopic => {}
        }
    }
}

/// Rendezvous hashing: the member with the highest weight for this key, among those online if there are any.
/// When a member comes or goes, only the keys it gains or had change hands.
fn highest<S: Subscriber>(key: u64, members: &[Subscription<S>]) -> usize {
    let weight = |(_, member): &(usize, &Subscription<S>)| {
        let online = member.subscriber.available() == Availability::Online;
        (online, mix(key ^ mix(member.subscriber.client_hash())))
    };
    members
        .iter()
        .enumerate()
        .max_by_key(weight)
        .map_or(0, |(at, _)| at)
}

/// A bijection that spreads every bit over the whole word (the finaliser of SplitMix64).
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The members of a group, best first, each at most once. Ends when all were offered.
///
/// A member is judged when its turn comes, so the order follows what happens meanwhile: first those that are
/// online with room, then those that are at least connected, then the rest.
pub(crate) struct Candidates<'g, S> {
    group: &'g Group<S>,
    strategy: SharedStrategy,
    members: Arc<Vec<Subscription<S>>>,
    start: usize,
    offset: usize,
    pass: Pass,
    /// The first candidate; nearly always the only one, which then needs no list.
    first: Option<usize>,
    /// A bit per member that was yielded, from the second candidate on.
    tried: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Online,
    Connected,
    All,
    Over,
}

impl<S: Subscriber> Candidates<'_, S> {
    fn was_tried(&self, at: usize) -> bool {
        match self.tried.get(at / 64) {
            Some(word) => word >> (at % 64) & 1 == 1,
            None => self.first == Some(at),
        }
    }

    fn mark(&mut self, at: usize) {
        let Some(first) = self.first else {
            self.first = Some(at);
            return;
        };
        if self.tried.is_empty() {
            self.tried.resize(self.members.len().div_ceil(64), 0);
            self.tried[first / 64] |= 1 << (first % 64);
        }
        self.tried[at / 64] |= 1 << (at % 64);
    }
}

impl<S: Subscriber> Iterator for Candidates<'_, S> {
    type Item = Subscription<S>;

    fn next(&mut self) -> Option<Subscription<S>> {
        let count = self.members.len();
        while self.pass != Pass::Over {
            while self.offset < count {
                let at = (self.start + self.offset) % count;
                self.offset += 1;
                let eligible = match (self.pass, self.members[at].subscriber.available()) {
                    (Pass::Online, availability) => availability == Availability::Online,
                    (Pass::Connected, availability) => availability != Availability::Offline,
                    _ => true,
                };
                if eligible && !self.was_tried(at) {
                    self.mark(at);
                    let member = self.members[at].clone();
                    self.group.chose(self.strategy, at, member.id);
                    return Some(member);
                }
            }
            self.offset = 0;
            self.pass = match self.pass {
                Pass::Online => Pass::Connected,
                Pass::Connected => Pass::All,
                Pass::All | Pass::Over => Pass::Over,
            };
        }
        None
    }
}

const STRATEGIES: [SharedStrategy; 6] = [
    SharedStrategy::RoundRobin,
    SharedStrategy::Random,
    SharedStrategy::Sticky,
    SharedStrategy::HashClient,
    SharedStrategy::HashTopic,
    SharedStrategy::Local,
];

/// The strategy as an atomic keeps it.
pub(super) fn strategy_to_u8(strategy: SharedStrategy) -> u8 {
    STRATEGIES
        .iter()
        .position(|&known| known == strategy)
        .unwrap_or(0) as u8
}

pub(super) fn strategy_from_u8(byte: u8) -> SharedStrategy {
    STRATEGIES
        .get(usize::from(byte))
        .copied()
        .unwrap_or_default()
}
