//! Property tests: decode∘encode is the identity for every packet and version, streaming in any
//! split equals whole, and any mutation ends in a value or an error.

use martlet_codec::corpus;
use martlet_codec::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, PacketBuf, PacketId, Property, Props,
    PropsBuf, PropsContext, Publish, QoS, ReasonCode, ReasonCodes, RetainHandling, Split, SubAck,
    Subscribe, SubscribeFiltersBuf, SubscribeOptions, UnsubAck, Unsubscribe, UnsubscribeFiltersBuf,
    Version, Will, split,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

/// Text without U+0000, in all lengths of UTF-8.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9/ $#+_-]{0,24}",
        2 => "[^\u{0}]{0,12}",
        1 => "[\u{1}-\u{7F}\u{80}-\u{7FF}\u{FEFF}\u{D7FF}\u{E000}\u{10FFFF}]{0,8}",
        1 => "[a-z]{120,300}",
    ]
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z0-9/$]{1,40}", 1 => "[^\u{0}+#]{1,20}"]
}

fn binary() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

fn id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..])
}

fn version() -> impl Strategy<Value = Version> {
    select(&Version::ALL[..])
}

/// A property that owns its text.
#[derive(Clone, Debug)]
struct OwnedProperty {
    id: u8,
    number: u32,
    flag: bool,
    text: String,
    name: String,
    topic: String,
    binary: Vec<u8>,
}

impl OwnedProperty {
    fn borrow(&self) -> Property<'_> {
        use Property as P;
        let short = self.number as u16;
        match self.id {
            0x01 => P::PayloadFormatIndicator(u8::from(self.flag)),
            0x02 => P::MessageExpiry(self.number),
            0x03 => P::ContentType(&self.text),
            0x08 => P::ResponseTopic(&self.topic),
            0x09 => P::CorrelationData(&self.binary),
            0x0B => P::SubscriptionId((self.number & 0x0FFF_FFFF).max(1)),
            0x11 => P::SessionExpiry(self.number),
            0x12 => P::AssignedClientId(&self.text),
            0x13 => P::ServerKeepAlive(short),
            0x15 => P::AuthenticationMethod(&self.text),
            0x16 => P::AuthenticationData(&self.binary),
            0x17 => P::RequestProblemInformation(self.flag),
            0x18 => P::WillDelay(self.number),
            0x19 => P::RequestResponseInformation(self.flag),
            0x1A => P::ResponseInformation(&self.text),
            0x1C => P::ServerReference(&self.text),
            0x1F => P::ReasonString(&self.text),
            0x21 => P::ReceiveMaximum(short.max(1)),
            0x22 => P::TopicAliasMaximum(short),
            0x23 => P::TopicAlias(short.max(1)),
            0x24 => P::MaximumQos(if self.flag {
                QoS::AtLeastOnce
            } else {
                QoS::AtMostOnce
            }),
            0x25 => P::RetainAvailable(self.flag),
            0x26 => P::UserProperty(&self.name, &self.text),
            0x27 => P::MaximumPacketSize(self.number.max(1)),
            0x28 => P::WildcardSubscriptionAvailable(self.flag),
            0x29 => P::SubscriptionIdsAvailable(self.flag),
            0x2A => P::SharedSubscriptionAvailable(self.flag),
            other => panic!("no property {other}"),
        }
    }
}

fn property(id: u8) -> impl Strategy<Value = OwnedProperty> {
    (
        any::<u32>(),
        any::<bool>(),
        text(),
        text(),
        topic(),
        binary(),
    )
        .prop_map(
            move |(number, flag, text, name, topic, binary)| OwnedProperty {
                id,
                number,
                flag,
                text,
                name,
                topic,
                binary,
            },
        )
}

/// A valid block: each allowed property at most once, some user properties more often.
fn props(context: PropsContext) -> impl Strategy<Value = PropsBuf> {
    let allowed: Vec<u8> = (0..64).filter(|id| context.allows(*id)).collect();
    let most = allowed.len();
    let properties = subsequence(allowed, 0..=most)
        .prop_shuffle()
        .prop_flat_map(|ids| ids.into_iter().map(property).collect::<Vec<_>>());
    (properties, vec(property(0x26), 0..3)).prop_map(move |(properties, user)| {
        let has_method = properties.iter().any(|property| property.id == 0x15);
        let mut block = PropsBuf::new();
        for property in properties.iter().chain(&user) {
            if property.id != 0x16 || has_method {
                block.push(property.borrow());
            }
        }
        block
    })
}

/// Encoding and decoding yields the same packet, and the size announced; so does the owned form.
fn identity(packet: &Packet<'_>, version: Version) -> Result<(), TestCaseError> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).unwrap();
    prop_assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
    let Ok(Split::Frame(frame)) = split(&bytes, u32::MAX) else {
        return Err(TestCaseError::fail("not one frame"));
    };
    prop_assert_eq!(frame.len, bytes.len());
    let decoded = Packet::decode(frame, version);
    prop_assert_eq!(decoded, Ok(*packet));

    let owned = PacketBuf::from_packet(packet, version).unwrap();
    prop_assert_eq!(owned.packet(), *packet);
    prop_assert_eq!(&owned.as_bytes()[..], &bytes[..]);
    prop_assert_eq!(PacketBuf::decode(bytes.into(), version), Ok(owned));
    Ok(())
}

fn only_v5(props: &PropsBuf, version: Version) -> Props<'_> {
    if version.is_v5() {
        props.as_props()
    } else {
        Props::EMPTY
    }
}

fn codes(table: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    vec(select(table), 1..20)
}

const CONNACK_CODES: &[u8] = &[0x80, 0x81, 0x84, 0x85, 0x88, 0x8C, 0x90, 0x95, 0x97, 0x9F];
const DISCONNECT_CODES: &[u8] = &[0x00, 0x04, 0x80, 0x81, 0x8B, 0x8E, 0x93, 0x98, 0xA0, 0xA2];
const SUBACK_CODES: &[u8] = &[
    0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
];

fn reason(code: u8) -> ReasonCode {
    ReasonCode::from_u8(code).unwrap()
}

type OwnedWill = (QoS, bool, PropsBuf, String, Vec<u8>);

fn will() -> impl Strategy<Value = OwnedWill> {
    (
        qos(),
        any::<bool>(),
        props(PropsContext::Will),
        topic(),
        binary(),
    )
}

fn options() -> impl Strategy<Value = SubscribeOptions> {
    let handling = select(
        &[
            RetainHandling::SendAlways,
            RetainHandling::SendIfNew,
            RetainHandling::DoNotSend,
        ][..],
    );
    (qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        |(qos, no_local, retain_as_published, retain_handling)| SubscribeOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    )
}

proptest! {
    #[test]
    fn connect(
        version in version(),
        bridge in any::<bool>(),
        clean_start in any::<bool>(),
        keep_alive_secs in any::<u16>(),
        props in props(PropsContext::Connect),
        client_id in text(),
        will in option::of(will()),
        username in option::of(text()),
        password in option::of(binary()),
    ) {
        let will = will.as_ref().map(|(qos, retain, props, topic, payload)| Will {
            qos: *qos,
            retain: *retain,
            props: only_v5(props, version),
            topic,
            payload,
        });
        let password = password.as_deref().filter(|_| version.is_v5() || username.is_some());
        let connect = Connect {
            version,
            bridge: bridge && !version.is_v5(),
            clean_start,
            keep_alive_secs,
            props: only_v5(&props, version),
            client_id: &client_id,
            will,
            username: username.as_deref(),
            password,
        };
        identity(&connect.into(), version)?;
    }

    #[test]
    fn connack(
        version in version(),
        session_present in any::<bool>(),
        code in option::of(select(CONNACK_CODES)),
        return_code in 0_u8..6,
        props in props(PropsContext::ConnAck),
    ) {
        let reason = if version.is_v5() {
            reason(code.unwrap_or(0))
        } else {
            ReasonCode::from_connect_return_code(return_code).unwrap()
        };
        let session_present =
            session_present && reason == ReasonCode::Success && version > Version::V31;
        let connack = ConnAck { session_present, reason, props: only_v5(&props, version) };
        identity(&connack.into(), version)?;
    }

    #[test]
    fn publish(
        version in version(),
        dup in any::<bool>(),
        qos in qos(),
        retain in any::<bool>(),
        topic in topic(),
        id in id(),
        props in props(PropsContext::Publish),
        more_ids in vec(1_u32..=268_435_455, 0..4),
        payload in binary(),
        drop_topic in any::<bool>(),
    ) {
        let mut block = props;
        for id in more_ids {
            block.push(Property::SubscriptionId(id));
        }
        let props = only_v5(&block, version);
        let acknowledged = qos > QoS::AtMostOnce;
        let publish = Publish {
            dup: dup && acknowledged,
            qos,
            retain,
            topic: if drop_topic && props.topic_alias().is_some() { "" } else { &topic },
            id: acknowledged.then_some(id),
            props,
            payload: &payload,
        };
        identity(&publish.into(), version)?;
    }

    #[test]
    fn acknowledgements(
        version in version(),
        kind in select(&[AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp][..]),
        id in id(),
        failed in any::<bool>(),
        props in props(PropsContext::Ack),
    ) {
        let failure = match kind {
            AckKind::PubAck | AckKind::PubRec => ReasonCode::NotAuthorized,
            AckKind::PubRel | AckKind::PubComp => ReasonCode::PacketIdentifierNotFound,
        };
        let reason = if failed && version.is_v5() { failure } else { ReasonCode::Success };
        identity(&Ack { kind, id, reason, props: only_v5(&props, version) }.into(), version)?;
    }

    #[test]
    fn subscribe(
        version in version(),
        id in id(),
        props in props(PropsContext::Subscribe),
        filters in vec((text(), options()), 1..20),
    ) {
        let mut list = SubscribeFiltersBuf::new();
        for (filter, options) in &filters {
            let options =
                if version.is_v5() { *options } else { SubscribeOptions::qos(options.qos) };
            list.push(filter, options).unwrap();
        }
        let subscribe =
            Subscribe { id, props: only_v5(&props, version), filters: list.as_filters() };
        prop_assert_eq!(subscribe.filters.len(), filters.len());
        identity(&subscribe.into(), version)?;
    }

    #[test]
    fn suback(
        version in version(),
        id in id(),
        props in props(PropsContext::SubAck),
        codes in codes(SUBACK_CODES),
    ) {
        let codes: Vec<u8> =
            codes.into_iter().map(|code| if version.is_v5() { code } else { code.min(0x80) }).collect();
        let codes = ReasonCodes::new(&codes).unwrap();
        identity(&SubAck { id, props: only_v5(&props, version), codes }.into(), version)?;
    }

    #[test]
    fn unsubscribe(
        version in version(),
        id in id(),
        props in props(PropsContext::Unsubscribe),
        filters in vec(text(), 1..20),
    ) {
        let mut list = UnsubscribeFiltersBuf::new();
        for filter in &filters {
            list.push(filter).unwrap();
        }
        let unsubscribe =
            Unsubscribe { id, props: only_v5(&props, version), filters: list.as_filters() };
        prop_assert!(unsubscribe.filters.iter().eq(filters.iter().map(String::as_str)));
        identity(&unsubscribe.into(), version)?;
    }

    #[test]
    fn unsuback(
        version in version(),
        id in id(),
        props in props(PropsContext::UnsubAck),
        codes in codes(&[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]),
    ) {
        let codes = if version.is_v5() { ReasonCodes::new(&codes).unwrap() } else { ReasonCodes::EMPTY };
        identity(&UnsubAck { id, props: only_v5(&props, version), codes }.into(), version)?;
    }

    #[test]
    fn disconnect(
        version in version(),
        code in select(DISCONNECT_CODES),
        props in props(PropsContext::Disconnect),
    ) {
        let reason = if version.is_v5() { reason(code) } else { ReasonCode::Success };
        identity(&Disconnect { reason, props: only_v5(&props, version) }.into(), version)?;
    }

    #[test]
    fn auth(code in select(&[0x00_u8, 0x18, 0x19][..]), props in props(PropsContext::Auth)) {
        let mut block = props;
        if block.as_props().authentication_method().is_none() {
            block.push(Property::AuthenticationMethod("M"));
        }
        identity(&Auth { reason: reason(code), props: block.as_props() }.into(), Version::V5)?;
    }

    #[test]
    fn streams_cut_anywhere_give_the_same_packets_as_whole(
        version in version(),
        picks in vec(any::<Index>(), 1..12),
        cuts in vec(1_usize..40, 1..40),
    ) {
        let cases: Vec<_> = corpus::good().filter(|case| case.versions.contains(&version)).collect();
        let picked: Vec<_> = picks.iter().map(|pick| cases[pick.index(cases.len())].bytes).collect();
        let stream = picked.concat();

        let mut found = Vec::new();
        let mut buffer: Vec<u8> = Vec::new();
        let mut rest = &stream[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = after;
            buffer.extend_from_slice(chunk);
            loop {
                match split(&buffer, u32::MAX).unwrap() {
                    Split::Frame(frame) => {
                        Packet::decode(frame, version).unwrap();
                        let len = frame.len;
                        found.push(buffer[..len].to_vec());
                        buffer.drain(..len);
                    }
                    Split::Partial { need } => {
                        prop_assert!(need > buffer.len());
                        break;
                    }
                }
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(found, picked);
    }

    #[test]
    fn mutated_packets_end_in_a_value_or_an_error(
        version in version(),
        pick in any::<Index>(),
        edits in vec((any::<Index>(), any::<u8>(), 0_u8..4), 1..6),
    ) {
        let all: Vec<&[u8]> = corpus::good()
            .map(|case| case.bytes)
            .chain(corpus::malformed().map(|case| case.bytes))
            .collect();
        let mut bytes = all[pick.index(all.len())].to_vec();
        for (at, value, what) in edits {
            let at = at.index(bytes.len().max(1));
            match what {
                0 if at < bytes.len() => bytes[at] = value,
                1 if at < bytes.len() => bytes[at] ^= 1 << (value & 7),
                2 => bytes.insert(at.min(bytes.len()), value),
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        if let Ok(Split::Frame(frame)) = split(&bytes, 1 << 20) {
            match Packet::decode(frame, version) {
                // What decodes can be written, and reads back as the same value.
                Ok(packet) => {
                    let version = match packet {
                        Packet::Connect(connect) => connect.version,
                        _ => version,
                    };
                    identity(&packet, version)?;
                }
                Err(error) => prop_assert!(error.offset <= frame.body.len()),
            }
        }
    }

    #[test]
    fn random_bytes_behind_a_good_header_end_in_a_value_or_an_error(
        version in version(),
        first in any::<u8>(),
        body in vec(any::<u8>(), 0..127),
    ) {
        let mut bytes = vec![first, body.len() as u8];
        bytes.extend_from_slice(&body);
        if let Ok(Split::Frame(frame)) = split(&bytes, 1 << 20) {
            let _ = Packet::decode(frame, version);
        }
    }
}
