//! Stores of every backend this build has, by name: for `martlet serve` and for the offline tools.
//!
//! Deliberately absent: what is done with an open store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use martlet_storage::{Storage, Table};
use martlet_storage_embedded::{EmbeddedOptions, EmbeddedStorage, OpenReport};
#[cfg(feature = "redis")]
use martlet_storage_redis::{RedisOptions, RedisStorage};

use crate::config;

/// Where a store is: a directory, or the address of a server.
#[derive(Clone, Debug)]
pub enum Place {
    /// A directory of the embedded backend.
    Embedded(PathBuf),
    /// A Redis server.
    #[cfg(feature = "redis")]
    Redis(Box<RedisOptions>),
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

/// A directory, or an address with `redis://` or `rediss://`.
impl FromStr for Place {
    type Err = WrongPlace;

    fn from_str(text: &str) -> Result<Self, WrongPlace> {
        if is_redis(text) {
            return redis(text);
        }
        Ok(Self::Embedded(PathBuf::from(text)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => path.display().fmt(f),
            #[cfg(feature = "redis")]
            Self::Redis(options) => options.fmt(f),
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

impl Place {
    /// What the `[storage]` table names; `None` where nothing is kept.
    ///
    /// # Errors
    /// An address that cannot be understood.
    pub fn of(settings: &config::Storage) -> Result<Option<Self>, WrongPlace> {
        match settings.backend.as_str() {
            "memory" => Ok(None),
            "redis" => redis("redis://127.0.0.1").map(Some),
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
pub enum Store {
    /// The embedded backend, and what opening it found.
    Embedded(Arc<EmbeddedStorage>, Box<OpenReport>),
    /// A Redis server.
    #[cfg(feature = "redis")]
    Redis(Arc<RedisStorage>),
}

impl Store {
    /// What every backend can do.
    pub fn storage(&self) -> Arc<dyn Storage> {
        match self {
            Self::Embedded(storage, _) => Arc::clone(storage) as Arc<dyn Storage>,
            #[cfg(feature = "redis")]
            Self::Redis(storage) => Arc::clone(storage) as Arc<dyn Storage>,
        }
    }

    /// Lets the next owner have it at once; for a process that ends without dropping it.
    pub fn give_back(&self) {
        match self {
            // The lock of a directory ends with the process.
            Self::Embedded(..) => {}
            #[cfg(feature = "redis")]
            Self::Redis(storage) => storage.give_back(),
        }
    }

    /// The name of the backend.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Embedded(..) => "embedded",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "redis",
        }
    }

    /// The version of its format.
    pub fn format(&self) -> u32 {
        match self {
            Self::Embedded(..) => martlet_storage_embedded::FORMAT,
            #[cfg(feature = "redis")]
            Self::Redis(_) => martlet_storage_redis::FORMAT,
        }
    }

    /// The number of its last batch.
    pub fn last_batch(&self) -> u64 {
        match self {
            Self::Embedded(_, report) => report.last_batch,
            #[cfg(feature = "redis")]
            Self::Redis(storage) => storage.last_batch(),
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
        }
    }
}

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
        #[cfg(feature = "redis")]
        check("redis://:secret@h/1", "redis://h/1 (prefix martlet)");
        #[cfg(feature = "redis")]
        check("rediss://h?x=1", "`x` is not understood");
        #[cfg(not(feature = "redis"))]
        check("redis://h/1", "does not contain the backend redis");
    }
}
