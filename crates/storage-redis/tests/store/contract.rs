//! The suite that every backend runs, alone and in a cluster, and moving to another backend and back.

use std::io::Cursor;
use std::sync::atomic::{AtomicU32, Ordering};

use martlet_storage::contract::exchange::exchange;
use martlet_storage::transfer::{check, export, import};
use martlet_storage::{Group, Lsn, MemoryStorage, Storage, Timestamp, load};
use martlet_storage_redis::RedisOptions;

use crate::support::Server;

/// Runs the suite; every store has a prefix of its own.
fn suite(url: &str) {
    let count = AtomicU32::new(0);
    let open = |n: u32| {
        RedisOptions::parse(&format!("{url}prefix=store-{n}"))
            .expect("is an address")
            .open()
            .expect("opens")
    };
    martlet_storage::contract::run(
        || open(count.fetch_add(1, Ordering::Relaxed)),
        |old| {
            drop(old);
            open(count.load(Ordering::Relaxed) - 1)
        },
    );
}

#[test]
fn redis_keeps_the_contract() {
    if let Some(server) = Server::start(&[]) {
        suite(&format!("{}?", server.url()));
    }
}

#[test]
fn a_cluster_keeps_the_contract() {
    let Some(first) = Server::start(&["--cluster-enabled", "yes"]) else {
        return;
    };
    let second = Server::start(&["--cluster-enabled", "yes"]).expect("is installed");
    // Slots are on both, so that only one of them has the keys of a store.
    let _: String = first.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "8000"]);
    let _: String = second.ask(&["CLUSTER", "ADDSLOTSRANGE", "8001", "16383"]);
    let port = second.port.to_string();
    let _: String = first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port]);
    let well = |server: &Server| -> bool {
        let info: String = server.ask(&["CLUSTER", "INFO"]);
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")
    };
    while !(well(&first) && well(&second)) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    suite(&format!("{}?cluster=true&", first.url()));
    let [here, there] = [&first, &second].map(|server| -> u32 { server.ask(&["DBSIZE"]) });
    assert!(here > 0 && there > 0, "{here} and {there} keys");
}

#[test]
fn every_moment_of_an_exchange_moves_between_backends() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    for count in 0..=exchange().len() {
        let memory = MemoryStorage::new();
        let (mut planner, _) = load(&memory, &mut ()).expect("loads");
        for (n, ops) in exchange().into_iter().take(count).enumerate() {
            let mut group = Group::default();
            planner.add(Lsn::new(n as u64 + 1), ops, &mut group);
            let writes = planner.finish(group, Timestamp::from_millis(7));
            memory.apply(&writes).expect("applies");
        }
        let exported = |storage: &dyn Storage| {
            let mut lines = Vec::new();
            export(storage, &mut lines, &mut |_| {}).expect("exports");
            lines
        };
        let lines = exported(&memory);
        let open = || {
            RedisOptions::parse(&format!("{}?prefix=at-{count}", server.url()))
                .and_then(|options| options.open())
                .expect("opens")
        };
        let redis = open();
        import(&redis, &mut Cursor::new(&lines), &mut |_| {}).expect("imports");
        drop(redis);
        let redis = open();
        assert_eq!(exported(&redis), lines, "after {count}");
        let checked = check(&redis, &mut |_| {}).expect("checks");
        assert_eq!(checked.problems, [] as [String; 0], "after {count}");
        let (_, opened) = load(&redis, &mut ()).expect("loads");
        assert_eq!(opened.lsn, Lsn::new(count as u64));
    }
}
