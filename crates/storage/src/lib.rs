//! What a broker stores, and the traits of the backends that keep it.
//!
//! * Vocabulary: identities, [`Timestamp`], [`Message`], and [`StoreOp`] with a row for every event that
//!   matters to durability.
//! * [`Committer`]: what the broker talks to. It submits batches and compares positions with a watermark;
//!   [`GroupCommitter`] writes them from one thread, [`ImmediateCommitter`] at once.
//! * [`Storage`]: what a backend provides, an ordered map per [`Table`] with atomic batches. The
//!   [`Planner`] between the two turns operations into rows and counts references.
//! * [`load`]: opening a store, row by row, without reading queued bodies.
//! * [`MemoryStorage`], and with the feature `contract` the suite that every backend runs and a committer
//!   that commits when told.
//! * With the feature `place`: the directory of a backend that keeps its store in files.
//! * With the feature `transfer`: rows in words, export and import as JSON lines, and a check.
//!
//! Deliberately absent: MQTT session logic, an asynchronous runtime, any other backend.

mod backend;
mod commit;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod ids;
mod load;
mod memory;
mod message;
mod op;
#[cfg(feature = "place")]
pub mod place;
mod planner;
mod record;
#[cfg(feature = "transfer")]
pub mod transfer;

pub use backend::{COUNTERS_KEY, KEY_BYTES_MAX, Storage, StorageError, Table, Usage, Value, Write};
#[cfg(any(test, feature = "contract"))]
pub use commit::ManualCommitter;
pub use commit::{
    CommitListener, CommitOptions, CommitStats, Committer, Fsync, GroupCommitter, Histogram,
    ImmediateCommitter, NullCommitter,
};
pub use ids::{Lsn, MessageId, SessionId, Timestamp};
pub use load::{Opened, Visitor, load};
pub use memory::MemoryStorage;
pub use message::{Message, MessageHead};
pub use op::{CountersRecord, OutboundState, SessionRecord, StoreOp, WillRecord};
pub use planner::{Group, Planner};
pub use record::{
    Meta, OutboundRow, QueuedRow, RecordError, SubscriptionRow, VERSION, decode_batch, encode_batch,
};
