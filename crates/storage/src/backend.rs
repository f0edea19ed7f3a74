//! What a backend provides: an ordered map per table, changed by atomic batches.
//!
//! Deliberately absent: sessions, reference counts, positions; those are the same for all backends and live
//! in [`crate::Planner`], so that a backend stays small enough to be trusted.

use std::sync::Arc;

use crate::record::RecordError;
use crate::{Message, MessageId};

/// A kind of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Two rows: [`crate::Meta`], at the empty key, and [`crate::CountersRecord`], at [`COUNTERS_KEY`], if counters are kept.
    Meta = 0,
    /// Key: session.
    Session = 1,
    /// Key: session, filter.
    Subscription = 2,
    /// Key: message. The values are bodies, up to the largest packet.
    Message = 3,
    /// Key: session, message, count.
    Queue = 4,
    /// Key: session, packet id.
    Outbound = 5,
    /// Key: session, packet id.
    Inbound = 6,
    /// Key: topic.
    Retained = 7,
    /// Key: session.
    Will = 8,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 9] = [
        Self::Meta,
        Self::Session,
        Self::Subscription,
        Self::Message,
        Self::Queue,
        Self::Outbound,
        Self::Inbound,
        Self::Retained,
        Self::Will,
    ];

    /// Its name, for backends that name their tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Session => "session",
            Self::Subscription => "subscription",
            Self::Message => "message",
            Self::Queue => "queue",
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Retained => "retained",
            Self::Will => "will",
        }
    }
}

/// Where in [`Table::Meta`] the counters are. It is a row of an old table, not a table of its own: programs from before it
/// open the store and pass over the row.
pub const COUNTERS_KEY: &[u8] = b"counters";

/// Longest key: a session and the longest filter.
pub const KEY_BYTES_MAX: usize = 8 + u16::MAX as usize;

/// A value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A record.
    Record(Vec<u8>),
    /// A message, shared with those who deliver it.
    Message(Message),
}

impl Value {
    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Record(bytes) => bytes,
            Self::Message(message) => message.as_record(),
        }
    }
}

/// One change of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Creates or replaces a row.
    Put {
        /// The table.
        table: Table,
        /// The row's key.
        key: Vec<u8>,
        /// The row's value.
        value: Value,
    },
    /// Deletes a row, if it exists.
    Delete {
        /// The table.
        table: Table,
        /// The row's key.
        key: Vec<u8>,
    },
    /// Deletes every row whose key starts with `prefix`.
    DeletePrefix {
        /// The table.
        table: Table,
        /// What the keys start with.
        prefix: Vec<u8>,
    },
}

/// Why a backend could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// No space is left; the batch was not written. [`Storage::reopen`] may help later.
    #[error("no space is left for the store: {0}")]
    NoSpace(String),
    /// The store cannot be reached. Whether the batch was applied is not known: the same batch is to be tried again, and
    /// is applied once.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// Reading or writing failed. What was written last is unknown.
    #[error("the store cannot be read or written: {0}")]
    Io(String),
    /// The data is not what was written.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// Another broker owns the store now.
    #[error("the store belongs to another broker now: {0}")]
    Fenced(String),
    /// The backend has no such ability.
    #[error("the storage backend cannot {0}")]
    Unsupported(&'static str),
}

impl From<RecordError> for StorageError {
    fn from(error: RecordError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// What a store takes and has done since it was opened; zero where a backend does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// How many of them rows need.
    pub live_bytes: u64,
    /// Bytes written, those that were written again included.
    pub written_bytes: u64,
    /// Bytes written again to make room.
    pub rewritten_bytes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Rows that could not be read and were given up.
    pub damaged_rows: u64,
}

impl Usage {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            disk_bytes: 0,
            live_bytes: 0,
            written_bytes: 0,
            rewritten_bytes: 0,
            syncs: 0,
            damaged_rows: 0,
        }
    }
}

/// A backend: tables of ordered rows.
///
/// [`Storage::apply`] and [`Storage::sync`] are called by one thread; reads come from any thread, meanwhile.
pub trait Storage: Send + Sync + 'static {
    /// Applies all `writes` or none, in their order. They survive the end of the process from here on, the end of
    /// the machine from the next [`Storage::sync`] on.
    ///
    /// # Errors
    /// After [`StorageError::NoSpace`] nothing of the batch is in the store and it may be tried again, after
    /// [`StorageError::Unavailable`] the next batch must be the same one; after any other error the store is not to be
    /// written any more.
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError>;

    /// Makes everything applied so far survive a power failure.
    ///
    /// # Errors
    /// An error here is final: the operating system may have dropped the data already.
    fn sync(&self) -> Result<(), StorageError>;

    /// Shows `visit` every row whose key starts with `prefix`, in the order of keys, until it returns `false`.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError>;

    /// As [`Storage::scan`], but keys only, for tables whose values are large.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn scan_keys(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.scan(table, prefix, &mut |key, _| visit(key))
    }

    /// Shows `read` the value of one row. Returns whether there is one.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError>;

    /// Closes and opens the store again, after [`StorageError::NoSpace`] or [`StorageError::Unavailable`].
    ///
    /// # Errors
    /// See [`StorageError`].
    fn reopen(&self) -> Result<(), StorageError> {
        Err(StorageError::Unsupported("reopen its store"))
    }

    /// Says in words that room is running out: batches are still applied, so that what was delivered goes, but no more
    /// messages should be taken. `None` while there is room, or where a backend does not know.
    fn low(&self) -> Option<String> {
        None
    }

    /// What the store takes and has done, for metrics.
    fn usage(&self) -> Usage {
        Usage::default()
    }

    /// Reads one body; `None` where there is none.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn read_body(&self, id: MessageId) -> Result<Option<Message>, StorageError> {
        let mut read = None;
        self.get(Table::Message, &id.get().to_be_bytes(), &mut |value| {
            read = Some(Message::from_record(value));
        })?;
        Ok(read.transpose()?)
    }
}

/// A shared backend, so that its owner can look at [`Storage::usage`] while a committer writes.
impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        (**self).apply(writes)
    }
    fn sync(&self) -> Result<(), StorageError> {
        (**self).sync()
    }
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        (**self).scan(table, prefix, visit)
    }
    fn scan_keys(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), StorageError> {
        (**self).scan_keys(table, prefix, visit)
    }
    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError> {
        (**self).get(table, key, read)
    }
    fn reopen(&self) -> Result<(), StorageError> {
        (**self).reopen()
    }
    fn low(&self) -> Option<String> {
        (**self).low()
    }
    fn usage(&self) -> Usage {
        (**self).usage()
    }
    fn read_body(&self, id: MessageId) -> Result<Option<Message>, StorageError> {
        (**self).read_body(id)
    }
}
