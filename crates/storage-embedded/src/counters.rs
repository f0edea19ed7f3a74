//! What a store has done since it was opened. Deliberately absent: names of metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counted while a store is open.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) batches: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) copied_bytes: AtomicU64,
    pub(crate) damaged_rows: AtomicU64,
}

impl Counted {
    pub(crate) fn wrote(&self, bytes: u64) {
        self.batches.fetch_add(1, Relaxed);
        self.written_bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn synced(&self) {
        self.syncs.fetch_add(1, Relaxed);
    }

    pub(crate) fn copied(&self, bytes: u64) {
        self.copied_bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn damaged(&self, rows: u64) {
        self.damaged_rows.fetch_add(rows, Relaxed);
    }
}
