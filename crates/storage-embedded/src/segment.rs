//! The head of a segment, and reading frames from one. Deliberately absent: what frames mean.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::frame::{self, HEADER_BYTES, Header, Row, u32_at, u64_at};

pub(crate) const HEAD_BYTES: usize = 36;
const MAGIC: [u8; 8] = *b"MLseg\0\0\x01";

/// Encodes the head of segment `number`, whose first batch will be `first`.
pub(crate) fn head(number: u32, first: u64, salt: u64) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    bytes[12..20].copy_from_slice(&first.to_le_bytes());
    bytes[20..28].copy_from_slice(&salt.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..32]);
    bytes[32..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// First batch and salt of a segment, from its head.
pub(crate) fn decode_head(number: u32, bytes: &[u8]) -> Option<(u64, u64)> {
    let bytes = bytes.get(..HEAD_BYTES)?;
    let valid = bytes[..8] == MAGIC
        && u32_at(bytes, 32) == crc32fast::hash(&bytes[..32])
        && u32_at(bytes, 8) == number;
    valid.then(|| (u64_at(bytes, 12), u64_at(bytes, 20)))
}

/// What the sums of a segment's headers start with.
pub(crate) fn seed(number: u32, salt: u64) -> u64 {
    salt ^ u64::from(number)
}

/// Reads a segment through a window, so that rows of small frames come with few calls and long values are
/// stepped over.
pub(crate) struct Reader<'a> {
    file: &'a File,
    number: u32,
    salt: u64,
    pub(crate) bytes: u64,
    window: Vec<u8>,
    window_at: u64,
}

const WINDOW_BYTES: usize = 256 * 1024;
const STEP_BYTES: usize = 4 * 1024;

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a File, number: u32, salt: u64) -> io::Result<Self> {
        Ok(Self {
            file,
            number,
            salt,
            bytes: file.metadata()?.len(),
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// `length` bytes at `at`; `None` beyond the end.
    fn read(&mut self, at: u64, length: usize) -> io::Result<Option<&[u8]>> {
        if self
            .bytes
            .checked_sub(at)
            .is_none_or(|left| left < length as u64)
        {
            return Ok(None);
        }
        let end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + length as u64 > end {
            // Near the window: small frames, read on. Far from it: a long value was stepped over.
            let near = at >= self.window_at && at <= end + STEP_BYTES as u64;
            let want = length.max(if near { WINDOW_BYTES } else { STEP_BYTES });
            let want = (want as u64).min(self.bytes - at) as usize;
            self.window.resize(want, 0);
            self.file.read_exact_at(&mut self.window, at)?;
            self.window_at = at;
        }
        let from = (at - self.window_at) as usize;
        Ok(self.window.get(from..from + length))
    }

    /// The first batch, as the head says; `None` where the head is damaged.
    pub(crate) fn first_batch(&mut self) -> io::Result<Option<u64>> {
        let number = self.number;
        Ok(self
            .read(0, HEAD_BYTES)?
            .and_then(|bytes| decode_head(number, bytes))
            .map(|(first, _)| first))
    }

    /// The header of a whole frame at `at`.
    pub(crate) fn header(&mut self, at: u64) -> io::Result<Option<Header>> {
        let seed = seed(self.number, self.salt);
        let Some(bytes) = self.read(at, HEADER_BYTES)? else {
            return Ok(None);
        };
        let Ok(bytes) = bytes.try_into() else {
            return Ok(None);
        };
        let header = Header::decode(seed, bytes);
        let left = self.bytes - at;
        Ok(header.filter(|header| {
            header
                .values_bytes
                .checked_add(u64::from(header.rows_bytes) + HEADER_BYTES as u64)
                .is_some_and(|length| length <= left)
        }))
    }

    /// Shows the rows of the frame at `at`; `false` when they are damaged.
    pub(crate) fn rows(
        &mut self,
        at: u64,
        header: &Header,
        show: impl FnMut(Row<'_>),
    ) -> io::Result<bool> {
        let rows = self.read(at + HEADER_BYTES as u64, header.rows_bytes as usize)?;
        let Some(rows) = rows.filter(|rows| crc32fast::hash(rows) == header.rows_sum) else {
            return Ok(false);
        };
        Ok(frame::read_rows(rows, show).is_some())
    }

    /// Whether rows and long values of the frame at `at` are what was written.
    pub(crate) fn is_whole(&mut self, at: u64, header: &Header) -> io::Result<bool> {
        let mut values = Vec::new();
        let sound = self.rows(at, header, |row| {
            if let Row::Long { at, bytes, sum, .. } = row {
                values.push((at, bytes, sum));
            }
        })?;
        if !sound {
            return Ok(false);
        }
        let values_at = at + HEADER_BYTES as u64 + u64::from(header.rows_bytes);
        let mut end = 0;
        for (at, bytes, sum) in values {
            end = at + u64::from(bytes);
            let value = self.read(values_at + at, bytes as usize)?;
            if value.is_none_or(|value| crc32fast::hash(value) != sum) {
                return Ok(false);
            }
        }
        Ok(end == header.values_bytes)
    }

    /// The first whole frame behind `after`, with a batch number above `last`.
    pub(crate) fn find(&mut self, after: u64, last: u64) -> io::Result<Option<(u64, Header)>> {
        let mut at = after;
        while at < self.bytes {
            let length = (self.bytes - at).min(WINDOW_BYTES as u64) as usize;
            let found = self.read(at, length)?.and_then(Header::find);
            match found {
                Some(offset) => {
                    at += offset as u64;
                    if let Some(header) = self.header(at)?
                        && header.batch > last
                        && self.is_whole(at, &header)?
                    {
                        return Ok(Some((at, header)));
                    }
                    at += 1;
                }
                // The mark of a header may lie across the end of what was looked at.
                None => at += length.saturating_sub(3).max(1) as u64,
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_belongs_to_its_segment() {
        let bytes = head(3, 77, 5);
        assert_eq!(decode_head(3, &bytes), Some((77, 5)));
        assert_eq!(decode_head(4, &bytes), None);
        for at in 0..HEAD_BYTES {
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert_eq!(decode_head(3, &flipped), None, "byte {at}");
        }
    }
}
