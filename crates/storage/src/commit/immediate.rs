//! Committers without a thread: one that applies at once, one that keeps nothing.
//!
//! Deliberately absent: batching; they are for memory, where a commit costs no sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use martlet_sync::Mutex;

use super::{CommitListener, Committer};
use crate::backend::{Storage, StorageError};
use crate::op::StoreOp;
use crate::planner::{Group, Planner};
use crate::{Lsn, Message, MessageId, Timestamp};

/// Applies every batch inside [`Committer::submit`]; the watermark has reached it when that returns.
///
/// The listener is not called for commits: there is never anybody waiting. It hears of failures.
pub struct ImmediateCommitter<S> {
    storage: S,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    state: Mutex<State>,
    watermark: AtomicU64,
}

struct State {
    planner: Planner,
    next: Lsn,
    failed: bool,
    listener: Option<Arc<dyn CommitListener>>,
}

impl<S: Storage> ImmediateCommitter<S> {
    /// Goes on where `planner`, from [`crate::load`], ended. `clock` dates the batches.
    pub fn new(
        storage: S,
        planner: Planner,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        let lsn = planner.meta().lsn;
        let state = State {
            planner,
            next: lsn.next(),
            failed: false,
            listener: None,
        };
        Self {
            storage,
            clock: Box::new(clock),
            state: Mutex::new(state),
            watermark: AtomicU64::new(lsn.get()),
        }
    }
}

impl<S: Storage> Committer for ImmediateCommitter<S> {
    fn submit(&self, batch: Vec<StoreOp>) -> Lsn {
        let mut state = self.state.lock();
        let lsn = state.next;
        state.next = lsn.next();
        if state.failed {
            return lsn;
        }
        let mut group = Group::default();
        state.planner.add(lsn, batch, &mut group);
        let writes = state.planner.finish(group, (self.clock)());
        match self.storage.apply(&writes) {
            Ok(()) => self.watermark.store(lsn.get(), Ordering::Release),
            Err(error) => {
                state.failed = true;
                let listener = state.listener.clone();
                drop(state);
                if let Some(listener) = listener {
                    listener.failed(&error.to_string());
                }
            }
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
        0
    }

    fn flush(&self) {}

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

/// Keeps nothing and commits everything at once: a broker without a store.
#[derive(Debug, Default)]
pub struct NullCommitter {
    last: AtomicU64,
}

impl NullCommitter {
    /// A committer at the beginning.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Committer for NullCommitter {
    fn submit(&self, _batch: Vec<StoreOp>) -> Lsn {
        Lsn::new(self.last.fetch_add(1, Ordering::AcqRel) + 1)
    }

    fn watermark(&self) -> Lsn {
        Lsn::new(self.last.load(Ordering::Acquire))
    }

    fn set_listener(&self, _listener: Arc<dyn CommitListener>) {}

    fn backlog_bytes(&self) -> usize {
        0
    }

    fn flush(&self) {}
}
