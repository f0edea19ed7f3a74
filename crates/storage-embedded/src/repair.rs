//! Making a damaged log readable again, after a copy of what is taken away was kept in `aside`.
//!
//! A torn tail (nothing behind it was acknowledged) is cut. A hole is closed with a frame that says which batches
//! are missing; if any of them was acknowledged, only when told to. Deliberately absent: guessing at contents.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use martlet_storage::place::{self, OpenError};

use crate::frame::{Header, Kind};
use crate::place::Place;
use crate::replay::Damage;
use crate::segment::{HEAD_BYTES, head, seed};

/// Something that was kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The file it was taken from.
    pub from: PathBuf,
    /// Where it was taken, in bytes from the start.
    pub at: u64,
    /// The copy.
    pub kept: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The batches that are not there any more, if any was acknowledged.
    pub lost: Option<(u64, u64)>,
}

/// What is wrong, in words.
fn describe(damage: &Damage) -> String {
    match damage.next {
        Some((segment, at, batch)) => format!(
            "unreadable from byte {}; the log goes on with batch {batch} at byte {at} of {segment:08x}.log",
            damage.at
        ),
        None => format!("the log ends at byte {}", damage.at),
    }
}

/// The batches that are missing although somebody was told that they are safe.
fn lost(damage: &Damage) -> Option<(u64, u64)> {
    let first = damage.last + 1;
    let last = match damage.next {
        Some((_, _, batch)) => batch - 1,
        None => damage.acknowledged,
    };
    (damage.acknowledged >= first && last >= first).then_some((first, last))
}

/// Refuses a damage with which something acknowledged is lost, unless that is accepted.
pub(crate) fn acceptable(
    place: &Place,
    damage: &Damage,
    accept_loss: bool,
) -> Result<Option<(u64, u64)>, OpenError> {
    match lost(damage) {
        Some((first_lost, last_lost)) if !accept_loss => Err(OpenError::Lost {
            path: place.segment(damage.segment),
            first_lost,
            last_lost,
            what: describe(damage),
        }),
        lost => Ok(lost),
    }
}

/// Whether the log can be read up to the damage and that be all of it.
pub(crate) fn readable(place: &Place, damage: &Damage, accept_loss: bool) -> Result<(), OpenError> {
    let lost = acceptable(place, damage, accept_loss)?;
    if goes_on(damage, lost).is_none() {
        return Ok(());
    }
    Err(OpenError::NeedsRepair {
        path: place.segment(damage.segment),
        what: describe(damage),
    })
}

/// Where the log goes on behind the damage, if it does. Behind a torn tail nothing counts, unless it was
/// acknowledged after all.
fn goes_on(damage: &Damage, lost: Option<(u64, u64)>) -> Option<(u32, u64, u64)> {
    damage
        .next
        .filter(|(_, _, batch)| lost.is_some() || *batch == damage.last + 1)
}

/// The error for a log in which too many places are damaged.
pub(crate) fn hopeless(place: &Place, damage: &Damage) -> OpenError {
    let error = io::Error::other(format!("too many damaged places; {}", describe(damage)));
    OpenError::io(place.segment(damage.segment), "repair the log")(error)
}

/// What a repair did.
pub(crate) struct Repaired {
    pub(crate) lost: Option<(u64, u64)>,
    pub(crate) aside: Vec<Aside>,
}

/// Repairs one place, keeping what it takes away.
pub(crate) fn repair(
    place: &Place,
    damage: &Damage,
    accept_loss: bool,
    salt: u64,
    label: u64,
) -> Result<Repaired, OpenError> {
    let lost = acceptable(place, damage, accept_loss)?;
    let mend = Mend {
        place,
        salt,
        label,
        lost,
    };
    let aside = match goes_on(damage, lost) {
        Some(next) => mend.close(damage, next),
        None => mend.cut(damage),
    }
    .map_err(OpenError::io(
        place.segment(damage.segment),
        "repair the log",
    ))?;
    Ok(Repaired { lost, aside })
}

struct Mend<'a> {
    place: &'a Place,
    salt: u64,
    label: u64,
    lost: Option<(u64, u64)>,
}

impl Mend<'_> {
    /// Copies the file from `at` on.
    fn keep(&self, number: u32, at: u64) -> io::Result<Option<Aside>> {
        let from = self.place.segment(number);
        let file = match File::open(&from) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = file.metadata()?.len().saturating_sub(at);
        if bytes == 0 {
            return Ok(None);
        }
        let aside = self.place.aside();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&aside)?;
        let kept = aside.join(format!("{number:08x}.log.{at}.{}", self.label));
        let mut copy = place::create(&kept)?;
        copy_from(&file, at, &mut copy)?;
        copy.sync_all()?;
        File::open(&aside)?.sync_all()?;
        Ok(Some(Aside {
            from,
            at,
            kept,
            bytes,
            lost: self.lost,
        }))
    }

    /// Ends the log at the damage.
    fn cut(&self, damage: &Damage) -> io::Result<Vec<Aside>> {
        let mut kept = Vec::new();
        for number in damage.rest.iter().rev().copied() {
            let at = if number == damage.segment {
                damage.at
            } else {
                0
            };
            kept.extend(self.keep(number, at)?);
            let path = self.place.segment(number);
            if at < HEAD_BYTES as u64 {
                fs::remove_file(&path)?;
            } else {
                // Not in place: a copy of the store may share the file.
                let new = path.with_extension("new");
                let mut file = place::create(&new)?;
                copy_range(&File::open(&path)?, 0, at, &mut file)?;
                file.sync_all()?;
                replace(&new, &path)?;
            }
            self.place.sync_directory()?;
        }
        Ok(kept)
    }

    /// Joins the log before the damage with what comes behind it.
    fn close(&self, damage: &Damage, next: (u32, u64, u64)) -> io::Result<Vec<Aside>> {
        let (end, at, batch) = next;
        let mut kept = Vec::new();
        for number in damage.segment..=end {
            kept.extend(self.keep(number, 0)?);
            let path = self.place.segment(number);
            let new = path.with_extension("new");
            let mut file = place::create(&new)?;
            let old = File::open(&path).ok();
            if number == damage.segment {
                match old.as_ref().filter(|_| damage.at >= HEAD_BYTES as u64) {
                    Some(old) => copy_range(old, 0, damage.at, &mut file)?,
                    None => {
                        io::Write::write_all(&mut file, &head(number, damage.last + 1, self.salt))?;
                    }
                }
                if batch > damage.last + 1 {
                    io::Write::write_all(
                        &mut file,
                        &gap(seed(number, self.salt), batch - 1, damage.last),
                    )?;
                }
            } else {
                io::Write::write_all(&mut file, &head(number, batch, self.salt))?;
            }
            if number == end
                && let Some(old) = &old
            {
                copy_from(old, at, &mut file)?;
            }
            file.sync_all()?;
            replace(&new, &path)?;
            self.place.sync_directory()?;
        }
        Ok(kept)
    }
}

fn replace(new: &Path, old: &Path) -> io::Result<()> {
    fs::rename(new, old)
}

fn gap(seed: u64, batch: u64, synced: u64) -> [u8; crate::frame::HEADER_BYTES] {
    let header = Header {
        rows_bytes: 0,
        values_bytes: 0,
        batch,
        synced,
        kind: Kind::Gap,
        rows_sum: crc32fast::hash(&[]),
    };
    header.encode(seed)
}

fn copy_from(file: &File, at: u64, to: &mut File) -> io::Result<()> {
    let end = file.metadata()?.len();
    copy_range(file, at, end, to)
}

/// Copies the bytes from `at` to `end`.
pub(crate) fn copy_range(file: &File, mut at: u64, end: u64, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    while at < end {
        let length = (end - at).min(buffer.len() as u64) as usize;
        let read = file.read_at(&mut buffer[..length], at)?;
        if read == 0 {
            break;
        }
        io::Write::write_all(to, &buffer[..read])?;
        at += read as u64;
    }
    Ok(())
}

/// Keeps a segment that is about to be deleted although something in it could not be read.
pub(crate) fn keep_whole(place: &Place, number: u32) -> io::Result<()> {
    let aside = place.aside();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&aside)?;
    match fs::hard_link(
        place.segment(number),
        aside.join(format!("{number:08x}.log.whole")),
    ) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
