//! A lockable set of filter nodes with its generation: one shard of the exact map, or the trie.

use std::sync::Arc;

use martlet_topic::{ExactMap, Filter, TopicFilter, Trie};

use crate::{
    router::{
        Subscriber, Subscription,
        node::{Change, Node},
    },
    sync::{AtomicU64, Ordering, RwLock},
};

/// What a table asks of the structure it guards.
pub(super) trait Filters {
    type Node;

    fn find(&self, filter: TopicFilter<'_>) -> Option<&Self::Node>;
    fn find_or_add(
        &mut self,
        filter: TopicFilter<'_>,
        make: impl FnOnce() -> Self::Node,
    ) -> &Self::Node;
    fn remove(&mut self, filter: TopicFilter<'_>);
}

impl<N> Filters for ExactMap<N> {
    type Node = N;

    fn find(&self, filter: TopicFilter<'_>) -> Option<&N> {
        self.get(filter.as_str())
    }

    fn find_or_add(&mut self, filter: TopicFilter<'_>, make: impl FnOnce() -> N) -> &N {
        self.get_or_insert_with(filter.as_str(), make)
    }

    fn remove(&mut self, filter: TopicFilter<'_>) {
        self.remove(filter.as_str());
    }
}

impl<N> Filters for Trie<N> {
    type Node = N;

    fn find(&self, filter: TopicFilter<'_>) -> Option<&N> {
        self.get(filter)
    }

    fn find_or_add(&mut self, filter: TopicFilter<'_>, make: impl FnOnce() -> N) -> &N {
        self.get_or_insert_with(filter, make)
    }

    fn remove(&mut self, filter: TopicFilter<'_>) {
        self.remove(filter);
    }
}

pub(super) struct Table<M> {
    /// Counts nodes that appeared or vanished; changed under the write lock only.
    generation: AtomicU64,
    filters: RwLock<M>,
}

impl<M> Table<M> {
    pub(super) fn new(filters: M) -> Self {
        Self {
            generation: AtomicU64::new(0),
            filters: RwLock::new(filters),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Looks at the filters under the read lock.
    pub(super) fn with<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        look(&self.filters.read())
    }

    /// Adds a subscription; also says whether a node was made for it.
    pub(super) fn subscribe<S>(
        &self,
        filter: Filter<'_>,
        tag: u64,
        subscription: Subscription<S>,
    ) -> (Change<S>, bool)
    where
        S: Subscriber,
        M: Filters<Node = Arc<Node<S>>>,
    {
        let text = filter.topic_filter();
        let group = filter.group().map(|name| (name, tag));
        // Joining an existing filter needs no more than the read lock: it keeps the node from being pruned.
        {
            let filters = self.filters.read();
            if let Some(node) = filters.find(text) {
                return (node.add(group, subscription), false);
            }
        }
        let mut created = false;
        let mut filters = self.filters.write();
        let node = filters.find_or_add(text, || {
            created = true;
            Arc::new(Node::new())
        });
        let change = node.add(group, subscription);
        if created {
            self.generation.fetch_add(1, Ordering::Release);
        }
        (change, created)
    }

    /// Removes a subscription; also says whether its node was pruned.
    pub(super) fn unsubscribe<S>(&self, filter: Filter<'_>, subscriber_id: u64) -> (Change<S>, bool)
    where
        S: Subscriber,
        M: Filters<Node = Arc<Node<S>>>,
    {
        let text = filter.topic_filter();
        let change = {
            let filters = self.filters.read();
            let Some(node) = filters.find(text) else {
                return (Change::NONE, false);
            };
            node.remove(filter.group(), subscriber_id)
        };
        if !change.edge {
            return (change, false);
        }
        // Somebody may have joined in between, or pruned already; whoever empties a node last comes by here.
        let mut filters = self.filters.write();
        let unused = filters.find(text).is_some_and(|node| node.is_unused());
        if unused {
            filters.remove(text);
            self.generation.fetch_add(1, Ordering::Release);
        }
        (change, unused)
    }
}
