//! Figures of a store on the disk at hand, for the examples `measure` of the backends: synced batches against the disk's
//! own rate, what a message costs in rows and bytes, a million queued messages from filling to the disk given back, and a
//! queue that has lived long against a fresh one.
//!
//! What is opened again is opened by a process of its own, whose memory says something. Deliberately absent: brokers
//! (`martlet bench`), and judgement; limits are named beside the figures.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue_load::QueueLoad;
use crate::{Storage, load};

type Done = Result<(), Box<dyn Error>>;

/// Opens a backend, or makes it.
pub type Open = dyn Fn(&Path) -> Result<Arc<dyn Storage>, Box<dyn Error>>;

const FOR: Duration = Duration::from_secs(3);
const QUEUED: u64 = 1_000_000;
/// Messages of one batch while a queue is filled or drained.
const BATCH: u64 = 1_000;
/// How long the directory may take to shrink behind a drained queue, and what it may keep besides twice its empty size.
const SHRINKS_WITHIN: u32 = 60;
const MAY_KEEP: u64 = 64 << 20;
/// Rounds in which half of a queue is drained and filled again, until it counts as old.
const ROUNDS: u32 = 40;
const WORN: u64 = 100_000;

/// Runs what the arguments ask for:
///
/// * `[DIRECTORY [BYTES]]`: everything, with bodies of so many bytes (256) in the large queue; leaves nothing behind;
/// * `--fill DIRECTORY BYTES`: makes a store with a million queued messages and leaves it, to try a broker on;
/// * `--open` and `--resume`, which it asks of its own processes.
///
/// # Errors
/// What the store or the file system said.
pub fn run(open: &Open, args: &[&str], out: &mut dyn Write) -> Done {
    let (under, body) = match *args {
        ["--open", path] => return open_and_drain(open, Path::new(path), out),
        ["--resume", path] => return resume(open, Path::new(path), out),
        ["--fill", path, bytes] => {
            return fill(open, Path::new(path), QUEUED, bytes.parse()?).map(drop);
        }
        [] => (".", 256),
        [under] => (under, 256),
        [under, bytes, ..] => (under, bytes.parse()?),
    };
    let root = PathBuf::from(under).join(format!("measure-{}", std::process::id()));
    fs::create_dir_all(&root)?;
    let done = everything(open, &root, body, out);
    fs::remove_dir_all(&root)?;
    done
}

fn everything(open: &Open, root: &Path, body: usize, out: &mut dyn Write) -> Done {
    writeln!(
        out,
        "records a batch   disk, batches/s   store, batches/s   store, records/s"
    )?;
    for records in [1, 10, 100, 1000] {
        let disk = disk(&root.join("disk"), records)?;
        let store = commits(open, &root.join(format!("sync-{records}")), records)?;
        writeln!(
            out,
            "{records:>15} {disk:>17.0} {store:>18.0} {:>18.0}",
            store * records as f64
        )?;
    }
    for sessions in [1, 1000] {
        cost(
            open,
            &root.join(format!("cost-{sessions}")),
            sessions,
            body,
            out,
        )?;
    }
    million(open, &root.join("million"), body, out)?;
    old_and_fresh(open, root, body, out)
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

fn commits(open: &Open, path: &Path, records: u64) -> Result<f64, Box<dyn Error>> {
    let mut load = QueueLoad::new(open(path)?, 1)?;
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < FOR {
        load.queue(records, 256, true)?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// What a message costs that is stored for `sessions` clients, taken by all of them, and never shares a batch with its end.
fn cost(open: &Open, path: &Path, sessions: u64, body: usize, out: &mut dyn Write) -> Done {
    let mut load = QueueLoad::new(open(path)?, sessions)?;
    let messages = 10_000 / sessions;
    let (rows, bytes) = (load.records(), load.storage().usage().written_bytes);
    for _ in 0..messages {
        load.queue(1, body, false)?;
        load.drain(1, false)?;
    }
    let delivered = (messages * sessions) as f64;
    let rows = (load.records() - rows) as f64 / delivered;
    let bytes = (load.storage().usage().written_bytes - bytes) as f64 / delivered;
    writeln!(
        out,
        "1 to {sessions}, {body} B, one message a batch: {rows:.2} rows and {bytes:.0} B per delivered message"
    )?;
    Ok(())
}

fn fill(open: &Open, path: &Path, messages: u64, body: usize) -> Result<QueueLoad, Box<dyn Error>> {
    let mut load = QueueLoad::new(open(path)?, 1)?;
    add(&mut load, messages, body)?;
    Ok(load)
}

fn add(load: &mut QueueLoad, messages: u64, body: usize) -> Done {
    for _ in (0..messages).step_by(BATCH as usize) {
        load.queue(BATCH, body, true)?;
    }
    Ok(())
}

fn take(load: &mut QueueLoad, messages: u64) -> Done {
    for _ in (0..messages).step_by(BATCH as usize) {
        load.drain(BATCH, true)?;
    }
    Ok(())
}

fn million(open: &Open, path: &Path, body: usize, out: &mut dyn Write) -> Done {
    drop(QueueLoad::new(open(path)?, 1)?);
    let empty = on_disk(path)?;
    fs::remove_dir_all(path)?;
    let start = Instant::now();
    drop(fill(open, path, QUEUED, body)?);
    let took = start.elapsed();
    writeln!(
        out,
        "{QUEUED} messages of {body} B queued in {took:.2?}, {} MiB; empty {} KiB",
        on_disk(path)? >> 20,
        empty >> 10
    )?;
    again("--open", path, out)?;
    let limit = 2 * empty + MAY_KEEP;
    writeln!(
        out,
        "{} MiB of {} allowed",
        on_disk(path)? >> 20,
        limit >> 20
    )?;
    Ok(())
}

/// Does one thing in a process of its own.
fn again(what: &str, path: &Path, out: &mut dyn Write) -> Done {
    let output = Command::new(std::env::current_exe()?)
        .arg(what)
        .arg(path)
        .output()?;
    out.write_all(&output.stdout)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}

fn open_and_drain(open: &Open, path: &Path, out: &mut dyn Write) -> Done {
    let before = resident();
    let (start, busy) = (Instant::now(), cpu());
    let storage = open(path)?;
    let (opened, opened_cpu) = (start.elapsed(), cpu().saturating_sub(busy));
    let index = resident().saturating_sub(before);
    let mut load = QueueLoad::resume(storage, 1, QUEUED)?;
    writeln!(
        out,
        "opened in {opened:.2?} ({opened_cpu:.2?} of CPU), loaded in {:.2?} (in all {:.2?} of CPU); memory: {} B per message open, {} B loaded",
        start.elapsed().saturating_sub(opened),
        cpu().saturating_sub(busy),
        index / QUEUED,
        resident().saturating_sub(before) / QUEUED
    )?;
    let start = Instant::now();
    take(&mut load, QUEUED)?;
    writeln!(
        out,
        "drained in {:.2?}, {} MiB",
        start.elapsed(),
        on_disk(path)? >> 20
    )?;
    // At the pace of a broker in which nothing happens: what merges in the background needs the time.
    let mut beats = 0;
    while on_disk(path)? > MAY_KEEP && beats < SHRINKS_WITHIN {
        load.heartbeat()?;
        std::thread::sleep(Duration::from_secs(1));
        beats += 1;
    }
    let usage = load.storage().usage();
    writeln!(
        out,
        "after {beats} heartbeats, one a second: {} MiB; {} MiB written, {} MiB of them again",
        on_disk(path)? >> 20,
        usage.written_bytes >> 20,
        usage.rewritten_bytes >> 20
    )?;
    Ok(())
}

/// A queue through which many times its length has gone, against one that was filled just now.
fn old_and_fresh(open: &Open, root: &Path, body: usize, out: &mut dyn Write) -> Done {
    let fresh = root.join("fresh");
    drop(fill(open, &fresh, WORN, body)?);
    let old = root.join("old");
    let mut load = fill(open, &old, WORN, body)?;
    for _ in 0..ROUNDS {
        take(&mut load, WORN / 2)?;
        add(&mut load, WORN / 2, body)?;
    }
    drop(load);
    let through = u64::from(ROUNDS) * WORN / 2;
    for (name, path) in [("fresh", &fresh), ("old", &old)] {
        writeln!(
            out,
            "{name} queue of {WORN}, {} went through it before, {} MiB:",
            if name == "old" { through } else { 0 },
            on_disk(path)? >> 20
        )?;
        // Twice, so that both have been read from the disk before.
        again("--resume", path, &mut std::io::sink())?;
        again("--resume", path, out)?;
    }
    Ok(())
}

/// Opens a queue and reads all its bodies, as a client that comes back makes a broker do.
fn resume(open: &Open, path: &Path, out: &mut dyn Write) -> Done {
    let start = Instant::now();
    let storage = open(path)?;
    drop(load(&storage, &mut ())?);
    let opened = start.elapsed();
    let load = QueueLoad::resume(storage, 1, WORN)?;
    let start = Instant::now();
    let mut bytes = 0;
    for id in load.queued() {
        let body = load.storage().read_body(id)?.ok_or("a body is missing")?;
        bytes += body.payload().len();
    }
    writeln!(
        out,
        "  opened and loaded in {opened:.2?}, {} MiB of bodies read in {:.2?}",
        bytes >> 20,
        start.elapsed()
    )?;
    Ok(())
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

/// Bytes of all files below a directory.
fn on_disk(path: &Path) -> Result<u64, Box<dyn Error>> {
    let (mut bytes, mut left) = (0, vec![path.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // What is deleted meanwhile counts as nothing.
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            if meta.is_dir() {
                left.push(entry.path());
            } else {
                bytes += meta.len();
            }
        }
    }
    Ok(bytes)
}
