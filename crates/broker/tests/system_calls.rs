//! What a message costs in system calls and wakes under load, counted by a running broker over real sockets.
//!
//! Counted are the broker's reads and writes of client sockets, reads that found nothing included, and the times a worker
//! thread went to sleep in the reactor or was woken from it. The load is certain to come in large batches however slow or
//! busy the machine is: while the clients write, the worker threads are held in a barrier, so everything waits in the
//! sockets before the broker sees the first byte of it. Nothing here depends on time.

#![expect(
    clippy::print_stdout,
    reason = "the figures are for those who run this with --nocapture"
)]

mod blocking;

use std::{
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Barrier},
};

use blocking::{broker, connect, encoded, read_packet, subscribe};
use martlet_broker::{Broker, config::Config};
use martlet_codec::{Packet, PacketId, Props, Publish, QoS, Version};
use tokio::runtime::Runtime;

/// Of `blocking::broker`.
const WORKERS: usize = 2;
/// Messages a publisher writes at once: 59 KB, which one read of the broker takes and the sockets hold, and fewer
/// than may be in flight to a subscriber.
const BURST: usize = 700;
const ROUNDS: usize = 4;
const PAYLOAD: [u8; 64] = [b'x'; 64];
/// System calls per delivered message.
const CALLS_MAX: f64 = 0.05;

/// What the broker and its runtime have done since they started.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    reads: u64,
    reads_empty: u64,
    writes: u64,
    /// Times a worker thread went to sleep in the reactor or for another thread, and times it was woken: a system call each.
    parks: u64,
    wakes: u64,
    delivered: u64,
}

impl Calls {
    fn now(runtime: &Runtime, broker: &Broker) -> Self {
        let counters = broker.counters();
        let metrics = runtime.metrics();
        let parks = |worker| metrics.worker_park_unpark_count(worker);
        Self {
            reads: counters.socket_reads(),
            reads_empty: counters.socket_reads_empty(),
            writes: counters.socket_writes(),
            parks: (0..metrics.num_workers()).map(parks).sum(),
            wakes: counters.subscriber_wakes(),
            delivered: counters.publish_sent(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            reads_empty: self.reads_empty - before.reads_empty,
            writes: self.writes - before.writes,
            parks: self.parks - before.parks,
            wakes: self.wakes - before.wakes,
            delivered: self.delivered - before.delivered,
        }
    }

    fn per_message(self) -> f64 {
        let calls = self.reads + self.reads_empty + self.writes + self.parks;
        calls as f64 / self.delivered as f64
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4} a message: {self:?}", self.per_message())
    }
}

/// Keeps every worker thread of `runtime` from its tasks while `f` runs.
fn held<R>(runtime: &Runtime, f: impl FnOnce() -> R) -> R {
    let taken = Arc::new(Barrier::new(WORKERS + 1));
    let free = Arc::new(Barrier::new(WORKERS + 1));
    for _ in 0..WORKERS {
        let (taken, free) = (Arc::clone(&taken), Arc::clone(&free));
        runtime.spawn(async move {
            taken.wait();
            free.wait();
        });
    }
    taken.wait();
    let result = f();
    free.wait();
    result
}

/// One publisher of one topic, and its subscribers.
struct Group {
    publisher: TcpStream,
    subscribers: Vec<TcpStream>,
    burst: Vec<u8>,
    packet_len: usize,
}

impl Group {
    fn new(address: SocketAddr, qos: QoS, name: &str, subscribers: usize) -> Self {
        let version = Version::V311;
        let topic = format!("site/{name}/state");
        let subscribers = (0..subscribers).map(|index| {
            let mut stream = connect(address, version, &format!("{name}-{index}"), true);
            subscribe(&mut stream, version, &topic, qos);
            stream
        });
        let subscribers = subscribers.collect();
        let packet = |id: usize| {
            let id = PacketId::new(u16::try_from(id).expect("a burst has fewer messages"));
            let publish = Packet::Publish(Publish {
                dup: false,
                qos,
                retain: false,
                topic: &topic,
                id: id.filter(|_| qos > QoS::AtMostOnce),
                props: Props::EMPTY,
                payload: &PAYLOAD,
            });
            encoded(&publish, version)
        };
        Self {
            publisher: connect(address, version, &format!("{name}-publisher"), true),
            subscribers,
            burst: (1..=BURST).flat_map(packet).collect(),
            packet_len: packet(1).len(),
        }
    }

    fn clients(&mut self) -> impl Iterator<Item = &mut TcpStream> {
        self.subscribers.iter_mut().chain([&mut self.publisher])
    }

    /// Reads a burst on each subscription; returns the acknowledgements each owes.
    fn receive(&mut self, qos: QoS) -> Vec<Vec<u8>> {
        let mut received = vec![0; self.burst.len()];
        let (packet_len, subscribers) = (self.packet_len, &mut self.subscribers);
        let receive = |stream: &mut TcpStream| {
            stream
                .read_exact(&mut received)
                .expect("the broker delivers");
            let mut acknowledgements = Vec::new();
            if qos == QoS::AtLeastOnce {
                for packet in received.chunks(packet_len) {
                    let topic_len = usize::from(packet[3]);
                    acknowledgements.extend([0x40, 2]);
                    acknowledgements.extend(&packet[4 + topic_len..6 + topic_len]);
                }
            }
            acknowledgements
        };
        subscribers.iter_mut().map(receive).collect()
    }
}

/// Everything sent so far has been handled when this returns, acknowledgements too; it costs a few calls for each client.
/// Without it, a subscriber whose acknowledgements are read during the next burst wakes and falls asleep for its own reasons.
fn settle(groups: &mut [Group]) {
    for stream in groups.iter_mut().flat_map(Group::clients) {
        stream.write_all(&[0xC0, 0]).expect("the broker reads");
        read_packet(stream);
    }
}

/// A burst of each publisher, received and acknowledged. Returns in how many batches the broker read the bursts: nobody else
/// sends anything before they are delivered.
fn round(runtime: &Runtime, broker: &Broker, groups: &mut [Group], qos: QoS) -> u64 {
    let before = broker.counters().socket_reads();
    held(runtime, || {
        for group in &mut *groups {
            group
                .publisher
                .write_all(&group.burst)
                .expect("the sockets hold a burst");
        }
    });
    let acknowledgements: Vec<_> = groups.iter_mut().map(|group| group.receive(qos)).collect();
    let batches = broker.counters().socket_reads() - before;
    if qos == QoS::AtLeastOnce {
        held(runtime, || {
            for (group, acknowledgements) in groups.iter_mut().zip(&acknowledgements) {
                for (stream, bytes) in group.subscribers.iter_mut().zip(acknowledgements) {
                    stream
                        .write_all(bytes)
                        .expect("the sockets hold acknowledgements");
                }
            }
        });
        let mut acknowledged = vec![0; BURST * 4];
        for group in &mut *groups {
            group
                .publisher
                .read_exact(&mut acknowledged)
                .expect("the broker acknowledges");
        }
    }
    settle(groups);
    batches
}

/// Runs `publishers` publishers with `subscribers` subscribers each, and looks at what that cost the broker.
fn check(publishers: usize, subscribers: usize, qos: QoS) {
    let (runtime, broker, address) = broker(Config::default());
    let group = |index| Group::new(address, qos, &format!("group-{index}"), subscribers);
    let mut groups: Vec<_> = (0..publishers).map(group).collect();
    round(&runtime, &broker, &mut groups, qos);
    let before = Calls::now(&runtime, &broker);
    let batches: u64 = (0..ROUNDS)
        .map(|_| round(&runtime, &broker, &mut groups, qos))
        .sum();
    let calls = Calls::now(&runtime, &broker).since(before);
    runtime.shutdown_background();

    let case = format!("{publishers} to {subscribers} each, {qos:?}: {calls}");
    let expected = publishers * subscribers * BURST * ROUNDS;
    assert_eq!(calls.delivered, expected as u64, "{case}");
    assert!(calls.per_message() <= CALLS_MAX, "{case}");
    assert!(
        calls.wakes <= batches * subscribers as u64,
        "more than one wake per read batch ({batches}) and subscriber: {case}"
    );
    println!("{case}");
}

#[test]
fn a_batch_costs_few_system_calls_and_wakes_each_subscriber_once() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        check(1, 50, qos);
        check(10, 1, qos);
    }
}
