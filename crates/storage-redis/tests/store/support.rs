//! A private redis-server, and a way to it that can be cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use martlet_storage::{Table, Value, Write};
use martlet_storage_redis::{RedisOptions, RedisStorage};
use tempfile::TempDir;

/// Longest wait for anything. Never a measure: a test that needs it has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// A server that ends with the value.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
    directory: TempDir,
    arguments: Vec<String>,
}

impl Server {
    /// Starts one; `None`, and a word about it, where it is not installed.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let Some(process) = spawn(directory.path(), port, &arguments) else {
            eprintln!("skipped: redis-server is not installed");
            return None;
        };
        Some(Self {
            process,
            port,
            directory,
            arguments,
        })
    }

    /// SIGKILL, and again on the same files.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.process = spawn(self.directory.path(), self.port, &self.arguments).expect("starts");
    }

    /// SIGKILL.
    pub(crate) fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        self.process.wait().expect("ends");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn options(&self) -> RedisOptions {
        RedisOptions::parse(&self.url()).expect("is an address")
    }

    pub(crate) fn open(&self) -> RedisStorage {
        self.options().open().expect("opens")
    }

    /// Asks the server itself.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).expect("is an address");
        let mut connection = client.get_connection().expect("connects");
        let (name, arguments) = words.split_first().expect("a command");
        let mut command = redis::cmd(name);
        command.arg(arguments);
        command.query(&mut connection).expect("answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("is bound").port()
}

fn spawn(directory: &Path, port: u16, arguments: &[String]) -> Option<Child> {
    let log = std::fs::File::create(directory.join("log")).expect("a log");
    let mut process = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", "always", "--daemonize", "no"])
        .arg("--dir")
        .arg(directory)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .ok()?;
    let begin = Instant::now();
    loop {
        let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
        if log.contains("Ready to accept connections") {
            return Some(process);
        }
        let ended = process.try_wait().expect("is a child").is_some();
        assert!(
            !ended && begin.elapsed() < DEADLINE,
            "the server did not start: {log}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A way to a server on which answers can be lost.
pub(crate) struct Way {
    pub(crate) port: u16,
    /// The next answers of at least so many bytes are not passed on; the connection ends instead. 0: all are.
    lose: Arc<AtomicUsize>,
    /// How many were not passed on.
    pub(crate) dropped: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
}

impl Way {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let way = Self {
            port: listener.local_addr().expect("is bound").port(),
            lose: Arc::default(),
            dropped: Arc::default(),
            open: Arc::new(AtomicBool::new(true)),
        };
        let (lose, dropped, open) = (way.lose.clone(), way.dropped.clone(), way.open.clone());
        std::thread::spawn(move || {
            for inner in listener.incoming().map_while(Result::ok) {
                if !open.load(Ordering::Acquire) {
                    continue;
                }
                let Ok(outer) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))) else {
                    continue;
                };
                let there = (
                    inner.try_clone().expect("clones"),
                    outer.try_clone().expect("clones"),
                );
                std::thread::spawn(move || pass(there.0, there.1, || false));
                let (lose, dropped) = (lose.clone(), dropped.clone());
                std::thread::spawn(move || {
                    pass(outer, inner, || {
                        let cut = lose
                            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                                left.checked_sub(1)
                            })
                            .is_ok();
                        dropped.fetch_add(usize::from(cut), Ordering::AcqRel);
                        cut
                    });
                });
            }
        });
        way
    }

    /// The next `count` answers do not come.
    pub(crate) fn lose(&self, count: usize) {
        self.lose.store(count, Ordering::Release);
    }

    /// Whether connections are accepted and passed on, or accepted and closed.
    pub(crate) fn open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    pub(crate) fn options(&self) -> RedisOptions {
        RedisOptions::parse(&format!("redis://127.0.0.1:{}", self.port)).expect("is an address")
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut cut: impl FnMut() -> bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if cut() || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

pub(crate) fn put(key: &[u8], value: &[u8]) -> Write {
    Write::Put {
        table: Table::Queue,
        key: key.to_vec(),
        value: Value::Record(value.to_vec()),
    }
}
