//! A QoS 2 exchange as the broker stores it, with the n-th thing done to the disk failing, for every n.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use martlet_codec::{PacketId, QoS, SubscribeOptions};
use martlet_storage::{
    Group, Lsn, MemoryStorage, Message, MessageHead, MessageId, OutboundState, SessionId,
    SessionRecord, Storage, StoreOp, Timestamp, load,
};
use martlet_storage_embedded::EmbeddedOptions;

use crate::support::{Contents, Disk, contents, directory};

pub(crate) fn session(n: u64) -> StoreOp {
    StoreOp::PutSession {
        session: SessionId::new(n),
        record: SessionRecord {
            client_id: format!("client {n}").into(),
            username: None,
            expiry_interval_secs: 3600,
            expires: None,
            connected: true,
        },
    }
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).expect("not zero")
}

pub(crate) fn message(n: u64, payload: &[u8]) -> Message {
    let head = MessageHead {
        id: MessageId::new(n),
        qos: QoS::ExactlyOnce,
        retain: false,
        publisher: SessionId::new(1),
        received: Timestamp::from_millis(1_000),
        expires: None,
    };
    Message::new(head, "exchange/topic", &[], payload, &mut Vec::new())
}

/// Publisher 1, subscriber 2: the batches of the durability table, in the order of one message's life.
pub(crate) fn exchange() -> Vec<Vec<StoreOp>> {
    let (publisher, subscriber) = (SessionId::new(1), SessionId::new(2));
    let mut batches = vec![vec![session(1)], vec![session(2)]];
    batches.push(vec![StoreOp::PutSubscription {
        session: subscriber,
        filter: "exchange/#".into(),
        options: SubscribeOptions {
            qos: QoS::ExactlyOnce,
            ..SubscribeOptions::default()
        },
        subscription_id: None,
    }]);
    for n in 1..=3_u16 {
        let message = message(u64::from(n), &[n as u8; 300]);
        let outbound = |state| StoreOp::PutOutbound {
            session: subscriber,
            packet_id: id(n),
            message: message.id(),
            state,
        };
        batches.push(vec![
            StoreOp::PutMessage {
                message: message.clone(),
            },
            StoreOp::Enqueue {
                session: subscriber,
                message: message.id(),
                qos: QoS::ExactlyOnce,
                retain: false,
                subscription_ids: [].into(),
                share: None,
            },
            StoreOp::PutInbound {
                session: publisher,
                packet_id: id(n),
            },
        ]);
        batches.push(vec![outbound(OutboundState::Published)]);
        batches.push(vec![StoreOp::DeleteInbound {
            session: publisher,
            packet_id: id(n),
        }]);
        batches.push(vec![
            outbound(OutboundState::Released),
            StoreOp::Dequeue {
                session: subscriber,
                message: message.id(),
            },
        ]);
        batches.push(vec![StoreOp::DeleteOutbound {
            session: subscriber,
            packet_id: id(n),
        }]);
    }
    batches
}

/// Runs the exchange until the store fails; returns how many batches were acknowledged.
fn run(storage: &dyn Storage, mut after: impl FnMut(&dyn Storage)) -> usize {
    let Ok((mut planner, _)) = load(storage, &mut ()) else {
        return 0;
    };
    for (n, ops) in exchange().into_iter().enumerate() {
        let mut group = Group::default();
        planner.add(Lsn::new(n as u64 + 1), ops, &mut group);
        let writes = planner.finish(group, Timestamp::from_millis(7));
        if storage.apply(&writes).is_err() || storage.sync().is_err() {
            return n;
        }
        after(storage);
    }
    exchange().len()
}

/// The contents after each batch.
fn expected() -> Vec<Contents> {
    let memory = MemoryStorage::new();
    let mut states = vec![Contents::new()];
    run(&memory, |storage| {
        states.push(contents(storage).expect("lists"));
    });
    states
}

#[test]
fn whichever_act_fails_what_was_acknowledged_is_there() {
    let states = expected();
    for (tear, segment_bytes) in [(false, 16 << 20), (true, 16 << 20), (false, 1), (true, 1)] {
        let mut n = 1;
        loop {
            let root = directory();
            let disk = Arc::new(Disk::default());
            disk.tear.store(tear, Ordering::Relaxed);
            disk.fail_at.store(n, Ordering::Relaxed);
            let options = EmbeddedOptions::default().segment_bytes(segment_bytes);
            let acknowledged = match options
                .clone()
                .probe(Arc::clone(&disk) as _)
                .open(root.path())
            {
                Ok((storage, _)) => run(&storage, |_| {}),
                Err(_) => 0,
            };
            let (storage, report) = options
                .open(root.path())
                .unwrap_or_else(|error| panic!("act {n}: {error}"));
            assert!(report.lost.is_empty(), "act {n}");
            let found = contents(&storage).expect("lists");
            let next = states.get(acknowledged + 1);
            assert!(
                found == states[acknowledged] || Some(&found) == next,
                "act {n} (torn: {tear}): {acknowledged} batches were acknowledged"
            );
            // Nothing dangles, whatever was cut.
            let (_, opened) = load(&storage, &mut ()).expect("loads");
            assert_eq!(opened.removed, 0, "act {n}");
            if acknowledged == exchange().len() {
                break;
            }
            n += 1;
        }
        assert!(n > exchange().len() * 2, "every act was made to fail");
    }
}
