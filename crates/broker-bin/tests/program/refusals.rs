//! Who is refused what, and why: in the log, which is where the operator looks.

use std::io::Write as _;
use std::net::TcpStream;

use crate::support::{Server, directory, martlet, run};

/// A line of the log has all of `parts`.
fn check(server: &mut Server, event: &str, parts: &[&str]) {
    let line = server.running.line(event);
    for part in parts {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
}

#[test]
fn a_login_that_fails_names_the_user() {
    let mut server = Server::start(&["--set", "anonymous.allow=false"]);
    let failed = run(&mut server.client("pub", &["-t", "a", "-m", "x", "-u", "ada", "-P", "x"]));
    assert_eq!(failed.code, Some(135), "{failed:?}");
    check(
        &mut server,
        "connect_refused",
        &[
            "Client <unnamed> from 127.0.0.1:",
            "(u'ada') refused",
            "user=\"ada\"",
            "client=\"\"",
        ],
    );
}

#[test]
fn what_does_not_speak_mqtt_is_told_apart() {
    let mut server = Server::start(&[]);
    for (bytes, expect) in [
        (
            &b"\x16\x03\x01\x02\x00\x01"[..],
            "it speaks TLS, which needs a tls:// listener",
        ),
        (
            b"GET / HTTP/1.1\r\n",
            "it speaks HTTP, which needs a ws:// listener",
        ),
        (b"\xC0\x00", "not CONNECT"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.tcp)).expect("connected");
        stream.write_all(bytes).expect("sent");
        check(
            &mut server,
            "connect_refused",
            &["Client <unknown> from 127.0.0.1:", expect],
        );
    }
}

#[test]
fn what_a_user_may_not_do_is_a_sentence() {
    let directory = directory();
    let user = run(martlet(directory.path()).args(["passwd", "-b", "x", "ada"]));
    let rights = "rights.publish = [\"a\"]\nrights.subscribe = [\"a\"]\n";
    let file = directory.path().join("martlet.toml");
    std::fs::write(file, user.out + rights).expect("written");
    let mut server = Server::start_in(directory, &[]);
    let ada = ["-u", "ada", "-P", "x", "-i", "phone", "-t", "b"];
    run(server.client("pub", &ada).args(["-m", "x"]));
    check(
        &mut server,
        "publish_refused",
        &[
            "Client phone cannot publish to b: not authorized",
            "user=\"ada\"",
        ],
    );
    run(server.client("sub", &ada).arg("-E"));
    check(
        &mut server,
        "subscribe_refused",
        &[
            "Client phone cannot subscribe to b: not authorized",
            "client=\"phone\"",
        ],
    );
}
