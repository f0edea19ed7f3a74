//! Writes one seed per kind of record for the fuzz target `storage_record`: a byte that names the kind, then
//! the record.
//!
//! ```sh
//! cargo run -p martlet-storage --example fuzz_seeds -- fuzz/corpus/storage_record
//! ```

use std::path::PathBuf;
use std::{env, fs, io};

use martlet_codec::{PacketId, QoS, RetainHandling, SubscribeOptions};
use martlet_storage::{
    CountersRecord, Lsn, Message, MessageHead, MessageId, Meta, OutboundRow, OutboundState,
    QueuedRow, SessionId, SessionRecord, StoreOp, SubscriptionRow, Timestamp, WillRecord,
    encode_batch,
};

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "name the folder for the seeds",
        ));
    };
    fs::create_dir_all(&folder)?;
    for (kind, name, record) in records() {
        fs::write(folder.join(name), [&[kind], record.as_slice()].concat())?;
    }
    Ok(())
}

fn records() -> Vec<(u8, &'static str, Vec<u8>)> {
    let time = Timestamp::from_millis(1_700_000_000_000);
    let (session, message_id) = (SessionId::new(1), MessageId::new(2));
    let head = MessageHead {
        id: message_id,
        qos: QoS::ExactlyOnce,
        retain: true,
        publisher: session,
        received: time,
        expires: Some(time.plus_secs(60)),
    };
    let message = Message::new(head, "a/b", &[1, 1], b"payload", &mut Vec::new());
    let record = SessionRecord {
        client_id: "client".into(),
        username: Some("user".into()),
        expiry_interval_secs: 60,
        expires: Some(time),
        connected: false,
    };
    let will = WillRecord {
        message: message.clone(),
        due: Some(time),
        delay_secs: 5,
    };
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: true,
        retain_handling: RetainHandling::SendIfNew,
    };
    let queued = QueuedRow {
        message: message_id,
        bytes: 12,
        expires: Some(time),
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: [1, 2].into(),
        share: Some(3),
    };
    let subscription = SubscriptionRow {
        filter: "a/#".into(),
        options,
        subscription_id: Some(7),
    };
    let mut ops = vec![
        StoreOp::PutSession {
            session,
            record: record.clone(),
        },
        StoreOp::PutSubscription {
            session,
            filter: "a/#".into(),
            options,
            subscription_id: Some(7),
        },
        StoreOp::PutMessage {
            message: message.clone(),
        },
        StoreOp::Enqueue {
            session,
            message: message_id,
            qos: QoS::ExactlyOnce,
            retain: true,
            subscription_ids: [7].into(),
            share: None,
        },
        StoreOp::PutRetained {
            message: message.clone(),
        },
        StoreOp::PutWill {
            session,
            will: will.clone(),
        },
        StoreOp::DeleteSession { session },
    ];
    let mut records = vec![
        (2, "session", record.encode()),
        (3, "will", will.encode()),
        (4, "message", message.as_record().to_vec()),
        (5, "queued", queued.encode()),
        (7, "subscription", subscription.encode()),
        (
            8,
            "meta",
            Meta {
                lsn: Lsn::new(9),
                committed: time,
                ..Meta::default()
            }
            .encode(),
        ),
    ];
    let counters = CountersRecord {
        totals: vec![("bytes_received".into(), 10)],
    };
    records.push((9, "counters", counters.encode()));
    ops.push(StoreOp::PutCounters { record: counters });
    if let Some(packet_id) = PacketId::new(1) {
        let state = OutboundState::Released;
        records.push((
            6,
            "outbound",
            OutboundRow {
                packet_id,
                message: message_id,
                state,
                sequence: 4,
            }
            .encode(),
        ));
        ops.push(StoreOp::PutOutbound {
            session,
            packet_id,
            message: message_id,
            state,
        });
        ops.push(StoreOp::DeleteInbound { session, packet_id });
    }
    let mut op = Vec::new();
    if let Some(first) = ops.first() {
        first.encode(&mut op);
    }
    records.push((0, "operation", op));
    records.push((1, "batch", encode_batch(Lsn::new(5), &ops)));
    records
}
