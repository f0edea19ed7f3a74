//! Opening a store: every row is shown to a visitor once, bodies of queued messages stay where they are.
//!
//! Rows of sessions that do not exist, queue rows without body and bodies without reference are removed; a
//! crash cannot make them (batches are atomic), older programs could. Deliberately absent: what the broker
//! does with the rows.

use martlet_codec::PacketId;

use crate::backend::{COUNTERS_KEY, Storage, StorageError, Table, Write};
use crate::op::{CountersRecord, SessionRecord, WillRecord};
use crate::planner::Planner;
use crate::record::{self, Meta, OutboundRow, QueuedRow, RecordError, SubscriptionRow};
use crate::{Lsn, Message, MessageId, SessionId, Timestamp};

/// Receives the rows of a store that is being opened: first all sessions, then subscriptions, wills,
/// outbound rows, queues, inbound rows, retained messages, counters.
///
/// Every method does nothing by default.
pub trait Visitor {
    /// A session. A `connected` one counts as disconnected at [`Opened::committed`].
    fn session(&mut self, session: SessionId, record: SessionRecord) {
        let _ = (session, record);
    }
    /// A subscription of a session.
    fn subscription(&mut self, session: SessionId, row: SubscriptionRow) {
        let _ = (session, row);
    }
    /// A will; its session may be unknown, when it was not stored itself.
    fn will(&mut self, session: SessionId, will: WillRecord) {
        let _ = (session, will);
    }
    /// The QoS 2 deliveries of a session, in the order of sending.
    fn outbound(&mut self, session: SessionId, rows: &[OutboundRow]) {
        let _ = (session, rows);
    }
    /// A queue row, in the order of the queue.
    fn queued(&mut self, session: SessionId, row: QueuedRow) {
        let _ = (session, row);
    }
    /// A QoS 2 identifier that was received and not released.
    fn inbound(&mut self, session: SessionId, packet_id: PacketId) {
        let _ = (session, packet_id);
    }
    /// A retained message.
    fn retained(&mut self, message: Message) {
        let _ = message;
    }
    /// The counters of the broker, or why they cannot be read: nothing else depends on them, so the store opens without
    /// them. Not called where there are none.
    fn counters(&mut self, counters: Result<CountersRecord, StorageError>) {
        let _ = counters;
    }
}

impl Visitor for () {}

/// What is known after opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The last batch in the store.
    pub lsn: Lsn,
    /// When it was written. A wall clock that is behind this is to be held at it until it catches up.
    pub committed: Timestamp,
    /// The highest session number ever stored; new sessions are numbered above it.
    pub last_session: u64,
    /// The highest message number ever stored; new messages are numbered above it.
    pub last_message: u64,
    /// Rows that belonged to nothing and were removed.
    pub removed: usize,
}

/// Shows every row to `visitor` and returns what a committer needs to go on.
///
/// # Errors
/// [`StorageError::Corrupt`] for a row that cannot be read: a store with holes is refused, not mended. Only counters are not
/// worth that; see [`Visitor::counters`].
pub fn load(
    storage: &dyn Storage,
    visitor: &mut dyn Visitor,
) -> Result<(Planner, Opened), StorageError> {
    let (planner, cleanup) = read(storage, visitor)?;
    if !cleanup.is_empty() {
        storage.apply(&cleanup)?;
        storage.sync()?;
    }
    let meta = planner.meta();
    let opened = Opened {
        lsn: meta.lsn,
        committed: meta.committed,
        last_session: meta.last_session,
        last_message: meta.last_message,
        removed: cleanup.len(),
    };
    Ok((planner, opened))
}

/// As [`load`], but changes nothing: returns what removes the rows that belong to nothing.
pub(crate) fn read(
    storage: &dyn Storage,
    visitor: &mut dyn Visitor,
) -> Result<(Planner, Vec<Write>), StorageError> {
    let mut meta = None;
    storage.get(Table::Meta, &[], &mut |value| {
        meta = Some(Meta::decode(value));
    })?;
    let meta = meta.transpose()?.unwrap_or_default();
    let mut load = Load {
        storage,
        planner: Planner::new(meta),
        cleanup: Vec::new(),
    };

    storage.scan_keys(Table::Message, &[], &mut |key| {
        if let Ok(id) = key.try_into() {
            load.planner
                .loaded_body(MessageId::new(u64::from_be_bytes(id)));
        }
        true
    })?;
    load.table(Table::Session, |planner, key, value| {
        let session = Keyed::new(key)?.end()?;
        planner.loaded_session(session);
        visitor.session(session, SessionRecord::decode(value)?);
        Ok(true)
    })?;
    load.table(Table::Subscription, |planner, key, value| {
        let Keyed { session, rest } = Keyed::new(key)?;
        let row = SubscriptionRow::decode(rest, value)?;
        let known = planner.loaded_subscription(session);
        if known {
            visitor.subscription(session, row);
        }
        Ok(known)
    })?;
    load.table(Table::Will, |planner, key, value| {
        let session = Keyed::new(key)?.end()?;
        planner.loaded_will(session);
        visitor.will(session, WillRecord::decode(value)?);
        Ok(true)
    })?;
    load.outbound(visitor)?;
    load.table(Table::Queue, |planner, key, value| {
        let keyed = Keyed::new(key)?;
        let (message, copy) = keyed
            .rest
            .split_first_chunk()
            .ok_or(RecordError::Truncated)?;
        let copy = copy
            .try_into()
            .map_err(|_| RecordError::Invalid("queue key"))?;
        let row = QueuedRow::decode(MessageId::new(u64::from_be_bytes(*message)), value)?;
        let known = planner.loaded_queued(keyed.session, u16::from_be_bytes(copy), &row);
        if known {
            visitor.queued(keyed.session, row);
        }
        Ok(known)
    })?;
    load.planner.loaded_queues();
    load.table(Table::Inbound, |planner, key, value| {
        let (session, packet_id) = Keyed::new(key)?.packet_id()?;
        record::decode_inbound(value)?;
        let known = planner.loaded_inbound(session, packet_id);
        if known {
            visitor.inbound(session, packet_id);
        }
        Ok(known)
    })?;
    load.table(Table::Retained, |_, _, value| {
        visitor.retained(Message::from_record(value)?);
        Ok(true)
    })?;
    if let Some(counters) = counters(storage)? {
        visitor.counters(counters);
    }

    for orphan in load.planner.take_orphans() {
        load.cleanup.push(Write::Delete {
            table: Table::Message,
            key: orphan.get().to_be_bytes().to_vec(),
        });
    }
    let Load {
        planner, cleanup, ..
    } = load;
    Ok((planner, cleanup))
}

/// The counters, if there are any. An error inside is about them, one outside about the store.
fn counters(
    storage: &dyn Storage,
) -> Result<Option<Result<CountersRecord, StorageError>>, StorageError> {
    let mut decoded = None;
    match storage.get(Table::Meta, COUNTERS_KEY, &mut |value| {
        decoded = Some(CountersRecord::decode(value));
    }) {
        Ok(_) => Ok(decoded.map(|decoded| decoded.map_err(StorageError::from))),
        Err(error @ StorageError::Corrupt(_)) => Ok(Some(Err(error))),
        Err(error) => Err(error),
    }
}

struct Load<'a> {
    storage: &'a dyn Storage,
    planner: Planner,
    cleanup: Vec<Write>,
}

impl Load<'_> {
    /// Reads one table; rows for which `row` says `false` are removed.
    fn table(
        &mut self,
        table: Table,
        mut row: impl FnMut(&mut Planner, &[u8], &[u8]) -> Result<bool, RecordError>,
    ) -> Result<(), StorageError> {
        let mut failed = None;
        self.storage.scan(
            table,
            &[],
            &mut |key, value| match row(&mut self.planner, key, value) {
                Ok(true) => true,
                Ok(false) => {
                    self.cleanup.push(Write::Delete {
                        table,
                        key: key.to_vec(),
                    });
                    true
                }
                Err(error) => {
                    failed = Some(StorageError::Corrupt(format!(
                        "table {}: {error}",
                        table.name()
                    )));
                    false
                }
            },
        )?;
        failed.map_or(Ok(()), Err)
    }

    /// Outbound rows come sorted by packet id and are shown by the order of sending.
    fn outbound(&mut self, visitor: &mut dyn Visitor) -> Result<(), StorageError> {
        let mut current: Option<SessionId> = None;
        let mut rows: Vec<OutboundRow> = Vec::new();
        let mut show = |session: Option<SessionId>, rows: &mut Vec<OutboundRow>| {
            if let Some(session) = session {
                rows.sort_unstable_by_key(|row| row.sequence);
                visitor.outbound(session, rows);
            }
            rows.clear();
        };
        self.table(Table::Outbound, |planner, key, value| {
            let (session, packet_id) = Keyed::new(key)?.packet_id()?;
            let row = OutboundRow::decode(packet_id, value)?;
            let known = planner.loaded_outbound(session, &row);
            if known {
                if current != Some(session) {
                    show(current, &mut rows);
                    current = Some(session);
                }
                rows.push(row);
            }
            Ok(known)
        })?;
        show(current, &mut rows);
        Ok(())
    }
}

/// A key that starts with a session.
pub(crate) struct Keyed<'a> {
    pub(crate) session: SessionId,
    pub(crate) rest: &'a [u8],
}

impl<'a> Keyed<'a> {
    pub(crate) fn new(key: &'a [u8]) -> Result<Self, RecordError> {
        let (session, rest) = key.split_first_chunk().ok_or(RecordError::Truncated)?;
        Ok(Self {
            session: SessionId::new(u64::from_be_bytes(*session)),
            rest,
        })
    }

    pub(crate) fn end(self) -> Result<SessionId, RecordError> {
        if self.rest.is_empty() {
            Ok(self.session)
        } else {
            Err(RecordError::Trailing(self.rest.len()))
        }
    }

    pub(crate) fn packet_id(self) -> Result<(SessionId, PacketId), RecordError> {
        let id: [u8; 2] = self
            .rest
            .try_into()
            .map_err(|_| RecordError::Invalid("packet id"))?;
        let id = PacketId::new(u16::from_be_bytes(id)).ok_or(RecordError::Invalid("packet id"))?;
        Ok((self.session, id))
    }
}
