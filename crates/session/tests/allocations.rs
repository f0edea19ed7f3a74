//! Budgets: allocations per delivery when warm. One test, because the counter is the process's.

mod support;

use std::alloc::System;

use martlet_codec::AckKind::PubAck;
use martlet_codec::{QoS, ReasonCode};
use martlet_session::{
    Delivery, Effects, FanOut, Link, Offered, OutBuf, Outbound, OutboundLimits, Publication,
};
use martlet_storage::{MessageHead, MessageId, SessionId};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{SESSION, at, id, v3, v5};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Subscriber {
    half: Outbound,
    out: OutBuf,
    spare: Vec<u8>,
    acked: u16,
}

/// Publishes `count` messages to every subscriber, in batches of 100, and lets them read and acknowledge.
fn publish(
    subscribers: &mut [Subscriber],
    fan_out: &mut FanOut,
    fx: &mut Effects,
    (qos, payload): (QoS, &[u8]),
    count: usize,
) {
    let head = MessageHead {
        id: MessageId::NONE,
        qos,
        retain: false,
        publisher: SessionId::NONE,
        received: at(0),
        expires: None,
    };
    for n in 1..=count {
        let mut publication = Publication::new(
            head,
            "sensors/kitchen/temperature",
            &[1, 1],
            payload,
            fan_out,
        );
        if subscribers.len() == 1 {
            publication.expect_one();
        }
        for subscriber in subscribers.iter_mut() {
            let delivery = Delivery {
                qos: QoS::ExactlyOnce,
                retain: false,
                subscription_ids: &[],
            };
            let (half, out) = (&mut subscriber.half, &mut subscriber.out);
            assert_eq!(
                half.offer(at(0), &mut publication, delivery, out, fx),
                Offered::Sent
            );
        }
        if n % 100 == 0 {
            for subscriber in subscribers.iter_mut() {
                let mut chunk = subscriber.out.take(std::mem::take(&mut subscriber.spare));
                let len = chunk.len();
                chunk.advance(len);
                subscriber.spare = chunk.into_spare();
                subscriber.out.written(len);
                for _ in 0..100 * u16::from(qos == QoS::AtLeastOnce) {
                    subscriber.acked = subscriber.acked % u16::MAX + 1;
                    let (half, out, id) = (
                        &mut subscriber.half,
                        &mut subscriber.out,
                        id(subscriber.acked),
                    );
                    half.acknowledge(at(0), PubAck, id, ReasonCode::Success, out, fx)
                        .expect("in flight");
                }
            }
        }
    }
}

#[test]
fn deliveries_stay_within_their_budgets() {
    let mut fan_out = FanOut::default();
    let mut fx = Effects::default();
    let aliases = Link {
        topic_alias_maximum: 10,
        ..v5()
    };
    let mut subscribers: Vec<Subscriber> = [v3(), v5(), aliases, v3(), v5()]
        .into_iter()
        .map(|link| {
            let mut half = Outbound::new(SESSION, OutboundLimits::default(), false);
            let mut out = OutBuf::new();
            half.connect(at(0), link, &mut out, &mut fx);
            Subscriber {
                half,
                out,
                spare: Vec::new(),
                acked: 0,
            }
        })
        .collect();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let small = (qos, &[7; 64][..]);
        publish(&mut subscribers, &mut fan_out, &mut fx, small, 1_000);
        let region = Region::new(ALLOCATOR);
        publish(&mut subscribers, &mut fan_out, &mut fx, small, 10_000);
        let stats = region.change();
        // QoS 0: none. QoS 1: one for the message, however many subscribers keep it.
        let expect = if qos == QoS::AtMostOnce { 0 } else { 10_000 };
        assert_eq!(
            (stats.allocations, stats.reallocations),
            (expect, 0),
            "{qos:?}"
        );
    }
    // A payload that many would share is copied for the only receiver: nothing is made to be shared.
    let large = (QoS::AtMostOnce, &[7; 4_096][..]);
    for one in subscribers.chunks_mut(1) {
        publish(one, &mut fan_out, &mut fx, large, 1_000);
        let region = Region::new(ALLOCATOR);
        publish(one, &mut fan_out, &mut fx, large, 1_000);
        let stats = region.change();
        assert_eq!((stats.allocations, stats.reallocations), (0, 0));
    }
}
