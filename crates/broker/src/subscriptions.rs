//! The subscriptions of one session, as it remembers them. Most sessions have a handful, so this is a sorted
//! list: an entry costs its own bytes and nothing else.

use martlet_codec::SubscribeOptions;

/// A subscription as the session remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscribed {
    pub(crate) options: SubscribeOptions,
    pub(crate) subscription_id: Option<u32>,
}

/// Subscriptions by filter text as subscribed, share prefix included.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Vec<(Box<str>, Subscribed)>);

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, filter: &str) -> bool {
        self.find(filter).is_ok()
    }

    /// Adds or replaces.
    pub(crate) fn insert(&mut self, filter: &str, subscribed: Subscribed) {
        match self.find(filter) {
            Ok(at) => self.0[at].1 = subscribed,
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    // Vec would begin with room for four.
                    self.0.reserve_exact((self.0.len() / 2).max(1));
                }
                self.0.insert(at, (filter.into(), subscribed));
            }
        }
    }

    /// Removes and returns whether it was there.
    pub(crate) fn remove(&mut self, filter: &str) -> bool {
        match self.find(filter) {
            Ok(at) => {
                self.0.remove(at);
                if self.0.len() < self.0.capacity() / 4 {
                    self.0.shrink_to(self.0.len() * 2);
                }
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(filter, _)| &**filter)
    }

    fn find(&self, filter: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(filter))
    }
}

#[cfg(test)]
mod tests {
    use martlet_codec::{QoS, RetainHandling};

    use super::*;

    #[test]
    fn filters_are_found_replaced_and_removed() {
        let options = |qos| SubscribeOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAlways,
        };
        let subscribed = |qos| Subscribed {
            options: options(qos),
            subscription_id: None,
        };
        let mut all = Subscriptions::default();
        for n in 0..100 {
            all.insert(&format!("a/{}", n * 7 % 100), subscribed(QoS::AtMostOnce));
        }
        all.insert("a/7", subscribed(QoS::ExactlyOnce));
        assert_eq!(all.len(), 100);
        assert!(all.contains("a/99") && !all.contains("a/100"));
        assert!(all.filters().is_sorted());
        assert!(all.remove("a/7") && !all.remove("a/7"));
        for n in 0..100 {
            all.remove(&format!("a/{n}"));
        }
        assert_eq!((all.len(), all.0.capacity()), (0, 0));
    }
}
