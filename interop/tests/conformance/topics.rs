//! Topic names and filters: what matches what.

use crate::prelude::*;

// shows: 5.0 MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.3-4, MQTT-4.7.0-1, MQTT-3.3.2-3
// shows: 3.1.1 MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.3-4, MQTT-4.7.1-1, MQTT-3.3.2-3
#[tokio::test]
async fn filters_match_as_the_table_says() {
    // Filter, topics that match, topics that do not. `R` stands for a root nobody else uses.
    let table: [(&str, &[&str], &[&str]); 14] = [
        ("R", &["R"], &["R/", "R/a", "/R"]),
        ("R/a", &["R/a"], &["R", "R/A", "R/a/", "R/a/b", "R//a"]),
        (
            "R/#",
            &["R", "R/", "R/a", "R/a/b/c", "R//"],
            &["Rx", "Rx/a", "/R/a"],
        ),
        ("R/a/#", &["R/a", "R/a/", "R/a/b"], &["R", "R/ab", "R/b/a"]),
        ("R/+", &["R/", "R/a"], &["R", "R/a/b", "R/a/"]),
        ("R/+/", &["R/a/", "R//"], &["R/a", "R/a/b"]),
        ("R/+/c", &["R/a/c", "R//c"], &["R/c", "R/a/b/c", "R/a/C"]),
        ("R/+/+", &["R/a/b", "R//", "R/a/"], &["R/a", "R/a/b/c"]),
        ("R/+/#", &["R/a", "R/a/b/c", "R/"], &["R"]),
        ("+/R", &["x/R", "/R"], &["R", "x/y/R", "x/R/"]),
        ("R/a b", &["R/a b"], &["R/a%20b", "R/ab"]),
        ("R/\u{e9}", &["R/\u{e9}"], &["R/e\u{301}", "R/\u{c9}"]),
        ("R//a", &["R//a"], &["R/a", "R/x/a"]),
        ("R/$x", &["R/$x"], &["R/x"]),
    ];
    let broker = Broker::shared().await;
    for version in BOTH {
        let mut p = client(version).connect(broker).await;
        for (filter, matching, others) in table {
            let root = unique("R");
            let real = |text: &str| text.replace('R', &root);
            let mut c = client(version).connect(broker).await;
            c.subscribe(real(filter), 1).await;
            for topic in others.iter().chain(matching) {
                p.publish(publish(real(topic), topic).qos1(1)).await;
            }
            for topic in matching {
                let seen = c.expect_publish().await;
                assert_eq!(seen.topic_text(), real(topic), "{filter}");
                c.acknowledge(&seen).await;
            }
            c.expect_nothing().await;
        }
    }
}

// shows: 5.0 MQTT-4.7.2-1; 3.1.1 MQTT-4.7.2-1
#[tokio::test]
async fn wildcards_in_front_do_not_match_dollar_topics() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let name = unique("x");
        let topic = format!("${name}/y");
        let mut wild = client(version).connect(broker).await;
        wild.send(
            subscribe(1, "#", 0)
                .and(format!("+/{name}"), 0)
                .and("+/y", 0)
                .and("+/#", 0),
        )
        .await;
        wild.expect_suback(1, &[0, 0, 0, 0]).await;
        let mut p = client(version).connect(broker).await;
        p.send(publish(&topic, "hidden").qos1(1)).await;
        match p.packet().await {
            Packet::Ack(ack) => assert_eq!(ack.id, 1),
            other => panic!("{other:?}"),
        }
        // Everything that reaches the wildcard subscriber comes from other tests, never from a $ topic.
        p.publish(publish(format!("{name}/marker"), "marker").qos1(1))
            .await;
        loop {
            let seen = wild.expect_publish().await;
            assert!(!seen.topic_text().starts_with('$'), "{}", seen.topic_text());
            if seen.topic_text() == format!("{name}/marker") {
                break;
            }
        }
    }
}

// `$SYS` belongs to the server: a client may not publish there, and is told so without being cut off (4.7.2).
#[tokio::test]
async fn clients_do_not_publish_to_sys() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = format!("$SYS/{}", unique("x"));
        let mut watcher = client(version).connect(broker).await;
        watcher.send(subscribe(1, "$SYS/#", 1)).await;
        watcher.expect_suback(1, &[1]).await;
        let mut c = client(version).connect(broker).await;
        c.send(publish(&topic, "forged").qos1(1)).await;
        match (version.is_v5(), c.event().await) {
            (true, Event::Packet(Packet::Ack(ack))) => {
                assert!([0x87, 0x90].contains(&ack.code), "{ack:?}");
            }
            (false, Event::Closed) => {}
            (false, Event::Packet(Packet::Ack(ack))) => assert_eq!(ack.id, 1),
            (_, other) => panic!("{other:?}"),
        }
        watcher.send(pingreq()).await;
        loop {
            match watcher.packet().await {
                Packet::Publish(seen) => assert_ne!(seen.topic_text(), topic),
                Packet::PingResp => break,
                other => panic!("{other:?}"),
            }
        }
    }
}

// A new subscriber to `$SYS` gets something at once.
#[tokio::test]
async fn sys_topics_are_there_for_a_new_subscriber() {
    for version in BOTH {
        let mut c = client(version).connect(Broker::shared().await).await;
        c.send(subscribe(1, "$SYS/broker/version", 0)).await;
        c.expect_suback(1, &[0]).await;
        let seen = c.expect_publish().await;
        assert_eq!(seen.topic_text(), "$SYS/broker/version");
        assert!(!seen.payload.is_empty());
    }
}
