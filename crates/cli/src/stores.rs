//! Stores of every backend this build has, by name: for `martlet serve` and for the offline tools.
//!
//! Deliberately absent: what is done with an open store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use martlet_storage::{Storage, Table, place};
use martlet_storage_embedded::{EmbeddedOptions, EmbeddedStorage, OpenReport};
#[cfg(feature = "redis")]
use martlet_storage_redis::{RedisOptions, RedisStorage};
#[cfg(feature = "rocksdb")]
use martlet_storage_rocksdb::{RocksDbOptions, RocksDbStorage};

use crate::config;

/// Where a store is: a directory, or the address of a server.
#[derive(Clone, Debug)]
pub enum Place {
    /// A directory of the embedded backend.
    Embedded(PathBuf),
    /// A Redis server.
    #[cfg(feature = "redis")]
    Redis(Box<RedisOptions>),
    /// A directory with a RocksDB in it.
    #[cfg(feature = "rocksdb")]
    RocksDb(PathBuf),
}

/// What is wrong with the name of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongPlace(String);

impl fmt::Display for WrongPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongPlace {}

/// A directory, or an address with `redis://` or `rediss://`. A directory with a store is of the backend that made it;
/// `rocksdb:` in front of one makes a new store of that backend.
impl FromStr for Place {
    type Err = WrongPlace;

    fn from_str(text: &str) -> Result<Self, WrongPlace> {
        if is_redis(text) {
            return redis(text);
        }
        match text.strip_prefix("rocksdb:") {
            Some(path) => rocksdb(Path::new(path)),
            None => Self::at(Path::new(text)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => path.display().fmt(f),
            #[cfg(feature = "redis")]
            Self::Redis(options) => options.fmt(f),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(path) => path.display().fmt(f),
        }
    }
}

/// Whether this names a Redis server.
pub(crate) fn is_redis(text: &str) -> bool {
    text.starts_with("redis://") || text.starts_with("rediss://")
}

#[cfg(feature = "redis")]
fn redis(url: &str) -> Result<Place, WrongPlace> {
    RedisOptions::parse(url)
        .map(|options| Place::Redis(Box::new(options)))
        .map_err(|error| WrongPlace(error.to_string()))
}

#[cfg(not(feature = "redis"))]
fn redis(_url: &str) -> Result<Place, WrongPlace> {
    Err(WrongPlace(
        "this build does not contain the backend redis".to_owned(),
    ))
}

#[cfg(feature = "rocksdb")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "a build without the backend cannot"
)]
fn rocksdb(path: &Path) -> Result<Place, WrongPlace> {
    Ok(Place::RocksDb(path.to_owned()))
}

#[cfg(not(feature = "rocksdb"))]
fn rocksdb(path: &Path) -> Result<Place, WrongPlace> {
    Err(WrongPlace(format!(
        "{}: this build does not contain the backend rocksdb",
        path.display()
    )))
}

impl Place {
    /// The store in a directory, of the backend that made it; of the embedded one where there is none.
    ///
    /// # Errors
    /// This build does not contain that backend.
    pub fn at(path: &Path) -> Result<Self, WrongPlace> {
        match place::backend_of(path) {
            Some((backend, _)) if backend == "rocksdb" => rocksdb(path),
            _ => Ok(Self::Embedded(path.to_owned())),
        }
    }

    /// Its directory; `None` for a server.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Embedded(path) => Some(path),
            #[cfg(feature = "redis")]
            Self::Redis(_) => None,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(path) => Some(path),
        }
    }

    /// What the `[storage]` table names; `None` where nothing is kept.
    ///
    /// # Errors
    /// An address that cannot be understood.
    pub fn of(settings: &config::Storage) -> Result<Option<Self>, WrongPlace> {
        match settings.backend.as_str() {
            "memory" => Ok(None),
            "redis" => redis("redis://127.0.0.1").map(Some),
            "rocksdb" => rocksdb(&settings.path).map(Some),
            address if is_redis(address) => redis(address).map(Some),
            _ => Ok(Some(Self::Embedded(settings.path.clone()))),
        }
        .map(|place| place.map(|place| place.with_password(&settings.password)))
    }

    /// The same with a password, where it takes one.
    pub fn with_password(self, password: &str) -> Self {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(options) if !password.is_empty() => {
                Self::Redis(Box::new(options.password(password)))
            }
            other => {
                let _ = password;
                other
            }
        }
    }

    /// Opens the store there.
    ///
    /// # Errors
    /// Why it cannot be opened, with its place and what to do.
    pub fn open(&self, how: How) -> Result<Opened, WrongPlace> {
        match self {
            Self::Embedded(path) => {
                let (storage, report) = EmbeddedOptions::default()
                    .create(how.create)
                    .read_only(how.read_only)
                    .accept_loss(how.accept_loss)
                    .reserve_bytes(how.reserve_bytes)
                    .open(path)
                    .map_err(|error| WrongPlace(error.to_string()))?;
                Ok(Opened {
                    remarks: report.remarks(),
                    lost: report.lost.len() as u64,
                    store: Store::Embedded(Arc::new(storage), Box::new(report)),
                })
            }
            #[cfg(feature = "redis")]
            Self::Redis(options) => {
                let options = options.clone().create(how.create && !how.read_only);
                let storage = options
                    .open()
                    .map_err(|error| WrongPlace(error.to_string()))?;
                Ok(Opened {
                    remarks: storage.remarks().to_vec(),
                    lost: 0,
                    store: Store::Redis(Arc::new(storage)),
                })
            }
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(path) => {
                let (storage, report) = RocksDbOptions::default()
                    .create(how.create)
                    .read_only(how.read_only)
                    .accept_loss(how.accept_loss)
                    .reserve_bytes(how.reserve_bytes)
                    .open(path)
                    .map_err(|error| WrongPlace(error.to_string()))?;
                Ok(Opened {
                    remarks: report.remarks(),
                    lost: u64::from(report.lost.is_some()),
                    store: Store::RocksDb(Arc::new(storage)),
                })
            }
        }
    }
}

/// How a store is opened. What a backend does not know, it ignores.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Whether one is made where there is none.
    pub create: bool,
    /// Whether nothing is repaired.
    pub read_only: bool,
    /// Whether to go on where acknowledged batches are missing.
    pub accept_loss: bool,
    /// How much of the file system is left free.
    pub reserve_bytes: u64,
}

/// Makes a store where there is none.
impl Default for How {
    fn default() -> Self {
        Self {
            create: true,
            read_only: false,
            accept_loss: false,
            reserve_bytes: 64 << 20,
        }
    }
}

/// An open store, and what was out of the ordinary.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What was found or repaired, in words.
    pub remarks: Vec<String>,
    /// How many gaps there are in what was acknowledged.
    pub lost: u64,
}

/// An open store of some backend.
#[derive(Clone)]
pub enum Store {
    /// The embedded backend, and what opening it found.
    Embedded(Arc<EmbeddedStorage>, Box<OpenReport>),
    /// A Redis server.
    #[cfg(feature = "redis")]
    Redis(Arc<RedisStorage>),
    /// RocksDB.
    #[cfg(feature = "rocksdb")]
    RocksDb(Arc<RocksDbStorage>),
}

impl Store {
    /// What every backend can do.
    pub fn storage(&self) -> Arc<dyn Storage> {
        match self {
            Self::Embedded(storage, _) => Arc::clone(storage) as Arc<dyn Storage>,
            #[cfg(feature = "redis")]
            Self::Redis(storage) => Arc::clone(storage) as Arc<dyn Storage>,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(storage) => Arc::clone(storage) as Arc<dyn Storage>,
        }
    }

    /// Lets the next owner have it at once; for a process that ends without dropping it.
    pub fn give_back(&self) {
        match self {
            // The lock of a directory ends with the process.
            Self::Embedded(..) => {}
            #[cfg(feature = "redis")]
            Self::Redis(storage) => storage.give_back(),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => {}
        }
    }

    /// The name of the backend.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Embedded(..) => "embedded",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "redis",
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => "rocksdb",
        }
    }

    /// The version of its format.
    pub fn format(&self) -> u32 {
        match self {
            Self::Embedded(..) => martlet_storage_embedded::FORMAT,
            #[cfg(feature = "redis")]
            Self::Redis(_) => martlet_storage_redis::FORMAT,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => martlet_storage_rocksdb::FORMAT,
        }
    }

    /// The number of its last batch.
    pub fn last_batch(&self) -> u64 {
        match self {
            Self::Embedded(_, report) => report.last_batch,
            #[cfg(feature = "redis")]
            Self::Redis(storage) => storage.last_batch(),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(storage) => storage.last_batch(),
        }
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub fn rows(&self, table: Table) -> Result<u64, martlet_storage::StorageError> {
        match self {
            Self::Embedded(storage, _) => Ok(storage.rows(table) as u64),
            #[cfg(feature = "redis")]
            Self::Redis(storage) => storage.rows(table),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(storage) => storage.rows(table),
        }
    }

    /// Makes a copy in a new directory, while batches go on. `progress` is told how many bytes of how many are done.
    ///
    /// # Errors
    /// The copy cannot be made, or the store is no directory's.
    pub fn checkpoint(
        &self,
        to: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), WrongPlace> {
        let made = match self {
            Self::Embedded(storage, _) => storage.checkpoint(to, false, progress),
            #[cfg(feature = "redis")]
            Self::Redis(_) => return Err(WrongPlace(NO_FILES.to_owned())),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(storage) => {
                let bytes = storage.usage().disk_bytes;
                storage.checkpoint(to).map(|()| progress(bytes, bytes))
            }
        };
        made.map_err(|error| WrongPlace(error.to_string()))
    }

    /// Writes what lives again and gives the rest back. `progress` is told how many bytes of how many are done.
    ///
    /// # Errors
    /// The store cannot be written, or is no directory's.
    pub fn compact(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), WrongPlace> {
        let done = match self {
            Self::Embedded(storage, _) => storage.compact(progress),
            #[cfg(feature = "redis")]
            Self::Redis(_) => return Err(WrongPlace(NO_FILES.to_owned())),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(storage) => storage.compact(progress),
        };
        done.map_err(|error| WrongPlace(error.to_string()))
    }
}

/// Why nothing is done to the files of a server.
#[cfg(feature = "redis")]
const NO_FILES: &str = "a Redis server has its own ways to be copied and compacted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_directories_or_addresses() {
        let check = |text: &str, expect: &str| {
            let shown = match text.parse::<Place>() {
                Ok(place) => place.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(shown.contains(expect), "{text}: {shown}");
        };
        check("martlet-data", "martlet-data");
        check("./redis", "./redis");
        #[cfg(feature = "rocksdb")]
        check("rocksdb:data", "data");
        #[cfg(not(feature = "rocksdb"))]
        check("rocksdb:data", "does not contain the backend rocksdb");
        #[cfg(feature = "redis")]
        check("redis://:secret@h/1", "redis://h/1 (prefix martlet)");
        #[cfg(feature = "redis")]
        check("rediss://h?x=1", "`x` is not understood");
        #[cfg(not(feature = "redis"))]
        check("redis://h/1", "does not contain the backend redis");
    }
}
