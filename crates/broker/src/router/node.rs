//! A filter node: everyone who subscribed with one filter, alone or in share groups.

use std::sync::Arc;

use crate::{
    router::{Subscriber, Subscription, list::List, list::Subscribers, shared::Group},
    sync::{AtomicBool, AtomicU32, Ordering, RwLock},
};

/// The subscribers of one filter. Publishers take snapshots, which later changes do not touch.
pub(crate) struct Node<S> {
    /// Copy of `!groups.is_empty()`: most nodes have none, and then publishers need no second look.
    has_groups: AtomicBool,
    /// Number of subscribers whose messages go to the store, members of groups included.
    durable: AtomicU32,
    members: RwLock<Members<S>>,
}

struct Members<S> {
    plain: List<S>,
    /// `None` for none: most filters are never shared, and an empty list would cost memory for each.
    groups: Option<Groups<S>>,
}

/// The share groups of a node, as a snapshot.
pub(crate) type Groups<S> = Arc<Vec<Arc<Group<S>>>>;

impl<S: Subscriber> Members<S> {
    fn is_unused(&self) -> bool {
        self.plain.is_empty() && self.groups.is_none()
    }
}

/// What became of a node by one change.
#[derive(Debug)]
pub(super) struct Change<S> {
    /// A subscription was added (not replaced), or removed.
    pub(super) counted: bool,
    /// The node went from no subscription to one, or from one to none.
    pub(super) edge: bool,
    /// The share group that was left and still has members.
    pub(super) group: Option<Arc<Group<S>>>,
}

impl<S> Change<S> {
    pub(super) const NONE: Self = Self {
        counted: false,
        edge: false,
        group: None,
    };
}

impl<S: Subscriber> Node<S> {
    pub(super) fn new() -> Self {
        Self {
            has_groups: AtomicBool::new(false),
            durable: AtomicU32::new(0),
            members: RwLock::new(Members {
                plain: List::new(),
                groups: None,
            }),
        }
    }

    /// Those who get every message.
    pub(crate) fn subscribers(&self) -> Subscribers<S> {
        self.members.read().plain.snapshot()
    }

    /// Whether there are share groups.
    pub(crate) fn has_groups(&self) -> bool {
        self.has_groups.load(Ordering::Acquire)
    }

    /// Whether a message to this filter may have to be stored.
    pub(crate) fn has_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire) > 0
    }

    /// The share groups; each gets one copy of every message.
    pub(crate) fn groups(&self) -> Groups<S> {
        self.members.read().groups.clone().unwrap_or_default()
    }

    pub(super) fn is_unused(&self) -> bool {
        self.members.read().is_unused()
    }

    /// Adds or replaces; `group` is the name and tag of the share group. The caller holds the table's lock.
    pub(super) fn add(
        &self,
        group: Option<(&str, u64)>,
        subscription: Subscription<S>,
    ) -> Change<S> {
        let mut members = self.members.write();
        let edge = members.is_unused();
        let is_durable = subscription.subscriber.is_durable();
        let replaced = match group {
            None => members.plain.put(subscription),
            Some((name, tag)) => {
                let groups = members.groups.get_or_insert_default();
                let known = groups.iter().find(|group| group.name() == name);
                if let Some(group) = known {
                    group.put(subscription)
                } else {
                    let group = Arc::new(Group::new(name, tag, subscription));
                    Arc::make_mut(groups).push(group);
                    self.has_groups.store(true, Ordering::Release);
                    false
                }
            }
        };
        if is_durable && !replaced {
            self.durable.fetch_add(1, Ordering::Release);
        }
        Change {
            counted: !replaced,
            edge,
            group: None,
        }
    }

    /// Removes a subscriber from the plain list or from the named group.
    pub(super) fn remove(&self, group: Option<&str>, subscriber_id: u64) -> Change<S> {
        let mut members = self.members.write();
        let mut left = None;
        let removed = match group {
            None => members.plain.remove(subscriber_id),
            Some(name) => {
                let Some(groups) = &mut members.groups else {
                    return Change::NONE;
                };
                let Some(at) = groups.iter().position(|group| group.name() == name) else {
                    return Change::NONE;
                };
                let group = Arc::clone(&groups[at]);
                let removed = group.remove(subscriber_id);
                if group.is_empty() {
                    Arc::make_mut(groups).remove(at);
                    if groups.is_empty() {
                        members.groups = None;
                        self.has_groups.store(false, Ordering::Release);
                    }
                } else if removed.is_some() {
                    left = Some(group);
                }
                removed
            }
        };
        if removed.as_ref().is_some_and(Subscriber::is_durable) {
            self.durable.fetch_sub(1, Ordering::Release);
        }
        let removed = removed.is_some();
        Change {
            counted: removed,
            edge: removed && members.is_unused(),
            group: left,
        }
    }
}
