//! The high-water mark: how far the log was synced, kept beside it.
//!
//! Two slots in blocks of their own are written in turn, so that a torn or damaged one leaves the one before.
//! The mark is written after each sync of the log and before anybody hears of it, and synced itself a little
//! later: a log that is shorter than its mark has lost something that was acknowledged. Deliberately absent:
//! what is done about that.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const SLOT_BYTES: usize = 48;
const SLOT_STRIDE: u64 = 4096;
const MAGIC: [u8; 4] = *b"MLm1";

/// What the mark says. A backend without segments leaves `oldest` and `salt` zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    generation: u64,
    /// The last batch that is safe.
    pub synced: u64,
    /// The oldest segment that is needed.
    pub oldest: u32,
    /// The random number of the store.
    pub salt: u64,
}

impl Mark {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..12].copy_from_slice(&self.generation.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.synced.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.oldest.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..44]);
        bytes[44..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Self> {
        let valid = bytes[..4] == MAGIC && u32_at(bytes, 44) == crc32fast::hash(&bytes[..44]);
        valid.then(|| Self {
            generation: u64_at(bytes, 4),
            synced: u64_at(bytes, 12),
            oldest: u32_at(bytes, 20),
            salt: u64_at(bytes, 24),
        })
    }
}

/// The file of the mark.
#[derive(Debug)]
pub struct MarkFile {
    file: File,
    mark: Mark,
}

impl MarkFile {
    /// Reads the newer valid slot; `None` in the pair when there is none.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open(path: &Path) -> io::Result<(Self, Option<Mark>)> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut best: Option<Mark> = None;
        for slot in 0..2 {
            let mut bytes = [0; SLOT_BYTES];
            match file.read_exact_at(&mut bytes, slot * SLOT_STRIDE) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(error),
            }
            if let Some(mark) = Mark::decode(&bytes)
                && best.is_none_or(|best| mark.generation > best.generation)
            {
                best = Some(mark);
            }
        }
        let mark = best.unwrap_or_default();
        Ok((Self { file, mark }, best))
    }

    /// What it says now.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Writes a new mark into the older slot.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn write(&mut self, synced: u64, oldest: u32, salt: u64) -> io::Result<()> {
        let mark = Mark {
            generation: self.mark.generation + 1,
            synced,
            oldest,
            salt,
        };
        let slot = mark.generation % 2;
        self.file.write_all_at(&mark.encode(), slot * SLOT_STRIDE)?;
        self.mark = mark;
        Ok(())
    }

    /// Makes it survive a power failure.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_slot_leaves_the_one_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mark");
        let (mut file, read) = MarkFile::open(&path).expect("opens");
        assert_eq!(read, None);
        for synced in 1..=5 {
            file.write(synced, 1, 1).expect("writes");
        }
        let bytes = std::fs::read(&path).expect("reads");
        let slots = (0..SLOT_BYTES).chain(4096..bytes.len());
        for at in slots {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            std::fs::write(&path, &flipped).expect("writes");
            let (_, read) = MarkFile::open(&path).expect("opens");
            let synced = read.expect("one slot is left").synced;
            assert!(synced == 5 || synced == 4, "byte {at}: {synced}");
        }
    }
}
