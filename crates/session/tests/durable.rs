//! Sessions that are stored: which operations each event leaves, what waits for a commit, bodies in the
//! store, shared messages that move.

mod support;

use martlet_codec::AckKind::{PubAck, PubComp, PubRec};
use martlet_codec::{AckKind, QoS, ReasonCode};
use martlet_session::{Acked, DropReason, Link, Offered, OutboundLimits, Row, RowBody};
use martlet_storage::{
    Lsn, Message, MessageHead, MessageId, OutboundRow, OutboundState, QueuedRow, SessionId, StoreOp,
};
use support::*;

fn limits() -> OutboundLimits {
    OutboundLimits::default()
}

fn stored(name: &str, qos: QoS, store_id: u64) -> Msg {
    Msg {
        store_id,
        ..msg(name, qos)
    }
}

fn put(packet_id: u16, message: u64, state: OutboundState) -> StoreOp {
    let (session, message) = (SESSION, MessageId::new(message));
    StoreOp::PutOutbound {
        session,
        packet_id: id(packet_id),
        message,
        state,
    }
}

fn delete(packet_id: u16) -> StoreOp {
    StoreOp::DeleteOutbound {
        session: SESSION,
        packet_id: id(packet_id),
    }
}

fn dequeue(message: u64) -> StoreOp {
    StoreOp::Dequeue {
        session: SESSION,
        message: MessageId::new(message),
    }
}

/// Submits what was gathered as batch `lsn`.
fn submit(peer: &mut Peer, lsn: u64) -> Vec<StoreOp> {
    let ops = peer.ops();
    if !ops.is_empty() {
        peer.half.submitted(Lsn::new(lsn));
    }
    ops
}

fn release(peer: &mut Peer, watermark: u64) -> String {
    peer.half
        .release(peer.now, Lsn::new(watermark), &mut peer.out, &mut peer.fx);
    assert_eq!(peer.half.check(), Ok(()));
    peer.read_names()
}

#[test]
fn qos_1_leaves_no_row_of_its_own_and_waits_for_nothing() {
    let mut peer = Peer::durable(limits());
    peer.connect(v5());
    assert_eq!(peer.offer(&stored("a", QoS::AtLeastOnce, 1)), Offered::Sent);
    assert_eq!(peer.ops(), []);
    assert_eq!(peer.read_names(), "a#1");
    peer.ack(PubAck, 1).expect("in flight");
    assert_eq!(peer.ops(), [dequeue(1)]);
}

#[test]
fn qos_2_waits_for_its_commit_before_publish_and_before_pubrel() {
    let mut peer = Peer::durable(limits());
    peer.connect(v5());
    assert_eq!(
        peer.offer(&stored("a", QoS::ExactlyOnce, 1)),
        Offered::Queued
    );
    assert_eq!(submit(&mut peer, 7), [put(1, 1, OutboundState::Published)]);
    assert_eq!(
        (peer.read_names().as_str(), peer.half.waits_for()),
        ("", Some(Lsn::new(7)))
    );
    assert_eq!(release(&mut peer, 6), "");
    assert_eq!(release(&mut peer, 7), "a#1");
    assert_eq!(peer.ack(PubRec, 1), Ok(Acked::Released));
    assert_eq!(
        submit(&mut peer, 8),
        [put(1, 1, OutboundState::Released), dequeue(1)]
    );
    assert_eq!(
        peer.ack(PubRec, 1),
        Ok(Acked::Released),
        "again, while the first waits"
    );
    assert_eq!((peer.read_names().as_str(), peer.ops()), ("", vec![]));
    assert_eq!(release(&mut peer, 8), "rel#1");
    assert_eq!(peer.ack(PubRec, 1), Ok(Acked::Released));
    assert_eq!((peer.read_names().as_str(), peer.ops()), ("rel#1", vec![]));
    assert_eq!(peer.ack(PubComp, 1), Ok(Acked::Done));
    assert_eq!(peer.ops(), [delete(1)]);
    assert_eq!(peer.half.waits_for(), None);
}

#[test]
fn held_packets_leave_in_order_as_far_as_the_watermark() {
    let mut peer = Peer::durable(limits());
    peer.connect(v3());
    for (n, name) in (1..).zip(["a", "b", "c"]) {
        peer.offer(&stored(name, QoS::ExactlyOnce, n));
        submit(&mut peer, 10 * n);
    }
    peer.offer(&stored("one", QoS::AtLeastOnce, 9));
    assert_eq!(peer.read_names(), "one#4", "QoS 1 does not wait");
    assert_eq!(release(&mut peer, 25), "a#1 b#2");
    assert_eq!(release(&mut peer, 30), "c#3");
    peer.offer(&stored("d", QoS::ExactlyOnce, 4));
    assert_eq!(
        release(&mut peer, 1_000),
        "",
        "not submitted yet, whatever the watermark"
    );
}

#[test]
fn a_refusal_or_a_drop_deletes_the_rows() {
    let mut peer = Peer::durable(limits());
    peer.connect(Link {
        packet_bytes_max: 100,
        ..v5()
    });
    peer.offer(&stored("a", QoS::ExactlyOnce, 1));
    submit(&mut peer, 1);
    release(&mut peer, 1);
    peer.ack_with(PubRec, 1, ReasonCode::QuotaExceeded)
        .expect("published");
    assert_eq!(peer.ops(), [delete(1), dequeue(1)], "refused");

    let large = Msg {
        payload: vec![0; 200],
        ..stored("b", QoS::AtLeastOnce, 2)
    };
    assert_eq!(
        peer.offer(&large),
        Offered::Dropped(DropReason::PacketTooLarge)
    );
    assert_eq!(peer.ops(), [dequeue(2)], "too large");

    let expired = Msg {
        expires: Some(peer.now),
        ..stored("c", QoS::AtLeastOnce, 3)
    };
    assert_eq!(peer.offer(&expired), Offered::Dropped(DropReason::Expired));
    assert_eq!(peer.ops(), [dequeue(3)], "expired");

    let large = Msg {
        payload: vec![0; 200],
        ..stored("d", QoS::ExactlyOnce, 4)
    };
    peer.offer(&large);
    assert_eq!(submit(&mut peer, 5), [put(3, 4, OutboundState::Published)]);
    assert_eq!(release(&mut peer, 5), "");
    assert_eq!(
        peer.ops(),
        [delete(3), dequeue(4)],
        "too large when its commit came"
    );
    assert_eq!(peer.half.counts().inflight, 0);

    peer.offer(&Msg {
        granted: QoS::AtMostOnce,
        ..stored("e", QoS::AtLeastOnce, 5)
    });
    assert_eq!(peer.ops(), [], "QoS 0 has no row");
}

#[test]
fn what_the_queue_gives_up_is_dequeued() {
    let mut peer = Peer::durable(OutboundLimits {
        queued_messages_max: 2,
        ..limits()
    });
    for n in 1..=3 {
        peer.offer(&Msg {
            expires: Some(at(5_000)),
            ..stored("m", QoS::AtLeastOnce, n)
        });
    }
    assert_eq!(peer.ops(), [dequeue(1)]);
    peer.half.expire(at(5_000), &mut peer.fx);
    assert_eq!(peer.ops(), [dequeue(2), dequeue(3)]);
    peer.offer(&Msg {
        store_id: 0,
        ..msg("m", QoS::AtLeastOnce)
    });
    peer.half.expire(at(5_000), &mut peer.fx);
    assert_eq!(peer.ops(), []);
}

#[test]
fn the_gate_holds_across_a_reconnect() {
    let mut peer = Peer::durable(limits());
    peer.connect(v5());
    peer.offer(&stored("a", QoS::ExactlyOnce, 1));
    submit(&mut peer, 1);
    peer.offer(&stored("b", QoS::ExactlyOnce, 2));
    submit(&mut peer, 2);
    assert_eq!(release(&mut peer, 1), "a#1");
    peer.ack(PubRec, 1).expect("published");
    submit(&mut peer, 3);
    peer.disconnect();
    peer.connect(v5());
    assert_eq!(
        peer.read_names(),
        "",
        "neither PUBREL 1 nor PUBLISH 2 is safe yet"
    );
    assert_eq!(
        release(&mut peer, 2),
        "b#2",
        "for the first time, so without DUP"
    );
    assert_eq!(release(&mut peer, 3), "rel#1");
    peer.disconnect();
    assert_eq!(release(&mut peer, 9), "");
    peer.connect(v5());
    assert_eq!(peer.read_names(), "rel#1 b#2!");
}

#[test]
fn a_commit_that_comes_while_offline_opens_the_gate() {
    let mut peer = Peer::durable(limits());
    peer.connect(v5());
    peer.offer(&stored("a", QoS::ExactlyOnce, 1));
    submit(&mut peer, 1);
    peer.disconnect();
    assert_eq!(release(&mut peer, 1), "");
    peer.connect(v5());
    assert_eq!(peer.read_names(), "a#1", "never sent before");
}

#[test]
fn a_gated_message_waits_for_the_window_of_the_new_connection() {
    let mut peer = Peer::durable(limits());
    peer.connect(v5());
    for (n, name) in (1..).zip(["a", "b", "c"]) {
        peer.offer(&stored(name, QoS::ExactlyOnce, n));
        submit(&mut peer, n);
    }
    peer.disconnect();
    peer.connect(Link {
        receive_maximum: 1,
        ..v5()
    });
    assert_eq!(release(&mut peer, 3), "a#1");
    peer.ack_with(PubRec, 1, ReasonCode::QuotaExceeded)
        .expect("published");
    assert_eq!(peer.read_names(), "b#2");
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_for_an_unknown_id() {
    let mut peer = Peer::durable(limits());
    peer.connect(v5());
    peer.offer(&stored("a", QoS::ExactlyOnce, 1));
    submit(&mut peer, 1);
    let check = |peer: &mut Peer, kind: AckKind, read: &str| {
        assert_eq!(peer.ack(kind, 1), Ok(Acked::Unknown));
        assert_eq!(peer.read_names(), read);
    };
    check(&mut peer, PubAck, "");
    check(&mut peer, PubComp, "");
    check(&mut peer, PubRec, "rel#1=0x92");
    assert_eq!(release(&mut peer, 1), "a#1");
}

// ---------------------------------------------------------------- from the store

fn message(name: &str, store_id: u64, bytes: usize) -> Message {
    let head = MessageHead {
        id: MessageId::new(store_id),
        qos: QoS::ExactlyOnce,
        retain: false,
        publisher: SessionId::NONE,
        received: at(0),
        expires: None,
    };
    let payload: Vec<u8> = name.bytes().cycle().take(bytes.max(name.len())).collect();
    Message::new(head, "t", &[], &payload, &mut Vec::new())
}

fn row(message: &Message, qos: QoS) -> QueuedRow {
    QueuedRow {
        message: message.id(),
        bytes: message.len_bytes() as u32,
        expires: None,
        qos,
        retain: false,
        subscription_ids: Box::default(),
        share: None,
    }
}

fn out_row(packet_id: u16, message: u64, state: OutboundState, sequence: u64) -> OutboundRow {
    OutboundRow {
        packet_id: id(packet_id),
        message: MessageId::new(message),
        state,
        sequence,
    }
}

#[test]
fn a_session_goes_on_where_its_rows_say() {
    let messages = [
        message("a", 1, 0),
        message("b", 2, 0),
        message("c", 3, 0),
        message("d", 4, 0),
    ];
    let queued = vec![
        row(&messages[0], QoS::AtLeastOnce),
        row(&messages[1], QoS::ExactlyOnce),
        row(&messages[2], QoS::ExactlyOnce),
        row(&messages[3], QoS::ExactlyOnce),
    ];
    let outbound = [
        out_row(500, 4, OutboundState::Published, 1),
        out_row(3, 90, OutboundState::Released, 2),
        out_row(7, 2, OutboundState::Published, 3),
    ];
    let mut peer = Peer::durable(limits());
    peer.half.restore(&outbound, queued);
    assert_eq!(peer.half.counts().inflight, 3);
    peer.connect(v5());
    assert_eq!(peer.read_names(), "");
    assert_eq!(peer.fx.need_bodies, [MessageId::new(4), MessageId::new(2)]);
    for message in &messages {
        peer.half.body(message);
    }
    peer.fx.need_bodies.clear();
    peer.pump();
    assert_eq!(peer.read_names(), "d#500! rel#3 b#7!", "as first sent");
    assert_eq!(peer.fx.need_bodies, [MessageId::new(1), MessageId::new(3)]);
    for message in &messages {
        peer.half.body(message);
    }
    peer.pump();
    assert_eq!(
        peer.read_names(),
        "a#8",
        "QoS 1 under a new id, QoS 2 behind its commit"
    );
    assert_eq!(submit(&mut peer, 1), [put(9, 3, OutboundState::Published)]);
    assert_eq!(release(&mut peer, 1), "c#9");
}

#[test]
fn bodies_are_asked_for_once_and_within_bounds() {
    let mut peer = Peer::durable(OutboundLimits {
        encode_ahead_bytes: 1,
        ..limits()
    });
    let messages: Vec<Message> = (1..=200).map(|n| message("m", n, 50_000)).collect();
    peer.half.restore(
        &[],
        messages.iter().map(|m| row(m, QoS::AtLeastOnce)).collect(),
    );
    assert_eq!(peer.half.counts().queued_bytes, 200 * 50_001);
    peer.connect(v5());
    assert_eq!(peer.fx.need_bodies.len(), 21, "about a mebibyte");
    peer.pump();
    assert_eq!(peer.fx.need_bodies.len(), 21, "not twice");
    peer.connect(v5());
    assert_eq!(
        peer.fx.need_bodies.len(),
        42,
        "but again on a new connection"
    );

    let mut peer = Peer::durable(limits());
    let messages: Vec<Message> = (1..=200).map(|n| message("m", n, 10)).collect();
    peer.half.restore(
        &[],
        messages.iter().map(|m| row(m, QoS::AtLeastOnce)).collect(),
    );
    peer.connect(v5());
    assert_eq!(peer.fx.need_bodies.len(), 64);
}

#[test]
fn a_body_that_cannot_be_read_is_reported() {
    let lost = message("lost", 1, 0);
    let kept = message("kept", 2, 0);
    let mut peer = Peer::durable(limits());
    peer.half.restore(
        &[],
        vec![row(&lost, QoS::AtLeastOnce), row(&kept, QoS::AtLeastOnce)],
    );
    peer.connect(v5());
    peer.half.body_lost(lost.id(), &mut peer.fx);
    assert_eq!(peer.fx.dropped_stored, [(lost.id(), DropReason::BodyLost)]);
    assert_eq!(peer.ops(), [dequeue(1)]);
    peer.half.body(&kept);
    peer.pump();
    assert_eq!(peer.read_names(), "kept#1");
}

#[test]
fn bodies_can_be_let_go_and_come_back() {
    let mut peer = Peer::durable(limits());
    let names = ["a", "b", "c"];
    for (n, name) in (1..).zip(names) {
        peer.offer(&Msg {
            topic: "t".into(),
            ..stored(name, QoS::AtLeastOnce, n)
        });
    }
    peer.offer(&Msg {
        topic: "t".into(),
        ..msg("unstored", QoS::AtLeastOnce)
    });
    peer.half.spill(2);
    assert_eq!(peer.half.counts().queued_bytes, 3 * 2 + 9, "still counted");
    peer.connect(v5());
    assert_eq!(peer.read_names(), "a#1");
    assert_eq!(peer.fx.need_bodies, [MessageId::new(2), MessageId::new(3)]);
    for (n, name) in (1..).zip(names) {
        peer.half.body(&message(name, n, 0));
    }
    peer.pump();
    assert_eq!(peer.read_names(), "b#2 c#3 unstored#4");
}

// ---------------------------------------------------------------- shared subscriptions

fn names(rows: &[Row]) -> Vec<(String, QoS)> {
    rows.iter()
        .map(|row| match &row.body {
            RowBody::Loaded(message) => (
                String::from_utf8_lossy(message.payload()).into_owned(),
                row.qos,
            ),
            RowBody::Stored { id, .. } => (format!("stored {}", id.get()), row.qos),
        })
        .collect()
}

#[test]
fn what_was_never_sent_can_move_to_another_member() {
    let link = Link {
        receive_maximum: 4,
        ..v5()
    };
    for with_inflight in [false, true] {
        let mut peer = Peer::durable(limits());
        peer.connect(link);
        let shared = |name: &str, qos, n, share| Msg {
            share: Some(share),
            ..stored(name, qos, n)
        };
        peer.offer(&shared("one", QoS::AtLeastOnce, 1, 5));
        peer.offer(&shared("two", QoS::ExactlyOnce, 2, 5));
        submit(&mut peer, 1);
        release(&mut peer, 1);
        peer.offer(&shared("gated", QoS::ExactlyOnce, 3, 5));
        peer.offer(&shared("other", QoS::AtLeastOnce, 4, 6));
        peer.offer(&shared("q1", QoS::AtLeastOnce, 5, 5));
        peer.offer(&shared("q6", QoS::AtLeastOnce, 6, 6));
        peer.offer(&stored("own", QoS::AtLeastOnce, 7));
        peer.offer(&Msg {
            ids: vec![3, 4],
            ..shared("q2", QoS::ExactlyOnce, 8, 5)
        });
        submit(&mut peer, 2);
        let mut taken = Vec::new();
        peer.half
            .take_unsent_shared(5, with_inflight, &mut taken, &mut peer.fx);
        assert_eq!(peer.half.check(), Ok(()));
        let mut expect = vec![
            ("gated".to_owned(), QoS::ExactlyOnce),
            ("q1".to_owned(), QoS::AtLeastOnce),
            ("q2".to_owned(), QoS::ExactlyOnce),
        ];
        let mut ops = vec![delete(3), dequeue(3), dequeue(5), dequeue(8)];
        if with_inflight {
            expect.insert(0, ("one".to_owned(), QoS::AtLeastOnce));
            ops.insert(0, dequeue(1));
        }
        assert_eq!(names(&taken), expect);
        assert_eq!(peer.ops(), ops);
        assert_eq!(
            taken.last().map(|row| row.subscription_ids.clone()),
            Some([3, 4].into())
        );
        peer.read();
        assert_eq!(release(&mut peer, 9), "", "nothing of it is sent");
    }
}
