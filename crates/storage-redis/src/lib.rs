//! A storage backend of a Martlet broker: tables in a Redis server, version 7 or later, alone or a cluster.
//!
//! * [`RedisOptions`] is an address; opening it takes the store for this process.
//! * [`RedisStorage`] is the [`Storage`]: one batch is one script, which the server runs whole or not at all. Batches are
//!   numbered: one whose answer was lost is sent again and applied once, and a server that came back without its last
//!   batches is found out.
//! * Every batch names the epoch of its owner. A second broker is refused while the first one lives; a first one that was
//!   taken for dead is refused from then on.
//!
//! What survives a crash of the server is what its `appendfsync` and its replicas promise; [`Storage::sync`] adds nothing.
//! Deliberately absent: an asynchronous runtime (the committer has a thread), threads of its own, reads from replicas.

mod error;
mod holder;
mod options;
mod script;
mod server;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use martlet_storage::{Storage, StorageError, Table, Usage, Write};
use parking_lot::Mutex;
use redis::Cmd;

pub use error::OpenError;
pub use options::RedisOptions;
pub use script::FORMAT;

use holder::Holder;
use script::{Keys, LEASE_MILLIS};
use server::{Link, Server};

/// How many keys a scan asks for at a time.
const SCAN_KEYS: usize = 1_000;
/// How many values, where they can be as large as a packet.
const SCAN_BODIES: usize = 16;
/// How long a read waits for a server that is away.
const READ_PATIENCE: Duration = Duration::from_secs(30);
/// The first wait before a read is tried again; it doubles.
const READ_AGAIN: Duration = Duration::from_millis(50);
/// How often the lock of somebody else is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often a long scan says that the store is still in use.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// The server refuses commands above 1 GiB.
const BATCH_BYTES_MAX: usize = 1_000_000_000;

/// An open store. Dropping it gives it back at once; a process that is killed leaves it to the next one of its machine
/// at once, to one of another machine after ten seconds.
pub struct RedisStorage {
    server: Server,
    keys: Keys,
    epoch: u64,
    batches: Mutex<Batches>,
    reader: Mutex<Link>,
    written_bytes: AtomicU64,
    created: bool,
    remarks: Vec<String>,
}

/// Is shown some keys, and says whether it wants more.
type Show<'a> = dyn FnMut(&[Vec<u8>]) -> Result<bool, StorageError> + 'a;

/// The way of batches to the server.
struct Batches {
    link: Link,
    /// The last batch that is known to be applied.
    batch: u64,
}

impl RedisStorage {
    fn open(options: &RedisOptions) -> Result<Self, OpenError> {
        let address = || options.to_string();
        let failed = |error| OpenError::Server {
            address: options.to_string(),
            error,
        };
        let server = Server::new(options)?;
        let keys = Keys::new(&options.prefix);
        let mut link = Link::default();
        let holder = Holder::this().text();
        let mut dead = String::new();
        // The lease of whoever holds it shrinks, unless it lives.
        let mut watched: Option<(String, u64, i64)> = None;
        let deadline = Instant::now() + Duration::from_millis(LEASE_MILLIS + 1_000);
        let (epoch, batch, created) = loop {
            let take = keys.take(&holder, &dead, options.create);
            let (verdict, a, b, c, left): (String, String, String, String, i64) =
                link.ask(&server, &take).map_err(|error| match error {
                    StorageError::Io(text) if text.contains("WRONGTYPE") => {
                        OpenError::Foreign { address: address() }
                    }
                    error => failed(error),
                })?;
            match verdict.as_str() {
                "taken" | "created" => {
                    let number = |text: &str| {
                        text.parse().map_err(|_| {
                            failed(StorageError::Corrupt(format!(
                                "{} is no number",
                                keys.owner
                            )))
                        })
                    };
                    break (number(&a)?, number(&b)?, verdict == "created");
                }
                "missing" => return Err(OpenError::Missing { address: address() }),
                "foreign" => return Err(OpenError::Foreign { address: address() }),
                "newer" => {
                    return Err(OpenError::Newer {
                        address: address(),
                        found: a,
                    });
                }
                _ => {}
            }
            let batch: u64 = b.parse().unwrap_or(0);
            let other = Holder::parse(&c);
            let alive = match other.as_ref().and_then(Holder::lives) {
                Some(false) => {
                    dead = a;
                    continue;
                }
                Some(true) => true,
                None => watched.as_ref().is_some_and(|(epoch, last, before)| {
                    *epoch != a || batch != *last || left > *before
                }),
            };
            if alive || Instant::now() > deadline {
                let holder = other.map_or_else(|| "another broker".to_owned(), |it| it.to_string());
                return Err(OpenError::Locked {
                    address: address(),
                    holder,
                });
            }
            watched = Some((a, batch, left));
            std::thread::sleep(LOOK_AGAIN);
        };
        let remarks = remarks(&mut link, &server);
        Ok(Self {
            server,
            keys,
            epoch,
            batches: Mutex::new(Batches { link, batch }),
            reader: Mutex::default(),
            written_bytes: AtomicU64::new(0),
            created,
            remarks,
        })
    }

    /// Whether there was no store before.
    pub fn created(&self) -> bool {
        self.created
    }

    /// The number of the last batch.
    pub fn last_batch(&self) -> u64 {
        self.batches.lock().batch
    }

    /// What about the server's settings may lose data; for the log.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn rows(&self, table: Table) -> Result<u64, StorageError> {
        let mut count = redis::cmd("HLEN");
        count.arg(self.keys.rows(table));
        self.read(&count)
    }

    /// Gives the store back, for the next owner to take at once; for a process that ends without dropping it. A batch
    /// that is written all the same takes it again, unless it has another owner by then.
    pub fn give_back(&self) {
        // Where the server is away, the lease ends by itself.
        let command = self.keys.give_back(self.epoch);
        let _: Result<u8, _> = self.batches.lock().link.ask(&self.server, &command);
    }

    /// Reads, again and again while the server is away, but not for ever.
    fn read<T: redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, StorageError> {
        let deadline = Instant::now() + READ_PATIENCE;
        let mut wait = READ_AGAIN;
        loop {
            match self.reader.lock().ask(&self.server, command) {
                Err(StorageError::Unavailable(_)) if Instant::now() + wait < deadline => {}
                other => return other,
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
    }

    /// Shows the keys of a prefix, some at a time.
    fn pages(
        &self,
        table: Table,
        prefix: &[u8],
        size: usize,
        show: &mut Show<'_>,
    ) -> Result<(), StorageError> {
        let mut last: Option<Vec<u8>> = None;
        let mut kept = Instant::now();
        loop {
            if kept.elapsed() > KEEP_EVERY {
                kept = Instant::now();
                if self.read::<u8>(&self.keys.keep(self.epoch))? == 0 {
                    return Err(self.fenced("another broker"));
                }
            }
            let [from, to] = script::range(prefix, last.as_deref());
            let mut page = redis::cmd("ZRANGEBYLEX");
            page.arg(self.keys.order(table)).arg(from).arg(to);
            page.arg("LIMIT").arg(0).arg(size);
            let mut keys: Vec<Vec<u8>> = self.read(&page)?;
            if keys.is_empty() || !show(&keys)? || keys.len() < size {
                return Ok(());
            }
            last = keys.pop();
        }
    }

    fn fenced(&self, by: &str) -> StorageError {
        StorageError::Fenced(format!("{by} took {} over", self.keys.owner))
    }
}

/// What the server is asked about itself. One that does not answer is not asked again.
fn remarks(link: &mut Link, server: &Server) -> Vec<String> {
    let mut setting = |name: &str| -> Option<String> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let pair: Vec<String> = link.ask(server, &command).ok()?;
        pair.into_iter().nth(1)
    };
    let mut remarks = Vec::new();
    let logged = setting("appendonly");
    let synced = setting("appendfsync");
    let evicted = setting("maxmemory-policy");
    if logged.as_deref() == Some("no") {
        remarks.push(
            "the Redis server has appendonly no: a crash of it loses what was acknowledged since its last snapshot"
                .to_owned(),
        );
    } else if let Some(policy) = synced.filter(|policy| policy != "always") {
        remarks.push(format!(
            "the Redis server has appendfsync {policy}: a crash of its machine loses what was acknowledged last"
        ));
    }
    if let Some(policy) = evicted.filter(|policy| policy != "noeviction") {
        remarks.push(format!(
            "the Redis server has maxmemory-policy {policy}: short of memory it deletes what was acknowledged"
        ));
    }
    remarks
}

impl Storage for RedisStorage {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        let mut batches = self.batches.lock();
        let number = batches.batch + 1;
        let bytes: usize = writes.iter().map(weight).sum();
        if bytes > BATCH_BYTES_MAX {
            return Err(StorageError::Io(format!(
                "a batch of {bytes} bytes is more than the server takes at once"
            )));
        }
        let command = self.keys.apply(self.epoch, number, writes);
        let (verdict, detail): (String, String) = batches.link.ask(&self.server, &command)?;
        match verdict.as_str() {
            "applied" | "repeated" => {
                batches.batch = number;
                self.written_bytes
                    .fetch_add(bytes as u64, Ordering::Relaxed);
                Ok(())
            }
            "fenced" => {
                let holder = Holder::parse(&detail);
                let by = holder.map_or_else(|| "another broker".to_owned(), |it| it.to_string());
                Err(self.fenced(&by))
            }
            "lost" => Err(StorageError::Corrupt(format!(
                "the Redis server is at batch {detail}, although it had acknowledged batch {}: it came back without what \
                 it had not kept (appendonly, appendfsync, replication)",
                batches.batch
            ))),
            _ => Err(StorageError::Corrupt(format!(
                "another batch {number} is in the Redis server already"
            ))),
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        // The answer to a batch says all that the server's own policy promises.
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let size = match table {
            Table::Message | Table::Retained | Table::Will => SCAN_BODIES,
            _ => SCAN_KEYS,
        };
        self.pages(table, prefix, size, &mut |keys| {
            let mut get = redis::cmd("HMGET");
            get.arg(self.keys.rows(table)).arg(keys);
            let values: Vec<Option<Vec<u8>>> = self.read(&get)?;
            for (key, value) in keys.iter().zip(values) {
                let Some(value) = value else {
                    return Err(StorageError::Corrupt(format!(
                        "a row of table {} has no value",
                        table.name()
                    )));
                };
                if !visit(key, &value) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn scan_keys(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.pages(table, prefix, SCAN_KEYS, &mut |keys| {
            Ok(keys.iter().all(|key| visit(key)))
        })
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError> {
        let mut get = redis::cmd("HGET");
        get.arg(self.keys.rows(table)).arg(key);
        let value: Option<Vec<u8>> = self.read(&get)?;
        if let Some(value) = &value {
            read(value);
        }
        Ok(value.is_some())
    }

    fn reopen(&self) -> Result<(), StorageError> {
        // The next command connects again.
        Ok(())
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage::new();
        usage.written_bytes = self.written_bytes.load(Ordering::Relaxed);
        usage
    }
}

impl Drop for RedisStorage {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn weight(write: &Write) -> usize {
    match write {
        Write::Put { key, value, .. } => key.len() + value.as_bytes().len(),
        Write::Delete { key, .. } => key.len(),
        Write::DeletePrefix { prefix, .. } => prefix.len(),
    }
}
