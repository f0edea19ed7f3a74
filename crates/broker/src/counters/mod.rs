//! Exact counters of what the broker does, without a lock or a contended cache line on the hot path.
//!
//! Every thread adds to a shard of its own; a reader sums the shards. Each counter is exact; a [`Snapshot`] taken
//! under load is not one instant over all of them. A task that handles a batch of packets counts into a [`Local`]
//! on its stack and flushes it once. Deliberately absent: rates (see [`Loads`]), and counters of single
//! clients.

mod load;
mod names;
mod saved;

use std::{
    array, fmt,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use martlet_codec::{QoS, ReasonCode};
use martlet_session::{DropReason, Sent};
use martlet_storage::CommitStats;

pub use load::{Load, Loads, Window};
pub use names::{DROP_REASONS, Event, Gauge, Limit, drop_name, packet_name};

/// Shards: enough for the worker threads of ordinary machines to be alone on theirs. More threads share, correctly.
const SHARDS: usize = 16;
/// Places for the reasons of [`DropReason`], and one for those that are newer than this file.
const DROPS: usize = DROP_REASONS.len() + 1;
/// Packet types are a nibble [MQTT-2.1.2].
const PACKET_TYPES: usize = 16;
const PUBLISH: usize = 3;
const PUBREL: usize = 6;

// Where each group of counters begins. What a connection counts per packet comes first: see `Local`.
const BYTES_IN: usize = 0;
const BYTES_OUT: usize = 1;
const PAYLOAD_IN: usize = 2;
const PAYLOAD_OUT: usize = 3;
const PACKETS_IN: usize = 4;
const PACKETS_OUT: usize = PACKETS_IN + PACKET_TYPES;
const PUBLISH_IN: usize = PACKETS_OUT + PACKET_TYPES;
const PUBLISH_OUT: usize = PUBLISH_IN + 3;
const DROPPED: usize = PUBLISH_OUT + 3;
const READS: usize = DROPPED + DROPS;
const READS_EMPTY: usize = READS + 1;
const WRITES: usize = READS_EMPTY + 1;
const WAKES: usize = WRITES + 1;
const LOCAL_CELLS: usize = WAKES + 1;
const EVENTS: usize = LOCAL_CELLS;
const LIMITS: usize = EVENTS + Event::ALL.len();
const CELLS: usize = LIMITS + Limit::ALL.len();
const _: () = assert!(
    LOCAL_CELLS <= 64,
    "a Local remembers in one u64 which cells it touched"
);

/// The counters of one broker.
pub struct Counters {
    shards: Box<[Shard; SHARDS]>,
    /// CONNECTs refused, by reason code.
    refused: Box<[AtomicU64; 256]>,
    /// Connections of clients that ended, by reason code.
    disconnected: Box<[AtomicU64; 256]>,
    gauges: [AtomicU64; Gauge::ALL.len()],
    /// Not sharded, so that the maximum is exact; changes once per connection.
    clients_connected: AtomicU64,
    clients_maximum: AtomicU64,
}

/// Aligned to two cache lines, which many processors fetch together.
#[repr(align(128))]
struct Shard([AtomicU64; CELLS]);

impl Default for Counters {
    fn default() -> Self {
        let zero = |_| AtomicU64::new(0);
        Self {
            shards: Box::new(array::from_fn(|_| Shard(array::from_fn(zero)))),
            refused: Box::new(array::from_fn(zero)),
            disconnected: Box::new(array::from_fn(zero)),
            gauges: array::from_fn(zero),
            clients_connected: AtomicU64::new(0),
            clients_maximum: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one event.
    pub fn event(&self, event: Event) {
        self.add(EVENTS + event as usize, 1);
    }

    /// Counts one refusal or disconnection that is the consequence of `limit`. Drops are counted as such.
    pub fn limit(&self, limit: Limit) {
        self.add(LIMITS + limit as usize, 1);
    }

    /// Sets a gauge to what was found.
    pub fn set_gauge(&self, gauge: Gauge, value: u64) {
        self.gauges[gauge as usize].store(value, Relaxed);
    }

    /// Counts bytes read from a client before it was connected.
    pub fn bytes_received(&self, bytes: usize) {
        self.add(BYTES_IN, bytes as u64);
    }

    /// Counts a write and the bytes that the socket of a client took; for each write, which costs far more than counting.
    pub fn bytes_sent(&self, bytes: usize) {
        self.add(BYTES_OUT, bytes as u64);
        self.add(WRITES, 1);
    }

    /// Counts a write for which the socket of a client had no room.
    pub fn write_blocked(&self) {
        self.add(WRITES, 1);
    }

    /// Counts a packet other than PUBLISH that was received; `kind` is the high nibble of its first byte.
    pub fn packet_received(&self, kind: u8) {
        self.add(PACKETS_IN + usize::from(kind & 0x0F), 1);
    }

    /// Counts the packets in `bytes`, which are whole ones other than PUBLISH, on their way to a client.
    pub fn packets_sent(&self, bytes: &[u8]) {
        let mut rest = bytes;
        // Mostly they are all of one kind.
        let (mut kind, mut count) = (0, 0);
        while let Some((first, length)) = rest.split_first() {
            if first >> 4 != kind {
                self.add_packets_sent(kind, count);
                (kind, count) = (first >> 4, 0);
            }
            count += 1;
            rest = after_body(length);
        }
        self.add_packets_sent(kind, count);
    }

    #[inline]
    fn add_packets_sent(&self, kind: u8, count: u64) {
        if count > 0 {
            self.add(PACKETS_OUT + usize::from(kind & 0x0F), count);
        }
    }

    /// Counts a message that was given up.
    pub fn dropped(&self, reason: DropReason) {
        self.add(DROPPED + drop_index(reason), 1);
    }

    /// A CONNECT was accepted: call once per successful CONNACK.
    pub fn client_connected(&self) {
        self.event(Event::Connected);
        let connected = self.clients_connected.fetch_add(1, SeqCst) + 1;
        self.clients_maximum.fetch_max(connected, SeqCst);
    }

    /// The connection of a client that was counted by [`Counters::client_connected`] ended.
    pub fn client_disconnected(&self, reason: ReasonCode) {
        self.clients_connected.fetch_sub(1, SeqCst);
        self.disconnected[usize::from(reason as u8)].fetch_add(1, Relaxed);
    }

    /// A CONNECT was refused, or failed, with `reason`.
    pub fn connect_refused(&self, reason: ReasonCode) {
        self.refused[usize::from(reason as u8)].fetch_add(1, Relaxed);
    }

    /// Clients connected now.
    pub fn clients_connected_now(&self) -> u64 {
        self.clients_connected.load(SeqCst)
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let mut cells = Box::new([0_u64; CELLS]);
        for shard in &*self.shards {
            for (sum, cell) in cells.iter_mut().zip(&shard.0) {
                *sum = sum.wrapping_add(cell.load(Relaxed));
            }
        }
        let by_reason =
            |counts: &[AtomicU64; 256]| Box::new(array::from_fn(|code| counts[code].load(Relaxed)));
        let clients_connected = self.clients_connected.load(SeqCst);
        Snapshot {
            cells,
            gauges: array::from_fn(|gauge| self.gauges[gauge].load(Relaxed)),
            refused: by_reason(&self.refused),
            disconnected: by_reason(&self.disconnected),
            clients_connected,
            // A client may have come between the two loads.
            clients_maximum: self.clients_maximum.load(SeqCst).max(clients_connected),
            store: CommitStats::default(),
        }
    }

    fn add(&self, cell: usize, n: u64) {
        self.shards[shard_of_thread()].0[cell].fetch_add(n, Relaxed);
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// Threads are numbered as they first count; which broker they count for makes no difference.
fn shard_of_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SHARD: usize = THREADS.fetch_add(1, Relaxed) % SHARDS);
    SHARD.with(|shard| *shard)
}

/// Counts of one batch of packets, gathered without atomics and flushed once.
///
/// About 500 bytes: for the scratch of a thread or the stack of the synchronous part of a batch, not for each
/// connection. What is not flushed is not counted.
pub struct Local {
    cells: [u64; LOCAL_CELLS],
    touched: u64,
}

impl Default for Local {
    fn default() -> Self {
        Self {
            cells: [0; LOCAL_CELLS],
            touched: 0,
        }
    }
}

impl Local {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// A read of the socket of a client brought these bytes, as MQTT sees them (after TLS and WebSocket framing).
    pub fn bytes_received(&mut self, bytes: usize) {
        self.add(BYTES_IN, bytes as u64);
        self.add(READS, 1);
    }

    /// A read of the socket of a client brought nothing.
    pub fn read_empty(&mut self) {
        self.add(READS_EMPTY, 1);
    }

    /// The task of a sleeping subscriber is woken because a message was appended to its output.
    pub fn subscriber_woken(&mut self) {
        self.add(WAKES, 1);
    }

    /// A packet of any type was received; `kind` is the high nibble of its first byte.
    pub fn packet_received(&mut self, kind: u8) {
        self.add(PACKETS_IN + usize::from(kind & 0x0F), 1);
    }

    /// The packet counted by [`Local::packet_received`] was a PUBLISH, perhaps a duplicate.
    pub fn publish_received(&mut self, qos: QoS, payload_bytes: usize) {
        self.add(PUBLISH_IN + qos as usize, 1);
        self.add(PAYLOAD_IN, payload_bytes as u64);
    }

    /// Whether this batch has brought a PUBLISH.
    pub fn has_publish_received(&self) -> bool {
        self.touched & (0b111 << PUBLISH_IN) != 0
    }

    /// `count` PUBLISH packets with this payload were encoded for clients, duplicates included.
    pub fn publish_sent(&mut self, qos: QoS, payload_bytes: usize, count: u64) {
        self.add(PACKETS_OUT + PUBLISH, count);
        self.add(PUBLISH_OUT + qos as usize, count);
        self.add(PAYLOAD_OUT, count * payload_bytes as u64);
    }

    /// A message was given up for one receiver.
    pub fn dropped(&mut self, reason: DropReason) {
        self.add(DROPPED + drop_index(reason), 1);
    }

    /// What an outbound half encoded by itself.
    pub fn sent(&mut self, sent: &Sent) {
        let publishes = || sent.publishes.iter().map(|count| u64::from(*count));
        self.add(PACKETS_OUT + PUBLISH, publishes().sum());
        for (qos, count) in publishes().enumerate() {
            self.add(PUBLISH_OUT + qos, count);
        }
        self.add(PAYLOAD_OUT, sent.payload_bytes);
        self.add(PACKETS_OUT + PUBREL, u64::from(sent.pubrels));
    }

    /// Adds everything to `counters` and starts again at zero.
    pub fn flush(&mut self, counters: &Counters) {
        if self.touched == 0 {
            return;
        }
        let shard = &counters.shards[shard_of_thread()].0;
        while self.touched != 0 {
            let cell = self.touched.trailing_zeros() as usize;
            shard[cell].fetch_add(self.cells[cell], Relaxed);
            self.cells[cell] = 0;
            self.touched &= self.touched - 1;
        }
    }

    fn add(&mut self, cell: usize, n: u64) {
        self.cells[cell] = self.cells[cell].wrapping_add(n);
        self.touched |= 1 << cell;
    }
}

/// All counters at one time. Totals count from the start of the broker, or from where the broker before it ended
/// ([`SysConfig::save_interval`](crate::config::SysConfig::save_interval)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    cells: Box<[u64; CELLS]>,
    gauges: [u64; Gauge::ALL.len()],
    refused: Box<[u64; 256]>,
    disconnected: Box<[u64; 256]>,
    /// Clients connected now.
    pub clients_connected: u64,
    /// The most clients that were connected at one time.
    pub clients_maximum: u64,
    /// What the store has done: how long commits take, how much shares one, disk use. From [`crate::Broker::counters`] only.
    pub store: CommitStats,
}

impl Snapshot {
    /// Bytes received from clients.
    pub fn bytes_received(&self) -> u64 {
        self.cells[BYTES_IN]
    }

    /// Bytes sent to clients.
    pub fn bytes_sent(&self) -> u64 {
        self.cells[BYTES_OUT]
    }

    /// Reads of connected clients' streams that brought bytes: the read batches. A plain TCP stream asks the kernel once
    /// for each.
    pub fn socket_reads(&self) -> u64 {
        self.cells[READS]
    }

    /// Reads of connected clients' streams that brought nothing. An upper bound of what the kernel was asked: after a read
    /// that did not fill its buffer, the runtime knows the answer by itself.
    pub fn socket_reads_empty(&self) -> u64 {
        self.cells[READS_EMPTY]
    }

    /// Writes to clients' streams, those that found no room included.
    pub fn socket_writes(&self) -> u64 {
        self.cells[WRITES]
    }

    /// Wakes of sleeping subscribers because a message was appended to their output.
    pub fn subscriber_wakes(&self) -> u64 {
        self.cells[WAKES]
    }

    /// Bytes of payload in PUBLISH packets received.
    pub fn payload_bytes_received(&self) -> u64 {
        self.cells[PAYLOAD_IN]
    }

    /// Bytes of payload in PUBLISH packets sent.
    pub fn payload_bytes_sent(&self) -> u64 {
        self.cells[PAYLOAD_OUT]
    }

    /// Packets received, by packet type (see [`packet_name`]).
    pub fn packets_received_by_type(&self) -> &[u64] {
        &self.cells[PACKETS_IN..PACKETS_OUT]
    }

    /// Packets sent, by packet type (see [`packet_name`]).
    pub fn packets_sent_by_type(&self) -> &[u64] {
        &self.cells[PACKETS_OUT..PUBLISH_IN]
    }

    /// Packets received, of any type.
    pub fn packets_received(&self) -> u64 {
        self.packets_received_by_type().iter().sum()
    }

    /// Packets sent, of any type.
    pub fn packets_sent(&self) -> u64 {
        self.packets_sent_by_type().iter().sum()
    }

    /// PUBLISH packets received, by QoS.
    pub fn publish_received_by_qos(&self) -> &[u64] {
        &self.cells[PUBLISH_IN..PUBLISH_OUT]
    }

    /// PUBLISH packets sent, by QoS.
    pub fn publish_sent_by_qos(&self) -> &[u64] {
        &self.cells[PUBLISH_OUT..DROPPED]
    }

    /// PUBLISH packets received.
    pub fn publish_received(&self) -> u64 {
        self.publish_received_by_qos().iter().sum()
    }

    /// PUBLISH packets sent.
    pub fn publish_sent(&self) -> u64 {
        self.publish_sent_by_qos().iter().sum()
    }

    /// Messages given up for one receiver each, for this reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.cells[DROPPED + drop_index(reason)]
    }

    /// Messages given up for one receiver each.
    pub fn dropped(&self) -> u64 {
        self.cells[DROPPED..READS].iter().sum()
    }

    /// How often something happened.
    pub fn event(&self, event: Event) -> u64 {
        self.cells[EVENTS + event as usize]
    }

    /// How often a limit had its consequence. Limits whose consequence is a drop count messages.
    pub fn limit(&self, limit: Limit) -> u64 {
        let dropped = DROP_REASONS
            .into_iter()
            .filter(|reason| Limit::of_drop(*reason) == Some(limit))
            .map(|reason| self.dropped_for(reason));
        self.cells[LIMITS + limit as usize] + dropped.sum::<u64>()
    }

    /// How many there are, or were when they were last counted.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize]
    }

    /// CONNECTs refused with `reason`.
    pub fn connects_refused(&self, reason: ReasonCode) -> u64 {
        self.refused[usize::from(reason as u8)]
    }

    /// CONNECTs refused.
    pub fn connects_refused_total(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Connections of clients that ended with `reason`.
    pub fn disconnected(&self, reason: ReasonCode) -> u64 {
        self.disconnected[usize::from(reason as u8)]
    }

    /// Connections of clients that ended.
    pub fn disconnected_total(&self) -> u64 {
        self.disconnected.iter().sum()
    }
}

/// What follows a packet of which `length` is everything behind the first byte; nothing where it is cut off.
fn after_body(length: &[u8]) -> &[u8] {
    let mut body = 0;
    // A variable byte integer has at most four bytes [MQTT-1.5.5-1].
    for (at, byte) in length.iter().take(4).enumerate() {
        body |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return length.get(at + 1 + body..).unwrap_or_default();
        }
    }
    &[]
}

/// The place of a reason among the counters.
const fn drop_index(reason: DropReason) -> usize {
    match reason {
        DropReason::QueueFull => 0,
        DropReason::QueueBytesFull => 1,
        DropReason::Expired => 2,
        DropReason::InflightExpired => 3,
        DropReason::PacketTooLarge => 4,
        DropReason::PendingBytesFull => 5,
        DropReason::Offline => 6,
        DropReason::BodyLost => 7,
        _ => DROPS - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, thread};

    #[test]
    fn a_local_counts_into_the_named_places_and_starts_again() {
        let counters = Counters::new();
        let mut local = Local::new();
        local.bytes_received(100);
        counters.bytes_sent(7);
        local.packet_received(1);
        local.packet_received(3);
        counters.packets_sent(&[0x20, 2, 0, 0, 0x20, 2, 0, 0]);
        local.publish_received(QoS::AtLeastOnce, 10);
        local.publish_sent(QoS::ExactlyOnce, 10, 3);
        assert_eq!(
            counters.snapshot().bytes_received(),
            0,
            "nothing before the flush"
        );
        local.read_empty();
        local.subscriber_woken();
        local.subscriber_woken();
        counters.write_blocked();
        local.flush(&counters);
        local.flush(&counters);

        let snapshot = counters.snapshot();
        assert_eq!(
            (snapshot.socket_reads(), snapshot.socket_reads_empty()),
            (1, 1)
        );
        assert_eq!(
            (snapshot.socket_writes(), snapshot.subscriber_wakes()),
            (2, 2)
        );
        assert_eq!((snapshot.bytes_received(), snapshot.bytes_sent()), (100, 7));
        assert_eq!(
            (snapshot.packets_received(), snapshot.packets_sent()),
            (2, 5)
        );
        assert_eq!(snapshot.packets_received_by_type()[1], 1);
        assert_eq!(snapshot.packets_received_by_type()[PUBLISH], 1);
        assert_eq!(snapshot.packets_sent_by_type()[2], 2);
        assert_eq!(snapshot.packets_sent_by_type()[PUBLISH], 3);
        assert_eq!(snapshot.publish_received_by_qos(), [0, 1, 0]);
        assert_eq!(snapshot.publish_sent_by_qos(), [0, 0, 3]);
        assert_eq!(
            (
                snapshot.payload_bytes_received(),
                snapshot.payload_bytes_sent()
            ),
            (10, 30)
        );
    }

    #[test]
    fn every_name_has_a_place_of_its_own() {
        let counted = |n: usize| n as u64 + 1;
        let counters = Counters::new();
        for (n, event) in Event::ALL.iter().enumerate() {
            (0..=n).for_each(|_| counters.event(*event));
        }
        for (n, limit) in Limit::ALL.iter().enumerate() {
            (0..=n).for_each(|_| counters.limit(*limit));
        }
        for (n, gauge) in Gauge::ALL.iter().enumerate() {
            counters.set_gauge(*gauge, counted(n));
        }
        let limits = counters.snapshot();
        for (n, reason) in DROP_REASONS.iter().enumerate() {
            (0..=n).for_each(|_| counters.dropped(*reason));
        }
        let snapshot = counters.snapshot();
        assert!(
            Event::ALL
                .iter()
                .enumerate()
                .all(|(n, event)| snapshot.event(*event) == counted(n))
        );
        assert!(
            Limit::ALL
                .iter()
                .enumerate()
                .all(|(n, limit)| limits.limit(*limit) == counted(n))
        );
        assert!(
            Gauge::ALL
                .iter()
                .enumerate()
                .all(|(n, gauge)| snapshot.gauge(*gauge) == counted(n))
        );
        assert!(
            DROP_REASONS
                .iter()
                .enumerate()
                .all(|(n, reason)| snapshot.dropped_for(*reason) == counted(n))
        );
        assert_eq!(snapshot.dropped(), (1..DROPS as u64).sum::<u64>());
        // A limit whose consequence is a drop counts the drops.
        for reason in DROP_REASONS {
            if let Some(limit) = Limit::of_drop(reason) {
                let added = snapshot.limit(limit) - limits.limit(limit);
                assert_eq!(added, snapshot.dropped_for(reason));
            }
        }
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        const THREADS: u64 = 20;
        const ROUNDS: u64 = 2_000;
        let counters = Arc::new(Counters::new());
        let work = |counters: Arc<Counters>| {
            let mut local = Local::new();
            for _ in 0..ROUNDS {
                local.bytes_received(3);
                local.flush(&counters);
                counters.event(Event::AuthFailure);
                counters.client_connected();
            }
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let counters = Arc::clone(&counters);
                thread::spawn(move || work(counters))
            })
            .collect();
        for thread in threads {
            thread.join().expect("thread");
        }
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.bytes_received(), 3 * THREADS * ROUNDS);
        assert_eq!(snapshot.event(Event::AuthFailure), THREADS * ROUNDS);
        assert_eq!(snapshot.clients_connected, THREADS * ROUNDS);
        assert_eq!(snapshot.clients_maximum, THREADS * ROUNDS);
    }

    #[test]
    fn own_packets_are_counted_by_type() {
        fn check(bytes: &[u8], expected: &[(usize, u64)]) {
            let counters = Counters::new();
            counters.packets_sent(bytes);
            let snapshot = counters.snapshot();
            let counted: Vec<_> = snapshot
                .packets_sent_by_type()
                .iter()
                .copied()
                .enumerate()
                .collect();
            let counted: Vec<_> = counted
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect();
            assert_eq!(counted, expected, "{bytes:02X?}");
        }
        let long = [&[0x90, 0x80, 0x01][..], &[0; 128], &[0xD0, 0]].concat();
        check(&[], &[]);
        check(&[0xD0, 0], &[(13, 1)]);
        check(
            &[0x40, 2, 0, 1, 0x50, 2, 0, 2, 0x40, 2, 0, 3],
            &[(4, 2), (5, 1)],
        );
        check(&long, &[(9, 1), (13, 1)]);
        check(&[0x40], &[(4, 1)]);
        check(&[0x40, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], &[(4, 1)]);
        check(&[0x40, 0xFF, 0xFF, 0xFF, 0x7F, 0x40], &[(4, 1)]);
    }

    #[test]
    fn what_a_session_sends_by_itself_is_counted() {
        let counters = Counters::new();
        let mut local = Local::new();
        local.sent(&Sent {
            publishes: [1, 2, 3],
            payload_bytes: 60,
            pubrels: 4,
        });
        local.flush(&counters);
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.publish_sent_by_qos(), [1, 2, 3]);
        assert_eq!(snapshot.packets_sent_by_type()[PUBLISH], 6);
        assert_eq!(snapshot.packets_sent_by_type()[PUBREL], 4);
        assert_eq!(snapshot.payload_bytes_sent(), 60);
    }

    #[test]
    fn the_maximum_of_clients_stays() {
        let counters = Counters::new();
        (0..3).for_each(|_| counters.client_connected());
        (0..2).for_each(|_| counters.client_disconnected(ReasonCode::SessionTakenOver));
        counters.client_disconnected(ReasonCode::Success);
        counters.client_connected();
        counters.connect_refused(ReasonCode::NotAuthorized);
        let snapshot = counters.snapshot();
        assert_eq!(
            (snapshot.clients_connected, snapshot.clients_maximum),
            (1, 3)
        );
        assert_eq!(snapshot.event(Event::Connected), 4);
        assert_eq!(snapshot.disconnected(ReasonCode::SessionTakenOver), 2);
        assert_eq!(snapshot.disconnected_total(), 3);
        assert_eq!(snapshot.connects_refused(ReasonCode::NotAuthorized), 1);
        assert_eq!(snapshot.connects_refused_total(), 1);
    }
}
