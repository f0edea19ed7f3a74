//! Figures of the store on the disk at hand: `cargo run --release -p martlet-storage-embedded --example measure
//! [DIRECTORY [BYTES]]`. Synced batches against the disk's own rate, then a million queued messages with bodies of so many
//! bytes (256): filling, opening, loading, draining, and how much of the disk is given back. Leaves nothing behind.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use std::error::Error;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use martlet_codec::QoS;
use martlet_storage::{
    Group, Lsn, Message, MessageHead, MessageId, Planner, SessionId, SessionRecord, Storage,
    StoreOp, Timestamp, load,
};
use martlet_storage_embedded::{EmbeddedOptions, EmbeddedStorage};

type Done = Result<(), Box<dyn Error>>;

const FOR: Duration = Duration::from_secs(3);
const QUEUED: u64 = 1_000_000;
/// How long the directory may take to shrink behind a drained queue, and what it may keep besides twice its empty size.
const SHRINKS_WITHIN: u32 = 60;
const MAY_KEEP: u64 = 64 << 20;

fn main() -> Done {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (under, body) = match *args {
        ["--open", path] => return open_and_drain(Path::new(path)),
        [] => (".", 256),
        [under] => (under, 256),
        [under, bytes, ..] => (under, bytes.parse()?),
    };
    let root = PathBuf::from(under).join(format!("measure-{}", std::process::id()));
    fs::create_dir_all(&root)?;
    let done = measure(&root, body);
    fs::remove_dir_all(&root)?;
    done
}

fn measure(root: &Path, body: usize) -> Done {
    println!("records a batch   disk, batches/s   store, batches/s   store, records/s");
    for records in [1, 10, 100, 1000] {
        let disk = disk(&root.join("disk"), records)?;
        let store = commits(&root.join(format!("sync-{records}")), records)?;
        println!(
            "{records:>15} {disk:>17.0} {store:>18.0} {:>18.0}",
            store * records as f64
        );
    }
    million(&root.join("million"), body)
}

/// How often the disk takes and syncs as many bytes.
fn disk(path: &Path, records: u64) -> Result<f64, Box<dyn Error>> {
    let mut file = File::create(path)?;
    let bytes = vec![7; records as usize * 380];
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < FOR {
        file.write_all(&bytes)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

struct Run {
    storage: EmbeddedStorage,
    planner: Planner,
    lsn: Lsn,
    scratch: Vec<u8>,
}

impl Run {
    fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let (storage, _) = EmbeddedOptions::default().open(path)?;
        let (planner, opened) = load(&storage, &mut ())?;
        Ok(Self {
            storage,
            planner,
            lsn: opened.lsn,
            scratch: Vec::new(),
        })
    }

    fn commit(&mut self, ops: Vec<StoreOp>, sync: bool) -> Done {
        self.lsn = self.lsn.next();
        let mut group = Group::default();
        self.planner.add(self.lsn, ops, &mut group);
        let writes = self.planner.finish(group, Timestamp::from_millis(1));
        self.storage.apply(&writes)?;
        if sync {
            self.storage.sync()?;
        }
        Ok(())
    }

    fn session(&mut self) -> Done {
        let record = SessionRecord {
            client_id: "subscriber".into(),
            username: None,
            expiry_interval_secs: u32::MAX,
            expires: None,
            connected: false,
        };
        let session = SessionId::new(1);
        self.commit(vec![StoreOp::PutSession { session, record }], true)
    }

    fn queue(&mut self, ids: std::ops::Range<u64>, body: usize, sync: bool) -> Done {
        let mut ops = Vec::new();
        for id in ids {
            let head = MessageHead {
                id: MessageId::new(id),
                qos: QoS::AtLeastOnce,
                retain: false,
                publisher: SessionId::NONE,
                received: Timestamp::from_millis(1),
                expires: None,
            };
            let message = Message::new(
                head,
                "a/topic",
                &[],
                &vec![id as u8; body],
                &mut self.scratch,
            );
            ops.push(StoreOp::PutMessage { message });
            ops.push(StoreOp::Enqueue {
                session: SessionId::new(1),
                message: MessageId::new(id),
                qos: QoS::AtLeastOnce,
                retain: false,
                subscription_ids: [].into(),
                share: None,
            });
        }
        self.commit(ops, sync)
    }
}

fn commits(path: &Path, records: u64) -> Result<f64, Box<dyn Error>> {
    let mut run = Run::open(path)?;
    run.session()?;
    let (start, mut next) = (Instant::now(), 1);
    while start.elapsed() < FOR {
        run.queue(next..next + records, 256, true)?;
        next += records;
    }
    Ok((next / records) as f64 / start.elapsed().as_secs_f64())
}

/// Time that this thread was on a CPU.
fn cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos: Option<u64> = text.split(' ').next().and_then(|it| it.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = text.split(' ').nth(1).and_then(|it| it.parse().ok());
    pages.unwrap_or(0) * 4096
}

fn on_disk(path: &Path) -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn million(path: &Path, body: usize) -> Done {
    let mut run = Run::open(path)?;
    run.session()?;
    let empty = on_disk(path)?;
    println!("empty: {} KiB", empty >> 10);
    let start = Instant::now();
    for from in (0..QUEUED).step_by(1000) {
        run.queue(1 + from..1001 + from, body, true)?;
    }
    let took = start.elapsed();
    println!(
        "{QUEUED} messages of {body} B queued in {took:.2?}, {} MiB",
        on_disk(path)? >> 20
    );
    drop(run);
    // In a process of its own, whose memory says something.
    let status = std::process::Command::new(std::env::current_exe()?)
        .arg("--open")
        .arg(path)
        .status()?;
    let limit = 2 * empty + MAY_KEEP;
    println!("{} MiB of {} allowed", on_disk(path)? >> 20, limit >> 20);
    status
        .success()
        .then_some(())
        .ok_or_else(|| "the second process failed".into())
}

fn open_and_drain(path: &Path) -> Done {
    let before = resident();
    let (start, busy) = (Instant::now(), cpu());
    let (storage, report) = EmbeddedOptions::default().open(path)?;
    let opened = start.elapsed();
    let opened_cpu = cpu().saturating_sub(busy);
    let index = resident() - before;
    let (planner, found) = load(&storage, &mut ())?;
    println!(
        "opened in {opened:.2?} ({opened_cpu:.2?} of CPU, {} rows), loaded in {:.2?} (in all {:.2?} of CPU); memory: index {} B, index and planner {} B per message",
        report.rows,
        start.elapsed().saturating_sub(opened),
        cpu().saturating_sub(busy),
        index / QUEUED,
        (resident() - before) / QUEUED
    );
    let mut run = Run {
        storage,
        planner,
        lsn: found.lsn,
        scratch: Vec::new(),
    };
    let start = Instant::now();
    for from in (0..QUEUED).step_by(1000) {
        let dequeue = |id| StoreOp::Dequeue {
            session: SessionId::new(1),
            message: MessageId::new(id),
        };
        run.commit((1 + from..1001 + from).map(dequeue).collect(), true)?;
    }
    println!(
        "drained in {:.2?}, {} MiB",
        start.elapsed(),
        on_disk(path)? >> 20
    );
    // As a broker does every second that nothing happens.
    let mut beats = 0;
    while on_disk(path)? > MAY_KEEP && beats < SHRINKS_WITHIN {
        run.commit(Vec::new(), false)?;
        beats += 1;
    }
    println!("after {beats} heartbeats: {} MiB", on_disk(path)? >> 20);
    let usage = run.storage.usage();
    println!(
        "{} MiB written, {} MiB of them again",
        usage.written_bytes >> 20,
        usage.rewritten_bytes >> 20
    );
    Ok(())
}
