//! `martlet serve` as a process: banner, refusals to start, signals, pid file, reload, log.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::support::{Running, Server, directory, martlet, run};

#[test]
fn it_says_where_it_listens_and_that_it_is_ready() {
    let mut server = Server::start(&[]);
    let said = server.running.seen.join("\n");
    assert!(
        said.contains(&format!(
            "listening id=tcp-0 url=tcp://127.0.0.1:{}",
            server.tcp
        )),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "listening id=ws-0 url=ws://127.0.0.1:{}/mqtt",
            server.ws
        )),
        "{said}"
    );
    assert!(
        said.contains("note: only programs on this machine can connect"),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "mosquitto_pub -h 127.0.0.1 -p {} -t a/b -m hi",
            server.tcp
        )),
        "{said}"
    );
    TcpStream::connect(("127.0.0.1", server.tcp)).expect("it accepts");
    server.running.signal("TERM");
    assert_eq!(server.running.end().code(), Some(0));
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let directory = directory();
    let pid_file = directory.path().join("m.pid");
    let ended = run(martlet(directory.path())
        .args([
            "--listen",
            "ws://127.0.0.1:0",
            "--listen",
            &format!("tcp://127.0.0.1:{port}"),
            "--pid-file",
        ])
        .arg(&pid_file));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.err.contains(&format!(
            "error: listener tcp-{port}: cannot listen on tcp://127.0.0.1:{port}"
        )),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains(&format!("ss -ltnp 'sport = :{port}'")),
        "{}",
        ended.err
    );
    assert!(
        !ended
            .err
            .lines()
            .any(|line| line == "ready" || line.starts_with("listening id=")),
        "{}",
        ended.err
    );
    assert!(!pid_file.exists());
}

#[test]
fn a_missing_certificate_is_found_before_a_store_is_made() {
    let directory = directory();
    let ended = run(martlet(directory.path()).args([
        "--listen",
        "tls://127.0.0.1:0",
        "--tls-cert",
        "none.pem",
        "--tls-key",
        "none.key",
    ]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.err.contains("error: listener tls-0: ") && ended.err.contains("none.pem"),
        "{}",
        ended.err
    );
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .expect("a directory")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    let directory = directory();
    std::fs::write(
        directory.path().join("martlet.toml"),
        "[limits]\nconections_max = 5\n",
    )
    .expect("written");
    let ended = run(&mut martlet(directory.path()));
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.err,
        "error: martlet.toml:2:1: unknown key `conections_max` in [limits]\n  |\n2 | conections_max = 5\n  | \
         ^^^^^^^^^^^^^^\n  help: did you mean `connections_max`?\n"
    );
}

#[test]
fn the_pid_file_keeps_a_second_broker_away() {
    let mut server = Server::start(&["--pid-file", "m.pid"]);
    let pid_file = server.directory.path().join("m.pid");
    let id = server.running.id().to_string();
    assert_eq!(
        std::fs::read_to_string(&pid_file)
            .expect("a pid file")
            .trim(),
        id
    );
    let second = run(martlet(server.directory.path()).args([
        "--listen",
        "tcp://127.0.0.1:0",
        "--pid-file",
        "m.pid",
    ]));
    assert_eq!(second.code, Some(1));
    assert!(
        second
            .err
            .contains(&format!("martlet runs already, as process {id}")),
        "{}",
        second.err
    );
    server.running.signal("INT");
    assert_eq!(server.running.end().code(), Some(0));
    assert!(!pid_file.exists());
}

#[test]
fn clients_are_told_that_the_broker_goes() {
    let mut server = Server::start(&[]);
    let mut subscriber = server.subscriber(&["-t", "a"]);
    server.running.signal("TERM");
    subscriber.line("shutting down");
    assert_eq!(server.running.end().code(), Some(0));
    assert!(
        server
            .running
            .seen
            .iter()
            .any(|line| line.contains("stopped")),
        "{:?}",
        server.running.seen
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&[
        "--set",
        "shutdown_grace=1h",
        "--set",
        "limits.slow_consumer_timeout=1h",
    ]);
    // A client that reads nothing, for which more bytes wait than sockets hold.
    let mut stuck = TcpStream::connect(("127.0.0.1", server.tcp)).expect("connected");
    stuck
        .write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01x")
        .expect("CONNECT");
    stuck
        .write_all(b"\x82\x06\x00\x01\x00\x01a\x01")
        .expect("SUBSCRIBE");
    let mut answers = [0; 4 + 5];
    stuck.read_exact(&mut answers).expect("CONNACK and SUBACK");
    std::fs::write(server.directory.path().join("big"), vec![0; 1 << 20]).expect("written");
    let published = run(&mut server.client(
        "pub",
        &["-t", "a", "-f", "big", "-q", "1", "--repeat", "24"],
    ));
    assert_eq!(published.code, Some(0), "{published:?}");
    server.running.signal("TERM");
    server.running.line("shutting down");
    server.running.signal("TERM");
    assert_eq!(
        server.running.end().code(),
        Some(143),
        "{:?}",
        server.running.seen
    );
}

#[test]
fn hup_applies_what_is_right_and_refuses_what_is_wrong() {
    let directory = directory();
    let file = directory.path().join("martlet.toml");
    let listener = "[[listeners]]\nid = \"one\"\nurl = \"tcp://127.0.0.1:0\"\n";
    std::fs::write(&file, listener).expect("written");
    let mut broker = Running::start(&mut martlet(directory.path()));
    let line = broker.line("listening id=one url=tcp://127.0.0.1:");
    let port = line.rsplit(':').next().expect("a port").to_owned();
    broker.line("ready");

    std::fs::write(&file, format!("{listener}[limits]\ninflight_max = 0\n")).expect("written");
    broker.signal("HUP");
    broker.line("martlet.toml:5:16: `limits.inflight_max` is 0");
    broker.line("reload refused, nothing has changed");

    let second = "[[listeners]]\nid = \"two\"\nurl = \"tcp://127.0.0.1:0\"\n";
    std::fs::write(
        &file,
        format!("{listener}{second}[anonymous]\nallow = false\n[log]\nformat = \"json\"\n"),
    )
    .expect("written");
    broker.signal("HUP");
    broker.line("listener=\"two\"");
    broker.line("key=\"log.format\"");
    let line = broker.line("reloaded");
    assert!(
        line.contains("anonymous.allow") && line.contains("listeners"),
        "{line}"
    );
    broker.line("nobody can connect");
    let refused = run(martlet(directory.path()).args(["pub", "-p", &port, "-t", "a", "-m", "x"]));
    assert_eq!(refused.code, Some(135), "{refused:?}");

    std::fs::write(&file, second).expect("written");
    broker.signal("HUP");
    broker.line("listener closed");
    broker.line("reloaded");
    let port: u16 = port.parse().expect("a port");
    // The socket closes a moment after the listener was told.
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    broker.signal("HUP");
    broker.line("nothing has changed");
}

#[test]
fn hup_changes_listeners_that_stay() {
    let directory = directory();
    let file = directory.path().join("martlet.toml");
    let listener = "[[listeners]]\nid = \"one\"\nurl = \"tcp://127.0.0.1:0\"\n";
    let write = |rest: &str| std::fs::write(&file, format!("{listener}{rest}")).expect("written");
    write("");
    let mut broker = Running::start(&mut martlet(directory.path()));
    let line = broker.line("listening id=one url=tcp://127.0.0.1:");
    let port = line.rsplit(':').next().expect("a port").to_owned();
    broker.line("ready");
    let publish =
        || run(martlet(directory.path()).args(["pub", "-p", &port, "-t", "a", "-m", "x"]));
    assert_eq!(publish().code, Some(0));

    write("allow_anonymous = false\n");
    broker.signal("HUP");
    broker.line("listener changed");
    broker.line("reloaded");
    let refused = publish();
    assert_eq!(refused.code, Some(135), "{refused:?}");
    assert!(refused.err.contains("this listener"), "{}", refused.err);

    write("mount_point = \"a\"\n");
    broker.signal("HUP");
    broker.line("must end with `/`");
    broker.line("nothing has changed");
    assert_eq!(publish().code, Some(135));

    write("backlog = 7\nallow_anonymous = true\n");
    broker.signal("HUP");
    let line = broker.line("next start");
    assert!(line.contains("listener one"), "{line}");
    broker.line("reloaded");
    assert_eq!(publish().code, Some(135), "nothing of it is half applied");

    let elsewhere = listener.replace("127.0.0.1:0", "127.0.0.2:0");
    std::fs::write(&file, elsewhere).expect("written");
    broker.signal("HUP");
    broker.line("listener changed");
    let port: u16 = port.parse().expect("a port");
    // The socket closes a moment after the listener was told.
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn hup_moves_a_listener_to_the_port_of_another_that_goes() {
    let directory = directory();
    let file = directory.path().join("martlet.toml");
    let write = |listeners: &[(&str, &str, u16)]| {
        let tables: Vec<String> = listeners
            .iter()
            .map(|(id, scheme, port)| {
                format!("[[listeners]]\nid = \"{id}\"\nurl = \"{scheme}://127.0.0.1:{port}\"\n")
            })
            .collect();
        std::fs::write(&file, tables.concat()).expect("written");
    };
    write(&[("one", "tcp", 0)]);
    let mut broker = Running::start(&mut martlet(directory.path()));
    let line = broker.line("listening id=one url=tcp://127.0.0.1:");
    let port: u16 = line
        .rsplit(':')
        .next()
        .expect("a port")
        .parse()
        .expect("one");
    broker.line("ready");
    let publish = |scheme: &str| {
        let url = format!("{scheme}://127.0.0.1:{port}/a");
        run(martlet(directory.path()).args(["pub", "-L", &url, "-t", "a", "-m", "x"])).code
    };

    // Its own former self is in the way.
    write(&[("one", "tcp", port)]);
    broker.signal("HUP");
    broker.line("listener changed");
    broker.line("reloaded");
    assert_eq!(publish("mqtt"), Some(0));

    write(&[("two", "ws", port)]);
    broker.signal("HUP");
    broker.line("listener opened");
    broker.line("listener closed");
    broker.line("reloaded");
    assert_eq!(publish("ws"), Some(0));

    // What had to go for a change that fails comes back.
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = other.local_addr().expect("bound").port();
    write(&[("three", "tcp", port), ("four", "tcp", taken)]);
    broker.signal("HUP");
    let line = broker.line("reload refused");
    assert!(
        line.contains("listener four") && line.contains("; help: `ss"),
        "{line}"
    );
    assert_eq!(publish("ws"), Some(0));
}

#[test]
fn hup_does_not_go_on_without_the_file() {
    let directory = directory();
    let file = directory.path().join("martlet.toml");
    std::fs::write(&file, "[[listeners]]\nurl = \"tcp://127.0.0.1:0\"\n").expect("written");
    let mut broker = Running::start(&mut martlet(directory.path()));
    broker.line("ready");
    std::fs::remove_file(&file).expect("removed");
    broker.signal("HUP");
    broker.line("reload refused, nothing has changed: martlet.toml is gone");
}

#[test]
fn json_is_json_from_the_first_line_to_the_last() {
    let directory = directory();
    let mut broker = Running::start(martlet(directory.path()).args([
        "--listen",
        "tcp://127.0.0.1:0",
        "--log-format",
        "json",
        "--set",
        "limits.connections_max=9999999",
    ]));
    broker.line("\"ready\"");
    broker.signal("TERM");
    assert_eq!(broker.end().code(), Some(0));
    assert!(broker.seen.len() >= 4, "{:?}", broker.seen);
    for line in &broker.seen {
        let json: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            json["message"].is_string() || json["note"].is_string(),
            "{line}"
        );
    }
    let listening = broker
        .seen
        .iter()
        .find(|line| line.contains("\"listening\""))
        .expect("a listener");
    assert!(
        listening.contains("\"url\":\"tcp://127.0.0.1:"),
        "{listening}"
    );
}

#[test]
fn the_environment_and_flags_reach_the_broker() {
    let directory = directory();
    let mut broker = Running::start(
        martlet(directory.path())
            .env("MARTLET_LISTENERS__0__URL", "tcp://127.0.0.1:0")
            .env("MARTLET_LISTENERS__0__ID", "from-env")
            .env("MARTLET_SERVICE_HOST", "10.0.0.1")
            .args(["serve", "--log-level", "off"]),
    );
    broker.line("listening id=from-env url=tcp://127.0.0.1:");
    broker.line("ready");
    broker.signal("TERM");
    assert_eq!(broker.end().code(), Some(0));
    assert!(
        !broker
            .seen
            .iter()
            .any(|line| line.contains("INFO") || line.contains("WARN")),
        "{:?}",
        broker.seen
    );
}

#[test]
fn remote_clients_without_a_user_are_told_what_to_set() {
    let directory = directory();
    let mut broker =
        Running::start(martlet(directory.path()).args(["--listen", "tcp://0.0.0.0:0"]));
    let line = broker.line("listening id=tcp-0 url=tcp://0.0.0.0:");
    let port = line.rsplit(':').next().expect("a port").to_owned();
    broker.line("will be refused with Not authorized");
    broker.line("ready");
    let refused = run(martlet(directory.path()).args(["pub", "-p", &port, "-t", "a", "-m", "x"]));
    assert_eq!(refused.code, Some(135), "{refused:?}");
    assert!(
        refused.err.contains("Not authorized") || refused.err.contains("not authorized"),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("anonymous.allow"), "{}", refused.err);
}

#[test]
fn a_client_id_cannot_fake_a_line_of_the_log() {
    let mut server = Server::start(&[]);
    let id = "x\n2026-01-01T00:00:00Z  INFO forged";
    assert_eq!(
        run(&mut server.client("pub", &["-t", "a", "-m", "x", "-i", id])).code,
        Some(0)
    );
    server.running.signal("TERM");
    assert_eq!(server.running.end().code(), Some(0));
    let forged = server
        .running
        .seen
        .iter()
        .find(|line| line.starts_with("2026-01-01T00:00:00Z  INFO forged"));
    assert_eq!(forged, None);
}

#[test]
fn a_store_is_copied_while_the_broker_runs_on_it() {
    let mut server = Server::start(&["--set", "storage.backup_path=copies"]);
    let keep = |server: &Server, text: &str| {
        let mut publish = server.client("pub", &["-t", "a", "-m", text, "-r", "-q", "1"]);
        assert_eq!(run(&mut publish).code, Some(0));
    };
    keep(&server, "before");
    server.running.signal("USR1");
    let line = server.running.line("the store was copied to ");
    let (_, path) = line
        .split_once("the store was copied to ")
        .expect("is there");
    let path = path.split(' ').next().unwrap_or_default();
    keep(&server, "after");
    let root = server.directory.path();
    let check = run(martlet(root).args(["store", "check", "--data", path]));
    assert_eq!(check.code, Some(0), "{check:?}");
    let directory = directory();
    std::fs::rename(root.join(path), directory.path().join("martlet-data")).expect("is moved");
    let copy = Server::start_in(directory, &[]);
    let mut subscriber = copy.client("sub", &["-t", "a", "-C", "1"]);
    assert_eq!(run(&mut subscriber).out, "before\n");
}

#[test]
fn a_copy_of_nothing_is_refused_by_name() {
    let check = |args: &[&str], words: &str| {
        let mut server = Server::start(args);
        server.running.signal("USR1");
        server.running.line(words);
    };
    check(&[], "name a directory in storage.backup_path");
    check(
        &["--storage", "memory"],
        "only a store in a directory is copied",
    );
}
