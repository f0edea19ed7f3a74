//! One batch as bytes: a header, rows, then the long values.
//!
//! ```text
//! header  magic 4 · rows 4 · values 8 · batch 8 · synced 8 · kind 4 · sum of rows 4 · sum of header 4
//! rows    kind 1 · table 1 · key length 4 · key · (short: length 4 · value | long: length 4 · sum 4)
//! values  the long ones, one after the other
//! ```
//!
//! Numbers are little-endian; sums are CRC-32. The sum of the header covers a seed made of the segment's number
//! and a random number of the store, so that a frame is valid only where it was written, and a payload that looks
//! like a frame is none. Rows can be read without the values: start-up reads no bodies.
//! Deliberately absent: files.

use martlet_storage::{Table, Write};

pub(crate) const HEADER_BYTES: usize = 44;
const MAGIC: [u8; 4] = *b"MLf1";

/// Values up to this long stand in the rows and are kept in memory.
pub(crate) const SHORT_BYTES_MAX: usize = 18;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A batch.
    Batch,
    /// Batches up to this one were lost, and their loss accepted.
    Gap,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) rows_bytes: u32,
    pub(crate) values_bytes: u64,
    /// Number of the batch; of the last lost one in a gap.
    pub(crate) batch: u64,
    /// The last batch that was known to be synced when this one was written.
    pub(crate) synced: u64,
    pub(crate) kind: Kind,
    pub(crate) rows_sum: u32,
}

impl Header {
    pub(crate) fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.rows_bytes) + self.values_bytes
    }

    pub(crate) fn encode(&self, seed: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.rows_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.values_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.batch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.synced.to_le_bytes());
        let kind: u32 = match self.kind {
            Kind::Batch => 0,
            Kind::Gap => 1,
        };
        bytes[32..36].copy_from_slice(&kind.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.rows_sum.to_le_bytes());
        let sum = header_sum(seed, &bytes);
        bytes[40..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` unless the bytes are a header with this seed.
    pub(crate) fn decode(seed: u64, bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        if bytes[..4] != MAGIC || u32_at(bytes, 40) != header_sum(seed, bytes) {
            return None;
        }
        Some(Self {
            rows_bytes: u32_at(bytes, 4),
            values_bytes: u64_at(bytes, 8),
            batch: u64_at(bytes, 16),
            synced: u64_at(bytes, 24),
            kind: match u32_at(bytes, 32) {
                0 => Kind::Batch,
                1 => Kind::Gap,
                _ => return None,
            },
            rows_sum: u32_at(bytes, 36),
        })
    }

    /// Where the next header could start in `bytes`.
    pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
        bytes.windows(MAGIC.len()).position(|at| at == MAGIC)
    }
}

fn header_sum(seed: u64, bytes: &[u8; HEADER_BYTES]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&seed.to_le_bytes());
    sum.update(&bytes[..40]);
    sum.finalize()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// A change as it stands in the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row<'a> {
    Short {
        table: Table,
        key: &'a [u8],
        value: &'a [u8],
    },
    Long {
        table: Table,
        key: &'a [u8],
        /// Where its value starts, counted from the first value.
        at: u64,
        bytes: u32,
        sum: u32,
    },
    Delete {
        table: Table,
        key: &'a [u8],
    },
    DeletePrefix {
        table: Table,
        prefix: &'a [u8],
    },
}

const SHORT: u8 = 0;
const LONG: u8 = 1;
const DELETE: u8 = 2;
const DELETE_PREFIX: u8 = 3;

/// Collects the rows of a frame.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) bytes: Vec<u8>,
    pub(crate) values_bytes: u64,
}

impl Rows {
    pub(crate) fn clear(&mut self) {
        // One huge batch must not keep its memory.
        if self.bytes.capacity() > 4 << 20 {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.values_bytes = 0;
    }

    fn start(&mut self, kind: u8, table: Table, key: &[u8]) {
        self.bytes.push(kind);
        self.bytes.push(table as u8);
        self.bytes
            .extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(key);
    }

    /// Adds a row with a value. Long values must be written behind the rows, in this order.
    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let length = (value.len() as u32).to_le_bytes();
        if value.len() <= SHORT_BYTES_MAX {
            self.start(SHORT, table, key);
            self.bytes.extend_from_slice(&length);
            self.bytes.extend_from_slice(value);
        } else {
            self.start(LONG, table, key);
            self.bytes.extend_from_slice(&length);
            self.bytes
                .extend_from_slice(&crc32fast::hash(value).to_le_bytes());
            self.values_bytes += value.len() as u64;
        }
    }

    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) {
        self.start(DELETE, table, key);
    }

    pub(crate) fn write(&mut self, write: &Write) {
        match write {
            Write::Put { table, key, value } => self.put(*table, key, value.as_bytes()),
            Write::Delete { table, key } => self.delete(*table, key),
            Write::DeletePrefix { table, prefix } => self.start(DELETE_PREFIX, *table, prefix),
        }
    }

    /// The header of a frame with these rows.
    pub(crate) fn header(&self, batch: u64, synced: u64) -> Header {
        Header {
            rows_bytes: self.bytes.len() as u32,
            values_bytes: self.values_bytes,
            batch,
            synced,
            kind: Kind::Batch,
            rows_sum: crc32fast::hash(&self.bytes),
        }
    }
}

/// Shows every row to `show`; `None` when the bytes are not rows.
pub(crate) fn read_rows(mut bytes: &[u8], mut show: impl FnMut(Row<'_>)) -> Option<()> {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = bytes.split_at_checked(count)?;
        *bytes = rest;
        Some(taken)
    }
    let mut at = 0_u64;
    while !bytes.is_empty() {
        let head = take(&mut bytes, 6)?;
        let table = *Table::ALL.get(usize::from(head[1]))?;
        let key = take(&mut bytes, u32_at(head, 2) as usize)?;
        match head[0] {
            SHORT => {
                let length = u32_at(take(&mut bytes, 4)?, 0) as usize;
                let value = take(&mut bytes, length)?;
                if length > SHORT_BYTES_MAX {
                    return None;
                }
                show(Row::Short { table, key, value });
            }
            LONG => {
                let rest = take(&mut bytes, 8)?;
                let length = u32_at(rest, 0);
                show(Row::Long {
                    table,
                    key,
                    at,
                    bytes: length,
                    sum: u32_at(rest, 4),
                });
                at += u64::from(length);
            }
            DELETE => show(Row::Delete { table, key }),
            DELETE_PREFIX => show(Row::DeletePrefix { table, prefix: key }),
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        let mut rows = Rows::default();
        rows.put(Table::Queue, b"k", &[1; SHORT_BYTES_MAX]);
        rows.put(Table::Message, b"long", &[2; SHORT_BYTES_MAX + 1]);
        rows.put(Table::Message, b"", &[3; 100]);
        rows.write(&Write::Delete {
            table: Table::Will,
            key: b"w".to_vec(),
        });
        rows.write(&Write::DeletePrefix {
            table: Table::Subscription,
            prefix: Vec::new(),
        });
        let mut seen = Vec::new();
        let done = read_rows(&rows.bytes, |row| seen.push(format!("{row:?}")));
        assert_eq!(done, Some(()));
        assert_eq!(seen.len(), 5);
        assert!(seen[2].contains("at: 19, bytes: 100"), "{}", seen[2]);
        assert_eq!(rows.values_bytes, 119);
        for cut in 1..rows.bytes.len() {
            // Never a panic; whole rows only.
            let _ = read_rows(&rows.bytes[..cut], |_| {});
        }
    }

    #[test]
    fn a_header_is_valid_in_its_segment_only() {
        let header = Rows::default().header(7, 6);
        let bytes = header.encode(3);
        assert_eq!(Header::decode(3, &bytes), Some(header));
        assert_eq!(Header::decode(4, &bytes), None);
        for at in 0..HEADER_BYTES {
            for bit in 0..8 {
                let mut flipped = bytes;
                flipped[at] ^= 1 << bit;
                assert_eq!(Header::decode(3, &flipped), None, "byte {at} bit {bit}");
            }
        }
    }
}
