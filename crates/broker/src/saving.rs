//! The running totals in the store: taken up at the start, written now and then and at the end, if that was asked for
//! (`sys.save_interval`).
//!
//! Nobody waits for these writes, and without being asked for there are none. Deliberately absent: which totals there are.

use martlet_storage::{CountersRecord, Lsn, StorageError, StoreOp};
use martlet_sync::Mutex;

use crate::{core::Core, counters::Loads};

/// What was written last.
#[derive(Default)]
pub(crate) struct Saved(Mutex<(Lsn, CountersRecord)>);

impl Core {
    /// Whether totals are kept.
    fn saves_counters(&self) -> bool {
        self.durable && !self.config.load().sys.save_interval.is_zero()
    }

    /// Goes on counting from what the store had. Called once, before anybody can connect.
    pub(crate) fn take_up_counters(&self, found: Option<Result<CountersRecord, StorageError>>) {
        if !self.saves_counters() {
            return;
        }
        match found {
            Some(Ok(record)) => self.counters.go_on_from(&record),
            Some(Err(error)) => tracing::error!(
                event = "counters_unreadable",
                %error,
                "the counters in the store cannot be read and begin at zero; nothing else depends on them"
            ),
            None => {}
        }
        let snapshot = self.snapshot();
        *self.loads.lock() = Loads::starting_at(&snapshot);
        self.saved.0.lock().1 = snapshot.record();
    }

    /// Writes the totals, if they are kept and have changed. Unless it is the `last` time, not while those before still wait
    /// for a store that is full or away.
    pub(crate) fn save_counters(&self, last: bool) {
        if !self.saves_counters() {
            return;
        }
        // Held over the snapshot as well, so that none goes into the store after a later one.
        let mut saved = self.saved.0.lock();
        let (lsn, before) = &mut *saved;
        if !last && self.committer.watermark() < *lsn {
            return;
        }
        let record = self.snapshot().record();
        if record != *before {
            before.clone_from(&record);
            *lsn = self.submit(vec![StoreOp::PutCounters { record }]);
        }
    }
}
