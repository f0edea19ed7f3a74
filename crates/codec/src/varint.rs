//! Variable byte integers (1.5.5): 0 to 268,435,455 in one to four bytes, always the shortest form.

use bytes::BufMut;

use crate::error::{ErrorKind, Fault, Parsed};

/// The largest value: four bytes of seven bits.
pub const MAX: u32 = 268_435_455;

/// Bytes that `value` takes (1 to 4); values above [`MAX`] are a caller's bug.
#[inline]
pub const fn len(value: u32) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Writes `value` in its shortest form; of values above [`MAX`] only the lower 28 bits are written.
///
/// # Panics
/// If `dst` has less than [`len`] bytes of room.
#[inline]
pub fn put(value: u32, dst: &mut impl BufMut) {
    let (bytes, len) = to_bytes(value);
    dst.put_slice(&bytes[..len]);
}

/// The bytes of `value`, and how many of them count.
#[inline]
pub(crate) const fn to_bytes(value: u32) -> ([u8; 4], usize) {
    match len(value) {
        1 => ([bits(value, 0), 0, 0, 0], 1),
        2 => ([bits(value, 0) | 0x80, bits(value, 7), 0, 0], 2),
        3 => (
            [
                bits(value, 0) | 0x80,
                bits(value, 7) | 0x80,
                bits(value, 14),
                0,
            ],
            3,
        ),
        _ => (
            [
                bits(value, 0) | 0x80,
                bits(value, 7) | 0x80,
                bits(value, 14) | 0x80,
                bits(value, 21),
            ],
            4,
        ),
    }
}

const fn bits(value: u32, shift: u32) -> u8 {
    (value >> shift & 0x7F) as u8
}

/// How reading one can fail; the caller knows in which position it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarintError {
    /// The input ends before the last byte.
    Incomplete,
    /// A fifth byte is announced.
    TooLong,
    /// The last byte adds nothing ([MQTT-1.5.5-1]).
    NotMinimal,
}

/// Reads one at the start of `input`: the value, and how many bytes it took.
#[inline]
pub(crate) fn read(input: &[u8]) -> Result<(u32, usize), VarintError> {
    // Most are one byte long.
    match input.first() {
        Some(&byte) if byte < 0x80 => return Ok((u32::from(byte), 1)),
        Some(_) => {}
        None => return Err(VarintError::Incomplete),
    }
    let mut value = 0;
    for (index, &byte) in input.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            // A last byte of zero behind another one is padding.
            return if byte == 0 {
                Err(VarintError::NotMinimal)
            } else {
                Ok((value, index + 1))
            };
        }
    }
    Err(if input.len() < 4 {
        VarintError::Incomplete
    } else {
        VarintError::TooLong
    })
}

/// Parses one; the two errors are those of its position.
#[inline]
pub(crate) fn parse(input: &[u8], too_long: ErrorKind, not_minimal: ErrorKind) -> Parsed<'_, u32> {
    match read(input) {
        Ok((value, taken)) => Ok((&input[taken..], value)),
        Err(VarintError::Incomplete) => Err(Fault::err(ErrorKind::Truncated, input)),
        Err(VarintError::TooLong) => Err(Fault::err(too_long, input)),
        Err(VarintError::NotMinimal) => Err(Fault::err(not_minimal, input)),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn check(value: u32, bytes: &[u8]) {
        let mut written = Vec::new();
        put(value, &mut written);
        assert_eq!(written, bytes, "{value}");
        assert_eq!(len(value), bytes.len(), "{value}");
        assert_eq!(read(bytes), Ok((value, bytes.len())), "{value}");
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Err(VarintError::Incomplete), "{value}");
        }
    }

    #[test]
    fn boundaries_of_every_length() {
        check(0, &[0x00]);
        check(127, &[0x7F]);
        check(128, &[0x80, 0x01]);
        check(16_383, &[0xFF, 0x7F]);
        check(16_384, &[0x80, 0x80, 0x01]);
        check(2_097_151, &[0xFF, 0xFF, 0x7F]);
        check(2_097_152, &[0x80, 0x80, 0x80, 0x01]);
        check(MAX, &[0xFF, 0xFF, 0xFF, 0x7F]);
    }

    #[test]
    fn padded_and_endless_integers_are_refused() {
        assert_eq!(read(&[0x80, 0x00]), Err(VarintError::NotMinimal));
        assert_eq!(read(&[0xFF, 0x80, 0x00]), Err(VarintError::NotMinimal));
        assert_eq!(
            read(&[0xFF, 0xFF, 0xFF, 0x00]),
            Err(VarintError::NotMinimal)
        );
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80]), Err(VarintError::TooLong));
        assert_eq!(
            read(&[0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
            Err(VarintError::TooLong)
        );
    }
}
