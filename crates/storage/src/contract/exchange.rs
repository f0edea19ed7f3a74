//! A QoS 2 exchange as the broker stores it, for the tests of backends. Deliberately absent: what is done to it.

use martlet_codec::{PacketId, QoS, SubscribeOptions};

use crate::{
    Message, MessageHead, MessageId, OutboundState, SessionId, SessionRecord, StoreOp, Timestamp,
};

/// Creates session `n`, of `client n`.
pub fn session(n: u64) -> StoreOp {
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

/// A message of session 1.
pub fn message(n: u64, payload: &[u8]) -> Message {
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
pub fn exchange() -> Vec<Vec<StoreOp>> {
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
