//! The index: where every row is, in memory; and how much of each segment is still of use.
//!
//! Keys and short values stand in the index itself; long values, all bodies among them, are places in the log.
//! Deliberately absent: reading and writing files.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use martlet_storage::Table;

use crate::frame::{Row, SHORT_BYTES_MAX};

const KEY_INLINE: usize = 22;

/// A key; those of all tables but subscriptions and retained messages fit without an allocation.
#[derive(Clone, Debug)]
pub(crate) enum RowKey {
    Inline(u8, [u8; KEY_INLINE]),
    Heap(Box<[u8]>),
}

impl RowKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        if key.len() <= KEY_INLINE {
            let mut bytes = [0; KEY_INLINE];
            bytes[..key.len()].copy_from_slice(key);
            Self::Inline(key.len() as u8, bytes)
        } else {
            Self::Heap(key.into())
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline(length, bytes) => &bytes[..usize::from(*length)],
            Self::Heap(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for RowKey {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}
impl PartialEq for RowKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}
impl Eq for RowKey {}
impl PartialOrd for RowKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for RowKey {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            // Padded with zeros, so that the order of the arrays is that of the keys, but for zeros at the end.
            (Self::Inline(length, bytes), Self::Inline(other_length, other_bytes)) => {
                let (head, tail) = words(bytes);
                let (other_head, other_tail) = words(other_bytes);
                head.cmp(&other_head)
                    .then_with(|| tail.cmp(&other_tail))
                    .then_with(|| length.cmp(other_length))
            }
            _ => self.as_bytes().cmp(other.as_bytes()),
        }
    }
}

/// The bytes as numbers that compare as they do.
fn words(bytes: &[u8; KEY_INLINE]) -> (u128, u64) {
    let mut head = [0; 16];
    head.copy_from_slice(&bytes[..16]);
    let mut tail = [0; 8];
    tail[..KEY_INLINE - 16].copy_from_slice(&bytes[16..]);
    (u128::from_be_bytes(head), u64::from_be_bytes(tail))
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
                if let Some(old) = self.tables[table as usize].remove(key) {
                    self.gone(key, &old);
                }
            }
            Row::DeletePrefix { table, prefix } => {
                self.settle(segment);
                let keys: Vec<RowKey> = self
                    .range(table, Bound::Included(prefix))
                    .take_while(|(key, _)| key.as_bytes().starts_with(prefix))
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in keys {
                    if let Some(old) = self.tables[table as usize].remove(key.as_bytes()) {
                        self.gone(key.as_bytes(), &old);
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
        from: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&RowKey, &Slot)> {
        self.tables[table as usize].range::<[u8], _>((from, Bound::Unbounded))
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
        }
    }
}
