//! What a power failure leaves of the embedded store: a log whose end is cut, garbled or followed by something else.
//!
//! A killed process loses nothing it has written, so the harness does it: beyond the synced mark anything may happen,
//! and the store must open and say so; before it nothing may, and the store must refuse by name. This file knows just
//! enough of the format (`storage-embedded`, `frame.rs`, `segment.rs`, `mark.rs`) to find the place.

use super::random::Random;
use crate::Error;
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

const HEAD_BYTES: usize = 36;
const FRAME_BYTES: usize = 44;
const FRAME_MAGIC: &[u8] = b"MLf1";
const MARK_STRIDE: usize = 4096;
const MARK_BYTES: usize = 48;

/// The end of the log of a store nobody has open.
pub(super) struct End {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Whole frames: where, how many bytes of them are header and rows, and which batch.
    frames: Vec<(Range<usize>, usize, u64)>,
    synced: u64,
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let field = bytes.get(at..at + length).unwrap_or_default();
    field
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl End {
    /// Reads the newest segment and the mark.
    pub(super) fn read(store: &Path) -> Result<Self, Error> {
        let mut newest: Option<PathBuf> = None;
        for entry in fs::read_dir(store)? {
            let path = entry?.path();
            if path.extension().is_some_and(|name| name == "log")
                && newest.as_ref().is_none_or(|newest| path > *newest)
            {
                newest = Some(path);
            }
        }
        let path = newest.ok_or("the store has no log")?;
        let bytes = fs::read(&path)?;
        let mut frames = Vec::new();
        let mut at = HEAD_BYTES;
        while bytes.get(at..at + FRAME_MAGIC.len()) == Some(FRAME_MAGIC) {
            let rows = number(&bytes, at + 4, 4) as usize;
            let values = number(&bytes, at + 8, 8) as usize;
            let end = at + FRAME_BYTES + rows + values;
            if end > bytes.len() {
                break;
            }
            frames.push((at..end, FRAME_BYTES + rows, number(&bytes, at + 16, 8)));
            at = end;
        }
        let mark = fs::read(store.join("mark"))?;
        let slots = [0, MARK_STRIDE].into_iter().filter_map(|at| {
            let slot = mark.get(at..at + MARK_BYTES)?;
            Some((number(slot, 4, 8), number(slot, 12, 8)))
        });
        let (_, synced) = slots.max().ok_or("the store has no mark")?;
        Ok(Self {
            path,
            bytes,
            frames,
            synced,
        })
    }

    /// Where what is acknowledged ends.
    fn safe(&self) -> usize {
        let acknowledged = self.frames.iter().rev();
        let mut acknowledged = acknowledged.filter(|(.., batch)| *batch <= self.synced);
        acknowledged.next().map_or(HEAD_BYTES, |(at, ..)| at.end)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        // As the store left it: the same file, another content.
        let mut file = File::options()
            .write(true)
            .truncate(true)
            .open(&self.path)?;
        file.write_all(bytes)?;
        Ok(file.sync_all()?)
    }

    /// Does something to the end that loses nothing acknowledged. Returns what, and whether the store must remark on it.
    pub(super) fn tear(&self, random: &mut Random) -> Result<(String, bool), Error> {
        let safe = self.safe();
        let open = self.bytes.len().saturating_sub(safe);
        let mut bytes = self.bytes.clone();
        let choice = match open {
            0 => random.below(3),
            _ => random.below(6),
        };
        let garbage = 1 + random.below(3_000) as usize;
        let done = match choice {
            0 => {
                bytes.extend((0..garbage).map(|_| random.next() as u8));
                (format!("{garbage} bytes of garbage behind the log"), true)
            }
            1 => {
                bytes.resize(bytes.len() + garbage, 0);
                (format!("{garbage} zeros behind the log"), true)
            }
            2 => {
                // A frame that looks right for as far as it goes.
                let last = self.frames.last().map_or(0..0, |(at, ..)| at.clone());
                let length = random.below(last.len().max(2) as u64 - 1) as usize + 1;
                let part = bytes
                    .get(last.start..last.start + length)
                    .map(<[u8]>::to_vec);
                bytes.extend(part.unwrap_or_else(|| vec![0; 1]));
                (format!("{length} bytes of a frame behind the log"), true)
            }
            3 | 4 => {
                // Once in two all of it, which is what a disk without power makes of it.
                let keep = match choice {
                    3 => safe,
                    _ => safe + random.below(open as u64) as usize,
                };
                bytes.truncate(keep);
                let whole = keep == HEAD_BYTES || self.frames.iter().any(|(at, ..)| at.end == keep);
                (
                    format!("cut to {keep} of {} bytes", self.bytes.len()),
                    !whole,
                )
            }
            _ => {
                let at = safe + random.below(open as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
                (
                    format!("a bit of byte {at} of {} flipped", self.bytes.len()),
                    true,
                )
            }
        };
        self.write(&bytes)?;
        Ok(done)
    }

    /// Loses what was not synced, as a machine without power does.
    pub(super) fn lose(&self, random: &mut Random) -> Result<String, Error> {
        let safe = self.safe();
        let open = self.bytes.len().saturating_sub(safe);
        let lost = open.min(1 + random.below(512 * 1024) as usize);
        self.write(&self.bytes[..self.bytes.len() - lost])?;
        Ok(format!("the last {lost} bytes, never synced, are gone"))
    }

    /// Damages the last acknowledged batch, which must not go unnoticed. `None` when this segment has none.
    pub(super) fn harm(&self, random: &mut Random) -> Result<Option<String>, Error> {
        let mut acknowledged = self.frames.iter().rev();
        let Some((at, checked, batch)) = acknowledged.find(|(.., batch)| *batch == self.synced)
        else {
            return Ok(None);
        };
        let mut bytes = self.bytes.clone();
        let what = if random.once_in(2) {
            let keep = at.start + random.below(at.len() as u64) as usize;
            bytes.truncate(keep);
            format!("cut within acknowledged batch {batch}")
        } else {
            // Header and rows; long values have sums of their own, and are checked when they are read.
            let place = at.start + random.below(*checked as u64) as usize;
            bytes[place] ^= 1 << random.below(8);
            format!("a bit of acknowledged batch {batch} flipped")
        };
        self.write(&bytes)?;
        Ok(Some(what))
    }
}

/// Copies the files of a folder and of the folders in it.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut folders = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = folders.pop() {
        fs::create_dir(&to)?;
        fs::set_permissions(&to, fs::metadata(&from)?.permissions())?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push((entry.path(), target));
            } else {
                fs::copy(entry.path(), target)?;
            }
        }
    }
    Ok(())
}
