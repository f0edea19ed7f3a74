//! What a connected client gets: packets, QoS, properties, window, acknowledgements.

mod support;

use martlet_codec::AckKind::{PubAck, PubComp, PubRec, PubRel};
use martlet_codec::{QoS, ReasonCode};
use martlet_session::{AckError, Acked, DropReason, Link, Offered, OutboundLimits};
use support::*;

fn limits() -> OutboundLimits {
    OutboundLimits::default()
}

#[test]
fn the_lower_qos_wins() {
    for link in [v3(), v5()] {
        for published in QOS {
            for granted in QOS {
                let mut peer = Peer::online(limits(), link);
                let offered = peer.offer(&Msg {
                    granted,
                    ..msg("m", published)
                });
                assert_eq!(offered, Offered::Sent);
                assert_eq!(peer.read_one().qos, published.min(granted));
            }
        }
    }
}

#[test]
fn a_publish_says_what_it_should() {
    let mut peer = Peer::online(limits(), v5());
    let message = Msg {
        props: vec![1, 1, 38, 0, 1, b'k', 0, 1, b'v'],
        retain: true,
        expires: Some(at(61_000)),
        ids: vec![1, 268_435_455],
        ..msg("m", QoS::ExactlyOnce)
    };
    for retain in [true, false] {
        for ids in [vec![], vec![7], message.ids.clone()] {
            let message = Msg {
                retain,
                ids: ids.clone(),
                ..message.clone()
            };
            peer.offer(&message);
            let got = peer.read_one();
            assert_eq!((&*got.topic, &*got.payload), ("topic/m", &b"m"[..]));
            assert_eq!(
                (got.qos, got.dup, got.retain),
                (QoS::ExactlyOnce, false, retain)
            );
            assert_eq!((got.expiry, got.ids, got.alias), (Some(60), ids, None));
        }
    }
}

#[test]
fn mqtt_3_gets_no_properties() {
    let mut peer = Peer::online(limits(), v3());
    let message = Msg {
        props: vec![1, 1],
        expires: Some(at(61_000)),
        ids: vec![7],
        ..msg("m", QoS::AtLeastOnce)
    };
    peer.offer(&message);
    let got = peer.read_one();
    // First byte, length, topic length, topic, packet id, payload: nothing else fits.
    assert_eq!(got.len, 1 + 1 + 2 + "topic/m".len() + 2 + 1);
}

#[test]
fn expiry_is_the_time_left() {
    let check = |now: u64, expires: u64, expect: Option<u32>| {
        for message in [
            msg("m", QoS::AtMostOnce),
            Msg {
                ids: vec![1],
                ..msg("m", QoS::AtLeastOnce)
            },
        ] {
            let mut peer = Peer::online(limits(), v5());
            peer.now = at(now);
            let offered = peer.offer(&Msg {
                expires: Some(at(expires)),
                ..message
            });
            match expect {
                Some(_) => assert_eq!(peer.read_one().expiry, expect, "{now} of {expires}"),
                None => assert_eq!(offered, Offered::Dropped(DropReason::Expired)),
            }
        }
    };
    check(0, 60_000, Some(60));
    check(1, 60_000, Some(60));
    check(1_000, 60_000, Some(59));
    check(59_000, 60_000, Some(1));
    check(59_999, 60_000, Some(1));
    check(60_000, 60_000, None);
    check(70_000, 60_000, None);
    check(0, u64::MAX, Some(u32::MAX));
}

#[test]
fn a_retained_message_offered_later_has_less_time_left() {
    // The template of one publication is used at different times.
    let mut peer = Peer::online(limits(), v5());
    let message = Msg {
        expires: Some(at(100_000)),
        ..msg("m", QoS::AtMostOnce)
    };
    peer.offer(&message);
    assert_eq!(peer.read_one().expiry, Some(99));
    peer.now = at(50_000);
    peer.offer(&message);
    assert_eq!(peer.read_one().expiry, Some(50));
}

#[test]
fn maximum_packet_size_is_exact() {
    let messages = [
        ("template", msg("m", QoS::AtLeastOnce), v5()),
        ("QoS 0", msg("m", QoS::AtMostOnce), v5()),
        (
            "own properties",
            Msg {
                ids: vec![300],
                ..msg("m", QoS::AtLeastOnce)
            },
            v5(),
        ),
        (
            "shared",
            Msg {
                payload: vec![b'x'; 5_000],
                ..msg("m", QoS::AtLeastOnce)
            },
            v5(),
        ),
        ("MQTT 3", msg("m", QoS::ExactlyOnce), v3()),
    ];
    for (name, message, link) in messages {
        let mut peer = Peer::online(limits(), link);
        peer.offer(&message);
        let len = peer.read_one().len as u32;
        let mut peer = Peer::online(
            limits(),
            Link {
                packet_bytes_max: len,
                ..link
            },
        );
        assert_eq!(peer.offer(&message), Offered::Sent, "{name}");
        let mut peer = Peer::online(
            limits(),
            Link {
                packet_bytes_max: len - 1,
                ..link
            },
        );
        assert_eq!(
            peer.offer(&message),
            Offered::Dropped(DropReason::PacketTooLarge),
            "{name}"
        );
        assert_eq!(peer.half.counts().inflight, 0, "{name}: the id is free");
        assert!(peer.out.is_empty(), "{name}: nothing was written");
    }
}

#[test]
fn large_payloads_are_not_copied() {
    let mut peer = Peer::online(limits(), v5());
    for (len, copied) in [(1_023, true), (1_024, false), (100_000, false)] {
        for ids in [vec![], vec![7]] {
            for qos in QOS {
                let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
                peer.offer(&Msg {
                    payload: payload.clone(),
                    ids: ids.clone(),
                    ..msg("m", qos)
                });
                assert_eq!(
                    peer.out.inline().len() >= len,
                    copied,
                    "{len} bytes at {qos:?}"
                );
                assert_eq!(peer.read_one().payload, payload);
            }
        }
    }
}

#[test]
fn the_only_receiver_gets_the_packet_that_many_get() {
    let aliases = Link {
        topic_alias_maximum: 10,
        ..v5()
    };
    for link in [v3(), v5(), aliases] {
        for qos in QOS {
            for len in [0, 64, 1_024, 4_096, 40_000] {
                let many = Msg {
                    payload: vec![7; len],
                    // Content Type `a`; MQTT 3 has none.
                    props: vec![3, 0, 1, b'a'],
                    expires: Some(at(60_000)),
                    retain: true,
                    ids: vec![5],
                    ..msg("m", qos)
                };
                let one = Msg {
                    for_one: true,
                    ..many.clone()
                };
                let got = [many, one].map(|message| {
                    let mut peer = Peer::online(limits(), link);
                    assert_eq!(peer.offer(&message), Offered::Sent);
                    peer.read_one()
                });
                assert_eq!(got[0], got[1], "{link:?} {qos:?} {len}");
                assert_eq!(got[1].payload.len(), len);
            }
        }
    }
}

#[test]
fn receive_maximum_is_the_window() {
    for (receive_maximum, inflight_max, window) in [(2, 100, 2), (100, 3, 3), (0, 5, 1), (1, 1, 1)]
    {
        let limits = OutboundLimits {
            inflight_max,
            ..limits()
        };
        let mut peer = Peer::online(
            limits,
            Link {
                receive_maximum,
                ..v5()
            },
        );
        peer.offer_all("a b c d e f", QoS::AtLeastOnce);
        assert_eq!(peer.read().len(), window);
        assert_eq!(peer.half.counts().inflight, window);
        peer.ack(PubAck, 1).expect("in flight");
        assert_eq!(peer.read().len(), 1, "one acknowledgement, one message");
    }
}

#[test]
fn what_waits_is_sent_in_order_as_slots_come_free() {
    let mut peer = Peer::online(
        limits(),
        Link {
            receive_maximum: 2,
            ..v5()
        },
    );
    peer.offer_all("a b c d e", QoS::ExactlyOnce);
    assert_eq!(peer.read_names(), "a#1 b#2");
    assert_eq!(peer.ack(PubRec, 2), Ok(Acked::Released));
    assert_eq!(peer.read_names(), "rel#2", "PUBREC frees no slot");
    assert_eq!(peer.ack(PubComp, 2), Ok(Acked::Done));
    assert_eq!(peer.read_names(), "c#3");
    assert_eq!(
        peer.ack_with(PubRec, 1, ReasonCode::QuotaExceeded),
        Ok(Acked::Done)
    );
    assert_eq!(peer.read_names(), "d#4", "a refusal frees its slot at once");
}

#[test]
fn qos_0_passes_what_waits_for_the_window() {
    let mut peer = Peer::online(
        limits(),
        Link {
            receive_maximum: 1,
            ..v5()
        },
    );
    peer.offer_all("a b", QoS::AtLeastOnce);
    assert_eq!(peer.offer(&msg("zero", QoS::AtMostOnce)), Offered::Sent);
    assert_eq!(peer.read_names(), "a#1 zero");
}

#[test]
fn qos_0_is_dropped_when_the_client_does_not_read() {
    let mut peer = Peer::online(
        OutboundLimits {
            pending_bytes_max: 100,
            ..limits()
        },
        v5(),
    );
    let mut sent = 0;
    while peer.offer(&msg("m", QoS::AtMostOnce)) == Offered::Sent {
        sent += 1;
    }
    assert!((5..15).contains(&sent), "{sent} messages of 13 bytes");
    assert_eq!(
        peer.offer(&msg("m", QoS::AtMostOnce)),
        Offered::Dropped(DropReason::PendingBytesFull)
    );
    assert_eq!(
        peer.offer(&msg("one", QoS::AtLeastOnce)),
        Offered::Sent,
        "QoS 1 is not dropped"
    );
    peer.read();
    assert_eq!(peer.offer(&msg("m", QoS::AtMostOnce)), Offered::Sent);
}

#[test]
fn qos_1_and_2_are_encoded_so_far_ahead_only() {
    let mut peer = Peer::online(
        OutboundLimits {
            encode_ahead_bytes: 40,
            ..limits()
        },
        v5(),
    );
    peer.offer_all("a b c d e f g h", QoS::AtLeastOnce);
    assert_eq!(peer.half.counts().inflight, 3);
    assert!(peer.half.has_queued());
    assert!(!peer.pump(), "nothing was written yet");
    assert_eq!(peer.read_names(), "a#1 b#2 c#3");
    assert!(peer.pump());
    assert_eq!(peer.read_names(), "d#4 e#5 f#6");
    assert!(peer.pump());
    assert_eq!(peer.read_names(), "g#7 h#8");
    assert!(!peer.pump() && !peer.half.has_queued());
}

#[test]
fn acknowledgements_follow_the_table() {
    // The state is that of packet id 1: `none`, a QoS 1 or 2 `Published`, or `Released`.
    let check = |state: &str,
                 kind,
                 reason,
                 expect: Result<Acked, AckError>,
                 read: &str,
                 inflight: usize| {
        for link in [v5(), v3()] {
            if link.version.is_v5() || !reason_is_v5_only(reason) {
                let mut peer = Peer::online(limits(), link);
                match state {
                    "qos 1" => peer.offer_all("m", QoS::AtLeastOnce),
                    "qos 2" | "released" => peer.offer_all("m", QoS::ExactlyOnce),
                    _ => {}
                }
                if state == "released" {
                    peer.ack(PubRec, 1).expect("published");
                }
                peer.read();
                assert_eq!(
                    peer.ack_with(kind, 1, reason),
                    expect,
                    "{kind:?} for {state}"
                );
                let read = if link.version.is_v5() {
                    read
                } else {
                    read.trim_end_matches("=0x92")
                };
                assert_eq!(peer.read_names(), read, "{kind:?} for {state}");
                assert_eq!(
                    peer.half.counts().inflight,
                    inflight,
                    "{kind:?} for {state}"
                );
            }
        }
    };
    let (ok, error) = (ReasonCode::Success, ReasonCode::UnspecifiedError);
    let wrong = Err(AckError::WrongKind);
    check("none", PubAck, ok, Ok(Acked::Unknown), "", 0);
    check("none", PubRec, ok, Ok(Acked::Unknown), "rel#1=0x92", 0);
    check("none", PubComp, ok, Ok(Acked::Unknown), "", 0);
    check("qos 1", PubAck, ok, Ok(Acked::Done), "", 0);
    check(
        "qos 1",
        PubAck,
        ReasonCode::NoMatchingSubscribers,
        Ok(Acked::Done),
        "",
        0,
    );
    check("qos 1", PubAck, error, Ok(Acked::Done), "", 0);
    check("qos 1", PubRec, ok, wrong, "", 1);
    check("qos 1", PubRec, error, wrong, "", 1);
    check("qos 1", PubComp, ok, wrong, "", 1);
    check("qos 2", PubAck, ok, wrong, "", 1);
    check("qos 2", PubRec, ok, Ok(Acked::Released), "rel#1", 1);
    check("qos 2", PubRec, error, Ok(Acked::Done), "", 0);
    check("qos 2", PubComp, ok, wrong, "", 1);
    check("released", PubAck, ok, wrong, "", 1);
    check("released", PubRec, ok, Ok(Acked::Released), "rel#1", 1);
    check("released", PubRec, error, Ok(Acked::Done), "", 0);
    check("released", PubComp, ok, Ok(Acked::Done), "", 0);
    check(
        "released",
        PubComp,
        ReasonCode::PacketIdentifierNotFound,
        Ok(Acked::Done),
        "",
        0,
    );
    check("qos 2", PubRel, ok, wrong, "", 1);
}

fn reason_is_v5_only(reason: ReasonCode) -> bool {
    reason != ReasonCode::Success
}

#[test]
fn ids_in_flight_are_never_given_out_again() {
    let mut peer = Peer::online(limits(), v5());
    peer.offer_all("stuck", QoS::ExactlyOnce);
    peer.ack(PubRec, 1).expect("published");
    peer.offer_all("also", QoS::AtLeastOnce);
    peer.read();
    for _ in 0..66_000 {
        peer.offer(&msg("m", QoS::AtLeastOnce));
        let id = peer.read_one().id.expect("QoS 1 has one");
        assert!(id > 2);
        // `Peer::ack` checks the whole session each time; this loop is long.
        let reason = ReasonCode::Success;
        let acked = peer.half.acknowledge(
            peer.now,
            PubAck,
            support::id(id),
            reason,
            &mut peer.out,
            &mut peer.fx,
        );
        assert_eq!(acked, Ok(Acked::Done));
    }
}

#[test]
fn aliases_are_set_once_and_used_then() {
    let mut peer = Peer::online(
        limits(),
        Link {
            topic_alias_maximum: 1,
            ..v5()
        },
    );
    let mut send = |message: &Msg| {
        peer.offer(message);
        let got = peer.read_one();
        (got.topic, got.alias)
    };
    let (a, b) = (msg("a", QoS::AtMostOnce), msg("b", QoS::AtLeastOnce));
    assert_eq!(send(&a), ("topic/a".into(), Some(1)));
    assert_eq!(send(&a), (String::new(), Some(1)));
    assert_eq!(
        send(&Msg {
            qos: QoS::ExactlyOnce,
            ..a.clone()
        }),
        (String::new(), Some(1))
    );
    assert_eq!(send(&b), ("topic/b".into(), Some(1)));
    assert_eq!(send(&a), ("topic/a".into(), Some(1)));
}

#[test]
fn a_dropped_packet_sets_no_alias() {
    let link = Link {
        topic_alias_maximum: 5,
        packet_bytes_max: 60,
        ..v5()
    };
    let mut peer = Peer::online(limits(), link);
    let large = Msg {
        payload: vec![0; 60],
        ..msg("a", QoS::AtLeastOnce)
    };
    assert_eq!(
        peer.offer(&large),
        Offered::Dropped(DropReason::PacketTooLarge)
    );
    peer.offer(&msg("a", QoS::AtMostOnce));
    let got = peer.read_one();
    assert_eq!((&*got.topic, got.alias), ("topic/a", Some(1)));
}

#[test]
fn an_alias_that_does_not_fit_is_left_out() {
    let message = msg("a", QoS::AtMostOnce);
    let mut peer = Peer::online(limits(), v5());
    peer.offer(&message);
    let len = peer.read_one().len as u32;
    let link = Link {
        topic_alias_maximum: 5,
        packet_bytes_max: len,
        ..v5()
    };
    let mut peer = Peer::online(limits(), link);
    for _ in 0..2 {
        assert_eq!(peer.offer(&message), Offered::Sent);
        let got = peer.read_one();
        assert_eq!((&*got.topic, got.alias), ("topic/a", None));
    }
}

#[test]
fn mqtt_3_gets_no_aliases() {
    let mut peer = Peer::online(
        limits(),
        Link {
            topic_alias_maximum: 5,
            ..v3()
        },
    );
    for _ in 0..2 {
        peer.offer(&msg("a", QoS::AtMostOnce));
        assert_eq!(peer.read_one().topic, "topic/a");
    }
}

#[test]
fn an_offline_session_refuses_qos_0() {
    let mut peer = Peer::new(limits());
    assert_eq!(
        peer.offer(&msg("m", QoS::AtMostOnce)),
        Offered::Dropped(DropReason::Offline)
    );
    assert_eq!(peer.offer(&msg("m", QoS::AtLeastOnce)), Offered::Queued);
    assert!(!peer.pump());
}

#[test]
fn an_idle_session_is_small() {
    let bytes = size_of::<martlet_session::Outbound>();
    assert!(bytes <= 200, "{bytes} bytes");
    let mut peer = Peer::online(
        OutboundLimits {
            inflight_max: 500,
            ..limits()
        },
        v5(),
    );
    for n in 0..1_000 {
        peer.offer(&msg(&n.to_string(), QoS::AtLeastOnce));
    }
    for n in 1..=1_000 {
        peer.ack(PubAck, n).expect("in flight");
    }
    peer.half.shrink();
    assert_eq!(peer.half.memory_bytes(), 0);
}
