//! Totals below `$SYS` across restarts of the program, on every store there is, and in what the tools say and carry.

use tempfile::TempDir;

use crate::support::{Server, directory, martlet, run};

const TOTAL: &str = "$SYS/broker/publish/messages/received";
const KEEP: [&str; 4] = ["--set", "sys.save_interval=1s", "--set", "sys.interval=1s"];

fn publish(server: &Server, messages: u64) {
    for _ in 0..messages {
        let ended = run(&mut server.client("pub", &["-t", "a", "-m", "x"]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

/// Waits until the topic says this.
fn says(server: &Server, messages: u64) {
    let expected = format!("{messages}\n");
    let told = || run(&mut server.client("sub", &["-t", TOTAL, "-C", "1"])).out;
    let mut last = told();
    for _ in 0..50 {
        if last == expected {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        last = told();
    }
    panic!("{TOTAL} says {last:?}, expected {expected:?}");
}

/// The data of a broker that was stopped, where another may start.
fn moved(from: &TempDir) -> TempDir {
    let to = directory();
    let data = "martlet-data";
    if from.path().join(data).exists() {
        std::fs::rename(from.path().join(data), to.path().join(data)).expect("is moved");
    }
    to
}

fn stopped(mut server: Server, signal: &str) -> TempDir {
    server.running.signal(signal);
    server.running.end();
    moved(&server.directory)
}

fn go_on(store: &[&str]) {
    let keep = [store, &KEEP[..]].concat();
    let server = Server::start(&keep);
    publish(&server, 3);
    says(&server, 3);
    let root = stopped(server, "TERM");
    let server = Server::start_in(root, &keep);
    says(&server, 3);
    publish(&server, 2);
    says(&server, 5);
    // What the topic says may be newer than what was saved, and is saved within a second.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let root = stopped(server, "KILL");
    let server = Server::start_in(root, &keep);
    says(&server, 5);
    let root = stopped(server, "TERM");
    let server = Server::start_in(root, &[store, &KEEP[2..]].concat());
    says(&server, 0);
}

#[test]
fn they_go_on_in_the_embedded_store() {
    go_on(&[]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn they_go_on_in_rocksdb() {
    go_on(&["--storage", "rocksdb"]);
}

#[cfg(feature = "redis")]
#[test]
fn they_go_on_in_redis() {
    let Some(redis) = crate::redis::Redis::start() else {
        return;
    };
    go_on(&["--storage", &redis.url()]);
}

#[test]
fn tools_show_and_carry_them() {
    let server = Server::start(&KEEP);
    publish(&server, 3);
    says(&server, 3);
    let root = stopped(server, "TERM");
    let store = |words: &[&str]| {
        let ended = run(martlet(root.path()).arg("store").args(words));
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        ended.out
    };
    let shown = store(&["dump", "--table", "meta"]);
    let expected = [
        "counters: ",
        "publish_received.qos0 3",
        "event.connections ",
    ];
    assert!(expected.iter().all(|part| shown.contains(part)), "{shown}");
    assert!(
        store(&["info"]).contains("meta                   2"),
        "{}",
        store(&["info"])
    );
    store(&["check"]);
    store(&["compact"]);
    store(&["backup", "copy"]);
    store(&["export", "lines"]);
    std::fs::rename(root.path().join("martlet-data"), root.path().join("old")).expect("is moved");
    store(&["import", "lines"]);
    let server = Server::start_in(moved(&root), &KEEP);
    says(&server, 3);
    drop(server);
    store(&["restore", "copy"]);
    let server = Server::start_in(moved(&root), &KEEP);
    says(&server, 3);
}
