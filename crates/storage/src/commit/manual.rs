//! A committer that commits when told, to prove that acknowledgements wait. Deliberately absent: a store
//! that outlives it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use martlet_sync::Mutex;

use super::{CommitListener, Committer};
use crate::backend::{Storage, StorageError};
use crate::memory::MemoryStorage;
use crate::op::StoreOp;
use crate::planner::{Group, Planner};
use crate::{Lsn, Message, MessageId, Timestamp};

/// Holds every batch until [`ManualCommitter::commit_one`], [`ManualCommitter::commit_all`] or
/// [`Committer::flush`].
pub struct ManualCommitter {
    storage: MemoryStorage,
    state: Mutex<State>,
    watermark: AtomicU64,
}

struct State {
    planner: Planner,
    next: Lsn,
    pending: VecDeque<(Lsn, Vec<StoreOp>)>,
    failed: bool,
    listener: Option<Arc<dyn CommitListener>>,
    now: Timestamp,
}

impl Default for ManualCommitter {
    fn default() -> Self {
        Self::new(MemoryStorage::new(), Planner::default())
    }
}

impl ManualCommitter {
    /// Goes on where `planner`, from [`crate::load`], ended.
    pub fn new(storage: MemoryStorage, planner: Planner) -> Self {
        let lsn = planner.meta().lsn;
        let state = State {
            planner,
            next: lsn.next(),
            pending: VecDeque::new(),
            failed: false,
            listener: None,
            now: Timestamp::from_millis(0),
        };
        Self {
            storage,
            state: Mutex::new(state),
            watermark: AtomicU64::new(lsn.get()),
        }
    }

    /// What has been committed; a crash leaves exactly this.
    pub fn storage(&self) -> &MemoryStorage {
        &self.storage
    }

    /// The time that later commits are dated with.
    pub fn set_time(&self, now: Timestamp) {
        self.state.lock().now = now;
    }

    /// Batches that wait.
    pub fn pending(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// The operations that wait, oldest first.
    pub fn pending_ops(&self) -> Vec<StoreOp> {
        self.state
            .lock()
            .pending
            .iter()
            .flat_map(|(_, ops)| ops.iter().cloned())
            .collect()
    }

    /// Commits the oldest batch; `false` when none waits.
    pub fn commit_one(&self) -> bool {
        let (lsn, listener) = {
            let mut state = self.state.lock();
            if state.failed {
                return false;
            }
            let Some((lsn, ops)) = state.pending.pop_front() else {
                return false;
            };
            let mut group = Group::default();
            state.planner.add(lsn, ops, &mut group);
            let now = state.now;
            let writes = state.planner.finish(group, now);
            if self.storage.apply(&writes).is_err() {
                return false;
            }
            self.watermark.store(lsn.get(), Ordering::Release);
            (lsn, state.listener.clone())
        };
        if let Some(listener) = listener {
            listener.committed(lsn);
        }
        true
    }

    /// Commits everything that waits, batch by batch. Returns how many.
    pub fn commit_all(&self) -> usize {
        let mut count = 0;
        while self.commit_one() {
            count += 1;
        }
        count
    }

    /// The store fails: what waits is lost, and nothing is acknowledged any more.
    pub fn fail(&self, error: &str) {
        let listener = {
            let mut state = self.state.lock();
            state.failed = true;
            state.pending.clear();
            state.listener.clone()
        };
        if let Some(listener) = listener {
            listener.failed(error);
        }
    }
}

impl Committer for ManualCommitter {
    fn submit(&self, batch: Vec<StoreOp>) -> Lsn {
        let mut state = self.state.lock();
        let lsn = state.next;
        state.next = lsn.next();
        if !state.failed {
            state.pending.push_back((lsn, batch));
        }
        lsn
    }

    fn watermark(&self) -> Lsn {
        Lsn::new(self.watermark.load(Ordering::Acquire))
    }

    fn set_listener(&self, listener: Arc<dyn CommitListener>) {
        self.state.lock().listener = Some(listener);
    }

    fn backlog_bytes(&self) -> usize {
        self.state
            .lock()
            .pending
            .iter()
            .flat_map(|(_, ops)| ops)
            .map(StoreOp::weight_bytes)
            .sum()
    }

    fn flush(&self) {
        self.commit_all();
    }

    fn read_bodies(
        &self,
        ids: &[MessageId],
        read: &mut dyn FnMut(MessageId, Option<Message>),
    ) -> Result<(), StorageError> {
        for id in ids {
            read(*id, self.storage.read_body(*id)?);
        }
        Ok(())
    }
}
