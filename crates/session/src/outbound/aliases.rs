//! Topic aliases we set on one connection (MQTT 5, section 3.3.2.3.4). Deliberately absent: packets.

use hashbrown::HashTable;

use foldhash::fast::RandomState;
use std::hash::BuildHasher;

/// What to write for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// The alias alone.
    Known(u16),
    /// The topic, and an alias for it from [`Aliases::establish`], once it is sure that the packet goes out.
    New,
}

/// Aliases in use, least recently used last.
///
/// When all are taken, the least recently used topic gives up its alias: a client that gets one busy
/// topic among many rare ones keeps the busy one's alias, which the order of assignment would take away
/// every `maximum` new topics. The price is one relinking per packet, and none while the topic stays the same.
#[derive(Debug)]
pub(crate) struct Aliases {
    maximum: u16,
    /// The topic of alias `index + 1`, linked by use.
    slots: Vec<Slot>,
    index: HashTable<u16>,
    hasher: RandomState,
    newest: u16,
    oldest: u16,
}

#[derive(Debug)]
struct Slot {
    topic: String,
    newer: u16,
    older: u16,
}

impl Aliases {
    /// Topics that are not longer than this gain nothing: an alias costs three bytes.
    const SHORT_TOPIC_BYTES: usize = 3;

    /// `maximum` is not 0.
    pub(crate) fn new(maximum: u16) -> Self {
        Self {
            maximum,
            slots: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            newest: 0,
            oldest: 0,
        }
    }

    /// How `topic` goes out; `None` for as it is.
    pub(crate) fn pick(&mut self, topic: &str) -> Option<Pick> {
        if topic.len() <= Self::SHORT_TOPIC_BYTES {
            return None;
        }
        if self
            .slots
            .get(usize::from(self.newest))
            .is_some_and(|slot| slot.topic == topic)
        {
            return Some(Pick::Known(self.newest + 1));
        }
        let hash = self.hasher.hash_one(topic);
        match self
            .index
            .find(hash, |at| self.slots[usize::from(*at)].topic == topic)
        {
            Some(at) => {
                let at = *at;
                self.unlink(at);
                self.link_newest(at);
                Some(Pick::Known(at + 1))
            }
            None => Some(Pick::New),
        }
    }

    /// Gives `topic`, which [`Aliases::pick`] called new, an alias. The packet that says so must be sent.
    pub(crate) fn establish(&mut self, topic: &str) -> u16 {
        let at = if self.slots.len() < usize::from(self.maximum) {
            let at = self.slots.len() as u16;
            self.slots.push(Slot {
                topic: topic.to_owned(),
                newer: at,
                older: at,
            });
            if at == 0 {
                self.oldest = 0;
                self.newest = 0;
            } else {
                self.link_newest(at);
            }
            at
        } else {
            let at = self.oldest;
            let hash = self
                .hasher
                .hash_one(self.slots[usize::from(at)].topic.as_str());
            if let Ok(entry) = self.index.find_entry(hash, |other| *other == at) {
                entry.remove();
            }
            self.unlink(at);
            let slot = &mut self.slots[usize::from(at)].topic;
            slot.clear();
            slot.push_str(topic);
            self.link_newest(at);
            at
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hasher.hash_one(topic), at, |at| {
            hasher.hash_one(slots[usize::from(*at)].topic.as_str())
        });
        at + 1
    }

    /// Takes a slot out of the list. Its own links are stale afterwards; a lone slot stays as it is.
    fn unlink(&mut self, at: u16) {
        let Slot { newer, older, .. } = self.slots[usize::from(at)];
        if at == self.newest && at == self.oldest {
            return;
        }
        if at == self.newest {
            self.newest = older;
        } else {
            self.slots[usize::from(newer)].older = older;
        }
        if at == self.oldest {
            self.oldest = newer;
        } else {
            self.slots[usize::from(older)].newer = newer;
        }
    }

    /// Puts an unlinked slot in front.
    fn link_newest(&mut self, at: u16) {
        if at == self.newest {
            return;
        }
        let newest = self.newest;
        self.slots[usize::from(newest)].newer = at;
        self.slots[usize::from(at)].older = newest;
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `topic` and tells the alias it went with, and whether the topic was left out.
    fn send(aliases: &mut Aliases, topic: &str) -> (u16, bool) {
        match aliases.pick(topic).expect("long enough for an alias") {
            Pick::Known(alias) => (alias, true),
            Pick::New => (aliases.establish(topic), false),
        }
    }

    #[test]
    fn the_least_recently_used_topic_gives_up_its_alias() {
        let mut aliases = Aliases::new(2);
        assert_eq!(send(&mut aliases, "topic/a"), (1, false));
        assert_eq!(send(&mut aliases, "topic/b"), (2, false));
        assert_eq!(send(&mut aliases, "topic/a"), (1, true));
        assert_eq!(send(&mut aliases, "topic/c"), (2, false));
        assert_eq!(send(&mut aliases, "topic/a"), (1, true));
        assert_eq!(send(&mut aliases, "topic/b"), (2, false));
    }

    #[test]
    fn one_alias_serves_one_topic_at_a_time() {
        let mut aliases = Aliases::new(1);
        assert_eq!(send(&mut aliases, "topic/a"), (1, false));
        assert_eq!(send(&mut aliases, "topic/a"), (1, true));
        assert_eq!(send(&mut aliases, "topic/b"), (1, false));
        assert_eq!(send(&mut aliases, "topic/a"), (1, false));
    }

    #[test]
    fn a_topic_that_was_not_sent_is_not_known() {
        let mut aliases = Aliases::new(4);
        assert_eq!(aliases.pick("topic/a"), Some(Pick::New));
        assert_eq!(aliases.pick("topic/a"), Some(Pick::New));
        assert_eq!(aliases.pick("abc"), None);
    }

    /// The receiver's table and a list ordered by use, as the oracle.
    #[test]
    fn receiver_and_sender_agree_over_many_topics() {
        for maximum in [1_u16, 2, 3, 7, 20] {
            let mut aliases = Aliases::new(maximum);
            let mut receiver = vec![String::new(); usize::from(maximum)];
            let mut by_use: Vec<String> = Vec::new();
            let mut random = 1_u64;
            for _ in 0..5_000 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let topic = format!("topic/{}", (random >> 33) % 12);
                let (alias, left_out) = send(&mut aliases, &topic);
                assert_eq!(left_out, by_use.contains(&topic));
                by_use.retain(|known| *known != topic);
                by_use.push(topic.clone());
                if by_use.len() > usize::from(maximum) {
                    by_use.remove(0);
                }
                let known = &mut receiver[usize::from(alias) - 1];
                if !left_out {
                    known.clone_from(&topic);
                }
                assert_eq!(*known, topic);
            }
        }
    }
}
