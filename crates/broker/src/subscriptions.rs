//! The filters of one session, as it subscribed to them. Options and identifiers are with the router's subscription.
//!
//! Most sessions have one or a handful, kept in a sorted list: an entry costs its own bytes and nothing else. A session
//! with many has them in a tree, where adding one does not move the others.

use std::collections::BTreeSet;

/// Filters by text as subscribed, share prefix included.
#[derive(Debug)]
pub(crate) enum Subscriptions {
    One(Box<str>),
    Few(Vec<Box<str>>),
    /// In a box: a session is as large as its largest variant.
    #[expect(clippy::box_collection, reason = "a third of the size of each session")]
    Many(Box<BTreeSet<Box<str>>>),
}

/// From here on a tree; half of it is where a list begins again.
const MANY: usize = 64;

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Few(list) => list.len(),
            Self::Many(tree) => tree.len(),
        }
    }

    pub(crate) fn contains(&self, filter: &str) -> bool {
        match self {
            Self::One(one) => **one == *filter,
            Self::Few(list) => find(list, filter).is_ok(),
            Self::Many(tree) => tree.contains(filter),
        }
    }

    /// Adds `filter` unless it is there.
    pub(crate) fn insert(&mut self, filter: &str) {
        match self {
            Self::One(one) => {
                if **one != *filter {
                    let mut list = vec![std::mem::take(one), filter.into()];
                    list.sort_unstable();
                    *self = Self::Few(list);
                }
            }
            Self::Few(list) if list.is_empty() => *self = Self::One(filter.into()),
            Self::Few(list) => {
                let Err(at) = find(list, filter) else { return };
                if list.len() == list.capacity() {
                    // Vec would begin with room for four.
                    list.reserve_exact((list.len() / 2).max(1));
                }
                list.insert(at, filter.into());
                if list.len() >= MANY {
                    *self = Self::Many(Box::new(std::mem::take(list).into_iter().collect()));
                }
            }
            Self::Many(tree) => {
                if !tree.contains(filter) {
                    tree.insert(filter.into());
                }
            }
        }
    }

    /// Removes and returns whether it was there.
    pub(crate) fn remove(&mut self, filter: &str) -> bool {
        match self {
            Self::One(one) => {
                let was_there = **one == *filter;
                if was_there {
                    *self = Self::default();
                }
                was_there
            }
            Self::Few(list) => match find(list, filter) {
                Ok(at) => {
                    list.remove(at);
                    if list.len() * 4 <= list.capacity() {
                        list.shrink_to(list.len() * 2);
                    }
                    true
                }
                Err(_) => false,
            },
            Self::Many(tree) => {
                let was_there = tree.remove(filter);
                if tree.len() < MANY / 2 {
                    *self = Self::Few(std::mem::take(&mut **tree).into_iter().collect());
                }
                was_there
            }
        }
    }

    /// All of them, sorted.
    pub(crate) fn filters(&self) -> impl Iterator<Item = &str> {
        let (list, tree) = match self {
            Self::One(one) => (std::slice::from_ref(one), None),
            Self::Few(list) => (&list[..], None),
            Self::Many(tree) => (&[][..], Some(&**tree)),
        };
        list.iter()
            .chain(tree.into_iter().flatten())
            .map(|filter| &**filter)
    }
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

fn find(list: &[Box<str>], filter: &str) -> Result<usize, usize> {
    list.binary_search_by(|known| (**known).cmp(filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_found_once_and_removed_in_small_and_large_numbers() {
        for count in [1, 2, 5, MANY - 1, MANY, MANY + 1, 1_000] {
            let mut all = Subscriptions::default();
            for n in (0..count).rev().chain(0..count) {
                all.insert(&format!("a/{n}"));
            }
            assert_eq!(all.len(), count);
            assert!(all.contains("a/0") && !all.contains("b"));
            assert!(all.filters().is_sorted());
            assert_eq!(all.filters().count(), count);
            assert!(!all.remove("b"));
            for n in 0..count {
                assert!(all.remove(&format!("a/{n}")));
                assert!(!all.remove(&format!("a/{n}")));
                assert_eq!(all.len(), count - n - 1);
            }
            assert!(matches!(&all, Subscriptions::Few(list) if list.capacity() == 0));
        }
    }
}
