//! What a client gets that comes back, and what waits for it meanwhile.

mod support;

use martlet_codec::AckKind::{PubAck, PubComp, PubRec};
use martlet_codec::QoS;
use martlet_session::Overflow::{Disconnect, DropNewest, DropOldest};
use martlet_session::{Acked, DropReason, Link, Offered, OutboundLimits};
use support::*;

fn limits() -> OutboundLimits {
    OutboundLimits::default()
}

#[test]
fn everything_unfinished_comes_again_in_order() {
    for link in [v3(), v5()] {
        let mut peer = Peer::online(limits(), link);
        peer.offer_all("a b", QoS::ExactlyOnce);
        peer.offer_all("c", QoS::AtLeastOnce);
        peer.offer_all("d", QoS::ExactlyOnce);
        peer.offer_all("zero", QoS::AtMostOnce);
        peer.ack(PubRec, 2).expect("published");
        assert_eq!(peer.read_names(), "a#1 b#2 c#3 d#4 zero rel#2");
        assert!(
            !peer.pump(),
            "nothing is sent again to a connected client [MQTT-4.4.0-1]"
        );
        peer.disconnect();
        peer.offer_all("e", QoS::AtLeastOnce);
        peer.connect(link);
        assert_eq!(peer.read_names(), "a#1! rel#2 c#3! d#4! e#5");
        assert_eq!(peer.ack(PubComp, 2), Ok(Acked::Done));
        assert_eq!(peer.ack(PubAck, 3), Ok(Acked::Done));
        peer.connect(link);
        assert_eq!(
            peer.read_names(),
            "a#1! d#4! e#5!",
            "a takeover without a disconnect"
        );
    }
}

#[test]
fn a_smaller_receive_maximum_limits_the_resends() {
    let mut peer = Peer::online(limits(), v5());
    peer.offer_all("a b c d e", QoS::AtLeastOnce);
    peer.disconnect();
    peer.offer_all("f", QoS::AtLeastOnce);
    peer.connect(Link {
        receive_maximum: 2,
        ..v5()
    });
    assert_eq!(peer.read_names(), "a#1! b#2!");
    assert!(!peer.pump() && peer.half.has_queued());
    // One that was not sent again yet may still be acknowledged late.
    assert_eq!(peer.ack(PubAck, 4), Ok(Acked::Done));
    assert_eq!(peer.read_names(), "");
    peer.ack(PubAck, 1).expect("in flight");
    assert_eq!(peer.read_names(), "c#3!");
    peer.ack(PubAck, 3).expect("in flight");
    assert_eq!(peer.read_names(), "e#5!");
    peer.ack(PubAck, 2).expect("in flight");
    assert_eq!(peer.read_names(), "f#6", "the queue after the resends");
}

#[test]
fn new_messages_queue_up_behind_the_resends() {
    let mut peer = Peer::online(limits(), v5());
    peer.offer_all("a b c", QoS::AtLeastOnce);
    peer.disconnect();
    peer.connect(Link {
        receive_maximum: 1,
        ..v5()
    });
    assert_eq!(peer.offer(&msg("d", QoS::AtLeastOnce)), Offered::Queued);
    assert_eq!(peer.offer(&msg("zero", QoS::AtMostOnce)), Offered::Sent);
    assert_eq!(peer.read_names(), "a#1! zero");
}

#[test]
fn resends_stop_at_encode_ahead_too() {
    let mut peer = Peer::online(
        OutboundLimits {
            encode_ahead_bytes: 30,
            ..limits()
        },
        v5(),
    );
    for name in ["a", "b", "c", "d"] {
        peer.offer(&msg(name, QoS::AtLeastOnce));
        peer.read();
    }
    peer.disconnect();
    peer.connect(v5());
    assert_eq!(peer.read_names(), "a#1! b#2!");
    peer.pump();
    assert_eq!(peer.read_names(), "c#3! d#4!");
}

#[test]
fn what_has_become_too_large_is_dropped_and_its_id_freed() {
    let large = |qos| Msg {
        payload: vec![0; 500],
        ..msg("large", qos)
    };
    let mut peer = Peer::online(limits(), v5());
    peer.offer(&large(QoS::ExactlyOnce));
    peer.offer_all("b", QoS::AtLeastOnce);
    peer.offer(&large(QoS::AtLeastOnce));
    peer.disconnect();
    peer.offer(&large(QoS::AtLeastOnce));
    peer.offer_all("c", QoS::AtLeastOnce);
    peer.connect(Link {
        packet_bytes_max: 100,
        ..v5()
    });
    // The client may hold id 1: it is told to forget it before the id can mean another message.
    assert_eq!(peer.read_names(), "rel#1 b#2! c#5");
    let reasons: Vec<_> = peer
        .dropped()
        .into_iter()
        .map(|(_, reason)| reason)
        .collect();
    assert_eq!(reasons, [DropReason::PacketTooLarge; 3]);
    assert_eq!(peer.half.counts().inflight, 3);
    assert_eq!(peer.ack(PubComp, 1), Ok(Acked::Done));
    assert_eq!(peer.half.counts().inflight, 2);
}

#[test]
fn aliases_end_with_the_connection() {
    let link = Link {
        topic_alias_maximum: 5,
        ..v5()
    };
    let mut peer = Peer::online(limits(), link);
    for _ in 0..2 {
        peer.offer(&msg("a", QoS::AtLeastOnce));
    }
    peer.disconnect();
    peer.connect(link);
    let topics: Vec<_> = peer
        .read()
        .into_iter()
        .map(|got| match got {
            Got::Publish(publish) => (publish.topic, publish.alias),
            other @ Got::PubRel(..) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        topics,
        [("topic/a".into(), Some(1)), (String::new(), Some(1))]
    );
}

#[test]
fn subscription_identifiers_survive_the_wait() {
    let mut peer = Peer::online(limits(), v5());
    for ids in [vec![], vec![9], vec![1, 2, 3]] {
        peer.disconnect();
        peer.offer(&Msg {
            ids: ids.clone(),
            retain: true,
            ..msg("a", QoS::AtLeastOnce)
        });
        peer.connect(v5());
        let got = peer.read_one();
        assert_eq!((got.ids, got.retain), (ids, true));
        peer.ack(PubAck, got.id.expect("QoS 1 has one"))
            .expect("in flight");
    }
}

#[test]
fn expiry_is_exact_to_the_millisecond() {
    for (waited, delivered) in [(0, true), (4_999, true), (5_000, false), (60_000, false)] {
        let mut peer = Peer::new(limits());
        peer.now = at(0);
        peer.offer(&Msg {
            expires: Some(at(5_000)),
            ..msg("a", QoS::AtLeastOnce)
        });
        peer.offer(&msg("b", QoS::AtLeastOnce));
        peer.now = at(waited);
        peer.connect(v5());
        assert_eq!(
            peer.read_names(),
            if delivered { "a#1 b#2" } else { "b#1" },
            "after {waited} ms"
        );
        let expect = if delivered {
            vec![]
        } else {
            vec![("a".to_owned(), DropReason::Expired)]
        };
        assert_eq!(peer.dropped(), expect);
    }
}

#[test]
fn a_begun_delivery_is_finished_after_its_expiry() {
    let mut peer = Peer::online(limits(), v5());
    peer.offer(&Msg {
        expires: Some(at(2_000)),
        ..msg("a", QoS::ExactlyOnce)
    });
    peer.disconnect();
    peer.now = at(10_000);
    peer.connect(v5());
    let got = peer.read_one();
    assert_eq!((got.dup, got.expiry), (true, Some(1)));
}

#[test]
fn the_periodic_visit_gives_up_what_expired() {
    let mut peer = Peer::new(limits());
    for (name, expires) in [("a", 5_000), ("b", 3_000), ("c", 9_000), ("d", 4_000)] {
        peer.offer(&Msg {
            expires: Some(at(expires)),
            ..msg(name, QoS::AtLeastOnce)
        });
    }
    peer.now = at(4_000);
    peer.half.expire(peer.now, &mut peer.fx);
    assert_eq!(
        peer.dropped(),
        [
            ("b".to_owned(), DropReason::Expired),
            ("d".to_owned(), DropReason::Expired)
        ]
    );
    assert_eq!(peer.half.counts().queued, 2);
    peer.now = at(8_999);
    peer.half.expire(peer.now, &mut peer.fx);
    assert_eq!(peer.dropped(), [("a".to_owned(), DropReason::Expired)]);
}

#[test]
fn the_queue_gives_way_by_policy() {
    // Messages as `name:qos`; a queue of three meets `new`.
    let check = |overflow, queued: &str, new: &str, expect: &str, dropped: &str, online: bool| {
        let limits = OutboundLimits {
            queued_messages_max: 3,
            overflow,
            queue_qos0: true,
            inflight_max: 1,
            ..limits()
        };
        let mut peer = Peer::new(limits);
        let parse = |text: &str| {
            let (name, qos) = text.split_once(':').expect("name:qos");
            let qos = QoS::from_bits(qos.parse().expect("a number")).expect("a QoS");
            let expires = name.starts_with('x').then(|| at(2_000));
            Msg {
                expires,
                ..msg(name, qos)
            }
        };
        if online {
            peer.connect(v5());
            peer.offer(&msg("first", QoS::AtLeastOnce));
        }
        for text in queued.split(' ') {
            assert_eq!(peer.offer(&parse(text)), Offered::Queued);
        }
        peer.now = at(2_000);
        let offered = match peer.offer(&parse(new)) {
            Offered::Queued => "queued".to_owned(),
            Offered::Dropped(reason) => format!("{reason:?}"),
            other => format!("{other:?}"),
        };
        assert_eq!(offered, expect, "{queued} + {new}");
        let names: Vec<_> = peer
            .dropped()
            .iter()
            .map(|(name, reason)| format!("{name}={reason:?}"))
            .collect();
        assert_eq!(names.join(" "), dropped, "{queued} + {new}");
    };
    check(
        DropOldest,
        "a:1 b:2 c:1",
        "n:1",
        "queued",
        "a=QueueFull",
        false,
    );
    check(
        DropOldest,
        "a:1 b:0 c:0",
        "n:1",
        "queued",
        "b=QueueFull",
        false,
    );
    check(
        DropOldest,
        "a:1 b:0 c:1",
        "n:0",
        "queued",
        "b=QueueFull",
        false,
    );
    check(DropOldest, "a:1 b:1 c:1", "n:0", "QueueFull", "", false);
    check(
        DropOldest,
        "a:0 x1:1 x2:2",
        "n:1",
        "queued",
        "x1=Expired x2=Expired",
        false,
    );
    check(DropNewest, "a:1 b:0 c:1", "n:2", "QueueFull", "", false);
    check(
        DropNewest,
        "a:1 x:0 c:1",
        "n:2",
        "queued",
        "x=Expired",
        false,
    );
    check(Disconnect, "a:1 b:2 c:1", "n:1", "Disconnect", "", true);
    check(
        Disconnect,
        "a:1 x:2 c:1",
        "n:1",
        "queued",
        "x=Expired",
        true,
    );
    check(
        Disconnect,
        "a:1 b:2 c:1",
        "n:1",
        "queued",
        "a=QueueFull",
        false,
    );
}

#[test]
fn the_byte_bound_is_exact_and_drops_as_many_as_it_takes() {
    let of = |name: &str, bytes: usize| Msg {
        payload: name.bytes().cycle().take(bytes).collect(),
        topic: String::new() + "t",
        ..msg(name, QoS::AtLeastOnce)
    };
    let limits = OutboundLimits {
        queued_bytes_max: 300,
        ..limits()
    };
    let mut peer = Peer::new(limits);
    for name in ["a", "b", "c"] {
        assert_eq!(peer.offer(&of(name, 99)), Offered::Queued);
    }
    assert_eq!(peer.half.counts().queued_bytes, 300);
    assert_eq!(peer.dropped(), []);
    assert_eq!(peer.offer(&of("d", 100)), Offered::Queued);
    let dropped: Vec<_> = peer
        .dropped()
        .into_iter()
        .map(|(name, reason)| (name.as_bytes()[0], reason))
        .collect();
    assert_eq!(
        dropped,
        [
            (b'a', DropReason::QueueBytesFull),
            (b'b', DropReason::QueueBytesFull)
        ]
    );
    assert_eq!(
        peer.offer(&of("e", 300)),
        Offered::Dropped(DropReason::QueueBytesFull)
    );
    assert_eq!(peer.dropped(), [], "nothing gives way to what cannot fit");
    assert_eq!(peer.half.counts().queued_bytes, 201);
    peer.connect(v5());
    assert_eq!(peer.half.counts().queued_bytes, 0);
}

#[test]
fn limits_of_zero_queue_nothing() {
    for limits in [
        OutboundLimits {
            queued_messages_max: 0,
            ..limits()
        },
        OutboundLimits {
            queued_bytes_max: 0,
            ..limits()
        },
    ] {
        for overflow in [DropOldest, DropNewest, Disconnect] {
            let mut peer = Peer::new(OutboundLimits {
                overflow,
                ..limits.clone()
            });
            assert!(matches!(
                peer.offer(&msg("a", QoS::AtLeastOnce)),
                Offered::Dropped(_)
            ));
        }
    }
}

#[test]
fn old_messages_in_flight_give_their_places_while_offline() {
    let limits = OutboundLimits {
        queued_messages_max: 1,
        inflight_expiry_secs: Some(30),
        ..limits()
    };
    let mut peer = Peer::online(limits, v5());
    peer.offer_all("a", QoS::ExactlyOnce);
    peer.offer_all("b c", QoS::AtLeastOnce);
    peer.disconnect();
    peer.offer_all("d", QoS::AtLeastOnce);
    peer.now = at(29_999);
    peer.offer_all("e", QoS::AtLeastOnce);
    assert_eq!(
        peer.dropped(),
        [("d".to_owned(), DropReason::QueueFull)],
        "too young"
    );
    peer.now = at(30_000);
    peer.offer_all("f", QoS::AtLeastOnce);
    assert_eq!(
        peer.dropped(),
        [("b".to_owned(), DropReason::InflightExpired)],
        "QoS 2 stays"
    );
    peer.offer_all("g", QoS::AtLeastOnce);
    assert_eq!(
        peer.dropped(),
        [("c".to_owned(), DropReason::InflightExpired)]
    );
    peer.offer_all("h", QoS::AtLeastOnce);
    assert_eq!(peer.dropped(), [("e".to_owned(), DropReason::QueueFull)]);
    peer.connect(v5());
    assert_eq!(peer.read_names(), "a#1! f#4 g#5 h#6");
}

#[test]
fn queued_qos_0_keeps_its_order() {
    let mut peer = Peer::new(OutboundLimits {
        queue_qos0: true,
        ..limits()
    });
    peer.offer_all("a b", QoS::AtMostOnce);
    peer.offer_all("c", QoS::AtLeastOnce);
    peer.offer_all("d", QoS::AtMostOnce);
    peer.connect(v5());
    assert_eq!(peer.read_names(), "a b c#1 d");
}

#[test]
fn queued_qos_0_goes_before_new_and_past_the_window() {
    let limits = OutboundLimits {
        queue_qos0: true,
        encode_ahead_bytes: 30,
        ..limits()
    };
    let mut peer = Peer::new(limits);
    peer.offer_all("a b c", QoS::AtLeastOnce);
    peer.offer_all("x y z", QoS::AtMostOnce);
    peer.connect(Link {
        receive_maximum: 1,
        ..v5()
    });
    assert_eq!(
        peer.offer(&msg("new", QoS::AtMostOnce)),
        Offered::Queued,
        "x waits for the socket"
    );
    assert_eq!(peer.read_names(), "a#1 x y");
    peer.pump();
    assert_eq!(peer.read_names(), "z new");
    assert_eq!(peer.offer(&msg("live", QoS::AtMostOnce)), Offered::Sent);
    peer.ack(PubAck, 1).expect("in flight");
    assert_eq!(peer.read_names(), "live b#2");
}
