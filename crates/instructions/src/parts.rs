//! The parts of a message's way that are plain values: packets, filters, one session.

use std::hint::black_box;

use martlet_codec::{
    AckKind, Packet, PacketId, Props, Publish, QoS, ReasonCode, Split, Version, split,
};
use martlet_session::{
    Delivery, Effects, FanOut, Inbound, Link, OutBuf, Outbound, OutboundLimits, Publication,
};
use martlet_storage::{MessageHead, MessageId, SessionId, Timestamp};
use martlet_topic::{TopicFilter, TopicHasher, TopicName, Trie};

use crate::{Case, Round};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "decode_publish_v311",
        about: "split and decode PUBLISH, QoS 0, 64 bytes, version 3.1.1",
        rounds: 10_000,
        prepare: || decode(Version::V311),
    },
    Case {
        name: "decode_publish_v5",
        about: "the same, version 5",
        rounds: 10_000,
        prepare: || decode(Version::V5),
    },
    Case {
        name: "encode_publish_v311",
        about: "encode PUBLISH, QoS 0, 64 bytes, version 3.1.1",
        rounds: 10_000,
        prepare: || encode(Version::V311),
    },
    Case {
        name: "encode_publish_v5",
        about: "the same, version 5",
        rounds: 10_000,
        prepare: || encode(Version::V5),
    },
    Case {
        name: "match_10k_filters",
        about: "match a topic in a trie of 10,000 wildcard filters, two of which match",
        rounds: 5_000,
        prepare: match_filters,
    },
    Case {
        name: "offer_qos0",
        about: "offer a publication to a session at QoS 0, encode it and take the output",
        rounds: 5_000,
        prepare: || offer(QoS::AtMostOnce),
    },
    Case {
        name: "offer_qos1",
        about: "the same at QoS 1, acknowledged",
        rounds: 5_000,
        prepare: || offer(QoS::AtLeastOnce),
    },
    Case {
        name: "offer_qos2",
        about: "the same at QoS 2, received, released and completed on both sides",
        rounds: 5_000,
        prepare: || offer(QoS::ExactlyOnce),
    },
];

pub(crate) const TOPIC: &str = "site/17/sensor/temperature";
pub(crate) const PAYLOAD: [u8; 64] = [b'x'; 64];
const NOW: Timestamp = Timestamp::from_millis(1);

/// A PUBLISH of [`PAYLOAD`], under the identifier `id` above QoS 0.
pub(crate) fn publish(topic: &str, qos: QoS, id: u16) -> Publish<'_> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        id: PacketId::new(id).filter(|_| qos > QoS::AtMostOnce),
        props: Props::EMPTY,
        payload: &PAYLOAD,
    }
}

fn decode(version: Version) -> Round {
    let mut bytes = Vec::new();
    let encoded = publish(TOPIC, QoS::AtMostOnce, 0).encode(version, &mut bytes);
    assert_eq!(encoded, Ok(()));
    Box::new(move || {
        let Ok(Split::Frame(frame)) = split(black_box(&bytes), u32::MAX) else {
            unreachable!("the packet is whole");
        };
        let decoded = black_box(Publish::decode(frame, black_box(version)));
        assert!(decoded.is_ok());
    })
}

fn encode(version: Version) -> Round {
    let mut bytes = Vec::with_capacity(256);
    Box::new(move || {
        bytes.clear();
        let packet = Packet::Publish(black_box(publish(TOPIC, QoS::AtMostOnce, 0)));
        let encoded = packet.encode(black_box(version), &mut bytes);
        assert!(encoded.is_ok());
        black_box(&bytes);
    })
}

/// Filters as many sites would have them. Three of four sites have one that matches `site/{n}/sensor/temperature`, and so
/// does the last.
pub(crate) fn filters() -> impl Iterator<Item = String> {
    let site = |n: usize| match n % 4 {
        0 => format!("site/{n}/+/temperature"),
        1 => format!("site/{n}/sensor/+"),
        2 => format!("site/{n}/#"),
        _ => format!("site/{n}/sensor/+/raw/#"),
    };
    (0..9_999)
        .map(site)
        .chain(["+/+/sensor/temperature".to_owned()])
}

/// Topics that two of [`filters`] match.
pub(crate) fn topics() -> Vec<String> {
    let matched = |n: &usize| n % 4 != 3;
    let spread = (0..64_usize).map(|n| n * 151).filter(matched);
    spread
        .map(|n| format!("site/{n}/sensor/temperature"))
        .collect()
}

fn match_filters() -> Round {
    let mut trie = Trie::with_hasher(TopicHasher::with_seed(1));
    for (n, filter) in filters().enumerate() {
        trie.insert(TopicFilter::trusted(&filter), n);
    }
    let topics = topics();
    let mut turn = 0;
    Box::new(move || {
        let topic = black_box(TopicName::trusted(&topics[turn]));
        turn = (turn + 1) % topics.len();
        let mut matches = 0;
        trie.for_each_match(topic, |n| {
            black_box(n);
            matches += 1;
        });
        assert_eq!(matches, 2);
    })
}

/// A session with a connected client of version 3.1.1.
struct Subscriber {
    half: Outbound,
    out: OutBuf,
    spare: Vec<u8>,
    effects: Effects,
}

impl Subscriber {
    fn new() -> Self {
        let mut subscriber = Self {
            half: Outbound::new(SessionId::new(1), OutboundLimits::default(), false),
            out: OutBuf::new(),
            spare: Vec::with_capacity(1024),
            effects: Effects::default(),
        };
        let link = Link {
            version: Version::V311,
            receive_maximum: u16::MAX,
            packet_bytes_max: u32::MAX,
            topic_alias_maximum: 0,
        };
        let Self {
            half, out, effects, ..
        } = &mut subscriber;
        half.connect(NOW, link, out, effects);
        subscriber
    }

    fn acknowledge(&mut self, kind: AckKind, id: PacketId) {
        let Self {
            half, out, effects, ..
        } = self;
        let acknowledged = half.acknowledge(NOW, kind, id, ReasonCode::Success, out, effects);
        assert!(acknowledged.is_ok());
    }

    /// Does as a socket that takes everything at once; returns how much that was.
    fn drain(&mut self) -> usize {
        let mut chunk = self.out.take(std::mem::take(&mut self.spare));
        let len = chunk.len();
        chunk.advance(len);
        self.spare = chunk.into_spare();
        self.out.written(len);
        self.effects.clear();
        len
    }
}

fn offer(qos: QoS) -> Round {
    let mut subscriber = Subscriber::new();
    let mut inbound = Inbound::default();
    let mut fan_out = FanOut::default();
    let mut sent: u16 = 0;
    let head = MessageHead {
        id: MessageId::NONE,
        qos,
        retain: false,
        publisher: SessionId::NONE,
        received: NOW,
        expires: None,
    };
    Box::new(move || {
        // The session numbers its messages so; 0 is no identifier.
        sent = sent.checked_add(1).unwrap_or(1);
        let Some(id) = PacketId::new(sent) else {
            unreachable!("counted past 0");
        };
        if qos == QoS::ExactlyOnce {
            black_box(inbound.publish(id));
        }
        let mut publication = Publication::new(
            head,
            black_box(TOPIC),
            &[],
            black_box(&PAYLOAD),
            &mut fan_out,
        );
        let delivery = Delivery {
            qos,
            retain: false,
            subscription_ids: &[],
        };
        let Subscriber {
            half, out, effects, ..
        } = &mut subscriber;
        black_box(half.offer(NOW, &mut publication, delivery, out, effects));
        assert!(subscriber.drain() > PAYLOAD.len());
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => subscriber.acknowledge(AckKind::PubAck, id),
            QoS::ExactlyOnce => {
                assert!(inbound.release(id));
                subscriber.acknowledge(AckKind::PubRec, id);
                assert_eq!(subscriber.drain(), 4, "PUBREL");
                subscriber.acknowledge(AckKind::PubComp, id);
            }
        }
    })
}
