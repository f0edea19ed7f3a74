//! The index: where every row is, in memory; and how much of each segment is still of use.
//!
//! Keys and short values stand in the index itself; long values, all bodies among them, are places in the log.
//! Deliberately absent: reading and writing files.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::ops::{Bound, Deref};
use std::path::PathBuf;
use std::sync::Arc;

use martlet_storage::Table;

use crate::frame::{Row, SHORT_BYTES_MAX};

const KEY_INLINE: usize = 22;

/// A key; those of all tables but subscriptions and retained messages fit without an allocation.
///
/// Looking a key up compares some fifty keys, so short ones are kept as numbers that compare as their bytes do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RowKey {
    /// Big-endian, padded with zeros behind `length`.
    Inline {
        length: u8,
        end: u16,
        tail: u32,
        head: [u64; 2],
    },
    Heap(Box<[u8]>),
}

/// The bytes of a key.
pub(crate) enum KeyBytes<'a> {
    Inline(u8, [u8; KEY_INLINE]),
    Heap(&'a [u8]),
}

impl Deref for KeyBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline(length, bytes) => &bytes[..usize::from(*length)],
            Self::Heap(bytes) => bytes,
        }
    }
}

impl RowKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        if key.len() > KEY_INLINE {
            return Self::Heap(key.into());
        }
        let mut bytes = [0; KEY_INLINE];
        bytes[..key.len()].copy_from_slice(key);
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(word)
        };
        // The last six bytes are the lower ones of an overlapping word.
        let rest = word(KEY_INLINE - 8);
        Self::Inline {
            length: key.len() as u8,
            end: rest as u16,
            tail: (rest >> 16) as u32,
            head: [word(0), word(8)],
        }
    }

    pub(crate) fn bytes(&self) -> KeyBytes<'_> {
        match self {
            Self::Inline {
                length,
                end,
                tail,
                head: [first, second],
            } => {
                let mut bytes = [0; KEY_INLINE];
                bytes[..8].copy_from_slice(&first.to_be_bytes());
                bytes[8..16].copy_from_slice(&second.to_be_bytes());
                bytes[16..20].copy_from_slice(&tail.to_be_bytes());
                bytes[20..].copy_from_slice(&end.to_be_bytes());
                KeyBytes::Inline(*length, bytes)
            }
            Self::Heap(bytes) => KeyBytes::Heap(bytes),
        }
    }
}

impl PartialOrd for RowKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for RowKey {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (
                Self::Inline {
                    length,
                    end,
                    tail,
                    head,
                },
                Self::Inline {
                    length: other_length,
                    end: other_end,
                    tail: other_tail,
                    head: other_head,
                },
            ) => (head[0].cmp(&other_head[0]))
                .then_with(|| head[1].cmp(&other_head[1]))
                .then_with(|| tail.cmp(other_tail))
                .then_with(|| end.cmp(other_end))
                // The shorter of two that differ by zeros at the end.
                .then_with(|| length.cmp(other_length)),
            _ => self.bytes().cmp(&other.bytes()),
        }
    }
}

/// A row's value, or where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Short {
        segment: u32,
        length: u8,
        value: [u8; SHORT_BYTES_MAX],
    },
    Long {
        segment: u32,
        bytes: u32,
        sum: u32,
        /// Where in the segment's file.
        at: u64,
    },
}

impl Slot {
    pub(crate) fn segment(&self) -> u32 {
        match self {
            Self::Short { segment, .. } | Self::Long { segment, .. } => *segment,
        }
    }

    fn value_bytes(&self) -> u64 {
        match self {
            Self::Short { length, .. } => u64::from(*length),
            Self::Long { bytes, .. } => u64::from(*bytes),
        }
    }

    /// What the row takes in the log: kind, table, key, length and sum, value.
    fn cost(&self, key: &[u8]) -> u64 {
        14 + key.len() as u64 + self.value_bytes()
    }
}

/// A file of the log.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    /// How long the file is.
    pub(crate) bytes: u64,
    /// How much of it rows still need.
    pub(crate) live_bytes: u64,
    /// How many rows need it.
    pub(crate) live_rows: u64,
}

/// All rows and all segments.
#[derive(Debug, Default)]
pub(crate) struct Index {
    tables: [BTreeMap<RowKey, Slot>; Table::ALL.len()],
    /// Rows and bytes of the frame at hand that no segment knows of yet.
    added: (u64, u64),
    pub(crate) segments: BTreeMap<u32, Segment>,
}

impl Index {
    fn gone(&mut self, key: &[u8], slot: &Slot) {
        if let Some(segment) = self.segments.get_mut(&slot.segment()) {
            segment.live_rows = segment.live_rows.saturating_sub(1);
            segment.live_bytes = segment.live_bytes.saturating_sub(slot.cost(key));
        }
    }

    fn put(&mut self, table: Table, key: &[u8], slot: Slot) {
        self.added.0 += 1;
        self.added.1 += slot.cost(key);
        let old = match self.tables[table as usize].entry(RowKey::new(key)) {
            Entry::Occupied(mut row) => Some(row.insert(slot)),
            Entry::Vacant(row) => {
                row.insert(slot);
                None
            }
        };
        if let Some(old) = old {
            // It may be of this very frame.
            self.settle(slot.segment());
            self.gone(key, &old);
        }
    }

    /// Books what the rows of a frame in `segment` need; to be called behind the last of them.
    pub(crate) fn settle(&mut self, segment: u32) {
        let (rows, bytes) = std::mem::take(&mut self.added);
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.live_rows += rows;
            segment.live_bytes += bytes;
        }
    }

    /// Applies one row of a frame whose long values start at `values_at` in `segment`.
    pub(crate) fn apply(&mut self, segment: u32, values_at: u64, row: Row<'_>) {
        match row {
            Row::Short { table, key, value } => {
                let mut bytes = [0; SHORT_BYTES_MAX];
                let length = value.len().min(SHORT_BYTES_MAX);
                bytes[..length].copy_from_slice(&value[..length]);
                let slot = Slot::Short {
                    segment,
                    length: length as u8,
                    value: bytes,
                };
                self.put(table, key, slot);
            }
            Row::Long {
                table,
                key,
                at,
                bytes,
                sum,
            } => {
                let slot = Slot::Long {
                    segment,
                    bytes,
                    sum,
                    at: values_at.saturating_add(at),
                };
                self.put(table, key, slot);
            }
            Row::Delete { table, key } => {
                self.settle(segment);
                if let Some(old) = self.tables[table as usize].remove(&RowKey::new(key)) {
                    self.gone(key, &old);
                }
            }
            Row::DeletePrefix { table, prefix } => {
                self.settle(segment);
                let keys: Vec<RowKey> = self
                    .range(table, Bound::Included(&RowKey::new(prefix)))
                    .take_while(|(key, _)| key.bytes().starts_with(prefix))
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in keys {
                    if let Some(old) = self.tables[table as usize].remove(&key) {
                        self.gone(&key.bytes(), &old);
                    }
                }
            }
        }
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<Slot> {
        self.tables[table as usize].get(&RowKey::new(key)).copied()
    }

    /// Rows from `from` on, in the order of keys.
    pub(crate) fn range(
        &self,
        table: Table,
        from: Bound<&RowKey>,
    ) -> impl Iterator<Item = (&RowKey, &Slot)> {
        self.tables[table as usize].range::<RowKey, _>((from, Bound::Unbounded))
    }

    pub(crate) fn rows(&self, table: Table) -> usize {
        self.tables[table as usize].len()
    }

    pub(crate) fn file_of(&self, slot: &Slot) -> Option<Arc<File>> {
        self.segments
            .get(&slot.segment())
            .map(|segment| Arc::clone(&segment.file))
    }

    /// Bytes of all files, and how many of them are of use.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        self.segments
            .values()
            .fold((0, 0), |(bytes, live), segment| {
                (bytes + segment.bytes, live + segment.live_bytes)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_takes_two_words_of_three() {
        assert_eq!(size_of::<RowKey>(), 24);
        assert_eq!(size_of::<Slot>(), 24);
    }

    #[test]
    fn keys_sort_as_their_bytes() {
        let long = [7; 30];
        let mut keys: Vec<&[u8]> = vec![b"", b"\0", b"\0\0", b"a", b"a\0", b"a\0b", b"b", &long];
        keys.extend((14..25).map(|length| &long[..length]));
        keys.extend([&[0xFF; 22][..], &[0xFF; 23], &[0xFF; 17]]);
        for a in &keys {
            for b in &keys {
                assert_eq!(RowKey::new(a).cmp(&RowKey::new(b)), a.cmp(b), "{a:?} {b:?}");
            }
            assert_eq!(&*RowKey::new(a).bytes(), *a);
        }
    }
}
