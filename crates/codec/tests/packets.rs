//! Packets as values against their bytes, field by field, and what encoders leave out or refuse.

use martlet_codec::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, EncodeError, Packet, PacketBuf, PacketId,
    Property, Props, PropsBuf, Publish, QoS, ReasonCode, ReasonCodes, RetainHandling, Split,
    SubAck, Subscribe, SubscribeFiltersBuf, SubscribeOptions, UnsubAck, Unsubscribe,
    UnsubscribeFiltersBuf, Version, Will, split,
};

const ID: PacketId = PacketId::new(10).unwrap();

fn encode(packet: &Packet<'_>, version: Version) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes)?;
    assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
    Ok(bytes)
}

fn decode(bytes: &[u8], version: Version) -> Packet<'_> {
    match split(bytes, u32::MAX) {
        Ok(Split::Frame(frame)) => Packet::decode(frame, version).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The packet is written as these bytes, and these bytes are the packet.
#[track_caller]
fn check<'a>(packet: impl Into<Packet<'a>>, version: Version, bytes: &[u8]) {
    let packet = packet.into();
    let written = encode(&packet, version).unwrap();
    assert_eq!(written, bytes, "{packet:?} as {version}: {written:02X?}");
    assert_eq!(decode(bytes, version), packet);
}

/// The packet is written as these bytes, which hold less than the packet.
#[track_caller]
fn check_written<'a>(packet: impl Into<Packet<'a>>, version: Version, bytes: &[u8]) {
    let written = encode(&packet.into(), version).unwrap();
    assert_eq!(written, bytes, "{written:02X?}");
}

#[track_caller]
fn check_refused<'a>(packet: impl Into<Packet<'a>>, version: Version, error: EncodeError) {
    let packet = packet.into();
    let mut bytes = Vec::new();
    assert_eq!(packet.encode(version, &mut bytes), Err(error));
    assert_eq!(packet.encoded_len(version), Err(error));
    assert!(bytes.is_empty());
}

const CONNECT: Connect<'_> = Connect {
    version: Version::V311,
    bridge: false,
    clean_start: true,
    keep_alive_secs: 60,
    props: Props::EMPTY,
    client_id: "c",
    will: None,
    username: None,
    password: None,
};

const WILL: Will<'_> = Will {
    qos: QoS::ExactlyOnce,
    retain: true,
    props: Props::EMPTY,
    topic: "w",
    payload: b"\x00",
};

const PUBLISH: Publish<'_> = Publish {
    dup: false,
    qos: QoS::AtMostOnce,
    retain: false,
    topic: "a/b",
    id: None,
    props: Props::EMPTY,
    payload: b"hi",
};

#[test]
fn connect() {
    check(
        CONNECT,
        Version::V311,
        b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01c",
    );
    let v31 = Connect {
        version: Version::V31,
        bridge: true,
        ..CONNECT
    };
    check(
        v31,
        Version::V31,
        b"\x10\x0F\x00\x06MQIsdp\x83\x02\x00\x3C\x00\x01c",
    );
    let full = Connect {
        clean_start: false,
        will: Some(WILL),
        username: Some("u"),
        password: Some(b"\xFF"),
        ..CONNECT
    };
    let bytes =
        b"\x10\x19\x00\x04MQTT\x04\xF4\x00\x3C\x00\x01c\x00\x01w\x00\x01\x00\x00\x01u\x00\x01\xFF";
    check(full, Version::V311, bytes);

    let props = PropsBuf::new().with(Property::SessionExpiry(258));
    let will_props = PropsBuf::new().with(Property::WillDelay(1));
    let v5 = Connect {
        version: Version::V5,
        props: props.as_props(),
        will: Some(Will {
            props: will_props.as_props(),
            retain: false,
            ..WILL
        }),
        password: Some(b"p"),
        ..CONNECT
    };
    let bytes = b"\x10\x22\x00\x04MQTT\x05\x56\x00\x3C\x05\x11\x00\x00\x01\x02\x00\x01c\
        \x05\x18\x00\x00\x00\x01\x00\x01w\x00\x01\x00\x00\x01p";
    check(v5, Version::V5, bytes);
}

#[test]
fn connect_is_written_in_its_own_version_without_what_that_lacks() {
    let props = PropsBuf::new().with(Property::SessionExpiry(1));
    let with_props = Connect {
        props: props.as_props(),
        will: Some(Will {
            props: props.as_props(),
            ..WILL
        }),
        ..CONNECT
    };
    check_written(
        with_props,
        Version::V5,
        b"\x10\x13\x00\x04MQTT\x04\x36\x00\x3C\x00\x01c\x00\x01w\x00\x01\x00",
    );
    // MQTT 5 has no bridge bit.
    let bridge = Connect {
        version: Version::V5,
        bridge: true,
        ..CONNECT
    };
    check_written(
        bridge,
        Version::V311,
        b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x01c",
    );
}

#[test]
fn passwords_are_not_shown() {
    let connect = Connect {
        username: Some("user"),
        password: Some(b"secret"),
        ..CONNECT
    };
    let shown = format!("{:?}", Packet::Connect(connect));
    assert!(
        shown.contains("user") && shown.contains("(hidden)"),
        "{shown}"
    );
    assert!(
        !shown.contains("secret") && !shown.contains("115"),
        "{shown}"
    );
}

#[test]
fn connack() {
    let accepted = ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        props: Props::EMPTY,
    };
    check(accepted, Version::V311, b"\x20\x02\x01\x00");
    check(accepted, Version::V5, b"\x20\x03\x01\x00\x00");
    check_written(accepted, Version::V31, b"\x20\x02\x00\x00");
    let props = PropsBuf::new().with(Property::MaximumQos(QoS::AtLeastOnce));
    let with_props = ConnAck {
        props: props.as_props(),
        ..accepted
    };
    check(with_props, Version::V5, b"\x20\x05\x01\x00\x02\x24\x01");
    check_written(with_props, Version::V311, b"\x20\x02\x01\x00");

    // [MQTT-3.2.2-6]: a refusal never tells of a session.
    let banned = ConnAck {
        reason: ReasonCode::Banned,
        ..accepted
    };
    check_written(banned, Version::V5, b"\x20\x03\x00\x8A\x00");
    check_written(banned, Version::V311, b"\x20\x02\x00\x05");
    let malformed = ConnAck {
        reason: ReasonCode::MalformedPacket,
        ..accepted
    };
    check_refused(malformed, Version::V311, EncodeError::NoReturnCode);
}

#[test]
fn publish() {
    for version in [Version::V31, Version::V311] {
        check(PUBLISH, version, b"\x30\x07\x00\x03a/bhi");
        let again = Publish {
            dup: true,
            qos: QoS::ExactlyOnce,
            retain: true,
            id: Some(ID),
            ..PUBLISH
        };
        check(again, version, b"\x3D\x09\x00\x03a/b\x00\x0Ahi");
    }
    check(PUBLISH, Version::V5, b"\x30\x08\x00\x03a/b\x00hi");
    let props = PropsBuf::new().with(Property::TopicAlias(5));
    let alias = Publish {
        qos: QoS::AtLeastOnce,
        topic: "",
        id: Some(ID),
        props: props.as_props(),
        ..PUBLISH
    };
    check(
        alias,
        Version::V5,
        b"\x32\x0A\x00\x00\x00\x0A\x03\x23\x00\x05hi",
    );
}

#[test]
fn publish_leaves_out_what_does_not_belong_to_qos_0() {
    let odd = Publish {
        dup: true,
        id: Some(ID),
        ..PUBLISH
    };
    check_written(odd, Version::V311, b"\x30\x07\x00\x03a/bhi");
    let without = Publish {
        qos: QoS::AtLeastOnce,
        ..PUBLISH
    };
    check_refused(without, Version::V311, EncodeError::MissingPacketId);
}

#[test]
fn the_head_of_a_publish_is_all_but_its_payload() {
    let payload = vec![7; 70_000];
    let publish = Publish {
        qos: QoS::AtLeastOnce,
        id: Some(ID),
        payload: &payload,
        ..PUBLISH
    };
    for version in Version::ALL {
        let mut parts = Vec::new();
        publish.encode_head(version, &mut parts).unwrap();
        assert!(parts.len() < 16);
        parts.extend_from_slice(&payload);
        assert_eq!(parts, encode(&publish.into(), version).unwrap());
    }
    let mut small = [0; 8];
    assert_eq!(
        publish.encode_head(Version::V5, &mut &mut small[..]),
        Err(EncodeError::NoRoom)
    );
}

#[test]
fn acknowledgements() {
    for (kind, first) in [
        (AckKind::PubAck, 0x40),
        (AckKind::PubRec, 0x50),
        (AckKind::PubRel, 0x62),
        (AckKind::PubComp, 0x70),
    ] {
        let short = Ack::new(kind, ID);
        for version in Version::ALL {
            check(short, version, &[first, 2, 0, 10]);
        }
        let reason = match kind {
            AckKind::PubAck | AckKind::PubRec => ReasonCode::QuotaExceeded,
            AckKind::PubRel | AckKind::PubComp => ReasonCode::PacketIdentifierNotFound,
        };
        let refused = Ack { reason, ..short };
        check(refused, Version::V5, &[first, 3, 0, 10, reason as u8]);
        check_written(refused, Version::V311, &[first, 2, 0, 10]);
        let props = PropsBuf::new().with(Property::ReasonString("y"));
        let why = Ack {
            props: props.as_props(),
            ..short
        };
        check(why, Version::V5, &[first, 8, 0, 10, 0, 4, 0x1F, 0, 1, b'y']);
    }
}

#[test]
fn subscribe() {
    let mut filters = SubscribeFiltersBuf::new();
    filters
        .push("a/+", SubscribeOptions::qos(QoS::ExactlyOnce))
        .unwrap();
    filters.push("#", SubscribeOptions::default()).unwrap();
    let subscribe = Subscribe {
        id: ID,
        props: Props::EMPTY,
        filters: filters.as_filters(),
    };
    check(
        subscribe,
        Version::V31,
        b"\x82\x0C\x00\x0A\x00\x03a/+\x02\x00\x01#\x00",
    );
    check(
        subscribe,
        Version::V5,
        b"\x82\x0D\x00\x0A\x00\x00\x03a/+\x02\x00\x01#\x00",
    );

    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let mut filters = SubscribeFiltersBuf::new();
    filters.push("a", options).unwrap();
    let props = PropsBuf::new().with(Property::SubscriptionId(300));
    let subscribe = Subscribe {
        id: ID,
        props: props.as_props(),
        filters: filters.as_filters(),
    };
    check(
        subscribe,
        Version::V5,
        b"\x82\x0A\x00\x0A\x03\x0B\xAC\x02\x00\x01a\x2D",
    );
    // The options that MQTT 3 lacks are left out.
    check_written(subscribe, Version::V311, b"\x82\x06\x00\x0A\x00\x01a\x01");

    let none = SubscribeFiltersBuf::new();
    let empty = Packet::from(Subscribe {
        filters: none.as_filters(),
        ..subscribe
    });
    assert!(matches!(
        encode(&empty, Version::V5),
        Err(EncodeError::Invalid(_))
    ));
}

#[test]
fn subscribe_filters_are_a_list() {
    let mut filters = SubscribeFiltersBuf::new();
    for filter in ["a", "", "\u{6E29}/#"] {
        filters
            .push(filter, SubscribeOptions::qos(QoS::AtLeastOnce))
            .unwrap();
    }
    let list = filters.as_filters();
    assert_eq!(
        (list.len(), list.iter().len(), list.is_empty()),
        (3, 3, false)
    );
    let texts: Vec<_> = list.into_iter().map(|(filter, _)| filter).collect();
    assert_eq!(texts, ["a", "", "\u{6E29}/#"]);
    let long = "x".repeat(65_536);
    let refused = filters.push(&long, SubscribeOptions::default());
    assert_eq!(refused, Err(EncodeError::StringTooLong));
    assert_eq!(filters.as_filters().len(), 3);
}

#[test]
fn subscribe_options_are_the_byte_of_mqtt_5() {
    let mut valid = 0;
    for bits in 0..=u8::MAX {
        if let Some(options) = SubscribeOptions::from_u8(bits) {
            assert_eq!(options.to_u8(), bits);
            valid += 1;
        }
    }
    assert_eq!(valid, 3 * 2 * 2 * 3);
}

#[test]
fn suback() {
    let codes = ReasonCodes::new(&[0, 1, 2, 0x80]).unwrap();
    let suback = SubAck {
        id: ID,
        props: Props::EMPTY,
        codes,
    };
    check(suback, Version::V311, b"\x90\x06\x00\x0A\x00\x01\x02\x80");
    check(suback, Version::V5, b"\x90\x07\x00\x0A\x00\x00\x01\x02\x80");
    let codes = ReasonCodes::new(&[0x87, 0xA2, 2]).unwrap();
    let suback = SubAck { codes, ..suback };
    check(suback, Version::V5, b"\x90\x06\x00\x0A\x00\x87\xA2\x02");
    // MQTT 3 knows one failure.
    check_written(suback, Version::V31, b"\x90\x05\x00\x0A\x80\x80\x02");
    assert_eq!(
        codes.iter().collect::<Vec<_>>(),
        [
            ReasonCode::NotAuthorized,
            ReasonCode::WildcardSubscriptionsNotSupported,
            ReasonCode::GrantedQos2
        ]
    );
    assert_eq!(ReasonCodes::new(&[0, 0x03]), None);
    let empty = Packet::from(SubAck {
        codes: ReasonCodes::EMPTY,
        ..suback
    });
    assert!(matches!(
        encode(&empty, Version::V311),
        Err(EncodeError::Invalid(_))
    ));
}

#[test]
fn unsubscribe() {
    let mut filters = UnsubscribeFiltersBuf::new();
    filters.push("a/b").unwrap();
    filters.push("#").unwrap();
    let unsubscribe = Unsubscribe {
        id: ID,
        props: Props::EMPTY,
        filters: filters.as_filters(),
    };
    check(
        unsubscribe,
        Version::V311,
        b"\xA2\x0A\x00\x0A\x00\x03a/b\x00\x01#",
    );
    check(
        unsubscribe,
        Version::V5,
        b"\xA2\x0B\x00\x0A\x00\x00\x03a/b\x00\x01#",
    );
    assert_eq!(unsubscribe.filters.iter().collect::<Vec<_>>(), ["a/b", "#"]);
    assert_eq!(unsubscribe.filters.len(), 2);
    assert_eq!(
        filters.push(&"x".repeat(65_536)),
        Err(EncodeError::StringTooLong)
    );
}

#[test]
fn unsuback() {
    let codes = ReasonCodes::new(&[0, 0x11]).unwrap();
    let unsuback = UnsubAck {
        id: ID,
        props: Props::EMPTY,
        codes,
    };
    check(unsuback, Version::V5, b"\xB0\x05\x00\x0A\x00\x00\x11");
    check_written(unsuback, Version::V311, b"\xB0\x02\x00\x0A");
    check(
        UnsubAck {
            codes: ReasonCodes::EMPTY,
            ..unsuback
        },
        Version::V31,
        b"\xB0\x02\x00\x0A",
    );
}

#[test]
fn packets_without_fields() {
    for version in Version::ALL {
        check(Packet::PingReq, version, b"\xC0\x00");
        check(Packet::PingResp, version, b"\xD0\x00");
        check(Disconnect::new(ReasonCode::Success), version, b"\xE0\x00");
    }
}

#[test]
fn disconnect() {
    let taken_over = Disconnect::new(ReasonCode::SessionTakenOver);
    check(taken_over, Version::V5, b"\xE0\x01\x8E");
    check_written(taken_over, Version::V311, b"\xE0\x00");
    let props = PropsBuf::new().with(Property::SessionExpiry(0));
    let with_props = Disconnect {
        reason: ReasonCode::Success,
        props: props.as_props(),
    };
    check(
        with_props,
        Version::V5,
        b"\xE0\x07\x00\x05\x11\x00\x00\x00\x00",
    );
}

#[test]
fn auth() {
    let done = Auth {
        reason: ReasonCode::Success,
        props: Props::EMPTY,
    };
    check(done, Version::V5, b"\xF0\x00");
    check_refused(done, Version::V311, EncodeError::NotInThisVersion);
    let props = PropsBuf::new()
        .with(Property::AuthenticationMethod("M"))
        .with(Property::AuthenticationData(b"\x00"));
    let more = Auth {
        reason: ReasonCode::ContinueAuthentication,
        props: props.as_props(),
    };
    check(
        more,
        Version::V5,
        b"\xF0\x0A\x18\x08\x15\x00\x01M\x16\x00\x01\x00",
    );
}

#[test]
fn fields_and_packets_that_the_wire_cannot_express_are_refused() {
    let long = "x".repeat(65_536);
    check_refused(
        Publish {
            topic: &long,
            ..PUBLISH
        },
        Version::V5,
        EncodeError::StringTooLong,
    );
    check_refused(
        Connect {
            client_id: &long,
            ..CONNECT
        },
        Version::V311,
        EncodeError::StringTooLong,
    );
    check_refused(
        Connect {
            username: Some(""),
            password: Some(long.as_bytes()),
            ..CONNECT
        },
        Version::V311,
        EncodeError::StringTooLong,
    );
    let will = Will {
        payload: long.as_bytes(),
        ..WILL
    };
    check_refused(
        Connect {
            will: Some(will),
            ..CONNECT
        },
        Version::V311,
        EncodeError::StringTooLong,
    );

    let password = Packet::from(Connect {
        password: Some(b"p"),
        ..CONNECT
    });
    assert!(matches!(
        encode(&password, Version::V311),
        Err(EncodeError::Invalid(_))
    ));

    // 268,435,455 bytes after the header, and one more.
    let payload = vec![0; 268_435_455 - 5 + 1];
    let publish = Publish {
        payload: &payload,
        ..PUBLISH
    };
    check_refused(publish, Version::V311, EncodeError::TooLarge);
    let publish = Publish {
        payload: &payload[1..],
        ..PUBLISH
    };
    assert_eq!(publish.encoded_len(Version::V311), Ok(268_435_460));
}

#[test]
fn a_destination_without_room_is_left_alone() {
    for packet in [
        Packet::Publish(PUBLISH),
        Packet::PingReq,
        Packet::Ack(Ack::new(AckKind::PubAck, ID)),
    ] {
        let len = packet.encoded_len(Version::V5).unwrap();
        let mut room = vec![0xEE; len];
        let mut short = &mut room[1..];
        assert_eq!(
            packet.encode(Version::V5, &mut short),
            Err(EncodeError::NoRoom)
        );
        assert!(room.iter().all(|byte| *byte == 0xEE));
        let mut exact = &mut room[..];
        assert_eq!(packet.encode(Version::V5, &mut exact), Ok(()));
        assert!(exact.is_empty());
        assert_eq!(decode(&room, Version::V5), packet);
    }
}

#[test]
fn owning_a_packet_checks_what_encoders_trust() {
    let wildcard = Packet::from(Publish {
        topic: "a/#",
        ..PUBLISH
    });
    assert!(encode(&wildcard, Version::V5).is_ok());
    assert!(matches!(
        PacketBuf::from_packet(&wildcard, Version::V5),
        Err(EncodeError::Invalid(_))
    ));
    let nul = Packet::from(Connect {
        client_id: "\0",
        ..CONNECT
    });
    assert!(matches!(
        PacketBuf::from_packet(&nul, Version::V5),
        Err(EncodeError::Invalid(_))
    ));
}
