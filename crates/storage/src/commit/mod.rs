//! The broker's side of the store: batches in, a watermark out.
//!
//! Deliberately absent: backends, and any waiting on IO by those who submit.

mod group;
mod immediate;
#[cfg(any(test, feature = "contract"))]
mod manual;
mod stats;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::backend::StorageError;
use crate::op::StoreOp;
use crate::{Lsn, Message, MessageId};

pub use group::{CommitOptions, Fsync, GroupCommitter};
pub use immediate::{ImmediateCommitter, NullCommitter};
#[cfg(any(test, feature = "contract"))]
pub use manual::ManualCommitter;
pub use stats::{CommitStats, Histogram};

/// Called by the committer, on its own thread, after the watermark moved. Implementations return soon.
pub trait CommitListener: Send + Sync {
    /// Everything up to and including `watermark` is safe.
    fn committed(&self, watermark: Lsn);
    /// The store can acknowledge nothing any more. The watermark stays where it is for ever.
    fn failed(&self, error: &str);
    /// The store is out of space or cannot be reached; the same batches are tried again until they are written. Called
    /// for each attempt.
    fn stalled(&self, error: &str) {
        let _ = error;
    }
    /// What stalled was written.
    fn recovered(&self) {}
    /// Room is running out, `why` in words, or there is enough again. Batches commit all the same, but until there is
    /// room no more messages should be submitted. Called when it changes.
    fn low(&self, why: Option<&str>) {
        let _ = why;
    }
}

/// The broker's side of the store: submit batches, watch the watermark.
pub trait Committer: Send + Sync {
    /// Hands in one atomic batch; never blocks on IO. Batches commit in the order of their `Lsn`.
    fn submit(&self, batch: Vec<StoreOp>) -> Lsn;
    /// Everything up to and including this is safe by the chosen policy.
    fn watermark(&self) -> Lsn;
    /// Replaces the listener. Commits from now on are reported to it.
    fn set_listener(&self, listener: Arc<dyn CommitListener>);
    /// Bytes submitted and not yet committed.
    fn backlog_bytes(&self) -> usize;
    /// What was committed, how long it took, and what the store takes.
    fn stats(&self) -> CommitStats {
        CommitStats::default()
    }
    /// Waits until everything submitted is committed, or nothing can be any more; for shutdown.
    fn flush(&self);
    /// Reads bodies of queued messages and hands each to `read`, `None` where it does not exist. Blocks on
    /// IO: call it off the runtime, and without a lock that a listener may want.
    ///
    /// A committer that keeps nothing has none.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn read_bodies(
        &self,
        ids: &[MessageId],
        read: &mut dyn FnMut(MessageId, Option<Message>),
    ) -> Result<(), StorageError> {
        for id in ids {
            read(*id, None);
        }
        Ok(())
    }
}
