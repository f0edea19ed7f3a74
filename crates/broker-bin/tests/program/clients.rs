//! `martlet pub`, `sub` and `rr` against the real broker.

use std::fmt::Write as _;

use crate::support::{Running, Server, run, run_with_input};

const VERSIONS: [&str; 3] = ["31", "311", "5"];

#[test]
fn messages_arrive_in_every_version_and_qos() {
    let server = Server::start(&[]);
    for from in VERSIONS {
        for to in VERSIONS {
            for qos in ["0", "1", "2"] {
                let mut subscriber =
                    server.subscriber(&["-t", "a/#", "-v", "-C", "2", "-q", qos, "-V", to]);
                let published =
                    run(&mut server
                        .client("pub", &["-t", "a/b", "-m", "hi ß", "-q", qos, "-V", from]));
                assert_eq!(published.code, Some(0), "{published:?}");
                run(&mut server.client("pub", &["-t", "a", "-n", "-q", qos, "-V", from]));
                assert_eq!(
                    subscriber.output(),
                    (Some(0), "a/b hi ß\na (null)\n".to_owned()),
                    "{from} {to} {qos}"
                );
            }
        }
    }
}

#[test]
fn websocket_and_url_reach_the_broker() {
    let server = Server::start(&[]);
    let mut subscriber = server.subscriber(&["-t", "a", "-C", "2"]);
    let url = |url: String, args: &[&str]| {
        let mut command = crate::support::martlet(server.directory.path());
        run(command.args(["pub", "-L", &url]).args(args))
    };
    assert_eq!(
        url(
            format!("ws://127.0.0.1:{}/mqtt", server.ws),
            &["-t", "a", "-m", "ws"]
        )
        .code,
        Some(0)
    );
    assert_eq!(
        url(format!("mqtt://127.0.0.1:{}/a", server.tcp), &["-m", "url"]).code,
        Some(0)
    );
    assert_eq!(subscriber.output(), (Some(0), "ws\nurl\n".to_owned()));
    let tls = url(
        "mqtts://127.0.0.1/a".to_owned(),
        &["-m", "x", "--cafile", "/nowhere/ca.pem"],
    );
    assert!(
        tls.code == Some(1) && tls.err.contains("/nowhere/ca.pem"),
        "{tls:?}"
    );
}

#[test]
fn lines_arrive_in_order() {
    let server = Server::start(&[]);
    for qos in ["0", "1", "2"] {
        let mut lines = String::new();
        for number in 1..=500 {
            let _ = writeln!(lines, "{number}");
        }
        let mut subscriber = server.subscriber(&["-t", "n", "-C", "500", "-q", qos]);
        let published = run_with_input(
            &mut server.client("pub", &["-t", "n", "-l", "-q", qos]),
            lines.as_bytes(),
        );
        assert_eq!(published.code, Some(0), "{published:?}");
        assert_eq!(subscriber.output(), (Some(0), lines), "QoS {qos}");
    }
}

#[test]
fn a_file_and_standard_input_are_published_whole() {
    let server = Server::start(&[]);
    let file = server.directory.path().join("payload");
    std::fs::write(&file, "two\nlines\n").expect("written");
    let mut subscriber = server.subscriber(&["-t", "a", "-C", "3", "-N"]);
    run(server.client("pub", &["-t", "a", "-f"]).arg(&file));
    run_with_input(
        &mut server.client("pub", &["-t", "a", "-s"]),
        b"from\nstdin",
    );
    run(&mut server.client("pub", &["-t", "a", "-m", "-dash"]));
    assert_eq!(
        subscriber.output(),
        (Some(0), "two\nlines\nfrom\nstdin-dash".to_owned())
    );
}

#[test]
fn formats_and_properties_are_printed() {
    let server = Server::start(&[]);
    let mut subscriber = server.subscriber(&[
        "-t",
        "a",
        "-C",
        "1",
        "-F",
        "%t|%p|%l|%q|%r|%C|%P|%S",
        "-D",
        "subscribe",
        "subscription-identifier",
        "9",
    ]);
    run(&mut server.client(
        "pub",
        &[
            "-t",
            "a",
            "-m",
            "x",
            "-D",
            "publish",
            "user-property",
            "k",
            "v",
            "-D",
            "publish",
            "content-type",
            "text",
        ],
    ));
    assert_eq!(
        subscriber.output(),
        (Some(0), "a|x|1|0|0|text|k:v|9\n".to_owned())
    );
    let wrong = run(&mut server.client("sub", &["-t", "a", "-F", "%y"]));
    assert_eq!(
        (wrong.code, wrong.err.contains("`%y` is not known")),
        (Some(1), true),
        "{wrong:?}"
    );
}

#[test]
fn retained_messages_are_shown_filtered_and_removed() {
    let server = Server::start(&[]);
    for topic in ["r/a", "r/b", "r/c"] {
        assert_eq!(
            run(&mut server.client("pub", &["-t", topic, "-m", "old", "-r", "-q", "1"])).code,
            Some(0)
        );
    }
    let show = |args: &[&str]| {
        let ended = run(server
            .client("sub", &["-t", "r/#", "-F", "%t %r", "-W", "2"])
            .args(args));
        let mut lines: Vec<String> = ended.out.lines().map(str::to_owned).collect();
        lines.sort();
        (ended.code, lines.join(","))
    };
    assert_eq!(
        show(&["-C", "2", "-T", "r/b"]),
        (Some(0), "r/a 1,r/c 1".to_owned())
    );
    assert_eq!(show(&["-R"]), (Some(27), String::new()));
    assert_eq!(
        show(&["--remove-retained", "-T", "r/b"]),
        (Some(27), "r/a 1,r/c 1".to_owned())
    );
    assert_eq!(
        show(&["--retained-only", "-C", "1"]),
        (Some(0), "r/b 1".to_owned())
    );
    assert_eq!(show(&[]), (Some(27), "r/b 1".to_owned()));
}

#[test]
fn many_retained_messages_can_be_removed_at_once() {
    let server = Server::start(&[]);
    let mut publishers: Vec<Running> = Vec::new();
    for part in 0..4 {
        publishers.push(Running::start(&mut server.client(
            "pub",
            &["-t", &format!("many/{part}"), "-m", "x", "-r", "-q", "1"],
        )));
    }
    for publisher in &mut publishers {
        assert_eq!(publisher.end().code(), Some(0));
    }
    let removed = run(&mut server.client(
        "sub",
        &["-t", "many/#", "--remove-retained", "-C", "4", "-q", "2"],
    ));
    assert_eq!(
        (removed.code, removed.out.lines().count()),
        (Some(0), 4),
        "{removed:?}"
    );
    let left = run(&mut server.client("sub", &["-t", "many/#", "-W", "1"]));
    assert_eq!((left.code, left.out.as_str()), (Some(27), ""));
}

#[test]
fn a_kept_session_collects_messages() {
    let server = Server::start(&[]);
    for version in VERSIONS {
        let id = format!("keeper-{version}");
        let session = |args: &[&str]| {
            run(server
                .client(
                    "sub",
                    &["-t", "s", "-q", "1", "-c", "-i", &id, "-V", version],
                )
                .args(args))
        };
        assert_eq!(session(&["-E"]).code, Some(0));
        assert_eq!(
            run(&mut server.client("pub", &["-t", "s", "-m", "kept", "-q", "1"])).code,
            Some(0)
        );
        let collected = session(&["-C", "1", "-W", "30"]);
        assert_eq!(
            (collected.code, collected.out.as_str()),
            (Some(0), "kept\n"),
            "{collected:?}"
        );
        run(&mut server.client("sub", &["-t", "s", "-i", &id, "-V", version, "-E"]));
    }
}

#[test]
fn a_request_gets_its_response() {
    let server = Server::start(&[]);
    let mut responder = server.subscriber(&["-t", "ask", "-C", "1", "-F", "%R %p"]);
    let mut asker = Running::start(&mut server.client(
        "rr",
        &["-t", "ask", "-e", "answer", "-m", "what", "-W", "30"],
    ));
    assert_eq!(responder.output(), (Some(0), "answer what\n".to_owned()));
    run(&mut server.client("pub", &["-t", "answer", "-m", "that"]));
    assert_eq!(asker.output(), (Some(0), "that\n".to_owned()));
    let unheard = run(&mut server.client("rr", &["-t", "ask", "-e", "answer", "-n", "-W", "0.2"]));
    assert_eq!(
        (unheard.code, unheard.err.as_str()),
        (Some(27), "timed out\n")
    );
}

#[test]
fn the_will_is_published_when_the_client_dies() {
    let server = Server::start(&[]);
    let mut witness = server.subscriber(&["-t", "will", "-C", "1", "-v"]);
    let victim = server.subscriber(&[
        "-t",
        "x",
        "--will-topic",
        "will",
        "--will-payload",
        "dead",
        "--will-qos",
        "1",
    ]);
    victim.signal("KILL");
    assert_eq!(witness.output(), (Some(0), "will dead\n".to_owned()));
}

#[test]
fn a_subscriber_that_is_asked_to_end_leaves_no_will() {
    let server = Server::start(&[]);
    let mut witness = server.subscriber(&["-t", "will", "-C", "1", "-v"]);
    let mut leaver =
        server.subscriber(&["-t", "x", "--will-topic", "will", "--will-payload", "dead"]);
    leaver.signal("TERM");
    assert_eq!(leaver.end().code(), Some(0));
    run(&mut server.client("pub", &["-t", "will", "-m", "alive", "-q", "1"]));
    assert_eq!(witness.output(), (Some(0), "will alive\n".to_owned()));
}

#[test]
fn a_subscriber_survives_a_restart_of_the_broker() {
    let mut server = Server::start(&[]);
    let mut subscriber = server.subscriber(&["-t", "a", "-C", "1"]);
    server.running.signal("TERM");
    assert_eq!(server.running.end().code(), Some(0));
    subscriber.line("connecting again");
    let port = server.tcp;
    let mut again = Running::start(
        crate::support::martlet(server.directory.path())
            .args(["--listen", &format!("tcp://127.0.0.1:{port}")]),
    );
    again.line("ready");
    subscriber.line("connected again");
    subscriber.line("subscribed to ");
    run(&mut server.client("pub", &["-t", "a", "-m", "after"]));
    assert_eq!(subscriber.output(), (Some(0), "after\n".to_owned()));
}

#[test]
fn refusals_are_told_in_words() {
    let server = Server::start(&[
        "--set",
        "anonymous.rights.publish=ok/#",
        "--set",
        "anonymous.rights.subscribe=ok/#",
        "--set",
        "mqtt.maximum_qos=1",
    ]);
    let check = |name: &str, args: &[&str], code: i32, part: &str| {
        let ended = run(server.client(name, args).env("LC_ALL", "C"));
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        assert!(
            ended.err.to_lowercase().contains(part),
            "{part} is not in {}",
            ended.err
        );
    };
    check(
        "pub",
        &["-t", "no", "-m", "x", "-q", "1"],
        1,
        "not authorized",
    );
    check("sub", &["-t", "no"], 1, "all subscriptions were refused");
    check(
        "pub",
        &["-t", "ok/a", "-m", "x", "-q", "2"],
        1,
        "qos 1 at most",
    );
    check(
        "pub",
        &["-t", "a/#", "-m", "x"],
        1,
        "no topic to publish to",
    );
    check("sub", &["-t", "a#"], 1, "no topic filter");
    check("pub", &["-t", "a"], 1, "nothing to publish");
    check("sub", &[], 1, "a topic filter is needed");
    check("sub", &["-t", "a", "-c"], 1, "needs a client id");
    check(
        "pub",
        &["-t", "a", "-m", "x", "-P", "p", "-V", "311"],
        1,
        "needs a user name",
    );
    check("pub", &["--nonsense"], 1, "--nonsense");
}

#[test]
fn nothing_listening_is_told_with_the_address() {
    let server = Server::start(&[]);
    let mut command = crate::support::martlet(server.directory.path());
    let ended = run(command.args(["pub", "-p", "1", "-t", "a", "-m", "x"]));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("tcp://127.0.0.1:1") && ended.err.contains("nothing listens there"),
        "{}",
        ended.err
    );
    let quiet = run(crate::support::martlet(server.directory.path())
        .args(["pub", "-p", "1", "-t", "a", "-m", "x", "--quiet"]));
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(1), ""));
}
