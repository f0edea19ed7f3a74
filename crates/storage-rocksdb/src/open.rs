//! Opening a store: first as one that ended in order, then, if its log does not, with a copy of the log kept aside.
//!
//! RocksDB can be told to stop reading its log where that is damaged, and then says nothing. So it is told to insist on
//! every byte; where it refuses, the log is read up to the damage, and the number of the last batch is held against the
//! mark. Deliberately absent: repairing sorted files, of which a damaged one is refused.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Instant, SystemTime};

use martlet_storage::place::{self, Kind, MarkFile, OpenError, Place};
use parking_lot::{Mutex, RwLock};
use rocksdb::{DB, DBRecoveryMode, ErrorKind};

use crate::tables::{self, BATCH_KEY};
use crate::{End, RocksDbStorage, io_error};

/// The format that new stores get, and the highest one that can be read.
pub const FORMAT: u32 = 1;

const KIND: Kind = Kind {
    backend: "rocksdb",
    format: FORMAT,
    // The format file comes first, the database after it.
    unfinished: |_| false,
};

/// How many logs are kept aside; older ones go. Each is as long as what a start reads.
const ASIDE_MAX: usize = 16;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct RocksDbOptions {
    create: bool,
    read_only: bool,
    accept_loss: bool,
    pub(crate) reserve_bytes: u64,
}

impl Default for RocksDbOptions {
    fn default() -> Self {
        Self {
            create: true,
            read_only: false,
            accept_loss: false,
            reserve_bytes: 64 << 20,
        }
    }
}

impl RocksDbOptions {
    /// Whether a store is made where there is none. Default yes.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether the store is only read: nothing is changed, writing is refused. Default no. The directory is locked all
    /// the same.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether to go on where acknowledged batches are missing. Default no: [`OpenError::Lost`].
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

    /// Opens the store in `path`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<(RocksDbStorage, OpenReport), OpenError> {
        let place = Place::take(path.as_ref(), self.create && !self.read_only, KIND)?;
        let (mut mark, found) =
            MarkFile::open(&place.mark()).map_err(OpenError::io(place.mark(), "open it"))?;
        let synced = found.map_or(0, |mark| mark.synced);
        if place.new {
            place.seal()?;
        }
        let mut report = OpenReport {
            created: place.new,
            mark_missing: !place.new && found.is_none() && database(place.path()).exists(),
            ..OpenReport::default()
        };
        let (db, batch) = self.database(&place, synced, &mut report)?;
        report.last_batch = batch;
        let mark = if self.read_only {
            None
        } else {
            // What was read is in sorted files by now, which are synced.
            mark.write(batch, 0, 0)
                .and_then(|()| mark.sync())
                .map_err(OpenError::io(place.mark(), "write it"))?;
            Some(mark)
        };
        let storage = RocksDbStorage {
            options: self.clone(),
            place,
            db: RwLock::new(Some(db)),
            end: Mutex::new(End {
                batch,
                mark,
                mark_dirty: false,
                mark_synced: Instant::now(),
                failed: None,
            }),
            free: AtomicU64::new(u64::MAX),
            written_bytes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
        };
        Ok((storage, report))
    }

    /// Opens the database of which `synced` batches must be there.
    fn database(
        &self,
        place: &Place,
        synced: u64,
        report: &mut OpenReport,
    ) -> Result<(DB, u64), OpenError> {
        let path = database(place.path());
        let read_only = self.read_only;
        // Once something was synced, an empty database is none of ours.
        let create = !read_only && synced == 0;
        let (found, torn) = match attempt(
            &path,
            DBRecoveryMode::AbsoluteConsistency,
            read_only,
            create,
        ) {
            Ok(opened) => (opened, None),
            Err(error) if error.kind() == ErrorKind::Corruption => {
                let looked = attempt(&path, DBRecoveryMode::PointInTime, true, false);
                let looked = looked.map_err(|error| refusal(place.path(), &error))?;
                (looked, Some(error))
            }
            Err(error) if synced > 0 && is_absent(&error) => {
                return Err(OpenError::Lost {
                    path,
                    first_lost: 1,
                    last_lost: synced,
                    what: "the database is gone".to_owned(),
                });
            }
            Err(error) => return Err(refusal(place.path(), &error)),
        };
        let batch = found.1;
        if batch < synced {
            if !self.accept_loss {
                let what = torn.map_or_else(
                    || "the log ends before them".to_owned(),
                    rocksdb::Error::into_string,
                );
                return Err(OpenError::Lost {
                    path,
                    first_lost: batch + 1,
                    last_lost: synced,
                    what,
                });
            }
            report.lost = Some((batch + 1, synced));
        }
        if torn.is_none() {
            return Ok(found);
        }
        report.torn = report.lost.is_none();
        if read_only {
            return Ok(found);
        }
        drop(found);
        report.aside = keep_logs(place)?;
        reopen(place)
    }
}

/// What opening found and did.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// Whether the store was made just now.
    pub created: bool,
    /// The number of the last batch.
    pub last_batch: u64,
    /// Whether the log ended in a batch that was not whole; nothing acknowledged was in it.
    pub torn: bool,
    /// Acknowledged batches that are gone, from and to; only where the loss was accepted.
    pub lost: Option<(u64, u64)>,
    /// Copies of the log as it was before it was cut.
    pub aside: Vec<PathBuf>,
    /// Whether the mark beside the database was missing or damaged.
    pub mark_missing: bool,
}

impl OpenReport {
    /// One line for everything that was out of the ordinary.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some((from, to)) = self.lost {
            remarks.push(format!(
                "batches {from} to {to} were acknowledged and are lost; this was accepted"
            ));
        }
        if self.torn {
            remarks.push("the log ended in a batch that is not whole".to_owned());
        }
        for path in &self.aside {
            remarks.push(format!("the log as it was is kept in {}", path.display()));
        }
        if self.mark_missing {
            remarks.push(
                "the file `mark` was missing or damaged: whether the end of the log was lost cannot be known"
                    .to_owned(),
            );
        }
        remarks
    }
}

/// Where the database of a store is.
pub(crate) fn database(place: &Path) -> PathBuf {
    place.join("db")
}

/// Takes a new directory for a copy of a store.
pub(crate) fn make(to: &Path) -> Result<Place, OpenError> {
    DirBuilder::new()
        .mode(0o700)
        .create(to)
        .map_err(OpenError::io(to, "write the copy"))?;
    Place::take(to, true, KIND)
}

/// Makes a directory with a copied database a store that has at least `batch` batches.
pub(crate) fn finish(place: &Place, batch: u64) -> Result<(), OpenError> {
    let write = || {
        let (mut mark, _) = MarkFile::open(&place.mark())?;
        mark.write(batch, 0, 0)?;
        mark.sync()
    };
    write().map_err(OpenError::io(place.mark(), "write it"))?;
    place.seal()
}

/// Opens the database again as far as its log can be read, after this process failed to write to it.
pub(crate) fn reopen(place: &Place) -> Result<(DB, u64), OpenError> {
    let path = database(place.path());
    attempt(&path, DBRecoveryMode::PointInTime, false, false)
        .map_err(|error| refusal(place.path(), &error))
}

/// Opens the database in one way; also the number of its last batch.
fn attempt(
    path: &Path,
    recovery: DBRecoveryMode,
    read_only: bool,
    create: bool,
) -> Result<(DB, u64), rocksdb::Error> {
    let options = tables::options(create, recovery);
    let families = tables::families();
    let db = if read_only {
        DB::open_cf_descriptors_read_only(&options, path, families, false)?
    } else {
        DB::open_cf_descriptors(&options, path, families)?
    };
    let number = db.get(BATCH_KEY)?;
    let number = number.as_deref().and_then(|value| value.first_chunk());
    let batch = number.map_or(0, |bytes| u64::from_be_bytes(*bytes));
    Ok((db, batch))
}

/// Whether there is no database.
fn is_absent(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("does not exist")
}

/// What the database's refusal says about the directory.
fn refusal(path: &Path, error: &rocksdb::Error) -> OpenError {
    let text = error.to_string();
    let path = path.to_owned();
    match error.kind() {
        _ if is_absent(error) => OpenError::Missing(path),
        ErrorKind::IOError if text.contains("/LOCK: ") => OpenError::Locked { path, pid: None },
        // Of column families, or with a comparator, that we do not have.
        ErrorKind::InvalidArgument if text.contains("olumn famil") => {
            OpenError::Foreign { path, found: text }
        }
        ErrorKind::IOError => OpenError::io(database(&path), "open the database")(io_error(text)),
        _ => OpenError::Damaged {
            path: database(&path),
            what: text,
        },
    }
}

/// Copies the log before it is cut.
fn keep_logs(place: &Place) -> Result<Vec<PathBuf>, OpenError> {
    let aside = place.aside();
    let failed = |error| OpenError::io(&aside, "keep a copy of the log")(error);
    if !aside.is_dir() {
        DirBuilder::new()
            .mode(0o700)
            .create(&aside)
            .map_err(failed)?;
    }
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_millis());
    let mut kept = Vec::new();
    for entry in fs::read_dir(database(place.path())).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().extension().is_none_or(|it| it != "log") {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let to = aside.join(format!("{now}-{name}"));
        let mut copy = place::create(&to).map_err(failed)?;
        let mut from = fs::File::open(entry.path()).map_err(failed)?;
        std::io::copy(&mut from, &mut copy).map_err(failed)?;
        copy.sync_all().map_err(failed)?;
        kept.push(to);
    }
    // Their names begin with the time, in as many digits for a long while.
    let entries = fs::read_dir(&aside).map_err(failed)?;
    let mut all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    all.sort();
    let over = all.len().saturating_sub(ASIDE_MAX.max(kept.len()));
    for old in all.drain(..over) {
        fs::remove_file(&old).map_err(failed)?;
    }
    Ok(kept)
}
