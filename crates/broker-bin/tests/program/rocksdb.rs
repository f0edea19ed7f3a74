//! The program with its data in RocksDB: killed and restarted, copied while it runs, refused to a second one.
#![cfg(feature = "rocksdb")]

use crate::support::{Server, directory, martlet, run};

#[test]
fn what_was_acknowledged_outlives_the_program_in_rocksdb() {
    let start = [
        "--storage",
        "rocksdb",
        "--set",
        "storage.backup_path=copies",
    ];
    let mut server = Server::start(&start);
    let mut publisher = server.client("pub", &["-t", "a", "-m", "kept", "-r", "-q", "2"]);
    assert_eq!(run(&mut publisher).code, Some(0));

    let root = server.directory.path();
    let second = run(martlet(root)
        .args(["serve", "--listen", "tcp://127.0.0.1:0"])
        .args(start));
    let first = format!("in use by process {}", server.running.id());
    assert!(second.err.contains(&first), "{second:?}");
    let embedded = run(martlet(root).args(["serve", "--listen", "tcp://127.0.0.1:0"]));
    assert!(
        embedded.err.contains("a store of the backend rocksdb"),
        "{embedded:?}"
    );

    server.running.signal("USR1");
    let line = server.running.line("the store was copied to ");
    let (_, path) = line
        .split_once("the store was copied to ")
        .expect("is there");
    let copy = path.split(' ').next().unwrap_or_default();
    let store = |words: &[&str]| {
        let ended = run(martlet(root).arg("store").args(words));
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        ended.out
    };
    store(&["check", "--data", copy]);
    assert!(store(&["dump", "--data", copy, "--table", "retained"]).contains('a'));

    server.running.signal("KILL");
    server.running.end();
    store(&["check"]);
    let kept = directory();
    std::fs::rename(root.join("martlet-data"), kept.path().join("martlet-data")).expect("is moved");
    let again = Server::start_in(kept, &start);
    let mut subscriber = again.client("sub", &["-t", "a", "-C", "1"]);
    assert_eq!(run(&mut subscriber).out, "kept\n");
}
