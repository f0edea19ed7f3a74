//! Streams: what one publisher sends to one topic at one QoS, numbered from 1, which is what order is promised for.
//!
//! A message can be made again from its stream and number, so a resent one is the same, and a received one can be
//! checked to the last byte. Deliberately absent: connections.

use super::random::mix;
use super::scene::{Kind, Ledger};
use martlet_codec::QoS;
use std::collections::BTreeSet;

pub(super) const PUBLISHERS: usize = 4;
/// Data topics of a publisher.
pub(super) const TOPICS: usize = 2;

/// What becomes of the messages of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// They go to subscribers.
    Data,
    /// The last one is retained.
    Retained,
    /// Every second one has no payload and clears the retained message.
    Cleared,
}

/// One stream.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) publisher: usize,
    pub(super) topic: usize,
    pub(super) qos: QoS,
    pub(super) what: Use,
    pub(super) name: String,
}

/// All streams; the index of one is its number in payloads.
pub(super) fn all() -> Vec<Stream> {
    let mut streams = Vec::new();
    let both = [QoS::AtLeastOnce, QoS::ExactlyOnce];
    for publisher in 0..PUBLISHERS {
        for topic in 0..TOPICS {
            for qos in both {
                streams.push(Stream {
                    publisher,
                    topic,
                    qos,
                    what: Use::Data,
                    name: format!("crash/data/{publisher}/{topic}"),
                });
            }
        }
        for (what, folder) in [(Use::Retained, "retained"), (Use::Cleared, "cleared")] {
            for qos in both {
                let name = format!("crash/{folder}/{publisher}/{}", qos as u8);
                streams.push(Stream {
                    publisher,
                    topic: usize::MAX,
                    qos,
                    what,
                    name,
                });
            }
        }
    }
    streams
}

const HEAD_BYTES: usize = 10;

/// The payload of message `number` of a stream.
pub(super) fn payload(stream: usize, what: Use, number: u64) -> Vec<u8> {
    if what == Use::Cleared && number.is_multiple_of(2) {
        return Vec::new();
    }
    let dice = mix((stream as u64) << 48 ^ number);
    // Mostly small; one in 64 is of several kilobytes, which the store and the outbox treat differently.
    let length = match dice % 64 {
        0 => 2_000 + (dice >> 8) % 14_000,
        _ => (dice >> 8) % 400,
    };
    let mut bytes = Vec::with_capacity(HEAD_BYTES + length as usize);
    bytes.extend_from_slice(&(stream as u16).to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend((0..length).map(|at| (dice >> (at % 8)) as u8));
    bytes
}

/// Stream and number of a payload; `None` when it is not one that was sent.
pub(super) fn read(streams: &[Stream], topic: &str, bytes: &[u8]) -> Option<(usize, u64)> {
    let (head, _) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let stream = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let mut number = [0; 8];
    number.copy_from_slice(&head[2..]);
    let number = u64::from_be_bytes(number);
    let known = streams.get(stream)?;
    (known.name == topic && payload(stream, known.what, number) == bytes)
        .then_some((stream, number))
}

/// What one subscription has seen of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    last: u64,
    /// Up to `last`, those that did not come.
    missing: BTreeSet<u64>,
}

/// How strictly a stream is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub(super) exactly_once: bool,
    pub(super) in_order: bool,
}

impl Seen {
    /// Books a message that came. `who` says where, for the words.
    pub(super) fn deliver(&mut self, number: u64, promise: Promise, who: &str, ledger: &Ledger) {
        if number > self.last {
            self.missing.extend(self.last + 1..number);
            self.last = number;
        } else if self.missing.remove(&number) {
            if promise.in_order {
                let last = self.last;
                ledger.find(Kind::Order, format!("{who}: {number} came after {last}"));
            }
        } else if promise.exactly_once {
            ledger.find(Kind::Duplicated, format!("{who}: {number} came again"));
        }
    }

    /// Whether everything up to `expected` came.
    pub(super) fn is_complete(&self, expected: u64) -> bool {
        self.missing.is_empty() && self.last >= expected
    }

    /// Books what never came, and forgets it. All messages up to `expected` were acknowledged, none beyond was sent.
    pub(super) fn settle(&mut self, expected: u64, who: &str, ledger: &Ledger) {
        let tail = expected.saturating_sub(self.last);
        let lost = self.missing.len() as u64 + tail;
        if lost > 0 {
            let first = self.missing.first().copied().unwrap_or(self.last + 1);
            ledger.count(
                Kind::Lost,
                lost,
                format!("{who}: {lost} of {expected} never came, the first is {first}"),
            );
        }
        self.missing.clear();
        self.last = self.last.max(expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Promise = Promise {
        exactly_once: true,
        in_order: true,
    };

    /// Lost, duplicated and out of order of a sequence of which `expected` were sent.
    fn check(numbers: &[u64], expected: u64, promise: Promise) -> (u64, u64, u64) {
        let ledger = Ledger::default();
        let mut seen = Seen::default();
        for number in numbers {
            seen.deliver(*number, promise, "test", &ledger);
        }
        seen.settle(expected, "test", &ledger);
        let counts = ledger.counts();
        (
            counts[Kind::Lost as usize],
            counts[Kind::Duplicated as usize],
            counts[Kind::Order as usize],
        )
    }

    #[test]
    fn what_comes_is_judged() {
        let lenient = Promise {
            exactly_once: false,
            in_order: false,
        };
        assert_eq!(check(&[1, 2, 3], 3, STRICT), (0, 0, 0));
        assert_eq!(check(&[1, 3], 4, STRICT), (2, 0, 0));
        assert_eq!(check(&[1, 3, 2], 3, STRICT), (0, 0, 1));
        assert_eq!(check(&[1, 3, 2], 3, lenient), (0, 0, 0));
        assert_eq!(check(&[1, 2, 2, 3, 1], 3, STRICT), (0, 2, 0));
        assert_eq!(check(&[1, 2, 2, 3, 1], 3, lenient), (0, 0, 0));
        assert_eq!(check(&[], 2, lenient), (2, 0, 0));
    }

    #[test]
    fn a_payload_is_known_to_the_last_byte() {
        let streams = all();
        for (number, stream) in streams.iter().enumerate() {
            for message in 1..200 {
                let mut bytes = payload(number, stream.what, message);
                if bytes.is_empty() {
                    continue;
                }
                assert_eq!(
                    read(&streams, &stream.name, &bytes),
                    Some((number, message))
                );
                assert_eq!(read(&streams, "crash/data/other", &bytes), None);
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                assert_ne!(
                    read(&streams, &stream.name, &bytes),
                    Some((number, message))
                );
            }
        }
    }
}
