//! Stores of released formats open, with everything in them.

use std::fs;
use std::path::{Path, PathBuf};

use martlet_storage::contract::exchange::{exchange, message};
use martlet_storage::{
    Group, Lsn, MessageId, OutboundRow, QueuedRow, SessionId, SessionRecord, Storage, StoreOp,
    SubscriptionRow, Timestamp, Visitor, load,
};
use martlet_storage_embedded::{EmbeddedOptions, FORMAT};

use crate::support::{contents, copy, directory, open};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Lines that say what a store holds.
#[derive(Default)]
struct Lines(Vec<String>);

impl Visitor for Lines {
    fn session(&mut self, session: SessionId, record: SessionRecord) {
        self.0
            .push(format!("{} {}", session.get(), record.client_id));
    }
    fn subscription(&mut self, session: SessionId, row: SubscriptionRow) {
        self.0.push(format!("{} {}", session.get(), row.filter));
    }
    fn outbound(&mut self, session: SessionId, rows: &[OutboundRow]) {
        for row in rows {
            let (id, message) = (row.packet_id.get(), row.message.get());
            self.0.push(format!(
                "{} out {id} {message} {:?}",
                session.get(),
                row.state
            ));
        }
    }
    fn queued(&mut self, session: SessionId, row: QueuedRow) {
        self.0.push(format!(
            "{} queued {} {:?}",
            session.get(),
            row.message.get(),
            row.qos
        ));
    }
    fn inbound(&mut self, session: SessionId, packet_id: martlet_codec::PacketId) {
        self.0
            .push(format!("{} in {}", session.get(), packet_id.get()));
    }
    fn retained(&mut self, message: martlet_storage::Message) {
        self.0.push(format!("retained {}", message.topic()));
    }
}

#[test]
fn every_released_format_opens() {
    for format in 1..=FORMAT {
        let root = directory();
        let path = root.path().join("store");
        copy(&fixtures().join(format!("format-{format}")), &path);
        let (storage, report) = EmbeddedOptions::default().open(&path).expect("opens");
        assert!(report.is_clean(), "format {format}: {:?}", report.remarks());
        let mut lines = Lines::default();
        let (_, opened) = load(&storage, &mut lines).expect("loads");
        assert_eq!((opened.lsn, opened.removed), (Lsn::new(15), 0));
        assert_eq!(
            lines.0,
            [
                "1 client 1",
                "2 client 2",
                "2 exchange/#",
                "2 out 2 2 Released",
                "2 out 3 3 Published",
                "2 queued 3 ExactlyOnce",
                "1 in 3",
                "retained exchange/topic",
            ],
            "format {format}"
        );
        let body = storage.read_body(MessageId::new(3)).expect("reads");
        assert_eq!(body, Some(message(3, &[3; 300])));
    }
}

/// What this program writes is what the fixture of its format holds. With `MARTLET_WRITE_FIXTURE` set the fixture is
/// written anew, once for each format that is released.
#[test]
fn the_fixture_of_this_format_is_what_is_written() {
    let root = directory();
    let path = root.path().join("store");
    {
        let storage = open(&path);
        let (mut planner, _) = load(&storage, &mut ()).expect("loads");
        // Stopped in the middle: one message is done, one released, one sent.
        let mut batches = exchange();
        batches.truncate(15);
        batches.remove(12);
        batches.push(vec![StoreOp::PutRetained {
            message: message(9, b"kept"),
        }]);
        for (n, ops) in batches.into_iter().enumerate() {
            let mut group = Group::default();
            planner.add(Lsn::new(n as u64 + 1), ops, &mut group);
            let writes = planner.finish(group, Timestamp::from_millis(7));
            storage.apply(&writes).expect("applies");
            storage.sync().expect("syncs");
        }
    }
    let to = fixtures().join(format!("format-{FORMAT}"));
    if std::env::var_os("MARTLET_WRITE_FIXTURE").is_some() {
        fs::create_dir_all(fixtures()).expect("a directory");
        fs::remove_dir_all(&to).ok();
        copy(&path, &to);
        fs::remove_file(to.join("lock")).expect("removes");
    }
    let fixture = directory();
    let copied = fixture.path().join("store");
    copy(&to, &copied);
    let written = contents(&open(&path)).expect("reads");
    assert_eq!(contents(&open(&copied)).expect("reads"), written);
}
