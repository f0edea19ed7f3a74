//! What the small store of each released format holds, which every later version must open.
//!
//! An exchange at QoS 2 stopped in its middle (one message done, one released, one sent), a retained message, a will, and
//! a body that is long enough to be kept apart where a backend does so. Deliberately absent: the files, which each backend
//! keeps beside its tests.

use martlet_codec::PacketId;

use super::exchange::{exchange, message};
use crate::{
    Group, Message, OutboundRow, QueuedRow, SessionId, SessionRecord, Storage, StorageError,
    StoreOp, SubscriptionRow, Timestamp, Visitor, WillRecord, load,
};

/// The payload of the retained message.
pub const RETAINED: &[u8] = &[9; 5_000];

/// The batches, one after the other.
pub fn batches() -> Vec<Vec<StoreOp>> {
    let mut batches = exchange();
    batches.truncate(15);
    batches.remove(12);
    batches.push(vec![StoreOp::PutRetained {
        message: message(9, RETAINED),
    }]);
    batches.push(vec![StoreOp::PutWill {
        session: SessionId::new(2),
        will: WillRecord {
            message: message(10, b"gone"),
            due: Some(Timestamp::from_millis(60_000)),
            delay_secs: 30,
        },
    }]);
    batches
}

/// What a store holds behind all batches, as [`describe`] tells it.
pub const CONTENTS: &[&str] = &[
    "batch 16",
    "1 client 1",
    "2 client 2",
    "2 exchange/# ExactlyOnce",
    "2 will 4 B due 60000 delay 30",
    "2 out 2 2 Released",
    "2 out 3 3 Published",
    "2 queued 3 ExactlyOnce",
    "1 in 3",
    "retained exchange/topic 5000 B",
];

/// Commits `batches` behind what a store holds, each synced.
///
/// # Errors
/// See [`StorageError`].
pub fn commit(storage: &dyn Storage, batches: Vec<Vec<StoreOp>>) -> Result<(), StorageError> {
    let (mut planner, opened) = load(storage, &mut ())?;
    let mut lsn = opened.lsn;
    for ops in batches {
        lsn = lsn.next();
        let mut group = Group::default();
        planner.add(lsn, ops, &mut group);
        storage.apply(&planner.finish(group, Timestamp::from_millis(7)))?;
        storage.sync()?;
    }
    Ok(())
}

/// Lines that say what a store holds, bodies that wait included.
///
/// # Errors
/// See [`StorageError`].
pub fn describe(storage: &dyn Storage) -> Result<Vec<String>, StorageError> {
    let mut lines = Lines(vec![String::new()]);
    let (_, opened) = load(storage, &mut lines)?;
    lines.0[0] = format!("batch {}", opened.lsn.get());
    if opened.removed > 0 {
        lines.0.push(format!("{} rows removed", opened.removed));
    }
    Ok(lines.0)
}

struct Lines(Vec<String>);

impl Lines {
    fn of(&mut self, session: SessionId, words: &str) {
        self.0.push(format!("{} {words}", session.get()));
    }
}

impl Visitor for Lines {
    fn session(&mut self, session: SessionId, record: SessionRecord) {
        self.of(session, &record.client_id);
    }
    fn subscription(&mut self, session: SessionId, row: SubscriptionRow) {
        self.of(session, &format!("{} {:?}", row.filter, row.options.qos));
    }
    fn will(&mut self, session: SessionId, will: WillRecord) {
        let due = will.due.map_or(0, Timestamp::as_millis);
        let (bytes, delay) = (will.message.payload().len(), will.delay_secs);
        self.of(session, &format!("will {bytes} B due {due} delay {delay}"));
    }
    fn outbound(&mut self, session: SessionId, rows: &[OutboundRow]) {
        for row in rows {
            let (id, message) = (row.packet_id.get(), row.message.get());
            self.of(session, &format!("out {id} {message} {:?}", row.state));
        }
    }
    fn queued(&mut self, session: SessionId, row: QueuedRow) {
        let message = row.message.get();
        self.of(session, &format!("queued {message} {:?}", row.qos));
    }
    fn inbound(&mut self, session: SessionId, packet_id: PacketId) {
        self.of(session, &format!("in {}", packet_id.get()));
    }
    fn retained(&mut self, message: Message) {
        let (topic, bytes) = (message.topic(), message.payload().len());
        self.0.push(format!("retained {topic} {bytes} B"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStorage;

    #[test]
    fn the_fixture_is_what_it_says() {
        let storage = MemoryStorage::new();
        commit(&storage, batches()).expect("commits");
        assert_eq!(describe(&storage).expect("loads"), CONTENTS);
    }
}
