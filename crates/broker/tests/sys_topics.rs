//! `$SYS` and the counters behind it, against traffic that is counted from outside.

#[path = "limits/ground.rs"]
#[expect(dead_code, reason = "the test of the limits uses the rest")]
mod ground;
#[path = "sys_topics/saved.rs"]
mod saved;

use std::{collections::BTreeMap, time::Duration};

use ground::{Ground, Told, connect, publish};
use martlet_broker::{
    config::Config,
    counters::{Event, Gauge, Snapshot},
};
use martlet_codec::{Connect, Packet, Publish, QoS, ReasonCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

fn run(set: impl FnOnce(&mut Config), act: impl AsyncFnOnce(Ground)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime
        .expect("runtime")
        .block_on(async { act(Ground::new(set)).await });
}

fn every_second(config: &mut Config) {
    config.sys.interval = Duration::from_secs(1);
}

/// Subscribes to `filter` and gathers what comes until nothing more does.
async fn gather(ground: &Ground, filter: &str) -> BTreeMap<String, (String, bool)> {
    let mut client = ground.client(filter).await;
    client.subscribe(filter).await;
    let mut all = BTreeMap::new();
    // One interval and a little: the topics that changed come once more.
    let _ = timeout(Duration::from_millis(500), async {
        loop {
            let packet = client.packet().await;
            let Packet::Publish(publish) = packet.packet() else {
                panic!("{packet:?}")
            };
            let payload = String::from_utf8_lossy(publish.payload).into_owned();
            all.insert(publish.topic.to_owned(), (payload, publish.retain));
        }
    })
    .await;
    all
}

#[test]
fn a_new_subscriber_is_told_everything_at_once() {
    run(every_second, async |ground: Ground| {
        sleep(Duration::from_millis(2_100)).await;
        let topics = gather(&ground, "$SYS/#").await;
        let payload = |name: &str| {
            topics
                .get(&format!("$SYS/broker/{name}"))
                .map(|(payload, _)| payload.as_str())
        };
        assert!(topics.len() > 60, "{topics:#?}");
        assert!(topics.values().all(|(_, retain)| *retain), "{topics:#?}");
        assert_eq!(
            payload("version"),
            Some(concat!("martlet version ", env!("CARGO_PKG_VERSION")))
        );
        assert_eq!(payload("uptime"), Some("2 seconds"));
        assert_eq!(
            payload("clients/connected"),
            Some("0"),
            "as of the last interval"
        );
        assert_eq!(payload("load/bytes/received/1min"), Some("0.00"));
        assert_eq!(
            payload("retained messages/count"),
            Some("0"),
            "its own are not counted"
        );
        // Unchanged since the first interval, and still there after many.
        sleep(Duration::from_mins(10)).await;
        assert_eq!(gather(&ground, "$SYS/broker/version").await.len(), 1);
    });
}

#[test]
fn what_changes_is_published_anew() {
    run(every_second, async |ground: Ground| {
        let mut watcher = ground.client("watcher").await;
        watcher.subscribe("$SYS/broker/clients/connected").await;
        sleep(Duration::from_secs(5)).await;
        let other = ground.client("other").await;
        sleep(Duration::from_secs(5)).await;
        other.leave().await;
        let told = watcher.messages().await;
        assert!(
            told.ends_with(&["1".into(), "2".into(), "1".into()]),
            "{told:?}"
        );
    });
}

#[test]
fn it_is_hidden_from_wildcards_and_closed_to_clients() {
    run(every_second, async |ground: Ground| {
        sleep(Duration::from_millis(2_100)).await;
        for filter in ["#", "+/broker/version", "$share/g/#"] {
            assert_eq!(gather(&ground, filter).await.len(), 0, "{filter}");
        }
        let mut client = ground.client("c").await;
        for topic in ["$SYS/broker/version", "$SYS/mine", "$SYS"] {
            let told = client
                .publish(&publish(topic, QoS::AtLeastOnce, b"forged"))
                .await;
            assert_eq!(told, Told::Acked(ReasonCode::NotAuthorized), "{topic}");
        }
    });
}

#[test]
fn an_interval_of_zero_publishes_nothing() {
    let never = |config: &mut Config| config.sys.interval = Duration::ZERO;
    run(never, async |ground: Ground| {
        sleep(Duration::from_mins(1)).await;
        assert!(gather(&ground, "$SYS/#").await.is_empty());
    });
}

/// A conversation in bytes; returns how many went each way.
async fn converse(ground: &Ground, turns: &[&[u8]]) -> (u64, u64) {
    let (mut ours, theirs) = tokio::io::duplex(64 << 10);
    ground.broker.attach(theirs, "bytes");
    let (mut sent, mut received) = (0, 0);
    let mut buffer = vec![0; 64 << 10];
    for turn in turns {
        ours.write_all(turn).await.expect("the broker reads");
        sent += turn.len() as u64;
        // Whatever it answers is there within a second of virtual time.
        while let Ok(Ok(read)) = timeout(Duration::from_secs(1), ours.read(&mut buffer)).await {
            received += read as u64;
            if read == 0 {
                break;
            }
        }
    }
    (sent, received)
}

fn by_type(counts: &[u64]) -> Vec<(usize, u64)> {
    counts
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn balance(snapshot: &Snapshot) -> (u64, u64) {
    (snapshot.bytes_received(), snapshot.bytes_sent())
}

#[test]
fn every_byte_and_packet_is_counted() {
    run(
        |_| (),
        async |ground: Ground| {
            let turns: [&[u8]; 9] = [
                // CONNECT of version 3.1.1 as "c".
                b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c",
                // SUBSCRIBE to t at QoS 2.
                b"\x82\x06\x00\x01\x00\x01t\x02",
                // PUBLISH at QoS 0, 1 and 2 to t.
                b"\x30\x06\x00\x01tabc\x32\x07\x00\x01t\x00\x02de",
                b"\x34\x08\x00\x01t\x00\x03xyz",
                // PUBREL for the last.
                b"\x62\x02\x00\x03",
                // What came back is acknowledged: QoS 1 under id 1, QoS 2 under id 2.
                b"\x40\x02\x00\x01",
                b"\x50\x02\x00\x02",
                b"\x70\x02\x00\x02\xc0\x00",
                b"\xe0\x00",
            ];
            let totals = converse(&ground, &turns).await;
            let snapshot = ground.counters();
            assert_eq!(balance(&snapshot), totals);
            let received = by_type(snapshot.packets_received_by_type());
            assert_eq!(
                received,
                [
                    (1, 1),
                    (3, 3),
                    (4, 1),
                    (5, 1),
                    (6, 1),
                    (7, 1),
                    (8, 1),
                    (12, 1),
                    (14, 1)
                ]
            );
            let sent = by_type(snapshot.packets_sent_by_type());
            assert_eq!(
                sent,
                [
                    (2, 1),
                    (3, 3),
                    (4, 1),
                    (5, 1),
                    (6, 1),
                    (7, 1),
                    (9, 1),
                    (13, 1)
                ]
            );
            assert_eq!(snapshot.publish_received_by_qos(), [1, 1, 1]);
            assert_eq!(snapshot.publish_sent_by_qos(), [1, 1, 1]);
            assert_eq!(snapshot.payload_bytes_received(), 8);
            assert_eq!(snapshot.payload_bytes_sent(), 8);
            assert_eq!(snapshot.disconnected(ReasonCode::Success), 1);
        },
    );
}

#[test]
fn refusals_and_violations_are_counted_to_the_byte_too() {
    run(
        |_| (),
        async |ground: Ground| {
            let refused =
                converse(&ground, &[b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x00\x00\x01c"]).await;
            let no_mqtt = converse(&ground, &[b"GET / HTTP/1.1\r\n"]).await;
            let connect = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c";
            // A reserved bit of PINGREQ is set: DISCONNECT 0x81.
            let violation = converse(&ground, &[connect, b"\xc1\x00"]).await;
            let snapshot = ground.counters();
            let sum =
                |of: fn(&(u64, u64)) -> u64| [refused, no_mqtt, violation].iter().map(of).sum();
            assert_eq!(
                balance(&snapshot),
                (sum(|totals| totals.0), sum(|totals| totals.1))
            );
            assert!(refused.1 > 0 && violation.1 > 0 && no_mqtt.1 == 0);
            assert_eq!(snapshot.connects_refused_total(), 2);
            assert_eq!(snapshot.disconnected(ReasonCode::MalformedPacket), 1);
            assert_eq!(by_type(snapshot.packets_sent_by_type()), [(2, 2), (14, 1)]);
        },
    );
}

#[test]
fn sessions_and_what_they_hold_are_counted() {
    run(
        |_| (),
        async |ground: Ground| {
            let mut stays = ground.client("stays").await;
            stays.subscribe("t").await;
            stays.subscribe("$share/g/u").await;
            let mut leaves = ground.client("leaves").await;
            leaves.subscribe("t").await;
            leaves.leave().await;
            for payload in ["1", "22"] {
                stays
                    .post(&publish("t", QoS::AtLeastOnce, payload.as_bytes()))
                    .await;
            }
            let retained = Publish {
                retain: true,
                ..publish("r", QoS::AtLeastOnce, b"kept")
            };
            stays.post(&retained).await;
            sleep(Duration::from_secs(1)).await;
            let snapshot = ground.counters();
            let check = |gauge, expected| assert_eq!(snapshot.gauge(gauge), expected, "{gauge:?}");
            check(Gauge::Sockets, 1);
            check(Gauge::Sessions, 2);
            check(Gauge::Subscriptions, 3);
            check(Gauge::SharedSubscriptions, 1);
            check(Gauge::RetainedMessages, 1);
            check(Gauge::RetainedBytes, 5);
            check(Gauge::QueuedMessages, 2);
            check(Gauge::QueuedBytes, 5);
            check(Gauge::Inflight, 2);
            assert_eq!(
                (snapshot.clients_connected, snapshot.clients_maximum),
                (1, 2)
            );

            let over = Connect {
                client_id: "stays",
                clean_start: true,
                ..connect()
            };
            let mut taker = ground.stream();
            taker.connect(&over).await;
            let back = ground.client("leaves").await;
            let snapshot = ground.counters();
            let check = |event, expected| assert_eq!(snapshot.event(event), expected, "{event:?}");
            check(Event::SocketAccepted, 4);
            check(Event::Connected, 4);
            check(Event::SessionCreated, 3);
            check(Event::SessionResumed, 1);
            check(Event::SessionTakenOver, 1);
            check(Event::SessionEnded, 1);
            assert_eq!(snapshot.disconnected(ReasonCode::SessionTakenOver), 1);
            drop((taker, back));
            sleep(Duration::from_secs(2_000)).await;
            let snapshot = ground.counters();
            assert_eq!(
                (snapshot.clients_connected, snapshot.clients_maximum),
                (0, 2)
            );
            assert_eq!(snapshot.event(Event::SessionExpired), 1);
            assert_eq!(snapshot.gauge(Gauge::Sessions), 0);
        },
    );
}
