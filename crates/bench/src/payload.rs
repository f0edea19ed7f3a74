//! What stands in the payload of every message of a run, and how a receiver tells that nothing happened to it.
//!
//! A header (stream, sequence number, time, topic number, check), a fill that is the same in every message, and the
//! sequence number once more at the very end: a message with the head of one and the tail of another is found out.
//! The sender changes 28 bytes per message; the receiver compares the rest with a constant. Deliberately absent:
//! strength against somebody who wants to deceive.

/// The smallest payload, in bytes: a header and the repeated sequence number.
pub(crate) const SIZE_MIN: usize = HEADER + TRAILER;

const HEADER: usize = 24;
const TRAILER: usize = 4;

/// A prime length, so that the same place in two packets rarely holds the same byte.
const PATTERN: [u8; 4093] = pattern();

const fn pattern() -> [u8; 4093] {
    let mut bytes = [0; 4093];
    let mut state: u32 = 0x9E37_79B9;
    let mut index = 0;
    while index < bytes.len() {
        // Numerical Recipes' generator; any would do that has no short period.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes[index] = (state >> 24) as u8;
        index += 1;
    }
    bytes
}

/// What a message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// From which publisher to which receiver, see `plan`.
    pub(crate) stream: u32,
    /// Position in its stream, from 0.
    pub(crate) sequence: u32,
    /// When it was to be sent, in nanoseconds since the run began.
    pub(crate) time: u64,
    /// The number in its topic, 0 where the topic has none.
    pub(crate) number: u32,
}

impl Header {
    fn check(&self, len: usize) -> u32 {
        let one = u64::from(self.stream) << 32 | u64::from(self.sequence);
        let two = self.time ^ (u64::from(self.number) << 32 | len as u64).rotate_left(17);
        let product =
            u128::from(one ^ 0xA076_1D64_78BD_642F) * u128::from(two ^ 0xE703_7ED1_A0B4_28DB);
        let folded = product as u64 ^ (product >> 64) as u64;
        (folded ^ folded >> 32) as u32
    }
}

/// Fills everything that no message changes. Payloads below [`SIZE_MIN`] are refused by `options`.
pub(crate) fn fill(payload: &mut [u8]) {
    if payload.len() < SIZE_MIN {
        return;
    }
    let end = payload.len() - TRAILER;
    for chunk in payload[HEADER..end].chunks_mut(PATTERN.len()) {
        chunk.copy_from_slice(&PATTERN[..chunk.len()]);
    }
}

/// Writes what differs from message to message into a payload that [`fill`] has seen.
#[inline]
pub(crate) fn stamp(payload: &mut [u8], header: &Header) {
    let len = payload.len();
    if len < SIZE_MIN {
        return;
    }
    let check = header.check(len);
    payload[0..4].copy_from_slice(&header.stream.to_le_bytes());
    payload[4..8].copy_from_slice(&header.sequence.to_le_bytes());
    payload[8..16].copy_from_slice(&header.time.to_le_bytes());
    payload[16..20].copy_from_slice(&header.number.to_le_bytes());
    payload[20..24].copy_from_slice(&check.to_le_bytes());
    payload[len - TRAILER..].copy_from_slice(&header.sequence.to_le_bytes());
}

/// Reads and checks a payload; `None` when it is not what a sender of `len` bytes wrote.
#[inline]
pub(crate) fn read(payload: &[u8], len: usize) -> Option<Header> {
    if payload.len() != len || len < SIZE_MIN {
        return None;
    }
    let four = |at: usize| payload[at..at + 4].try_into().map(u32::from_le_bytes);
    let header = Header {
        stream: four(0).ok()?,
        sequence: four(4).ok()?,
        time: u64::from_le_bytes(payload[8..16].try_into().ok()?),
        number: four(16).ok()?,
    };
    let end = len - TRAILER;
    if four(20).ok()? != header.check(len) || four(end).ok()? != header.sequence {
        return None;
    }
    payload[HEADER..end]
        .chunks(PATTERN.len())
        .all(|chunk| *chunk == PATTERN[..chunk.len()])
        .then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize, sequence: u32) -> (Vec<u8>, Header) {
        let header = Header {
            stream: 7,
            sequence,
            time: 1_234_567_890_123,
            number: 42,
        };
        let mut payload = vec![0; len];
        fill(&mut payload);
        stamp(&mut payload, &header);
        (payload, header)
    }

    #[test]
    fn what_was_written_is_read() {
        for len in [SIZE_MIN, SIZE_MIN + 1, 64, 4_096, 10_000] {
            let (payload, header) = message(len, 5);
            assert_eq!(read(&payload, len), Some(header), "{len}");
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        for len in [SIZE_MIN, 64, 5_000] {
            let (mut payload, _) = message(len, 5);
            for bit in 0..len * 8 {
                payload[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(read(&payload, len), None, "bit {bit} of {len} bytes");
                payload[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn another_length_and_the_tail_of_another_message_are_noticed() {
        let (payload, _) = message(64, 5);
        assert_eq!(read(&payload[..63], 64), None);
        assert_eq!(read(&payload[..10], 10), None);
        let (next, _) = message(64, 6);
        let torn = [&payload[..40], &next[40..]].concat();
        assert_eq!(read(&torn, 64), None);
    }
}
