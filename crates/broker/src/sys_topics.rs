//! The `$SYS` topics: Mosquitto's names and number formats, those of mochi where Mosquitto has none, and ours where neither has.
//!
//! A pure function from what is known to topics and payloads. Publishing them, retained and at QoS 0, is the caller's
//! business; topics whose payload did not change need no new publication but must stay retained, never expire.
//! Deliberately absent: topics about single clients, and Mosquitto's `packet/out/count` (packets are encoded into
//! bytes at once and not counted as waiting).

use std::borrow::Cow;

use martlet_storage::Timestamp;

use crate::{
    counters::{DROP_REASONS, Event, Gauge, Limit, Load, Loads, Snapshot, Window, drop_name},
    memory::Usage,
};

/// A topic and its payload.
pub(crate) type SysTopic = (Cow<'static, str>, String);

/// What the topics tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// Payload of `$SYS/broker/version`.
    pub(crate) version: &'a str,
    /// When the broker started.
    pub(crate) started: Timestamp,
    /// The time now.
    pub(crate) now: Timestamp,
    /// The counters now.
    pub(crate) snapshot: &'a Snapshot,
    /// The load averages now.
    pub(crate) loads: &'a Loads,
    /// Memory, where it is known.
    pub(crate) memory: Option<Usage>,
}

/// All topics with their payloads, sorted by topic. Topics below `limits/` and below `publish/messages/dropped/`
/// appear with the first thing they count, those about commits with a store.
pub(crate) fn render(facts: &Facts<'_>) -> Vec<SysTopic> {
    let snapshot = facts.snapshot;
    let mut topics: Vec<SysTopic> = Vec::with_capacity(96);
    topics.push(("$SYS/broker/version".into(), facts.version.to_owned()));
    let uptime = facts.now.millis_since(facts.started) / 1_000;
    // Mosquitto's form; mochi has the bare number under the same name.
    topics.push(("$SYS/broker/uptime".into(), format!("{uptime} seconds")));

    let mut number =
        |topic: &'static str, value: u64| topics.push((topic.into(), value.to_string()));
    number("$SYS/broker/time", facts.now.as_millis() / 1_000);
    number("$SYS/broker/started", facts.started.as_millis() / 1_000);
    clients(snapshot, &mut number);
    traffic(snapshot, &mut number);
    state(snapshot, &mut number);
    store(snapshot, &mut number);
    if let Some(memory) = facts.memory {
        number("$SYS/broker/heap/current", memory.resident);
        number("$SYS/broker/heap/maximum", memory.maximum);
        number("$SYS/broker/system/memory", memory.resident);
        number("$SYS/broker/system/threads", memory.threads);
    }

    for load in Load::ALL {
        for window in Window::ALL {
            let topic = format!("$SYS/broker/load/{}/{}", load.name(), window.name());
            topics.push((
                topic.into(),
                format!("{:.2}", facts.loads.per_minute(load, window)),
            ));
        }
    }
    for (reason, count) in DROP_REASONS.map(|reason| (reason, snapshot.dropped_for(reason))) {
        if count > 0 {
            let topic = format!("$SYS/broker/publish/messages/dropped/{}", drop_name(reason));
            topics.push((topic.into(), count.to_string()));
        }
    }
    for limit in Limit::ALL {
        let hits = snapshot.limit(*limit);
        if hits > 0 {
            topics.push((
                format!("$SYS/broker/limits/{}", limit.key()).into(),
                hits.to_string(),
            ));
        }
    }
    topics.sort_unstable();
    topics
}

fn clients(snapshot: &Snapshot, number: &mut impl FnMut(&'static str, u64)) {
    let connected = snapshot.clients_connected;
    // A session exists a moment before its client counts as connected, and the other way round at the end.
    let disconnected = snapshot.gauge(Gauge::Sessions).saturating_sub(connected);
    number("$SYS/broker/clients/total", connected + disconnected);
    number("$SYS/broker/clients/connected", connected);
    number("$SYS/broker/clients/active", connected);
    number("$SYS/broker/clients/disconnected", disconnected);
    number("$SYS/broker/clients/inactive", disconnected);
    number("$SYS/broker/clients/maximum", snapshot.clients_maximum);
    number(
        "$SYS/broker/clients/expired",
        snapshot.event(Event::SessionExpired),
    );
}

fn traffic(snapshot: &Snapshot, number: &mut impl FnMut(&'static str, u64)) {
    let (received, sent) = (snapshot.bytes_received(), snapshot.bytes_sent());
    number("$SYS/broker/bytes/received", received);
    number("$SYS/broker/bytes/sent", sent);
    number("$SYS/broker/load/bytes/received", received);
    number("$SYS/broker/load/bytes/sent", sent);
    // Mosquitto counts packets of every type as messages.
    let (received, sent) = (snapshot.packets_received(), snapshot.packets_sent());
    number("$SYS/broker/messages/received", received);
    number("$SYS/broker/messages/sent", sent);
    number("$SYS/broker/packets/received", received);
    number("$SYS/broker/packets/sent", sent);
    number(
        "$SYS/broker/publish/messages/received",
        snapshot.publish_received(),
    );
    number("$SYS/broker/publish/messages/sent", snapshot.publish_sent());
    number("$SYS/broker/publish/messages/dropped", snapshot.dropped());
    number("$SYS/broker/messages/dropped", snapshot.dropped());
    number(
        "$SYS/broker/publish/bytes/received",
        snapshot.payload_bytes_received(),
    );
    number(
        "$SYS/broker/publish/bytes/sent",
        snapshot.payload_bytes_sent(),
    );
}

fn state(snapshot: &Snapshot, number: &mut impl FnMut(&'static str, u64)) {
    let gauge = |gauge| snapshot.gauge(gauge);
    let retained = gauge(Gauge::RetainedMessages);
    number("$SYS/broker/retained messages/count", retained);
    number("$SYS/broker/retained", retained);
    // What Mosquitto calls its store: everything kept for somebody. A message that waits in several sessions is
    // one of each.
    let stored = retained + gauge(Gauge::QueuedMessages);
    number("$SYS/broker/store/messages/count", stored);
    number("$SYS/broker/messages/stored", stored);
    number(
        "$SYS/broker/store/messages/bytes",
        gauge(Gauge::RetainedBytes) + gauge(Gauge::QueuedBytes),
    );
    number("$SYS/broker/messages/inflight", gauge(Gauge::Inflight));
    let (subscriptions, shared) = (
        gauge(Gauge::Subscriptions),
        gauge(Gauge::SharedSubscriptions),
    );
    // Mosquitto counts shared ones apart, mochi all together.
    number(
        "$SYS/broker/subscriptions/count",
        subscriptions.saturating_sub(shared),
    );
    number("$SYS/broker/shared_subscriptions/count", shared);
    number("$SYS/broker/subscriptions", subscriptions);
}

/// What is committed to a store, so that whoever runs the broker sees how much shares a sync and how long that takes.
fn store(snapshot: &Snapshot, number: &mut impl FnMut(&'static str, u64)) {
    let stats = &snapshot.store;
    let commits = stats.batches.count();
    if commits == 0 {
        return;
    }
    number("$SYS/broker/store/commits", commits);
    number("$SYS/broker/store/commits/batches", stats.batches.sum());
    number("$SYS/broker/store/commits/records", stats.records);
    number(
        "$SYS/broker/store/commits/batches/p50",
        stats.batches.quantile(0.5),
    );
    for (topic, share) in [
        ("$SYS/broker/store/commits/micros/p50", 0.5),
        ("$SYS/broker/store/commits/micros/p99", 0.99),
    ] {
        number(topic, stats.commit_micros.quantile(share));
    }
    number("$SYS/broker/store/stalls", stats.stalls);
    number("$SYS/broker/store/bytes/disk", stats.usage.disk_bytes);
    number("$SYS/broker/store/bytes/written", stats.usage.written_bytes);
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use martlet_codec::{QoS, ReasonCode};
    use martlet_session::DropReason;
    use martlet_topic::TopicName;

    use super::*;
    use crate::counters::{Counters, Local};

    const MOSQUITTO: &str = "bytes/received bytes/sent clients/active clients/connected clients/disconnected \
        clients/expired clients/inactive clients/maximum clients/total heap/current heap/maximum messages/inflight \
        messages/received messages/sent messages/stored publish/bytes/received publish/bytes/sent \
        publish/messages/dropped publish/messages/received publish/messages/sent shared_subscriptions/count \
        store/messages/bytes store/messages/count subscriptions/count uptime version";
    const MOSQUITTO_LOADS: &str = "bytes/received bytes/sent connections messages/received messages/sent \
        publish/dropped publish/received publish/sent sockets";
    const MOCHI: &str = "version time uptime started load/bytes/received load/bytes/sent clients/connected \
        clients/disconnected clients/maximum clients/total packets/received packets/sent messages/received \
        messages/sent messages/dropped messages/inflight retained subscriptions system/memory system/threads";

    fn rendered(snapshot: &Snapshot, loads: &Loads) -> Vec<SysTopic> {
        let memory = Some(Usage {
            resident: 4_096,
            maximum: 8_192,
            threads: 3,
        });
        let (started, now) = (
            Timestamp::from_millis(1_500),
            Timestamp::from_millis(64_499),
        );
        render(&Facts {
            version: "martlet version 1.2.3",
            started,
            now,
            snapshot,
            loads,
            memory,
        })
    }

    fn idle() -> Vec<SysTopic> {
        rendered(&Counters::new().snapshot(), &Loads::new())
    }

    fn busy() -> Snapshot {
        let counters = Counters::new();
        let mut local = Local::new();
        local.bytes_received(1_000);
        counters.bytes_sent(2_000);
        local.packet_received(12);
        local.packet_received(3);
        counters.packets_sent(&[0xD0, 0]);
        local.publish_received(QoS::AtLeastOnce, 10);
        local.publish_sent(QoS::AtMostOnce, 10, 2);
        local.dropped(DropReason::QueueFull);
        local.dropped(DropReason::Expired);
        counters.set_gauge(Gauge::QueuedMessages, 4);
        counters.set_gauge(Gauge::QueuedBytes, 400);
        counters.set_gauge(Gauge::Inflight, 6);
        local.flush(&counters);
        counters.set_gauge(Gauge::Sessions, 5);
        counters.set_gauge(Gauge::Subscriptions, 9);
        counters.set_gauge(Gauge::SharedSubscriptions, 2);
        counters.set_gauge(Gauge::RetainedMessages, 3);
        counters.set_gauge(Gauge::RetainedBytes, 300);
        (0..3).for_each(|_| counters.client_connected());
        counters.client_disconnected(ReasonCode::Success);
        counters.event(Event::SessionExpired);
        counters.limit(Limit::SessionsMax);
        let mut snapshot = counters.snapshot();
        let store = &mut snapshot.store;
        for (batches, micros) in [(10, 1_000), (30, 3_000)] {
            store.batches.record(batches);
            store.commit_micros.record(micros);
        }
        (store.records, store.stalls) = (90, 1);
        (store.usage.disk_bytes, store.usage.written_bytes) = (5_000, 6_000);
        snapshot
    }

    #[test]
    fn every_promised_name_is_there_once() {
        let topics: HashMap<_, _> = idle().into_iter().collect();
        assert_eq!(topics.len(), idle().len(), "a topic is there twice");
        let mut promised: Vec<String> = MOSQUITTO.split_whitespace().map(str::to_owned).collect();
        assert_eq!(MOCHI.split_whitespace().count(), 20);
        promised.extend(MOCHI.split_whitespace().map(str::to_owned));
        promised.push("retained messages/count".into());
        for load in MOSQUITTO_LOADS.split_whitespace() {
            promised
                .extend(["1min", "5min", "15min"].map(|window| format!("load/{load}/{window}")));
        }
        for name in &promised {
            assert!(
                topics.contains_key(format!("$SYS/broker/{name}").as_str()),
                "{name}"
            );
        }
        promised.sort();
        promised.dedup();
        assert_eq!(topics.len(), promised.len(), "an idle broker has no others");
    }

    #[test]
    fn all_are_topic_names() {
        for (topic, _) in rendered(&busy(), &Loads::new()) {
            assert!(TopicName::new(&topic).is_ok(), "{topic}");
            assert!(topic.starts_with("$SYS/broker/"), "{topic}");
        }
    }

    #[test]
    fn the_numbers_are_the_counted_ones() {
        let snapshot = busy();
        let mut loads = Loads::new();
        loads.tick(&snapshot, Duration::from_mins(1));
        let topics: HashMap<_, _> = rendered(&snapshot, &loads).into_iter().collect();
        let check = |name: &str, payload: &str| {
            let topic = format!("$SYS/broker/{name}");
            assert_eq!(
                topics.get(topic.as_str()).map(String::as_str),
                Some(payload),
                "{name}"
            );
        };
        check("version", "martlet version 1.2.3");
        check("uptime", "62 seconds");
        check("started", "1");
        check("time", "64");
        check("clients/total", "5");
        check("clients/connected", "2");
        check("clients/active", "2");
        check("clients/disconnected", "3");
        check("clients/inactive", "3");
        check("clients/maximum", "3");
        check("clients/expired", "1");
        check("bytes/received", "1000");
        check("bytes/sent", "2000");
        check("load/bytes/received", "1000");
        check("load/bytes/sent", "2000");
        check("messages/received", "2");
        check("messages/sent", "3");
        check("packets/received", "2");
        check("packets/sent", "3");
        check("publish/messages/received", "1");
        check("publish/messages/sent", "2");
        check("publish/messages/dropped", "2");
        check("messages/dropped", "2");
        check("publish/bytes/received", "10");
        check("publish/bytes/sent", "20");
        check("retained messages/count", "3");
        check("retained", "3");
        check("store/messages/count", "7");
        check("messages/stored", "7");
        check("store/messages/bytes", "700");
        check("store/commits", "2");
        check("store/commits/batches", "40");
        check("store/commits/batches/p50", "15");
        check("store/commits/records", "90");
        check("store/commits/micros/p50", "1023");
        check("store/commits/micros/p99", "4095");
        check("store/stalls", "1");
        check("store/bytes/disk", "5000");
        check("store/bytes/written", "6000");
        check("messages/inflight", "6");
        check("subscriptions/count", "7");
        check("shared_subscriptions/count", "2");
        check("subscriptions", "9");
        check("heap/current", "4096");
        check("heap/maximum", "8192");
        check("system/memory", "4096");
        check("system/threads", "3");
        check("publish/messages/dropped/queue_full", "1");
        check("publish/messages/dropped/expired", "1");
        check("limits/queued_messages_max", "1");
        check("limits/sessions_max", "1");
        // 1,000 bytes in the first minute: 1,000 * (1 - 1/e).
        check("load/bytes/received/1min", "632.12");
        check("load/connections/15min", "0.19");
        check("load/sockets/5min", "0.00");
    }

    #[test]
    fn unknown_memory_is_left_out() {
        let (snapshot, loads) = (Counters::new().snapshot(), Loads::new());
        let start = Timestamp::default();
        let facts = Facts {
            version: "v",
            started: start,
            now: start,
            snapshot: &snapshot,
            loads: &loads,
            memory: None,
        };
        let topics = render(&facts);
        let about_memory =
            |(topic, _): &SysTopic| topic.contains("heap") || topic.contains("system");
        assert!(!topics.iter().any(about_memory));
        assert_eq!(topics.len(), idle().len() - 4);
    }
}
