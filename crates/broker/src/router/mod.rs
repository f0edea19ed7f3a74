//! The router: which subscriptions a topic reaches.
//!
//! Filters without wildcards live in 256 sharded hash maps, all others in one trie. Both lead to a
//! [`Node`] per filter, which keeps the subscribers. A publisher remembers the nodes of its recent topics
//! in a [`RouteMemo`], valid as long as two generations stand still: that of the topic's shard and that of
//! the trie. A generation moves only when a *node* appears or vanishes; who subscribes at a node is read
//! afresh for each message.
//!
//! Order of locks: table (shard or trie), node, group. None is held while a message is delivered.
//!
//! Rules kept here (architecture rule 12):
//! * A node is pruned under its table's write lock, and added to under its read or write lock; so nobody
//!   adds to a node that is no longer reachable.
//! * Generations are read before the walk, so that a result which may be older than they say is never kept.
//!
//! Deliberately absent: sessions, delivery, the choice between one copy and one per subscription, and
//! anything that awaits. The router is generic over the subscriber so that it runs alone under loom.

mod list;
pub(crate) use list::CHUNK;

mod memo;
pub(crate) use memo::RouteMemo;

mod node;
pub(crate) use node::Node;

mod shared;
pub(crate) use shared::{Candidates, Group};

mod table;

#[cfg(all(test, martlet_loom))]
mod loom_tests;
#[cfg(all(test, not(martlet_loom)))]
mod tests;

use std::{num::NonZeroU32, sync::Arc};

use martlet_codec::SubscribeOptions;
use martlet_topic::{ExactMap, Filter, TopicHasher, TopicName, Trie};

use crate::{
    config::SharedStrategy,
    router::{node::Change, table::Table},
    sync::{AtomicU8, AtomicUsize, Ordering},
};

/// What the router needs to know of a subscriber. Cloning is cheap: a reference count.
pub(crate) trait Subscriber: Clone + Send + Sync + 'static {
    /// Unique, and never used again while anything refers to it.
    fn id(&self) -> u64;
    /// Hash of the client id: the same for every session of that client.
    fn client_hash(&self) -> u64;
    /// Whether it can take a shared delivery now.
    fn available(&self) -> Availability;
    /// Whether its messages go to the store; the same for its whole life.
    fn is_durable(&self) -> bool;
}

/// Whether a member of a shared subscription can take a message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    /// Connected, with room.
    Online,
    /// Connected, and behind.
    Full,
    /// Not connected; a message would wait in its session, if that keeps messages.
    Offline,
}

/// One subscription as publishers see it.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "Subscription Identifier is the protocol's name"
)]
pub(crate) struct Subscription<S> {
    /// The subscriber's id, here so that a search touches the list only.
    id: u64,
    pub(crate) subscriber: S,
    pub(crate) options: SubscribeOptions,
    pub(crate) subscription_id: Option<NonZeroU32>,
}

impl<S: Subscriber> Subscription<S> {
    pub(crate) fn new(
        subscriber: S,
        options: SubscribeOptions,
        subscription_id: Option<NonZeroU32>,
    ) -> Self {
        Self {
            id: subscriber.id(),
            subscriber,
            options,
            subscription_id,
        }
    }
}

/// What [`Router::subscribe`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscribed {
    /// The subscriber had a subscription with this very filter, which is replaced [MQTT-3.8.4-3].
    pub(crate) replaced: bool,
    /// It is the first local subscription whose filter this is, share names set aside: news for a cluster.
    pub(crate) first_local: bool,
}

/// What [`Router::unsubscribe`] did.
#[derive(Clone, Debug)]
pub(crate) struct Unsubscribed<S> {
    /// There was such a subscription.
    pub(crate) existed: bool,
    /// No local subscription with this filter is left, share names set aside: news for a cluster.
    pub(crate) last_local: bool,
    /// The share group the subscriber left, if members remain: what it never got goes to them (rule 10).
    pub(crate) remaining: Option<Arc<Group<S>>>,
}

/// Totals of a router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Distinct filters, share names set aside.
    pub(crate) filters: usize,
    /// Subscriptions that are not shared.
    pub(crate) subscriptions: usize,
    /// Members of share groups.
    pub(crate) shared: usize,
}

/// Shards of the exact map. A storm of subscriptions to new filters spoils memos of 1/256 of the topics per
/// filter; a power of two so that choosing one is a mask. loom explores every lock, so it gets two.
const SHARDS: usize = if cfg!(martlet_loom) { 2 } else { 256 };
const _: () = assert!(SHARDS.is_power_of_two());

/// A part of the filters without wildcards.
type Shard<S> = Table<ExactMap<Arc<Node<S>>>>;

/// Finds the subscriptions that a topic reaches.
pub(crate) struct Router<S> {
    hasher: TopicHasher,
    exact: Box<[Shard<S>]>,
    wildcard: Table<Trie<Arc<Node<S>>>>,
    strategy: AtomicU8,
    filters: AtomicUsize,
    subscriptions: AtomicUsize,
    shared: AtomicUsize,
}

impl<S: Subscriber> Router<S> {
    /// An empty router. `seed` keeps clients from choosing topics that collide, and makes runs repeatable.
    pub(crate) fn new(strategy: SharedStrategy, seed: u64) -> Self {
        let hasher = TopicHasher::with_seed(seed);
        let router = Self {
            exact: (0..SHARDS)
                .map(|_| Table::new(ExactMap::with_hasher(hasher.clone())))
                .collect(),
            wildcard: Table::new(Trie::with_hasher(hasher.clone())),
            hasher,
            strategy: AtomicU8::new(0),
            filters: AtomicUsize::new(0),
            subscriptions: AtomicUsize::new(0),
            shared: AtomicUsize::new(0),
        };
        router.set_strategy(strategy);
        router
    }

    /// Changes how members of share groups are chosen, from the next message on.
    pub(crate) fn set_strategy(&self, strategy: SharedStrategy) {
        self.strategy
            .store(shared::strategy_to_u8(strategy), Ordering::Relaxed);
    }

    /// Adds a subscription, or replaces the one this subscriber has with this very filter. Every message
    /// whose routing starts after this returned reaches it.
    pub(crate) fn subscribe(
        &self,
        filter: Filter<'_>,
        subscription: Subscription<S>,
    ) -> Subscribed {
        let tag = filter_tag(filter);
        let (change, created) = if filter.topic_filter().has_wildcards() {
            self.wildcard.subscribe(filter, tag, subscription)
        } else {
            self.shard_of(filter.topic_filter().as_str())
                .subscribe(filter, tag, subscription)
        };
        if created {
            self.filters.fetch_add(1, Ordering::Relaxed);
        }
        if change.counted {
            self.counter(filter).fetch_add(1, Ordering::Relaxed);
        }
        Subscribed {
            replaced: !change.counted,
            first_local: change.edge,
        }
    }

    /// Removes a subscription. No message whose routing starts after this returned reaches it.
    pub(crate) fn unsubscribe(&self, filter: Filter<'_>, subscriber_id: u64) -> Unsubscribed<S> {
        let (change, pruned): (Change<S>, bool) = if filter.topic_filter().has_wildcards() {
            self.wildcard.unsubscribe(filter, subscriber_id)
        } else {
            self.shard_of(filter.topic_filter().as_str())
                .unsubscribe(filter, subscriber_id)
        };
        if pruned {
            self.filters.fetch_sub(1, Ordering::Relaxed);
        }
        if change.counted {
            self.counter(filter).fetch_sub(1, Ordering::Relaxed);
        }
        Unsubscribed {
            existed: change.counted,
            last_local: change.edge,
            remaining: change.group,
        }
    }

    /// The nodes of the filters that match `topic`, a validated topic name.
    ///
    /// Costs a text comparison and two atomic loads when it is the topic this memo was asked for last, and
    /// nothing is allocated once the memo is warm.
    pub(crate) fn route<'m>(&self, topic: &str, memo: &'m mut RouteMemo<S>) -> &'m [Arc<Node<S>>] {
        let wildcard_generation = self.wildcard.generation();
        let fresh = |entry: &memo::Entry<S>| {
            entry.wildcard_generation == wildcard_generation
                && entry.exact_generation == self.shard(entry.hash).generation()
        };
        let entry = memo.entry(topic, |topic| self.hasher.hash(topic));
        if !fresh(entry) {
            // Both generations before either walk: what happens meanwhile makes the entry out of date.
            let shard = self.shard(entry.hash);
            entry.exact_generation = shard.generation();
            entry.wildcard_generation = wildcard_generation;
            entry.nodes.clear();
            let nodes = &mut entry.nodes;
            shard.with(|map| nodes.extend(map.get_hashed(entry.hash, topic).cloned()));
            self.wildcard.with(|trie| {
                trie.for_each_match(TopicName::trusted(topic), |node| {
                    nodes.push(Arc::clone(node));
                });
            });
        }
        &entry.nodes
    }

    /// The members of `group` in the order in which they should be offered a message: the one the strategy
    /// chooses first, those that are full or offline last. `publisher_hash` is the hash of the publisher's
    /// client id.
    pub(crate) fn pick<'g>(
        &self,
        group: &'g Group<S>,
        publisher_hash: u64,
        topic: &str,
    ) -> Candidates<'g, S> {
        let strategy = shared::strategy_from_u8(self.strategy.load(Ordering::Relaxed));
        let key = match strategy {
            SharedStrategy::HashClient => publisher_hash,
            SharedStrategy::HashTopic => self.hasher.hash(topic),
            _ => 0,
        };
        group.candidates(strategy, key)
    }

    /// Totals, each exact; together they may straddle a change.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            filters: self.filters.load(Ordering::Relaxed),
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
            shared: self.shared.load(Ordering::Relaxed),
        }
    }

    fn counter(&self, filter: Filter<'_>) -> &AtomicUsize {
        if filter.is_shared() {
            &self.shared
        } else {
            &self.subscriptions
        }
    }

    fn shard_of(&self, text: &str) -> &Shard<S> {
        self.shard(self.hasher.hash(text))
    }

    fn shard(&self, hash: u64) -> &Shard<S> {
        // Bits from the middle: the map inside looks at the lowest and the highest.
        &self.exact[(hash >> 32) as usize & (SHARDS - 1)]
    }
}

/// Identity of a share group: a hash of its name and filter. It is stored with queued messages, so it is the same
/// in every run.
fn filter_tag(filter: Filter<'_>) -> u64 {
    let hasher = TopicHasher::with_seed(0);
    filter.group().map_or(0, |group| {
        hasher.hash(group).rotate_left(32) ^ hasher.hash(filter.topic_filter().as_str())
    })
}
