//! The load that stores are measured with: messages queued for sessions whose clients are away, and taken from them again.
//!
//! Every batch is planned as a committer plans it, so that rows and bytes are those of a broker. Deliberately absent: time.

use std::sync::Arc;

use martlet_codec::QoS;

use crate::{
    Group, Lsn, Message, MessageHead, MessageId, Planner, SessionId, SessionRecord, Storage,
    StorageError, StoreOp, Timestamp, load,
};

/// The topic of every message, which belongs to no subscription.
const TOPIC: &str = "a/topic";

/// A store with messages queued for some sessions: each message for each of them.
pub struct QueueLoad {
    storage: Arc<dyn Storage>,
    planner: Planner,
    lsn: Lsn,
    sessions: u64,
    /// The oldest message that is queued.
    first: u64,
    /// The next message.
    next: u64,
    records: u64,
    scratch: Vec<u8>,
}

impl QueueLoad {
    /// Makes `sessions` sessions in an empty store, synced.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn new(storage: Arc<dyn Storage>, sessions: u64) -> Result<Self, StorageError> {
        let mut load = Self::resume(storage, sessions, 0)?;
        let ops = (1..=sessions).map(|n| StoreOp::PutSession {
            session: SessionId::new(n),
            record: SessionRecord {
                client_id: format!("subscriber-{n}").into(),
                username: None,
                expiry_interval_secs: u32::MAX,
                expires: None,
                connected: false,
            },
        });
        load.commit(ops.collect(), true)?;
        Ok(load)
    }

    /// Goes on with a store in which `queued` messages wait for each of `sessions` sessions.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn resume(
        storage: Arc<dyn Storage>,
        sessions: u64,
        queued: u64,
    ) -> Result<Self, StorageError> {
        let (planner, opened) = load(&storage, &mut ())?;
        let next = opened.last_message + 1;
        Ok(Self {
            planner,
            lsn: opened.lsn,
            sessions,
            first: next.saturating_sub(queued),
            next,
            records: 0,
            scratch: Vec::new(),
            storage,
        })
    }

    /// Rows written and deleted so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The store.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Messages that are queued, oldest first.
    pub fn queued(&self) -> impl Iterator<Item = MessageId> + use<> {
        (self.first..self.next).map(MessageId::new)
    }

    /// Commits one batch with `messages` more messages of `body` bytes.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn queue(&mut self, messages: u64, body: usize, sync: bool) -> Result<(), StorageError> {
        let mut ops = Vec::new();
        for id in self.next..self.next + messages {
            let head = MessageHead {
                id: MessageId::new(id),
                qos: QoS::AtLeastOnce,
                retain: false,
                publisher: SessionId::NONE,
                received: Timestamp::from_millis(1),
                expires: None,
            };
            let payload = vec![id as u8; body];
            let message = Message::new(head, TOPIC, &[], &payload, &mut self.scratch);
            ops.push(StoreOp::PutMessage { message });
            ops.extend((1..=self.sessions).map(|session| StoreOp::Enqueue {
                session: SessionId::new(session),
                message: MessageId::new(id),
                qos: QoS::AtLeastOnce,
                retain: false,
                subscription_ids: [].into(),
                share: None,
            }));
        }
        self.next += messages;
        self.commit(ops, sync)
    }

    /// Commits one batch that takes the `messages` oldest messages from all sessions, or as many as there are.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn drain(&mut self, messages: u64, sync: bool) -> Result<(), StorageError> {
        let end = self.next.min(self.first + messages);
        let mut ops = Vec::new();
        for id in self.first..end {
            ops.extend((1..=self.sessions).map(|session| StoreOp::Dequeue {
                session: SessionId::new(session),
                message: MessageId::new(id),
            }));
        }
        self.first = end;
        self.commit(ops, sync)
    }

    /// Commits what a broker does every second in which nothing happens.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn heartbeat(&mut self) -> Result<(), StorageError> {
        self.commit(Vec::new(), false)
    }

    fn commit(&mut self, ops: Vec<StoreOp>, sync: bool) -> Result<(), StorageError> {
        self.lsn = self.lsn.next();
        let mut group = Group::default();
        self.planner.add(self.lsn, ops, &mut group);
        let writes = self.planner.finish(group, Timestamp::from_millis(1));
        self.records += writes.len() as u64;
        self.storage.apply(&writes)?;
        if sync { self.storage.sync() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStorage, Table};

    fn rows(storage: &dyn Storage, table: Table) -> usize {
        let mut rows = 0;
        let scan = storage.scan_keys(table, &[], &mut |_| {
            rows += 1;
            true
        });
        scan.expect("lists");
        rows
    }

    #[test]
    fn messages_wait_for_every_session_and_go_with_the_last() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let mut load = QueueLoad::new(Arc::clone(&storage), 3).expect("begins");
        let before = load.records();
        load.queue(4, 10, true).expect("queues");
        // A body and three rows for each message, and the position.
        assert_eq!(load.records() - before, 4 * 4 + 1);
        let counts = |bodies, queued| {
            assert_eq!(rows(&storage, Table::Message), bodies);
            assert_eq!(rows(&storage, Table::Queue), queued);
        };
        counts(4, 12);
        load.drain(1, true).expect("drains");
        counts(3, 9);
        assert_eq!(load.queued().next(), Some(MessageId::new(2)));
        let mut load = QueueLoad::resume(storage.clone(), 3, 3).expect("goes on");
        assert_eq!(load.queued().count(), 3);
        load.queue(1, 10, true).expect("queues");
        load.drain(100, true).expect("drains");
        counts(0, 0);
    }
}
