//! A seam for tests: whatever a disk can do to a store, on cue. Deliberately absent: any use in a broker.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What is about to be done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// So many bytes are written to the log.
    Write(usize),
    /// The log is synced.
    Sync,
    /// The mark is written.
    WriteMark,
    /// The mark is synced.
    SyncMark,
    /// A segment of the log is created.
    Create,
    /// A segment of the log is deleted.
    Delete,
    /// The end of the log is cut back after a failed write.
    Truncate,
}

/// What becomes of it.
#[derive(Debug)]
pub enum Verdict {
    /// It happens.
    Go,
    /// It fails, and nothing happens.
    Fail(io::Error),
    /// A write fails after this many bytes.
    Tear(usize, io::Error),
}

/// Asked before everything a store does to its files.
pub trait Probe: Send + Sync {
    /// Decides; it may also sleep.
    fn before(&self, act: Act) -> Verdict;

    /// How much of the file system is free; `None` to ask the file system.
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

/// A disk that does what it is told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Obedient;

impl Probe for Obedient {
    fn before(&self, _act: Act) -> Verdict {
        Verdict::Go
    }
}

/// Asks about something that cannot happen by half.
pub(crate) fn ask(probe: &dyn Probe, act: Act) -> io::Result<()> {
    match probe.before(act) {
        Verdict::Go => Ok(()),
        Verdict::Fail(error) | Verdict::Tear(_, error) => Err(error),
    }
}

/// Writes all of `bytes` at `at`, if the probe lets it.
pub(crate) fn write_all_at(
    probe: &dyn Probe,
    file: &File,
    bytes: &[u8],
    at: u64,
) -> io::Result<()> {
    match probe.before(Act::Write(bytes.len())) {
        Verdict::Go => file.write_all_at(bytes, at),
        Verdict::Fail(error) => Err(error),
        Verdict::Tear(count, error) => {
            file.write_all_at(&bytes[..count.min(bytes.len())], at)?;
            Err(error)
        }
    }
}
