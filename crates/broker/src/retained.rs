//! The retained messages: one per topic, set by publishers, read by new subscribers.
//!
//! Topics are spread over shards by their hash, so publishers on different topics hardly meet, whatever
//! the topics look like (a common first level such as `devices/` spoils striping by level). Each shard keeps
//! its topics in order. A subscription with wildcards walks shard after shard in slices; between two slices
//! no lock is held.
//!
//! Architecture rule 11, and who keeps it:
//! * A publisher stores here before it routes, a subscriber is in the router before it walks: nobody misses
//!   a message in between.
//! * Publishers of one topic take turns: [`Retained::turn`] is held from the change here to the last offer, so
//!   that memory, the batches for the store and what live subscribers see have the same order. Readers do not
//!   wait for a turn to end.
//! * The walk calls back under the shard's read lock, so a message is offered to the new subscriber before a
//!   newer one of that topic can be stored, routed, and offered.
//!
//! Deliberately absent: sessions, outboxes, the store. Order of locks: a turn, a shard, then whatever the callback takes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use martlet_storage::{Message, Timestamp};
use martlet_sync::{Mutex, MutexGuard, Planted, RwLock};
use martlet_topic::{Cursor, HasTopic, RetainedTree, TopicFilter, TopicHasher, TopicName};

/// A selective walk seeks in every shard that is not empty, a publisher shares its lock with 1/63 of the topics.
const SHARDS: usize = 64;
/// The broker's own topics, which wildcards at the beginning do not see, have the last shard for themselves.
const OWN_SHARD: usize = SHARDS - 1;

/// All retained messages of a broker.
pub(crate) struct Retained {
    hasher: TopicHasher,
    shards: Box<[RwLock<Shard>]>,
    /// One for each shard.
    turns: Box<[Mutex<()>]>,
    /// A bit for each shard that may not be empty; set before the first message comes in, cleared with the last, both
    /// under the shard's write lock. Most subscriptions find nothing, and that should cost next to nothing.
    occupied: AtomicU64,
    count: AtomicUsize,
    bytes: AtomicU64,
    max_count: AtomicUsize,
    max_bytes: AtomicU64,
    sweep: Mutex<Sweep>,
}

struct Shard {
    topics: RetainedTree<Kept>,
    /// No message here expires earlier; `NEVER` if none expires.
    earliest: Timestamp,
    /// The same of the messages that were set since a sweep of this shard began.
    earliest_new: Timestamp,
}

/// A message at its topic.
struct Kept(Message);

impl HasTopic for Kept {
    fn topic(&self) -> &str {
        self.0.topic()
    }

    fn topic_bytes(&self) -> &[u8] {
        self.0.topic_bytes()
    }
}

/// Where the sweep is.
#[derive(Default)]
struct Sweep {
    place: Place,
    /// The earliest expiry among the messages of this shard that were passed.
    earliest: Option<Timestamp>,
}

/// Topics looked at in one sweep, at most: about a millisecond.
const SWEEP_BUDGET: usize = 10_000;
/// Topics looked at under one lock while sweeping.
const SWEEP_SLICE: usize = 500;

const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// The message was not stored, because a limit on number or bytes would be exceeded; what was retained
/// before still is. Answered with 0x97.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaExceeded;

/// Where a walk goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    shard: usize,
    after: Option<Cursor>,
}

impl Retained {
    /// An empty store that keeps at most `max_count` messages of `max_bytes` in all, topics and properties
    /// included. `seed` decides which topics share a shard.
    pub(crate) fn new(max_count: usize, max_bytes: u64, seed: u64) -> Self {
        let shard = || {
            RwLock::new(Shard {
                topics: RetainedTree::new(),
                earliest: NEVER,
                earliest_new: NEVER,
            })
        };
        Self {
            hasher: TopicHasher::with_seed(seed),
            shards: (0..SHARDS).map(|_| shard()).collect(),
            turns: (0..SHARDS).map(|_| Mutex::new(())).collect(),
            occupied: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            max_count: AtomicUsize::new(max_count),
            max_bytes: AtomicU64::new(max_bytes),
            sweep: Mutex::default(),
        }
    }

    /// Changes the limits. What is stored already stays.
    pub(crate) fn set_limits(&self, max_count: usize, max_bytes: u64) {
        self.max_count.store(max_count, Ordering::Relaxed);
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// Number of messages, expired ones included until they are swept.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Bytes of topics, properties and payloads.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until no other publisher is between its change of `topic` and its last offer, and keeps others
    /// out until the guard is dropped. Whoever holds a turn does not await and takes no second one.
    pub(crate) fn turn(&self, topic: &str) -> MutexGuard<'_, ()> {
        self.turns[self.place(topic)].lock()
    }

    /// Stores `message` as the retained one of its topic [MQTT-3.3.1-5]. One that has expired already only
    /// removes what was there.
    pub(crate) fn set(&self, message: &Message, now: Timestamp) -> Result<(), QuotaExceeded> {
        if is_expired(message, now) {
            self.remove(message.topic());
            return Ok(());
        }
        let place = self.place(message.topic());
        let mut shard = self.shards[place].write();
        // The tree is searched once: what must not be there is taken out again, and nobody has seen it.
        let old = self.insert(place, &mut shard, message.clone());
        let counted = self.count_in(message, old.as_ref());
        if counted.is_err() {
            match old {
                Some(old) => drop(self.insert(place, &mut shard, old)),
                None => drop(self.take(place, &mut shard, message.topic())),
            }
        }
        counted
    }

    /// Puts back what the store holds. Limits do not apply: what was taken once is kept.
    pub(crate) fn restore(&self, message: Message) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len(&message), Ordering::Relaxed);
        let place = self.place(message.topic());
        self.insert(place, &mut self.shards[place].write(), message);
    }

    /// Puts a message in its place, uncounted, and returns the one that was there.
    fn insert(&self, place: usize, shard: &mut Shard, message: Message) -> Option<Message> {
        if shard.topics.is_empty() {
            self.occupied.fetch_or(1 << place, Ordering::Release);
        }
        let expires = message.expires().unwrap_or(NEVER);
        shard.earliest = shard.earliest.min(expires);
        shard.earliest_new = shard.earliest_new.min(expires);
        let old = shard.topics.insert(Kept(message));
        // A publisher writes here and then reads the router, a subscriber writes there and then reads `occupied`: one of
        // them sees the other.
        fence(Ordering::SeqCst);
        old.map(|Kept(message)| message)
    }

    /// Takes a message out of its shard; the counts are the caller's.
    fn take(&self, place: usize, shard: &mut Shard, topic: &str) -> Option<Message> {
        let Kept(removed) = shard.topics.remove(TopicName::trusted(topic))?;
        if shard.topics.is_empty() {
            self.occupied.fetch_and(!(1 << place), Ordering::Release);
        }
        Some(removed)
    }

    /// Removes the retained message of `topic` [MQTT-3.3.1-6] and returns whether there was one.
    pub(crate) fn remove(&self, topic: &str) -> bool {
        let place = self.place(topic);
        let mut shard = self.shards[place].write();
        let removed = self.take(place, &mut shard, topic);
        removed.is_some_and(|message| {
            self.subtract(&message);
            true
        })
    }

    /// Calls `visit` with the messages whose topics match `filter`, and returns where to go on, or `None` at
    /// the end. A call ends when `budget` topics were looked at, or a few more.
    ///
    /// `visit` runs under the lock that keeps publishers from replacing the message: it may offer it to an
    /// outbox, and must not wait or come back here.
    pub(crate) fn walk(
        &self,
        filter: TopicFilter<'_>,
        place: Option<Place>,
        budget: usize,
        now: Timestamp,
        mut visit: impl FnMut(&Message),
    ) -> Option<Place> {
        let mut late = Vec::new();
        let place = self.walk_live(filter, place, budget, now, |message| {
            if Planted::StaleRetained.is_active() {
                late.push(message.clone());
            } else {
                visit(message);
            }
        });
        late.iter().for_each(visit);
        place
    }

    fn walk_live(
        &self,
        filter: TopicFilter<'_>,
        place: Option<Place>,
        budget: usize,
        now: Timestamp,
        mut visit: impl FnMut(&Message),
    ) -> Option<Place> {
        let mut visit_live = |Kept(message): &Kept| {
            if !is_expired(message, now) {
                visit(message);
            }
        };
        // A message that is stored while this looks is delivered live: the subscription is in the router already.
        fence(Ordering::SeqCst);
        let mut occupied = self.occupied.load(Ordering::Acquire);
        if !filter.has_wildcards() {
            let at = self.place(filter.as_str());
            if occupied & (1 << at) != 0 {
                let shard = self.shards[at].read();
                shard.topics.walk(filter, None, &mut 1, &mut visit_live);
            }
            return None;
        }
        occupied &= if filter.as_str().starts_with('$') {
            // `$SYS/#` has its shard; `$other/#` is as any topic.
            u64::MAX
        } else {
            !(1 << OWN_SHARD)
        };
        let mut place = place.unwrap_or_default();
        let mut budget = budget;
        while place.shard < self.shards.len() {
            if occupied & (1 << place.shard) == 0 {
                place = Place {
                    shard: place.shard + 1,
                    after: None,
                };
                continue;
            }
            place.after = self.shards[place.shard].read().topics.walk(
                filter,
                place.after.as_ref(),
                &mut budget,
                &mut visit_live,
            );
            if place.after.is_none() {
                place.shard += 1;
                // Taking a lock and finding the beginning is work as well, matches or not.
                budget = budget.saturating_sub(1);
            }
            if budget == 0 && place.shard < self.shards.len() {
                return Some(place);
            }
        }
        None
    }

    /// Removes expired messages, goes on where the last call stopped, and calls `removed` with each under the
    /// lock of its shard, and `removed` must not wait or come back here. Looks at a bounded number of topics, and
    /// only in shards where a message is due.
    pub(crate) fn sweep_then(&self, now: Timestamp, mut removed: impl FnMut(&Message)) {
        let mut sweep = self.sweep.lock();
        let mut budget = SWEEP_BUDGET;
        for _ in 0..SHARDS {
            let shard = &self.shards[sweep.place.shard];
            let is_due = sweep.place.after.is_some() || shard.read().earliest <= now;
            if is_due && self.sweep_shard(shard, &mut sweep, &mut budget, now, &mut removed) {
                return;
            }
            sweep.place.shard = (sweep.place.shard + 1) % SHARDS;
        }
    }

    /// Sweeps one shard, slice by slice; returns true if the budget ended before the shard did.
    fn sweep_shard(
        &self,
        shard: &RwLock<Shard>,
        sweep: &mut Sweep,
        budget: &mut usize,
        now: Timestamp,
        removed: &mut impl FnMut(&Message),
    ) -> bool {
        loop {
            let mut slice = SWEEP_SLICE;
            let at = sweep.place.shard;
            self.sweep_slice(at, &mut shard.write(), sweep, &mut slice, now, removed);
            *budget = budget.saturating_sub(SWEEP_SLICE - slice);
            if sweep.place.after.is_none() {
                return false;
            }
            if *budget == 0 {
                return true;
            }
        }
    }

    fn sweep_slice(
        &self,
        at: usize,
        shard: &mut Shard,
        sweep: &mut Sweep,
        budget: &mut usize,
        now: Timestamp,
        removed: &mut impl FnMut(&Message),
    ) {
        if sweep.place.after.is_none() {
            sweep.earliest = None;
            shard.earliest_new = NEVER;
        }
        let mut earliest = sweep.earliest.unwrap_or(NEVER);
        let mut due = Vec::new();
        sweep.place.after = shard.topics.scan(
            sweep.place.after.as_ref(),
            budget,
            |Kept(message)| match message.expires() {
                Some(at) if at <= now => due.push(message.clone()),
                Some(at) => earliest = earliest.min(at),
                None => {}
            },
        );
        sweep.earliest = Some(earliest);
        for message in due {
            self.take(at, shard, message.topic());
            self.subtract(&message);
            removed(&message);
        }
        if sweep.place.after.is_none() {
            // Complete: what was passed, and what came in behind the sweep's back.
            shard.earliest = earliest.min(shard.earliest_new);
        }
    }

    fn place(&self, topic: &str) -> usize {
        if topic.starts_with("$SYS/") {
            return OWN_SHARD;
        }
        (self.hasher.hash(topic) >> 32) as usize % OWN_SHARD
    }

    /// Counts `message` in place of the `old` one, if both limits allow it.
    fn count_in(&self, message: &Message, old: Option<&Message>) -> Result<(), QuotaExceeded> {
        if !is_counted(message) {
            return Ok(());
        }
        let (new_bytes, old_bytes) = (len(message), old.map_or(0, len));
        let max_bytes = self.max_bytes.load(Ordering::Relaxed);
        let grown = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
                let bytes = bytes - old_bytes + new_bytes;
                // A smaller message may always replace a larger one, also above a limit that was lowered.
                (bytes <= max_bytes || new_bytes <= old_bytes).then_some(bytes)
            });
        if grown.is_err() {
            return Err(QuotaExceeded);
        }
        if old.is_some() {
            return Ok(());
        }
        let max_count = self.max_count.load(Ordering::Relaxed);
        let counted = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < max_count).then_some(count + 1)
            });
        if counted.is_err() {
            self.bytes.fetch_sub(new_bytes, Ordering::Relaxed);
            return Err(QuotaExceeded);
        }
        Ok(())
    }

    fn subtract(&self, message: &Message) {
        if !is_counted(message) {
            return;
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(len(message), Ordering::Relaxed);
    }
}

fn is_expired(message: &Message, now: Timestamp) -> bool {
    message.expires().is_some_and(|expires| expires <= now)
}

/// The broker's own topics are bounded by nature, and must not take room from clients nor be refused for want of it.
fn is_counted(message: &Message) -> bool {
    !message.topic().starts_with("$SYS/")
}

fn len(message: &Message) -> u64 {
    message.len_bytes() as u64
}

#[cfg(test)]
mod tests;
