//! Records survive the way to bytes and back, and bytes that are no records are told apart.

use martlet_codec::{PacketId, QoS, RetainHandling, SubscribeOptions};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::op::StoreOp;
use crate::{Lsn, MessageHead};

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let times = (any::<u64>(), any::<Option<u64>>());
    let body = (
        "[a-zäß/]{0,40}",
        vec(any::<u8>(), 0..20),
        vec(any::<u8>(), 0..200),
    );
    (
        any::<u64>(),
        any::<u64>(),
        qos(),
        any::<bool>(),
        times,
        body,
    )
        .prop_map(|(id, publisher, qos, retain, times, body)| {
            let head = MessageHead {
                id: MessageId::new(id),
                qos,
                retain,
                publisher: SessionId::new(publisher),
                received: Timestamp::from_millis(times.0),
                expires: times.1.map(Timestamp::from_millis),
            };
            Message::new(head, &body.0, &body.1, &body.2, &mut Vec::new())
        })
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<u64>().prop_map(SessionId::new)
}

fn message_id() -> impl Strategy<Value = MessageId> {
    any::<u64>().prop_map(MessageId::new)
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_filter_map("zero", PacketId::new)
}

fn state() -> impl Strategy<Value = OutboundState> {
    prop_oneof![
        Just(OutboundState::Published),
        Just(OutboundState::Released)
    ]
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    any::<Option<u64>>().prop_map(|time| time.map(Timestamp::from_millis))
}

fn options() -> impl Strategy<Value = SubscribeOptions> {
    let handling = prop_oneof![
        Just(RetainHandling::SendAlways),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend)
    ];
    (qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        |(qos, no_local, retain_as_published, retain_handling)| SubscribeOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    )
}

fn session_record() -> impl Strategy<Value = SessionRecord> {
    (
        "\\PC{0,30}",
        proptest::option::of("\\PC{0,10}"),
        any::<u32>(),
        time(),
        any::<bool>(),
    )
        .prop_map(
            |(client_id, username, expiry_interval_secs, expires, connected)| SessionRecord {
                client_id: client_id.into(),
                username: username.map(Into::into),
                expiry_interval_secs,
                expires,
                connected,
            },
        )
}

fn will() -> impl Strategy<Value = WillRecord> {
    (message(), time(), any::<u32>()).prop_map(|(message, due, delay_secs)| WillRecord {
        message,
        due,
        delay_secs,
    })
}

fn counters() -> impl Strategy<Value = CountersRecord> {
    vec((text(), any::<u64>()), 0..10).prop_map(|totals| CountersRecord { totals })
}

fn text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,50}".prop_map(Into::into)
}

fn ids() -> impl Strategy<Value = Box<[u32]>> {
    vec(any::<u32>(), 0..5).prop_map(Into::into)
}

fn op() -> impl Strategy<Value = StoreOp> {
    prop_oneof![
        (session(), session_record())
            .prop_map(|(session, record)| StoreOp::PutSession { session, record }),
        session().prop_map(|session| StoreOp::DeleteSession { session }),
        (session(), text(), options(), any::<Option<u32>>()).prop_map(
            |(session, filter, options, subscription_id)| {
                StoreOp::PutSubscription {
                    session,
                    filter,
                    options,
                    subscription_id,
                }
            }
        ),
        (session(), text())
            .prop_map(|(session, filter)| StoreOp::DeleteSubscription { session, filter }),
        message().prop_map(|message| StoreOp::PutMessage { message }),
        (
            session(),
            message_id(),
            qos(),
            any::<bool>(),
            ids(),
            any::<Option<u64>>()
        )
            .prop_map(|(session, message, qos, retain, subscription_ids, share)| {
                StoreOp::Enqueue {
                    session,
                    message,
                    qos,
                    retain,
                    subscription_ids,
                    share,
                }
            }),
        (session(), message_id())
            .prop_map(|(session, message)| StoreOp::Dequeue { session, message }),
        (session(), packet_id(), message_id(), state()).prop_map(
            |(session, packet_id, message, state)| {
                StoreOp::PutOutbound {
                    session,
                    packet_id,
                    message,
                    state,
                }
            }
        ),
        (session(), packet_id())
            .prop_map(|(session, packet_id)| StoreOp::DeleteOutbound { session, packet_id }),
        (session(), packet_id())
            .prop_map(|(session, packet_id)| StoreOp::PutInbound { session, packet_id }),
        (session(), packet_id())
            .prop_map(|(session, packet_id)| StoreOp::DeleteInbound { session, packet_id }),
        message().prop_map(|message| StoreOp::PutRetained { message }),
        text().prop_map(|topic| StoreOp::DeleteRetained { topic }),
        (session(), will()).prop_map(|(session, will)| StoreOp::PutWill { session, will }),
        session().prop_map(|session| StoreOp::DeleteWill { session }),
        counters().prop_map(|record| StoreOp::PutCounters { record }),
    ]
}

proptest! {
    #[test]
    fn operations_come_back(op in op()) {
        let mut bytes = vec![0xAA];
        op.encode(&mut bytes);
        prop_assert_eq!(StoreOp::decode(&bytes[1..]), Ok(op));
        for cut in 1..bytes.len() {
            prop_assert!(StoreOp::decode(&bytes[1..cut]).is_err());
        }
        bytes.push(0);
        prop_assert!(StoreOp::decode(&bytes[1..]).is_err());
    }

    #[test]
    fn batches_come_back(lsn in any::<u64>(), ops in vec(op(), 0..8)) {
        let bytes = encode_batch(Lsn::new(lsn), &ops);
        prop_assert_eq!(decode_batch(&bytes), Ok((Lsn::new(lsn), ops)));
    }

    #[test]
    fn rows_come_back(
        record in session_record(),
        will in will(),
        counters in counters(),
        message in message(),
        (bytes, expires, qos, retain) in (any::<u32>(), time(), qos(), any::<bool>()),
        (subscription_ids, share) in (ids(), any::<Option<u64>>()),
        (id, number, sequence, state) in (packet_id(), message_id(), any::<u64>(), state()),
        (filter, options, subscription_id) in (text(), options(), any::<Option<u32>>()),
    ) {
        prop_assert_eq!(SessionRecord::decode(&record.encode()), Ok(record));
        prop_assert_eq!(WillRecord::decode(&will.encode()), Ok(will));
        prop_assert_eq!(CountersRecord::decode(&counters.encode()), Ok(counters));
        prop_assert_eq!(Message::from_record(message.as_record()), Ok(message));
        let row = QueuedRow { message: number, bytes, expires, qos, retain, subscription_ids, share };
        prop_assert_eq!(QueuedRow::decode(number, &row.encode()), Ok(row));
        let row = OutboundRow { packet_id: id, message: number, state, sequence };
        prop_assert_eq!(OutboundRow::decode(id, &row.encode()), Ok(row));
        let row = SubscriptionRow { filter, options, subscription_id };
        prop_assert_eq!(SubscriptionRow::decode(row.filter.as_bytes(), &row.encode()), Ok(row));
    }

    #[test]
    fn any_bytes_end_in_a_value_or_an_error(bytes in vec(any::<u8>(), 0..300), tag in 0..18_u8) {
        let _ = StoreOp::decode(&bytes);
        let mut likely = vec![VERSION, tag];
        likely.extend_from_slice(&bytes);
        if let Ok(op) = StoreOp::decode(&likely) {
            let mut again = Vec::new();
            op.encode(&mut again);
            prop_assert_eq!(&again, &likely, "one value has one form");
        }
        if let Ok(message) = Message::from_record(&likely) {
            prop_assert_eq!(message.as_record(), &likely[..]);
            let _ = (message.topic(), message.props(), message.payload(), message.head());
        }
    }
}

/// What version 1 looks like on disk. A change here is a change of format: raise the version instead.
#[test]
fn version_1_is_what_it_was() {
    fn check(name: &str, bytes: &[u8], expect: &str) {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.concat(), expect.replace(' ', ""), "{name}");
    }
    let head = MessageHead {
        id: MessageId::new(0x0102),
        qos: QoS::AtLeastOnce,
        retain: true,
        publisher: SessionId::new(3),
        received: Timestamp::from_millis(4),
        expires: Some(Timestamp::from_millis(5)),
    };
    let message = Message::new(head, "a/b", &[1, 0], b"hi", &mut Vec::new());
    let stored = "01 0d 0300 02000000 0201000000000000 0300000000000000 0400000000000000 0500000000000000 \
                  612f62 0100 6869";
    check("message", message.as_record(), stored);
    let will = WillRecord {
        message,
        due: None,
        delay_secs: 9,
    };
    check(
        "will",
        &will.encode(),
        &format!("01 00 09000000 2f000000 {stored}"),
    );
    let record = SessionRecord {
        client_id: "c".into(),
        username: Some("u".into()),
        expiry_interval_secs: 60,
        expires: Some(Timestamp::from_millis(1)),
        connected: true,
    };
    check(
        "session",
        &record.encode(),
        "01 01000000 63 01 01000000 75 3c000000 01 0100000000000000 01",
    );
    let row = QueuedRow {
        message: MessageId::new(1),
        bytes: 7,
        expires: Some(Timestamp::from_millis(8)),
        qos: QoS::ExactlyOnce,
        retain: true,
        subscription_ids: [5].into(),
        share: Some(6),
    };
    check(
        "queue row",
        &row.encode(),
        "01 1e 07000000 0800000000000000 0600000000000000 0100 05000000",
    );
    let packet_id = PacketId::new(9).expect("not zero");
    let row = OutboundRow {
        packet_id,
        message: MessageId::new(1),
        state: OutboundState::Released,
        sequence: 2,
    };
    check(
        "outbound row",
        &row.encode(),
        "01 01 0100000000000000 0200000000000000",
    );
    let counters = CountersRecord {
        totals: vec![("a".into(), 3)],
    };
    check(
        "counters",
        &counters.encode(),
        "01 0100 01000000 61 0300000000000000",
    );
    let mut bytes = Vec::new();
    StoreOp::PutInbound {
        session: SessionId::new(1),
        packet_id,
    }
    .encode(&mut bytes);
    check("operation", &bytes, "01 0a 0100000000000000 0900");
}

#[test]
fn versions_and_lengths_are_checked() {
    assert_eq!(SessionRecord::decode(&[]), Err(RecordError::Truncated));
    assert_eq!(SessionRecord::decode(&[2]), Err(RecordError::Version(2)));
    assert_eq!(
        Message::from_record(&[VERSION]),
        Err(RecordError::Truncated)
    );
    assert_eq!(Message::from_record(&[0; 60]), Err(RecordError::Version(0)));
    // A length that promises more than there is takes no memory.
    let mut lie = vec![VERSION, 5];
    lie.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(StoreOp::decode(&lie), Err(RecordError::Truncated));
    let mut batch = encode_batch(Lsn::new(1), &[]);
    batch[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode_batch(&batch), Err(RecordError::Truncated));
    assert_eq!(
        CountersRecord::decode(&[VERSION, 0xFF, 0xFF]),
        Err(RecordError::Truncated)
    );
    let mut long = Meta::default().encode();
    long.push(0);
    assert_eq!(Meta::decode(&long), Err(RecordError::Trailing(1)));
    assert_eq!(Meta::decode(&long[..41]), Ok(Meta::default()));
}
