//! Fuzz target: a stream of arbitrary bytes is decoded packet by packet, in the version that the
//! first byte names, and everything that a packet offers is read. Nothing may panic, and every
//! error must be placed inside its packet.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use martlet_codec::{Packet, Props, Split, Version, split};

/// Limit for one packet: far above what the fuzzer tries.
const MAX_PACKET: u32 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((&selector, mut stream)) = data.split_first() else {
        return;
    };
    let version = Version::ALL[usize::from(selector) % Version::ALL.len()];
    while let Ok(Split::Frame(frame)) = split(stream, MAX_PACKET) {
        match Packet::decode(frame, version) {
            Ok(packet) => read(&packet),
            Err(error) => {
                assert!(error.offset <= frame.body.len(), "{error}");
                assert!(error.reason_code().is_error(), "{error}");
                assert!(!error.statement().is_empty());
            }
        }
        stream = &stream[frame.len..];
    }
});

fn read(packet: &Packet<'_>) {
    match packet {
        Packet::Connect(packet) => {
            read_props(packet.props);
            if let Some(will) = &packet.will {
                read_props(will.props);
                assert!(!will.topic.is_empty() && !will.topic.contains(['+', '#', '\0']));
            }
        }
        Packet::ConnAck(packet) => read_props(packet.props),
        Packet::Publish(packet) => {
            read_props(packet.props);
            assert!(!packet.topic.contains(['+', '#', '\0']));
            assert!(!packet.topic.is_empty() || packet.props.topic_alias().is_some());
            assert_eq!(
                packet.id.is_some(),
                packet.qos > martlet_codec::QoS::AtMostOnce
            );
            #[cfg(planted_bug)]
            assert!(packet.props.topic_alias() <= Some(255), "planted bug");
        }
        Packet::Ack(packet) => read_props(packet.props),
        Packet::Subscribe(packet) => {
            read_props(packet.props);
            assert_eq!(packet.filters.iter().count(), packet.filters.len());
            assert!(!packet.filters.is_empty());
        }
        Packet::SubAck(packet) => {
            read_props(packet.props);
            assert_eq!(packet.codes.iter().count(), packet.codes.len());
        }
        Packet::Unsubscribe(packet) => {
            read_props(packet.props);
            assert_eq!(packet.filters.iter().count(), packet.filters.len());
            assert!(!packet.filters.is_empty());
        }
        Packet::UnsubAck(packet) => {
            read_props(packet.props);
            assert_eq!(packet.codes.iter().count(), packet.codes.len());
        }
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(packet) => read_props(packet.props),
        Packet::Auth(packet) => read_props(packet.props),
    }
}

fn read_props(props: Props<'_>) {
    // Every byte of a validated block belongs to a property, seen in either way.
    let values: usize = props.iter().map(|property| property.encoded_len()).sum();
    let segments: usize = props.segments().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(
        (values, segments),
        (props.as_bytes().len(), props.as_bytes().len())
    );
    black_box(props.message_expiry_secs());
    black_box(props.response_topic());
    black_box(props.correlation_data());
    black_box(props.maximum_qos());
    assert_eq!(
        props.user_properties().count() + props.subscription_ids().count(),
        props
            .segments()
            .filter(|(id, _)| matches!(id, 0x26 | 0x0B))
            .count()
    );
}
