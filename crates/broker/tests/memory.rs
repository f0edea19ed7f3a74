//! What things that wait cost in memory: bytes asked of the allocator by a running broker on real sockets, for each
//! idle connection, wildcard subscription, retained and queued message, and session of a client that is away. What the
//! kernel keeps is not counted, nor what the allocator loses to rounding; `examples/idle_memory.rs` shows resident memory.
//!
//! One test per process: the counter is global.

mod blocking;

use std::{
    alloc::System,
    io::Write,
    net::{SocketAddr, TcpStream},
};

use blocking::{broker, connect, encoded, read_packet, subscribe};
use martlet_broker::config::Config;
use martlet_codec::{Packet, PacketId, Props, Publish, QoS, Version};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTER: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PAYLOAD: [u8; 64] = [b'x'; 64];

/// Buffers that a broker keeps for its next clients, however many it had: 512, most of 1 KiB.
const SPARES_BYTES_MAX: usize = 640 << 10;

fn held() -> usize {
    let stats = COUNTER.stats();
    // Reallocations are part of both sums.
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Bytes that stay for each of `count` things that `make` makes and returns.
fn each<T>(count: usize, make: impl FnOnce() -> T) -> (T, usize) {
    let before = held();
    let product = make();
    (product, held().saturating_sub(before) / count)
}

fn publish(stream: &mut TcpStream, topic: &str, retain: bool) {
    let packet = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain,
        topic,
        id: PacketId::new(1),
        props: Props::EMPTY,
        payload: &PAYLOAD,
    });
    stream
        .write_all(&encoded(&packet, Version::V311))
        .expect("the broker reads");
    read_packet(stream);
}

fn client(address: SocketAddr, client_id: &str) -> TcpStream {
    connect(address, Version::V311, client_id, true)
}

/// Bytes for each of 2,000 sessions whose clients have gone, each with a subscription of its own below `prefix`.
fn sessions_away(address: SocketAddr, name: &str, prefix: Option<&str>) -> usize {
    let sessions = 2_000;
    let before = held();
    for n in 0..sessions {
        let mut away = connect(address, Version::V311, &format!("{name}-{n:06}"), false);
        if let Some(prefix) = prefix {
            let filter = format!("{prefix}/{n:06}");
            subscribe(&mut away, Version::V311, &filter, QoS::AtLeastOnce);
        }
    }
    let each = || held().saturating_sub(before) / sessions;
    // The broker hears of the last of them in its own time: until it stays the same.
    let mut last = usize::MAX;
    let settled = (0..600).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = each();
        (now == std::mem::replace(&mut last, now)).then_some(now)
    });
    settled.expect("memory comes to rest")
}

#[test]
fn what_waits_stays_small() {
    let (runtime, _broker, address) = broker(Config::default());
    let mut publisher = client(address, "publisher");
    // Buffers and tables that exist once.
    drop(
        (0..64)
            .map(|n| client(address, &format!("warm-{n}")))
            .collect::<Vec<_>>(),
    );
    publish(&mut publisher, "warm", true);

    let before = held();
    let (idle, per_connection) = each(2_000, || {
        let mut idle = Vec::with_capacity(2_000);
        idle.extend((0..2_000).map(|n| client(address, &format!("idle-client-{n:06}"))));
        idle
    });
    drop(idle);
    // The broker hears of it in its own time; a deadline, not a measure.
    let waited = (0..600).find(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        held() < before + SPARES_BYTES_MAX + before / 10
    });
    assert!(waited.is_some(), "{} bytes are left of {before}", held());
    let mut subscriber = client(address, "subscriber");
    let ((), per_subscription) = each(10_000, || {
        for n in 0..10_000 {
            let filter = format!("site/{}/building/{n:06}/+", n % 100);
            subscribe(&mut subscriber, Version::V311, &filter, QoS::AtLeastOnce);
        }
    });
    let ((), per_retained) = each(10_000, || {
        for n in 0..10_000 {
            let topic = format!("site/{}/device/{n:06}/state", n % 100);
            publish(&mut publisher, &topic, true);
        }
    });
    let sleepers = 10;
    for n in 0..sleepers {
        let mut sleeper = connect(address, Version::V311, &format!("sleeper-{n}"), false);
        subscribe(
            &mut sleeper,
            Version::V311,
            &format!("queue/{n}"),
            QoS::AtLeastOnce,
        );
    }
    // A little more than a power of two: a ring that doubles would be half empty.
    let queued = 530;
    let ((), per_queued) = each(sleepers * queued, || {
        for n in 0..sleepers * queued {
            publish(&mut publisher, &format!("queue/{}", n % sleepers), false);
        }
    });
    // Sessions whose clients are away, without a subscription and with one.
    let bare = sessions_away(address, "bare", None);
    let per_session = sessions_away(address, "away", Some("site/away"));
    // A client that comes and goes leaves no deadline behind each time.
    drop(connect(address, Version::V311, "flaps", false));
    let ((), per_return) = each(500, || {
        for _ in 0..500 {
            drop(connect(address, Version::V311, "flaps", false));
        }
    });
    let figures = format!(
        "bytes per idle connection {per_connection}, wildcard subscription {per_subscription}, \
         retained message {per_retained}, queued message {per_queued}, session of a client that is away {bare}, with a subscription {per_session}, return of a client {per_return}"
    );
    #[expect(clippy::print_stdout, reason = "shown with --nocapture")]
    {
        println!("{figures}");
    }
    assert!(per_connection <= 2_048, "{figures}");
    assert!(per_subscription <= 250, "{figures}");
    assert!(per_retained <= 300, "{figures}");
    assert!(per_queued <= 175, "{figures}");
    assert!(bare <= 600, "{figures}");
    assert!(per_session <= 700, "{figures}");
    assert!(per_return <= 10, "{figures}");
    runtime.shutdown_background();
}
