//! `martlet bench` against the real broker: every workload keeps its promises, and a report has its figures.

use serde_json::Value;

use crate::support::{Server, directory, martlet, run};

/// Runs a workload to its end and checks that its report has a figure above zero. What is delivered in a time that is
/// measured may be nothing on a busy machine: a figure above zero needs a count.
fn check(server: &Server, arguments: &str, figure: &str) {
    let url = format!("tcp://127.0.0.1:{}", server.tcp);
    let pid = server.running.id().to_string();
    let ended = run(martlet(server.directory.path())
        .args(["bench", "--json", "--url", &url, "--pid", &pid])
        .args(["--duration", "0.3", "--warm-up", "0.1"])
        .args(arguments.split(' ')));
    assert_eq!(ended.code, Some(0), "{arguments}: {ended:?}");
    let report: Value = serde_json::from_str(&ended.out).expect("a report");
    let value = report["figures"][figure].as_f64();
    assert!(value > Some(0.0), "{arguments}: {report}");
}

#[test]
fn traffic_in_every_version_and_qos() {
    let server = Server::start(&[]);
    for version in ["31", "311", "5"] {
        for qos in ["0", "1", "2"] {
            let arguments = format!("pairs --publishers 3 -q {qos} -V {version} --count 500");
            check(&server, &arguments, "delivered");
        }
    }
    for arguments in [
        "fan-out --subscribers 50 -q 1 --count 500",
        "fan-in --publishers 50 -q 1 --count 50",
        "shared -q 1 --count 500",
        "request -V 5 -q 1 --count 50",
        "request --count 50",
        "pairs --rate 1000 --count 50",
        "pairs --window 1 --idle 20 --unrelated 200 --count 50",
        "pairs --persistent -q 2 --count 500",
        "pairs --size 5000 --count 500 --window 0",
        "fan-out --persistent --subscribers 50 -q 1 --count 50",
    ] {
        check(&server, arguments, "delivered");
    }
}

#[test]
fn workloads_that_are_more_than_traffic() {
    let server = Server::start(&[]);
    for (arguments, figure) in [
        (
            "wildcard --filters 500 --subscribers 10",
            "subscribes_per_second",
        ),
        (
            "wildcard --filters 500 --topics 5 -q 1 --window 50",
            "unsubscribes_per_second",
        ),
        ("connect --count 300", "connections_per_second"),
        ("takeover --count 300", "takeovers_per_second"),
        ("idle --subscribers 100", "connections_per_second"),
        ("retained --count 200", "retained_fetches_per_second"),
        (
            "retained --count 200 --subscribers 3",
            "retained_fetches_per_second",
        ),
        (
            "retained --count 200 -q 1 -V 5",
            "retained_stores_per_second",
        ),
        ("offline --count 20", "drained_per_second"),
        ("offline --count 20 -q 2 -V 5", "queued_per_second"),
    ] {
        check(&server, arguments, figure);
    }
}

#[test]
fn a_run_is_held_against_the_disk() {
    let server = Server::start(&["--set", "sys.interval=1s"]);
    let arguments = "pairs --persistent -q 1 --count 200 --window 1 --disk .";
    for figure in [
        "disk_syncs_256_per_second",
        "disk_syncs_4096_per_second",
        "acknowledged_per_disk_sync",
    ] {
        check(&server, arguments, figure);
    }
    // What the broker says of its commits: at most one for each message stored, and one for each taken.
    let said = run(&mut server.client(
        "sub",
        &["-t", "$SYS/broker/store/commits/records", "-C", "1"],
    ));
    let records: u64 = said.out.trim().parse().expect("a number");
    assert!(records > 0, "{said:?}");
    let directory = directory();
    let alone = run(martlet(directory.path()).args(["bench", "--disk", "."]));
    assert!(alone.out.contains("appends of 4 KiB synced"), "{alone:?}");
    let nowhere = run(martlet(directory.path()).args(["bench", "--disk", "nowhere"]));
    assert_eq!(nowhere.code, Some(2), "{nowhere:?}");
    assert!(
        nowhere.err.contains("nowhere: cannot measure the disk"),
        "{nowhere:?}"
    );
}

#[test]
fn the_selftest_passes() {
    let directory = directory();
    let ended = run(martlet(directory.path()).args(["bench", "--selftest"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.ends_with("18 passed, 0 failed\n"), "{ended:?}");
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    let directory = directory();
    let check = |arguments: &str, code: i32, part: &str| {
        let ended = run(martlet(directory.path())
            .arg("bench")
            .args(arguments.split(' ')));
        assert_eq!(ended.code, Some(code), "{arguments}: {ended:?}");
        assert!(ended.err.contains(part), "{arguments}: {ended:?}");
    };
    check("nothing", 2, "the workloads are pairs, fan-out");
    check("pairs --size 10", 2, "28 to");
    check(
        "pairs --publishers 2 --subscribers 3",
        2,
        "as many publishers as subscribers",
    );
    check(
        "pairs --url udp://127.0.0.1",
        2,
        "tcp://, tls://, ws://, wss:// and quic:// are spoken",
    );
    check(
        "pairs --url tcp://127.0.0.1:1",
        1,
        "cannot connect to 127.0.0.1:1",
    );
    check(
        "pairs --url quic://127.0.0.1:1",
        1,
        "cannot connect to 127.0.0.1:1: no answer",
    );
    check("pairs --rate 0", 2, "rate must be above 0");
}

#[test]
fn a_run_can_be_drawn() {
    let server = Server::start(&[]);
    check(&server, "pairs --publishers 2 --svg run.svg", "delivered");
    let path = server.directory.path().join("run.svg");
    let svg = std::fs::read_to_string(path).expect("a picture");
    assert!(
        svg.starts_with("<svg ") && svg.contains("Latency by percentile"),
        "{svg}"
    );
}
