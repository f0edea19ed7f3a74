//! Opening a store, and copying an open one. Deliberately absent: how repairs are made; see [`crate::repair`].

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use martlet_storage::Table;
use martlet_storage::place::{self, MarkFile, OpenError};
use parking_lot::{Mutex, RwLock};

use crate::EmbeddedStorage;
use crate::counters::Counted;
use crate::index::Index;
use crate::place::Place;
use crate::probe::{Obedient, Probe};
use crate::repair::{self, Aside, copy_range};
use crate::replay::replay;
use crate::segment::{HEAD_BYTES, decode_head};
use crate::writer::{Settings, Start, Writer};

/// Each repair closes one place; a log with more is not worth reading.
const REPAIRS_MAX: usize = 1_000;

/// How a store is opened.
#[derive(Clone)]
pub struct EmbeddedOptions {
    create: bool,
    read_only: bool,
    accept_loss: bool,
    reserve_bytes: u64,
    segment_bytes: u64,
    probe: Arc<dyn Probe>,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            create: true,
            read_only: false,
            accept_loss: false,
            reserve_bytes: 64 << 20,
            segment_bytes: 16 << 20,
            probe: Arc::new(Obedient),
        }
    }
}

impl EmbeddedOptions {
    /// Whether a store is made where there is none. Default yes.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether the store is only read: nothing is repaired, writing is refused. Default no. The directory is
    /// locked all the same.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether to go on where acknowledged batches are missing. Default no: [`OpenError::Lost`]. Whatever is
    /// taken out of the log is kept in `aside`.
    pub fn accept_loss(mut self, accept: bool) -> Self {
        self.accept_loss = accept;
        self
    }

    /// How much of the file system is left free: below it [`martlet_storage::Storage::low`] says so, below a quarter of it
    /// batches wait. Default 64 MiB.
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// How long a file of the log grows. Default 16 MiB, at least 4 KiB; a larger batch makes a larger file.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes.max(4 << 10);
        self
    }

    /// Who is asked before files are written; for tests.
    pub fn probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probe = probe;
        self
    }

    /// Opens the store in `path`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<(EmbeddedStorage, OpenReport), OpenError> {
        let begin = Instant::now();
        let place = Place::take(path.as_ref(), self.create && !self.read_only)?;
        let new = place.new;
        let mut report = OpenReport {
            created: new,
            ..OpenReport::default()
        };
        let (mark, found) =
            MarkFile::open(&place.mark()).map_err(OpenError::io(place.mark(), "open it"))?;
        let segments = place.segments()?;
        let salt = match found.map(|mark| mark.salt) {
            Some(salt) => salt,
            None => salt_of(&place, &segments).unwrap_or_else(fresh_salt),
        };
        report.mark = match found {
            Some(_) => MarkFound::Yes,
            None if new || segments.is_empty() => MarkFound::New,
            None => MarkFound::Missing,
        };
        let replayed = loop {
            let mut segments = place.segments()?;
            if let Some(mark) = found {
                // Cleaned away, but for the last step.
                let needed = segments.partition_point(|number| *number < mark.oldest);
                for number in segments.drain(..needed).filter(|_| !self.read_only) {
                    let path = place.segment(number);
                    fs::remove_file(&path)
                        .map_err(OpenError::io(&path, "delete an old segment"))?;
                }
            }
            let known = found.filter(|mark| report.lost_to().is_none_or(|to| to < mark.synced));
            let (replayed, damage) = replay(&place, &segments, known, salt)?;
            let Some(damage) = damage else {
                break replayed;
            };
            if self.read_only {
                repair::readable(&place, &damage, self.accept_loss)?;
                report.torn = true;
                break replayed;
            }
            if report.aside.len() + report.repairs >= REPAIRS_MAX {
                return Err(repair::hopeless(&place, &damage));
            }
            report.repairs += 1;
            let repaired = repair::repair(&place, &damage, self.accept_loss, salt, now_millis())?;
            report.torn |= repaired.lost.is_none();
            if let Some(lost) = repaired.lost {
                report.lost.push(lost);
            }
            report.aside.extend(repaired.aside);
        };
        report.batches_read = replayed.frames;
        report.last_batch = replayed.last;
        report.segments = replayed.index.segments.len();
        report.rows = Table::ALL
            .iter()
            .map(|table| replayed.index.rows(*table))
            .sum();
        let index = Arc::new(RwLock::new(replayed.index));
        let counted = Arc::new(Counted::default());
        let (writer, kept) = if self.read_only {
            (None, Some(place))
        } else {
            let writer = self.writer(place, &index, &counted, mark, salt, replayed.last, new)?;
            (Some(Mutex::new(writer)), None)
        };
        report.took = begin.elapsed();
        let storage = EmbeddedStorage {
            index,
            counted,
            writer,
            _place: kept,
        };
        Ok((storage, report))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is one thing that opening found out, used once"
    )]
    fn writer(
        &self,
        place: Place,
        index: &Arc<RwLock<Index>>,
        counted: &Arc<Counted>,
        mark: MarkFile,
        salt: u64,
        last: u64,
        new: bool,
    ) -> Result<Writer, OpenError> {
        let settings = Settings {
            reserve_bytes: self.reserve_bytes,
            segment_bytes: self.segment_bytes,
            probe: Arc::clone(&self.probe),
        };
        let path = place.path().to_owned();
        let start = Start {
            place,
            index: Arc::clone(index),
            counted: Arc::clone(counted),
            mark,
            salt,
            last,
        };
        let writer =
            Writer::start(settings, start).map_err(OpenError::io(&path, "start writing"))?;
        if new {
            writer.place().seal()?;
        }
        Ok(writer)
    }
}

fn now_millis() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// A number that nobody outside can guess; the standard library seeds its hash maps with one.
fn fresh_salt() -> u64 {
    RandomState::new().hash_one(now_millis())
}

/// The salt as the first readable head of a segment says.
fn salt_of(place: &Place, segments: &[u32]) -> Option<u64> {
    segments.iter().find_map(|number| {
        let mut head = [0; HEAD_BYTES];
        let file = fs::File::open(place.segment(*number)).ok()?;
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0).ok()?;
        decode_head(*number, &head).map(|(_, salt)| salt)
    })
}

/// Whether the high-water mark was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MarkFound {
    /// The store is new.
    #[default]
    New,
    /// It was there, and the log reaches it.
    Yes,
    /// It was not: whether the log lost its end cannot be known.
    Missing,
}

/// What opening found and did.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// Whether the store was made just now.
    pub created: bool,
    /// Files of the log.
    pub segments: usize,
    /// Batches read.
    pub batches_read: u64,
    /// The number of the last batch.
    pub last_batch: u64,
    /// Rows in the index.
    pub rows: usize,
    /// Whether the log ended in a batch that was not whole; nothing acknowledged was in it.
    pub torn: bool,
    /// Acknowledged batches that are gone, from and to; only where the loss was accepted.
    pub lost: Vec<(u64, u64)>,
    /// What was kept of what was taken away.
    pub aside: Vec<Aside>,
    /// Whether the high-water mark was there.
    pub mark: MarkFound,
    /// How long it took.
    pub took: Duration,
    repairs: usize,
}

impl OpenReport {
    fn lost_to(&self) -> Option<u64> {
        self.lost.iter().map(|(_, to)| *to).max()
    }

    /// Whether somebody should look at it.
    pub fn is_clean(&self) -> bool {
        !self.torn
            && self.lost.is_empty()
            && self.aside.is_empty()
            && self.mark != MarkFound::Missing
    }

    /// One line for everything that was out of the ordinary.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for (from, to) in &self.lost {
            remarks.push(format!(
                "batches {from} to {to} were acknowledged and are lost; this was accepted"
            ));
        }
        for aside in &self.aside {
            remarks.push(format!(
                "{} bytes from byte {} of {} were not a whole batch; they are kept in {}",
                aside.bytes,
                aside.at,
                aside.from.display(),
                aside.kept.display()
            ));
        }
        if self.torn && self.aside.is_empty() {
            remarks.push("the log ends in a batch that is not whole".to_owned());
        }
        if self.mark == MarkFound::Missing {
            remarks.push(
                "the file `mark` was missing or damaged: whether the end of the log was lost cannot be known"
                    .to_owned(),
            );
        }
        remarks
    }
}

/// Makes a store in `to` with what the open one holds now. The writer is held only to see where that ends: what
/// is in the log by then never changes.
pub(crate) fn checkpoint(
    writer: &Mutex<Writer>,
    index: &RwLock<Index>,
    to: &Path,
    link: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), OpenError> {
    let io = |error| OpenError::io(to, "write the copy")(error);
    fs::DirBuilder::new().mode(0o700).create(to).map_err(io)?;
    let target = Place::take(to, true)?;
    let (segments, newest, (last, oldest, salt)) = {
        let mut writer = writer.lock();
        writer
            .sync()
            .map_err(|error| io(std::io::Error::other(error)))?;
        let segments = index.read().segments.clone();
        (segments, writer.end().1, writer.identity())
    };
    let needed = segments.range(oldest..);
    let total = needed.clone().map(|(_, segment)| segment.bytes).sum();
    let mut done = 0;
    for (number, segment) in needed {
        let path = target.segment(*number);
        if !link || *number == newest || fs::hard_link(&segment.path, &path).is_err() {
            let mut copy = place::create(&path).map_err(io)?;
            copy_range(&segment.file, 0, segment.bytes, &mut copy).map_err(io)?;
            copy.sync_all().map_err(io)?;
        }
        done += segment.bytes;
        progress(done, total);
    }
    let (mut mark, _) = MarkFile::open(&target.mark()).map_err(io)?;
    mark.write(last, oldest, salt).map_err(io)?;
    mark.sync().map_err(io)?;
    target.seal()
}
