//! A whole broker over streams in memory: a message comes in, is routed, and goes out.

use std::{sync::Arc, time::Duration};

use martlet_broker::{Broker, config::Config};
use martlet_codec::{
    Connect, Packet, PacketId, Props, QoS, RetainHandling, Subscribe, SubscribeFiltersBuf,
    SubscribeOptions, Version,
};

use crate::{
    Case, Round,
    parts::{TOPIC, filters, publish, topics},
    wire::{Executor, StoppedClock, Wire},
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "route_hit",
        about: "find the subscribers of the topic asked for last among 10,000 filters",
        rounds: 10_000,
        prepare: || route(1),
    },
    Case {
        name: "route_miss",
        about: "the same for more topics in turn than are remembered",
        rounds: 5_000,
        prepare: || route(usize::MAX),
    },
    Case {
        name: "broker_qos0",
        about: "one PUBLISH into a broker and out of it, QoS 0",
        rounds: 2_000,
        prepare: || round_trip(QoS::AtMostOnce),
    },
    Case {
        name: "broker_qos1",
        about: "the same at QoS 1, acknowledged on both sides",
        rounds: 2_000,
        prepare: || round_trip(QoS::AtLeastOnce),
    },
    Case {
        name: "broker_qos2",
        about: "the same at QoS 2, completed on both sides",
        rounds: 2_000,
        prepare: || round_trip(QoS::ExactlyOnce),
    },
    Case {
        name: "broker_batch_qos0",
        about: "64 PUBLISH in one read, out in one write, QoS 0",
        rounds: 500,
        prepare: || batch(64, 1, QoS::AtMostOnce),
    },
    Case {
        name: "broker_batch_qos1",
        about: "the same at QoS 1, acknowledged on both sides",
        rounds: 500,
        prepare: || batch(64, 1, QoS::AtLeastOnce),
    },
    Case {
        name: "broker_fan_out_qos0",
        about: "4 PUBLISH in one read, out to 50 subscribers, QoS 0",
        rounds: 500,
        prepare: || batch(4, 50, QoS::AtMostOnce),
    },
];

const VERSION: Version = Version::V311;

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoded = packet.encode(VERSION, &mut bytes);
    assert_eq!(encoded, Ok(()));
    bytes
}

/// A broker that runs when told to.
struct Rig {
    broker: Broker,
    executor: Arc<Executor>,
    /// Time-outs of connecting clients are registered with it; none ever fires.
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime can be built");
        let executor = Arc::new(Executor::default());
        let mut config = Config::default();
        config.sys.interval = Duration::ZERO;
        let broker = Broker::builder()
            .config(config)
            .seed(1)
            .clock(Arc::new(StoppedClock))
            .spawner(Arc::clone(&executor) as _)
            .start()
            .expect("the settings make sense");
        // Deadlines and the ticker would run at times of their own.
        executor.forget_new_tasks();
        Self {
            broker,
            executor,
            runtime,
        }
    }

    fn run(&self) {
        self.executor.run();
    }

    fn connect(&self, client_id: &str) -> Wire {
        let wire = Wire::default();
        let connect = Connect {
            version: VERSION,
            bridge: false,
            clean_start: true,
            keep_alive_secs: 0,
            props: Props::EMPTY,
            client_id,
            will: None,
            username: None,
            password: None,
        };
        let _entered = self.runtime.enter();
        self.broker.attach(wire.clone(), "memory");
        wire.send(&encoded(&Packet::Connect(connect)));
        self.run();
        wire.receive(|bytes| assert_eq!(bytes, [0x20, 2, 0, 0], "CONNACK"));
        wire
    }

    fn subscribe(&self, wire: &Wire, filters: &[String], qos: QoS) {
        let options = SubscribeOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAlways,
        };
        let mut list = SubscribeFiltersBuf::new();
        for filter in filters {
            list.push(filter, options).expect("a short filter");
        }
        wire.send(&encoded(&Packet::Subscribe(Subscribe {
            id: PacketId::new(1).expect("not zero"),
            props: Props::EMPTY,
            filters: list.as_filters(),
        })));
        self.run();
        wire.receive(|bytes| assert_eq!(bytes[0], 0x90, "SUBACK"));
    }
}

/// Asks the router about the first `turns` topics in turn.
fn route(turns: usize) -> Round {
    let rig = Rig::new();
    let wire = rig.connect("subscriber");
    let filters: Vec<_> = filters().collect();
    for some in filters.chunks(100) {
        rig.subscribe(&wire, some, QoS::AtMostOnce);
    }
    let topics = topics();
    let turns = turns.min(topics.len());
    let mut routes = rig.broker.routes();
    let mut turn = 0;
    Box::new(move || {
        // The subscriptions end with the rig.
        let _ = &rig;
        assert_eq!(routes(&topics[turn]), 2);
        turn = (turn + 1) % turns;
    })
}

/// The identifier in a PUBLISH of the topic [`TOPIC`].
fn id_of(packet: &[u8]) -> [u8; 2] {
    let at = 4 + TOPIC.len();
    [packet[at], packet[at + 1]]
}

fn round_trip(qos: QoS) -> Round {
    let rig = Rig::new();
    let subscriber = rig.connect("subscriber");
    rig.subscribe(&subscriber, &[TOPIC.to_owned()], qos);
    let publisher = rig.connect("publisher");
    let packet = encoded(&Packet::Publish(publish(TOPIC, qos, 1)));
    Box::new(move || {
        publisher.send(&packet);
        rig.run();
        let [high, low] = subscriber.receive(|bytes| {
            assert_eq!(bytes.len(), packet.len());
            id_of(bytes)
        });
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                publisher.receive(|bytes| assert_eq!(bytes, [0x40, 2, 0, 1]));
                subscriber.send(&[0x40, 2, high, low]);
                rig.run();
            }
            QoS::ExactlyOnce => {
                publisher.receive(|bytes| assert_eq!(bytes, [0x50, 2, 0, 1]));
                publisher.send(&[0x62, 2, 0, 1]);
                subscriber.send(&[0x50, 2, high, low]);
                rig.run();
                publisher.receive(|bytes| assert_eq!(bytes, [0x70, 2, 0, 1]));
                subscriber.receive(|bytes| assert_eq!(bytes, [0x62, 2, high, low]));
                subscriber.send(&[0x70, 2, high, low]);
                rig.run();
            }
        }
    })
}

/// `messages` in one read of the broker, to each of `subscribers`.
fn batch(messages: u16, subscribers: usize, qos: QoS) -> Round {
    let rig = Rig::new();
    let subscribe = |n| {
        let wire = rig.connect(&format!("subscriber-{n}"));
        rig.subscribe(&wire, &[TOPIC.to_owned()], qos);
        wire
    };
    let subscribers: Vec<_> = (0..subscribers).map(subscribe).collect();
    let publisher = rig.connect("publisher");
    let packets: Vec<u8> = (1..=messages)
        .flat_map(|id| encoded(&Packet::Publish(publish(TOPIC, qos, id))))
        .collect();
    let packet_len = packets.len() / usize::from(messages);
    let mut acknowledgements = Vec::new();
    Box::new(move || {
        publisher.send(&packets);
        rig.run();
        for subscriber in &subscribers {
            acknowledgements.clear();
            subscriber.receive(|bytes| {
                assert_eq!(bytes.len(), packets.len());
                if qos == QoS::AtLeastOnce {
                    for packet in bytes.chunks(packet_len) {
                        let [high, low] = id_of(packet);
                        acknowledgements.extend([0x40, 2, high, low]);
                    }
                }
            });
            if qos == QoS::AtLeastOnce {
                subscriber.send(&acknowledgements);
            }
        }
        if qos == QoS::AtLeastOnce {
            rig.run();
            publisher.receive(|bytes| assert_eq!(bytes.len(), usize::from(messages) * 4));
        }
    })
}
