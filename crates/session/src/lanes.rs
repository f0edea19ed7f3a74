//! Several ways out to one client: which of them a message takes. A connection over one byte stream has none of this.
//!
//! A *lane* is the output for one further byte stream of a client. A topic has one lane, the one that a filter is bound
//! to, so that the order of its messages is that of one stream. Deliberately absent: the streams.

use martlet_topic::{TopicFilter, TopicName, Trie};

use crate::out_buf::OutBuf;

/// The output of the stream that a connection began with.
pub const MAIN_LANE: u8 = 0;

/// The highest number of a lane.
pub const LANES_MAX: u8 = 31;

/// What may wait in a lane is this part of what may wait for a connection of one stream.
pub(crate) const LANE_SHARE: usize = 16;

/// The lanes of one client, from number 1 on.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    bufs: Vec<OutBuf>,
    /// One bit for each number.
    open: u32,
    bound: Trie<u8>,
}

impl Lanes {
    pub(crate) fn open(&mut self, lane: u8) {
        let lane = lane.clamp(1, LANES_MAX);
        if self.bufs.len() < usize::from(lane) {
            self.bufs.resize_with(usize::from(lane), OutBuf::new);
        }
        self.open |= 1 << lane;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open == 0
    }

    pub(crate) fn has(&self, lane: u8) -> bool {
        (1..=LANES_MAX).contains(&lane) && self.open & 1 << lane != 0
    }

    pub(crate) fn get(&self, lane: u8) -> Option<&OutBuf> {
        self.has(lane)
            .then(|| self.bufs.get(usize::from(lane) - 1))?
    }

    /// A lane that [`Lanes::has`].
    pub(crate) fn own(&mut self, lane: u8) -> &mut OutBuf {
        &mut self.bufs[usize::from(lane) - 1]
    }

    /// Those that are open, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &OutBuf)> {
        (1..=LANES_MAX)
            .zip(&self.bufs)
            .filter(|(lane, _)| self.has(*lane))
    }

    /// Closes `lane` and returns what waited in it.
    pub(crate) fn remove(&mut self, lane: u8) -> Option<OutBuf> {
        if !self.has(lane) {
            return None;
        }
        self.unbind_all(lane);
        let buf = std::mem::take(self.own(lane));
        self.open &= !(1 << lane);
        Some(buf)
    }

    /// The lane of `topic`: of several that are bound to it, the lowest.
    #[cold]
    pub(crate) fn of(&self, topic: &str) -> u8 {
        let mut found = u8::MAX;
        self.bound
            .for_each_match(TopicName::trusted(topic), |lane| found = found.min(*lane));
        if self.has(found) { found } else { MAIN_LANE }
    }

    pub(crate) fn bind(&mut self, filter: TopicFilter<'_>, lane: u8) {
        if self.has(lane) {
            self.bound.insert(filter, lane);
        } else {
            self.bound.remove(filter);
        }
    }

    /// What was bound to `lane` is bound to nothing.
    pub(crate) fn unbind_all(&mut self, lane: u8) {
        let mut gone: Vec<String> = Vec::new();
        self.bound.for_each(|filter, bound| {
            if *bound == lane {
                gone.push(filter.as_str().to_owned());
            }
        });
        for filter in &gone {
            self.bound.remove(TopicFilter::trusted(filter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::new(text).expect("a filter")
    }

    #[test]
    fn a_topic_has_the_lane_that_a_filter_was_bound_to() {
        let mut out = OutBuf::new();
        assert_eq!(out.lane_of("a/b"), MAIN_LANE);
        out.bind(filter("a/#"), 3);
        assert_eq!(out.lane_of("a/b"), MAIN_LANE, "there is no such lane");
        out.open_lane(3);
        out.open_lane(7);
        out.bind(filter("a/#"), 7);
        out.bind(filter("a/b"), 3);
        out.bind(filter("+/c"), 3);
        let check = |out: &OutBuf, topic, lane| assert_eq!(out.lane_of(topic), lane, "{topic}");
        check(&out, "a", 7);
        check(&out, "a/b", 3);
        check(&out, "x/c", 3);
        check(&out, "b", MAIN_LANE);
        out.bind(filter("a/b"), MAIN_LANE);
        check(&out, "a/b", 7);
        out.close_lane(7);
        check(&out, "a/b", MAIN_LANE);
        check(&out, "x/c", 3);
    }

    #[test]
    fn a_lane_that_ends_leaves_what_waits_to_the_main_one() {
        let mut out = OutBuf::new();
        out.open_lane(1);
        out.put(b"main");
        out.lane_mut(1).put(b"lane");
        assert_eq!((out.len(), out.lane(1).len()), (4, 4));
        assert!(out.has_output_besides(1 << MAIN_LANE));
        assert!(!out.has_output_besides(0b11));
        out.remove_lane(1);
        assert!(!out.has_output_besides(1 << MAIN_LANE));
        assert_eq!(out.inline().as_slice(), b"mainlane");
        // Whoever still writes to it writes to the main one.
        out.lane_mut(1).put(b"!");
        assert_eq!(out.len(), 9);
    }

    #[test]
    fn each_lane_is_measured_by_itself() {
        let mut out = OutBuf::new();
        out.open_lane(2);
        let (large, small) = (LANE_SHARE * 100, 100);
        assert!(!out.is_above(large));
        out.lane_mut(2).put(&[0; 100]);
        assert!(out.is_above(large));
        assert!(!out.is_above(large + LANE_SHARE));
        out.put(&vec![0; small]);
        assert!(out.is_above(small));
        assert_eq!(out.pending_bytes(), small);
    }
}
