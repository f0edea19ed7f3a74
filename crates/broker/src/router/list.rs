//! The subscriber list of a filter node: cheap to snapshot, cheap to iterate, cheap to join and leave.
//!
//! One subscriber, by far the most common number, is kept in place. More are kept in chunks of at most
//! [`CHUNK`]. A change copies one chunk if a publisher is reading it at that moment, and nothing otherwise,
//! so a hundred thousand clients that join one filter cost a hundred thousand pushes. With more than one
//! chunk an index says in which chunk a subscriber is, so leaving searches one chunk.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::router::Subscription;

/// Subscribers per chunk: what is copied under a reader, and the unit in which a large fan-out yields.
/// 512 subscriptions are 12 KiB.
pub(crate) const CHUNK: usize = 512;

/// A snapshot of a subscriber list.
#[derive(Clone, Debug)]
pub(crate) enum Subscribers<S> {
    None,
    One(Subscription<S>),
    Many(Arc<Chunks<S>>),
}

/// Two subscribers or more. Every chunk but the last is full, none is empty, and the first is not behind a reference because it is
/// usually the only one.
#[derive(Clone, Debug)]
pub(crate) struct Chunks<S> {
    first: Vec<Subscription<S>>,
    rest: Vec<Arc<Vec<Subscription<S>>>>,
}

impl<S> Subscribers<S> {
    /// Whether there is exactly one.
    pub(crate) fn is_one(&self) -> bool {
        match self {
            Self::None => false,
            Self::One(_) => true,
            Self::Many(chunks) => chunks.first.len() == 1 && chunks.rest.is_empty(),
        }
    }

    /// The subscriptions, in slices of at most [`CHUNK`], none of them empty.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[Subscription<S>]> {
        let (first, rest): (&[_], &[Arc<Vec<_>>]) = match self {
            Self::None => (&[], &[]),
            Self::One(subscription) => (std::slice::from_ref(subscription), &[]),
            Self::Many(chunks) => (&chunks.first, &chunks.rest),
        };
        let first = Some(first).filter(|chunk| !chunk.is_empty());
        first
            .into_iter()
            .chain(rest.iter().map(|chunk| chunk.as_slice()))
    }
}

/// The list itself; its owner keeps it behind a lock.
pub(super) struct List<S> {
    current: Subscribers<S>,
    /// Chunk of each subscriber by id; only with more than one chunk.
    index: Option<Box<HashMap<u64, u32, foldhash::fast::RandomState>>>,
}

impl<S: Clone> List<S> {
    pub(super) const fn new() -> Self {
        Self {
            current: Subscribers::None,
            index: None,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        matches!(self.current, Subscribers::None)
    }

    pub(super) fn snapshot(&self) -> Subscribers<S> {
        self.current.clone()
    }

    /// Adds `subscription`, or replaces the one of the same subscriber and returns true.
    pub(super) fn put(&mut self, subscription: Subscription<S>) -> bool {
        let place = self.find(subscription.id);
        match &mut self.current {
            Subscribers::None => self.current = Subscribers::One(subscription),
            Subscribers::One(only) if place.is_some() => *only = subscription,
            Subscribers::One(only) => {
                let first = vec![only.clone(), subscription];
                self.current = Subscribers::Many(Arc::new(Chunks {
                    first,
                    rest: Vec::new(),
                }));
            }
            Subscribers::Many(chunks) => {
                let chunks = Arc::make_mut(chunks);
                match place {
                    Some((chunk, at)) => chunks.chunk_mut(chunk)[at] = subscription,
                    None => Self::push(chunks, &mut self.index, subscription),
                }
            }
        }
        place.is_some()
    }

    /// Removes the subscription of this subscriber and returns it, if there was one.
    pub(super) fn remove(&mut self, id: u64) -> Option<S> {
        let (chunk, at) = self.find(id)?;
        let Subscribers::Many(chunks) = &mut self.current else {
            return match std::mem::replace(&mut self.current, Subscribers::None) {
                Subscribers::One(only) => Some(only.subscriber),
                Subscribers::None | Subscribers::Many(_) => None,
            };
        };
        let chunks = Arc::make_mut(chunks);
        // The very last subscription fills the gap, so every chunk but the last stays full.
        let last = chunks.rest.len();
        let mut removed = None;
        if chunk == last {
            removed = Some(chunks.chunk_mut(chunk).swap_remove(at));
        } else if let Some(moved) = chunks.chunk_mut(last).pop() {
            if let Some(index) = &mut self.index {
                index.insert(moved.id, chunk as u32);
            }
            removed = Some(std::mem::replace(&mut chunks.chunk_mut(chunk)[at], moved));
        }
        if last > 0 && chunks.chunk(last).is_empty() {
            chunks.rest.pop();
        }
        if let Some(index) = &mut self.index {
            index.remove(&id);
            if index.len() < index.capacity() / 4 {
                index.shrink_to(index.len() * 2);
            }
        }
        if chunks.rest.is_empty() {
            self.index = None;
            let first = &mut chunks.first;
            if first.len() < first.capacity() / 4 {
                first.shrink_to(first.len() * 2);
            }
            if let [only] = first.as_slice() {
                self.current = Subscribers::One(only.clone());
            }
        }
        removed.map(|subscription| subscription.subscriber)
    }

    /// Chunk and position of a subscriber.
    fn find(&self, id: u64) -> Option<(usize, usize)> {
        let chunk = self
            .index
            .as_ref()
            .map_or(Some(0), |index| index.get(&id).map(|&chunk| chunk as usize))?;
        let list = match &self.current {
            Subscribers::None => return None,
            Subscribers::One(only) => std::slice::from_ref(only),
            Subscribers::Many(chunks) => chunks.chunk(chunk),
        };
        let at = list.iter().position(|subscription| subscription.id == id)?;
        Some((chunk, at))
    }

    fn push(
        chunks: &mut Chunks<S>,
        index: &mut Option<Box<HashMap<u64, u32, foldhash::fast::RandomState>>>,
        subscription: Subscription<S>,
    ) {
        let id = subscription.id;
        let last = chunks.rest.len();
        if chunks.chunk(last).len() < CHUNK {
            chunks.chunk_mut(last).push(subscription);
        } else {
            chunks.rest.push(Arc::new(vec![subscription]));
            // The index starts with the second chunk.
            index.get_or_insert_with(|| {
                Box::new(chunks.first.iter().map(|known| (known.id, 0)).collect())
            });
        }
        if let Some(index) = index {
            index.insert(id, chunks.rest.len() as u32);
        }
    }
}

impl<S: Clone> Chunks<S> {
    fn chunk(&self, at: usize) -> &[Subscription<S>] {
        match at.checked_sub(1) {
            None => &self.first,
            Some(at) => &self.rest[at],
        }
    }

    /// A chunk to change, copied first if somebody reads it.
    fn chunk_mut(&mut self, at: usize) -> &mut Vec<Subscription<S>> {
        match at.checked_sub(1) {
            None => &mut self.first,
            Some(at) => Arc::make_mut(&mut self.rest[at]),
        }
    }
}
