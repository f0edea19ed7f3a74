//! The packets that benchmarks measure, all MQTT 5.

use martlet_codec::{
    Connect, Packet, PacketId, Property, Props, PropsBuf, Publish, QoS, Subscribe,
    SubscribeFiltersBuf, SubscribeOptions, Version, Will,
};

/// A packet and its name in the tables.
pub(crate) struct Input {
    /// Row name.
    pub(crate) name: &'static str,
    /// The whole packet.
    pub(crate) bytes: Vec<u8>,
}

/// The rows: PUBLISH of three sizes, CONNECT with properties, SUBSCRIBE with 100 filters.
pub(crate) fn all() -> Vec<Input> {
    vec![
        Input {
            name: "publish 64 B",
            bytes: publish(64),
        },
        Input {
            name: "publish 1 KiB",
            bytes: publish(1 << 10),
        },
        Input {
            name: "publish 64 KiB",
            bytes: publish(64 << 10),
        },
        Input {
            name: "connect with properties",
            bytes: connect(),
        },
        Input {
            name: "subscribe 100 filters",
            bytes: subscribe(),
        },
    ]
}

fn encode(packet: Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet
        .encode(Version::V5, &mut bytes)
        .expect("inputs can be encoded");
    bytes
}

fn id() -> PacketId {
    PacketId::new(4711).expect("not zero")
}

fn publish(size: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..size).map(|index| b' ' + (index % 64) as u8).collect();
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        // 29 bytes, as in the measurements of the design.
        topic: "sensors/building-7/room-42/co",
        id: Some(id()),
        props: Props::EMPTY,
        payload: &payload,
    };
    encode(publish.into())
}

fn connect() -> Vec<u8> {
    let props = PropsBuf::new()
        .with(Property::SessionExpiry(3600))
        .with(Property::ReceiveMaximum(20))
        .with(Property::MaximumPacketSize(65_536))
        .with(Property::TopicAliasMaximum(10))
        .with(Property::RequestResponseInformation(true))
        .with(Property::RequestProblemInformation(true))
        .with(Property::UserProperty("firmware", "2.14.1"))
        .with(Property::UserProperty("site", "building-7"));
    let will_props = PropsBuf::new()
        .with(Property::WillDelay(30))
        .with(Property::MessageExpiry(600))
        .with(Property::ContentType("text/plain"));
    let connect = Connect {
        version: Version::V5,
        bridge: false,
        clean_start: false,
        keep_alive_secs: 60,
        props: props.as_props(),
        client_id: "sensor-building-7-room-42",
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            retain: true,
            props: will_props.as_props(),
            topic: "sensors/building-7/room-42/status",
            payload: b"offline",
        }),
        username: Some("sensor"),
        password: Some(b"correct horse battery staple"),
    };
    encode(connect.into())
}

fn subscribe() -> Vec<u8> {
    let mut filters = SubscribeFiltersBuf::new();
    for room in 0..100 {
        let filter = format!("sensors/building-7/room-{room}/+");
        filters
            .push(&filter, SubscribeOptions::qos(QoS::AtLeastOnce))
            .expect("short");
    }
    let subscribe = Subscribe {
        id: id(),
        props: Props::EMPTY,
        filters: filters.as_filters(),
    };
    encode(subscribe.into())
}
