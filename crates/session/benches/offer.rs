//! The hot path: one publication offered to many subscribers, and the acknowledgements of QoS 1.
//!
//! Each row is one publication for [`SUBSCRIBERS`] subscribers, buffers drained as a writer would; divide by
//! the element count for the cost of one delivery. `cargo bench -p martlet-session`.

mod cpu_time;

use cpu_time::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use martlet_codec::{AckKind, PacketId, QoS, ReasonCode, Version};
use martlet_session::{
    Delivery, Effects, FanOut, Link, OutBuf, Outbound, OutboundLimits, Publication,
};
use martlet_storage::{MessageHead, MessageId, SessionId, Timestamp};

const SUBSCRIBERS: usize = 50;
/// Publications between two drains: what one read of a busy publisher brings.
const BATCH: usize = 100;
const NOW: Timestamp = Timestamp::from_millis(1);

struct Subscriber {
    half: Outbound,
    out: OutBuf,
    spare: Vec<u8>,
    acked: u16,
}

fn subscribers(link: Link) -> Vec<Subscriber> {
    let mut fx = Effects::default();
    let one = |_| {
        let mut half = Outbound::new(SessionId::new(1), OutboundLimits::default(), false);
        let mut out = OutBuf::new();
        half.connect(NOW, link, &mut out, &mut fx);
        Subscriber {
            half,
            out,
            spare: Vec::new(),
            acked: 0,
        }
    };
    (0..SUBSCRIBERS).map(one).collect()
}

/// One batch: publish, drain, and for QoS 1 acknowledge.
fn batch(
    subscribers: &mut [Subscriber],
    fan_out: &mut FanOut,
    fx: &mut Effects,
    qos: QoS,
    payload: &[u8],
    ids: &[u32],
) {
    let head = MessageHead {
        id: MessageId::NONE,
        qos,
        retain: false,
        publisher: SessionId::NONE,
        received: NOW,
        expires: None,
    };
    for _ in 0..BATCH {
        let mut publication =
            Publication::new(head, "sensors/kitchen/temperature", &[], payload, fan_out);
        for subscriber in subscribers.iter_mut() {
            let delivery = Delivery {
                qos,
                retain: false,
                subscription_ids: ids,
            };
            subscriber
                .half
                .offer(NOW, &mut publication, delivery, &mut subscriber.out, fx);
        }
    }
    for subscriber in subscribers.iter_mut() {
        let mut chunk = subscriber.out.take(std::mem::take(&mut subscriber.spare));
        let len = chunk.len();
        chunk.advance(len);
        subscriber.spare = chunk.into_spare();
        subscriber.out.written(len);
        if qos == QoS::AtLeastOnce {
            for _ in 0..BATCH {
                subscriber.acked = subscriber.acked % u16::MAX + 1;
                if let Some(id) = PacketId::new(subscriber.acked) {
                    let (half, out) = (&mut subscriber.half, &mut subscriber.out);
                    let _ =
                        half.acknowledge(NOW, AckKind::PubAck, id, ReasonCode::Success, out, fx);
                }
            }
        }
    }
}

fn deliveries(criterion: &mut Criterion<CpuTime>) {
    let v3 = Link {
        version: Version::V311,
        receive_maximum: u16::MAX,
        packet_bytes_max: u32::MAX,
        topic_alias_maximum: 0,
    };
    let v5 = Link {
        version: Version::V5,
        ..v3
    };
    let aliases = Link {
        topic_alias_maximum: 10,
        ..v5
    };
    let rows: [(&str, Link, QoS, usize, &[u32]); 8] = [
        ("v3 qos 0, 64 B", v3, QoS::AtMostOnce, 64, &[]),
        ("v5 qos 0, 64 B", v5, QoS::AtMostOnce, 64, &[]),
        (
            "v5 qos 0, 64 B, subscription id",
            v5,
            QoS::AtMostOnce,
            64,
            &[7],
        ),
        ("v5 qos 0, 64 B, alias", aliases, QoS::AtMostOnce, 64, &[]),
        (
            "v5 qos 1, 64 B, acknowledged",
            v5,
            QoS::AtLeastOnce,
            64,
            &[],
        ),
        ("v5 qos 0, 1000 B copied", v5, QoS::AtMostOnce, 1_000, &[]),
        ("v5 qos 0, 1024 B shared", v5, QoS::AtMostOnce, 1_024, &[]),
        ("v5 qos 0, 16 KiB shared", v5, QoS::AtMostOnce, 16_384, &[]),
    ];
    let mut group = criterion.benchmark_group("offer");
    group.throughput(Throughput::Elements((SUBSCRIBERS * BATCH) as u64));
    for (name, link, qos, len, ids) in rows {
        let payload = vec![7; len];
        let mut subscribers = subscribers(link);
        let (mut fan_out, mut fx) = (FanOut::default(), Effects::default());
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| batch(&mut subscribers, &mut fan_out, &mut fx, qos, &payload, ids));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).sample_size(20);
    targets = deliveries
}
criterion_main!(benches);
