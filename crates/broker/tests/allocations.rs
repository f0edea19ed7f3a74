//! What a message costs in allocations, counted in a running broker over real sockets.
//!
//! The clients are plain blocking sockets with packets encoded beforehand, so that between two readings of the
//! counter nothing but the broker can allocate. One test per process: the counter is global.

mod blocking;

use std::{
    alloc::System,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use blocking::{broker, connect, encoded, subscribe};
use martlet_broker::config::Config;
use martlet_codec::{Packet, PacketId, Props, Publish, QoS, Version};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTER: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TOPICS: usize = 20;
const MESSAGES: usize = 10_000;
const PAYLOAD: [u8; 64] = [b'x'; 64];

fn topic(qos: QoS, index: usize) -> String {
    format!("site/{index}/sensor/{}", qos as u8)
}

/// Publisher and subscribers with everything they send and expect prepared.
struct Rig {
    publisher: TcpStream,
    subscribers: Vec<TcpStream>,
    /// A round publishes once to each topic.
    round: Vec<u8>,
    /// Bytes that subscriber `n` receives per round.
    received_per_round: Vec<usize>,
    acknowledged_per_round: usize,
    acknowledgements: Vec<Vec<u8>>,
}

impl Rig {
    /// Topic `n` has one subscriber, of MQTT 3.1.1 and 5 in turn.
    fn new(address: SocketAddr, qos: QoS) -> Self {
        let mut rig = Self {
            publisher: connect(address, Version::V5, &format!("publisher-{qos:?}"), true),
            subscribers: Vec::new(),
            round: Vec::new(),
            received_per_round: Vec::new(),
            acknowledged_per_round: if qos == QoS::AtLeastOnce {
                TOPICS * 4
            } else {
                0
            },
            acknowledgements: Vec::new(),
        };
        for index in 0..TOPICS {
            let version = if index % 2 == 0 {
                Version::V311
            } else {
                Version::V5
            };
            let topic = topic(qos, index);
            let mut subscriber = connect(
                address,
                version,
                &format!("subscriber-{index}-{qos:?}"),
                true,
            );
            subscribe(&mut subscriber, version, &topic, qos);
            rig.subscribers.push(subscriber);
            let id = PacketId::new(u16::try_from(index + 1).expect("few topics"));
            let id = if qos == QoS::AtMostOnce { None } else { id };
            let publish = Packet::Publish(Publish {
                dup: false,
                qos,
                retain: false,
                topic: &topic,
                id,
                props: Props::EMPTY,
                payload: &PAYLOAD,
            });
            rig.round.extend(encoded(&publish, Version::V5));
            rig.received_per_round
                .push(encoded(&publish, version).len());
            rig.acknowledgements.push(vec![0x40, 2, 0, 0]);
        }
        rig
    }

    fn rounds(&mut self, rounds: usize) {
        let mut packet = [0; 256];
        let mut acknowledged = [0; TOPICS * 4];
        for _ in 0..rounds {
            self.publisher
                .write_all(&self.round)
                .expect("the broker reads");
            for (index, subscriber) in self.subscribers.iter_mut().enumerate() {
                let packet = &mut packet[..self.received_per_round[index]];
                subscriber.read_exact(packet).expect("the broker delivers");
                if self.acknowledged_per_round > 0 {
                    let topic_len = usize::from(packet[3]);
                    let answer = &mut self.acknowledgements[index];
                    answer[2..].copy_from_slice(&packet[4 + topic_len..6 + topic_len]);
                    subscriber.write_all(answer).expect("the broker reads");
                }
            }
            let acknowledged = &mut acknowledged[..self.acknowledged_per_round];
            self.publisher
                .read_exact(acknowledged)
                .expect("the broker acknowledges");
        }
    }
}

#[test]
fn a_warm_broker_allocates_nothing_per_qos_0_message_and_once_per_qos_1_message() {
    let (runtime, _broker, address) = broker(Config::default());
    let mut qos0 = Rig::new(address, QoS::AtMostOnce);
    let mut qos1 = Rig::new(address, QoS::AtLeastOnce);
    qos0.rounds(500);
    qos1.rounds(500);
    let rounds = MESSAGES / TOPICS;
    // Spare buffers are as many as were ever needed at once; a new peak makes a few more, which is not a cost per
    // message. So the quietest of five windows counts: a cost per message shows in every one of them.
    let measure = |rig: &mut Rig| {
        let window = |_| {
            let before = COUNTER.stats();
            rig.rounds(rounds);
            let after = COUNTER.stats();
            (after.allocations - before.allocations) + (after.reallocations - before.reallocations)
        };
        (0..5).map(window).min().expect("five windows")
    };
    let for_qos0 = measure(&mut qos0);
    let for_qos1 = measure(&mut qos1);
    assert_eq!(for_qos0, 0, "allocations over {MESSAGES} QoS 0 messages");
    assert!(
        for_qos1 <= MESSAGES,
        "{for_qos1} allocations over {MESSAGES} QoS 1 messages"
    );
    runtime.shutdown_background();
}
