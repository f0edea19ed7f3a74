//! Totals that go on after a restart where that was asked for, and begin at zero everywhere else.

use std::{sync::Arc, time::Duration};

use martlet_broker::config::Config;
use martlet_codec::{Packet, QoS};
use martlet_storage::{
    COUNTERS_KEY, CommitOptions, CountersRecord, ManualCommitter, MemoryStorage, Storage, StoreOp,
    Table, Value, Write,
};
use tokio::time::sleep;

use crate::ground::{Ground, Told, connect, publish};

const EVERY: Duration = Duration::from_secs(10);

fn keep(config: &mut Config) {
    config.sys.save_interval = EVERY;
}

/// Runs `act` under virtual time.
fn run(act: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.expect("runtime").block_on(act());
}

fn over(storage: &MemoryStorage, set: impl FnOnce(&mut Config)) -> Ground {
    Ground::with(set, |builder| {
        builder
            .store(storage.clone(), CommitOptions::default())
            .expect("the store can be read")
    })
}

fn by_hand(set: impl FnOnce(&mut Config)) -> (Ground, Arc<ManualCommitter>) {
    let committer = Arc::new(ManualCommitter::default());
    let of_broker = Arc::clone(&committer);
    let ground = Ground::with(set, |builder| builder.committer(of_broker));
    (ground, committer)
}

/// A client that leaves no session comes, publishes at QoS 0, and goes.
async fn visit(ground: &Ground, messages: usize) {
    let mut client = ground.stream();
    assert!(matches!(client.connect(&connect()).await, Told::ConnAck(_)));
    for _ in 0..messages {
        client.post(&publish("t", QoS::AtMostOnce, b"four")).await;
    }
    client.leave().await;
}

fn row(storage: &MemoryStorage) -> Option<CountersRecord> {
    let mut row = None;
    storage
        .get(Table::Meta, COUNTERS_KEY, &mut |value| {
            row = Some(CountersRecord::decode(value).expect("is readable"));
        })
        .expect("memory can be read");
    row
}

fn set_row(storage: &MemoryStorage, value: Vec<u8>) {
    let write = Write::Put {
        table: Table::Meta,
        key: COUNTERS_KEY.to_vec(),
        value: Value::Record(value),
    };
    storage.apply(&[write]).expect("memory can be written");
}

fn received(record: &CountersRecord) -> Option<u64> {
    let totals = record.totals.iter();
    totals
        .filter(|(name, _)| &**name == "publish_received.qos0")
        .map(|(_, total)| *total)
        .next()
}

/// The totals that were saved by what waits for a commit.
fn saved(committer: &ManualCommitter) -> Vec<Option<u64>> {
    let ops = committer.pending_ops();
    let records = ops.iter().filter_map(|op| match op {
        StoreOp::PutCounters { record } => Some(received(record)),
        _ => None,
    });
    records.collect()
}

#[test]
fn totals_go_on_after_an_orderly_end() {
    run(async || {
        let storage = MemoryStorage::default();
        let first = over(&storage, keep);
        visit(&first, 3).await;
        first.broker.shutdown(Duration::from_secs(1)).await;
        let before = first.counters();
        drop(first);

        let second = over(&storage, |config| {
            keep(config);
            config.sys.interval = Duration::from_secs(1);
        });
        let after = second.counters();
        assert_eq!(after.publish_received(), 3);
        assert_eq!(after.payload_bytes_received(), 12);
        assert_eq!(after.bytes_received(), before.bytes_received());
        assert_eq!(after.packets_sent(), before.packets_sent());
        assert_eq!(after.disconnected_total(), before.disconnected_total());
        assert_eq!(
            (after.clients_connected, after.clients_maximum),
            (0, 0),
            "the present begins anew"
        );
        visit(&second, 2).await;
        assert_eq!(second.counters().publish_received(), 5);

        sleep(Duration::from_secs(2)).await;
        let mut client = second.stream();
        client.connect(&connect()).await;
        client.subscribe("$SYS/broker/#").await;
        let (mut total, mut load) = (None, None);
        while total.is_none() || load.is_none() {
            let packet = client.packet().await;
            let Packet::Publish(publish) = packet.packet() else {
                panic!("{packet:?}")
            };
            let payload = String::from_utf8_lossy(publish.payload).into_owned();
            match publish.topic {
                "$SYS/broker/publish/messages/received" => total = Some(payload),
                "$SYS/broker/load/publish/received/1min" => load = Some(payload),
                _ => {}
            }
        }
        assert_eq!(total.as_deref(), Some("5"));
        let load: f64 = load.and_then(|load| load.parse().ok()).expect("a number");
        assert!(load < 2.1, "what came earlier is no load of now: {load}");
    });
}

#[test]
fn after_a_crash_they_are_those_of_the_last_time() {
    run(async || {
        let (ground, committer) = by_hand(keep);
        visit(&ground, 3).await;
        sleep(EVERY + Duration::from_secs(1)).await;
        assert_eq!(saved(&committer), [Some(3)]);
        committer.commit_all();
        visit(&ground, 4).await;
        let storage = committer.storage().clone();
        let after = over(&storage, keep);
        assert_eq!(after.counters().publish_received(), 3);
    });
}

#[test]
fn nothing_is_written_twice_and_nothing_gathers_behind_a_store_that_waits() {
    run(async || {
        let (ground, committer) = by_hand(keep);
        // Not at the moment at which the broker looks.
        sleep(10 * EVERY + EVERY / 20).await;
        assert_eq!(saved(&committer), [], "nothing was counted");
        visit(&ground, 1).await;
        sleep(10 * EVERY).await;
        visit(&ground, 1).await;
        sleep(10 * EVERY).await;
        assert_eq!(saved(&committer), [Some(1)], "the store has not answered");
        committer.commit_all();
        sleep(10 * EVERY).await;
        assert_eq!(saved(&committer), [Some(2)]);
        committer.commit_all();
        sleep(10 * EVERY).await;
        assert_eq!(saved(&committer), [], "nothing has changed");
        visit(&ground, 1).await;
        ground.broker.shutdown(Duration::from_secs(1)).await;
        assert_eq!(
            row(committer.storage()).and_then(|row| received(&row)),
            Some(3)
        );
    });
}

#[test]
fn who_did_not_ask_begins_at_zero_and_writes_nothing() {
    run(async || {
        let storage = MemoryStorage::default();
        let first = over(&storage, |_| ());
        visit(&first, 3).await;
        sleep(10 * EVERY).await;
        first.broker.shutdown(Duration::from_secs(1)).await;
        assert_eq!(row(&storage), None);

        let earlier = CountersRecord {
            totals: vec![("publish_received.qos0".into(), 70)],
        };
        set_row(&storage, earlier.encode());
        let second = over(&storage, |_| ());
        visit(&second, 1).await;
        assert_eq!(second.counters().publish_received(), 1);
        second.broker.shutdown(Duration::from_secs(1)).await;
        assert_eq!(row(&storage), Some(earlier), "it stays for who asks");
        assert_eq!(over(&storage, keep).counters().publish_received(), 70);

        // Without a store there is nothing to write to.
        let ground = Ground::new(keep);
        visit(&ground, 1).await;
        sleep(10 * EVERY).await;
        ground.broker.shutdown(Duration::from_secs(1)).await;
    });
}

#[test]
fn a_record_that_cannot_be_read_is_named_and_the_broker_starts() {
    run(async || {
        for (value, words) in [
            (vec![1, 9, 9], "cut short"),
            (vec![2, 0, 0], "version 2"),
            (Vec::new(), "cut short"),
        ] {
            let storage = MemoryStorage::default();
            set_row(&storage, value);
            let quiet = over(&storage, |_| ());
            assert_eq!(quiet.logged("counters"), [""; 0], "nobody asked");
            drop(quiet);
            let ground = over(&storage, keep);
            let lines = ground.logged("the counters in the store cannot be read");
            assert!(lines.len() == 1 && lines[0].contains(words), "{lines:?}");
            visit(&ground, 2).await;
            assert_eq!(ground.counters().publish_received(), 2);
            ground.broker.shutdown(Duration::from_secs(1)).await;
            assert_eq!(row(&storage).and_then(|row| received(&row)), Some(2));
        }
    });
}

#[test]
fn a_reload_begins_and_ends_it() {
    run(async || {
        let (ground, committer) = by_hand(|_| ());
        visit(&ground, 1).await;
        sleep(2 * EVERY).await;
        assert_eq!(saved(&committer), []);
        ground.reload(keep);
        sleep(2 * EVERY).await;
        assert_eq!(saved(&committer), [Some(1)]);
        committer.commit_all();
        ground.reload(|config| config.sys.save_interval = Duration::ZERO);
        visit(&ground, 1).await;
        sleep(2 * EVERY).await;
        ground.broker.shutdown(Duration::from_secs(1)).await;
        assert_eq!(
            row(committer.storage()).and_then(|row| received(&row)),
            Some(1)
        );
    });
}
