//! The program with its data in a private Redis server: across restarts of both, away from each other, carried elsewhere.
#![cfg(feature = "redis")]
#![expect(clippy::print_stderr, reason = "what is passed over is named")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::{Running, Server, directory, martlet, run};

/// A server that ends with the value.
pub(crate) struct Redis {
    process: Child,
    directory: TempDir,
    port: u16,
}

impl Redis {
    /// `None`, and a word about it, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let directory = directory();
        let Some(process) = spawn(&directory, port) else {
            eprintln!("skipped: redis-server is not installed");
            return None;
        };
        Some(Self {
            process,
            directory,
            port,
        })
    }

    fn stop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        self.process.wait().expect("ends");
    }

    fn restart(&mut self) {
        self.stop();
        self.process = spawn(&self.directory, self.port).expect("starts");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(directory: &TempDir, port: u16) -> Option<Child> {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", "always", "--dir"])
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .ok()
        .inspect(|_| {
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        })
}

#[test]
fn what_is_retained_outlives_both_and_can_be_carried_away() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let mut first = Server::start(&["--storage", &redis.url()]);
    let second = run(martlet(first.directory.path()).args([
        "--listen",
        "tcp://127.0.0.1:0",
        "--storage",
        &redis.url(),
    ]));
    assert_eq!(second.code, Some(1));
    let process = format!("is in use by process {}", first.running.id());
    assert!(second.err.contains(&process), "{}", second.err);
    let kept = run(&mut first.client("pub", &["-t", "a", "-m", "kept", "-r", "-q", "1"]));
    assert_eq!(kept.code, Some(0), "{kept:?}");
    assert!(
        !first.directory.path().join("martlet-data").exists(),
        "nothing is on this disk"
    );

    // Killed, both of them, and started again.
    first.running.signal("KILL");
    first.running.end();
    redis.restart();
    let mut again = Server::start(&["--storage", &redis.url()]);
    let mut subscriber = again.client("sub", &["-t", "a", "-C", "1"]);
    assert_eq!(run(&mut subscriber).out, "kept\n");

    // Away: nothing is acknowledged, and with the server it goes on.
    redis.stop();
    let mut publisher = again.client("pub", &["-t", "b", "-m", "late", "-r", "-q", "1"]);
    let mut publisher = Running::start(&mut publisher);
    again.running.line("store_stalled");
    redis.restart();
    again.running.line("store_recovered");
    assert_eq!(publisher.end().code(), Some(0));
    again.running.signal("TERM");
    assert_eq!(again.running.end().code(), Some(0));
    let mut locked = Command::new("redis-cli");
    locked.args(["-p", &redis.port.to_string(), "EXISTS", "{martlet}:lock"]);
    assert_eq!(run(&mut locked).out, "0\n", "the next one need not wait");

    // Elsewhere.
    let root = again.directory.path();
    let store = |words: &[&str]| {
        let ended = run(martlet(root).arg("store").args(words));
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        ended.out
    };
    let url = redis.url();
    let info = store(&["info", "--data", &url]);
    assert!(info.contains("redis store, format 1"), "{info}");
    store(&["check", "--data", &url]);
    let lines = store(&["export", "--data", &url]);
    store(&["export", "--data", &url, "lines"]);
    store(&["import", "--data", "elsewhere", "lines"]);
    assert_eq!(store(&["export", "--data", "elsewhere"]), lines);
    let back = format!("{url}?prefix=back");
    store(&["import", "--data", &back, "lines"]);
    assert_eq!(store(&["export", "--data", &back]), lines);
    let none = format!("{url}?prefix=none");
    let none = run(martlet(root).args(["store", "info", "--data", &none]));
    assert!(none.err.contains("holds no store"), "{none:?}");
    let backup = run(martlet(root).args(["store", "backup", "--data", &url, "copy"]));
    assert!(backup.err.contains("no directory"), "{backup:?}");
}

#[test]
fn a_signal_ends_it_although_the_server_is_away() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let mut server = Server::start(&["--storage", &redis.url()]);
    let mut subscriber = server.subscriber(&["-t", "a", "-C", "1"]);
    redis.stop();
    let mut publisher = server.client("pub", &["-t", "a", "-m", "x", "-r", "-q", "1"]);
    let mut publisher = Running::start(&mut publisher);
    // Live subscribers need not wait; the publisher does, and the broker has it.
    assert_eq!(subscriber.output(), (Some(0), "x\n".to_owned()));
    server.running.line("store_stalled");
    server.running.signal("TERM");
    assert_eq!(server.running.end().code(), Some(0));
    assert_ne!(publisher.end().code(), Some(0), "it was told nothing");
    assert!(
        server
            .running
            .seen
            .iter()
            .any(|line| line.contains("was not acknowledged")),
        "{:?}",
        server.running.seen
    );
}
