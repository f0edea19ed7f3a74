//! The `[storage]` table: what must outlive the process, and where.

use std::path::PathBuf;
use std::time::Duration;

use martlet_broker::config::units;
use serde::{Deserialize, Serialize};

use super::checks::Checker;
use crate::stores::{Place, is_redis};

/// Where messages and sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// `embedded` (the default) keeps sessions, queued and retained messages and wills in `path`, the address of a Redis
    /// server keeps them there; `rocksdb` keeps them in `path` as well; with `memory` they end with the process.
    pub backend: String,
    /// The password of the Redis server, where it should not be in the address. Default none.
    pub password: String,
    /// The directory of the store, made if it is not there. Default `martlet-data`.
    pub path: PathBuf,
    /// Where SIGUSR1 puts copies of a store in a directory, each in a directory of its own. Default none.
    pub backup_path: PathBuf,
    /// When what is acknowledged is on the disk. Default `always`.
    pub fsync: FsyncPolicy,
    /// The longest time between two syncs with `fsync = "interval"`. Default 1 s.
    #[serde(with = "units::duration")]
    pub fsync_interval: Duration,
    /// How much of the file system is left free; below it no message is taken until there is room. Default 64 MiB.
    #[serde(with = "units::size")]
    pub reserve: u64,
}

/// When what is acknowledged is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FsyncPolicy {
    /// Before it is acknowledged; many messages share one sync.
    #[default]
    Always,
    /// Within `fsync_interval`; a crash of the process loses nothing, one of the machine what came since.
    Interval,
    /// When the operating system writes it; a crash of the process loses nothing.
    Never,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            backend: "embedded".to_owned(),
            password: String::new(),
            path: PathBuf::from("martlet-data"),
            backup_path: PathBuf::new(),
            fsync: FsyncPolicy::Always,
            fsync_interval: Duration::from_secs(1),
            reserve: 64 << 20,
        }
    }
}

/// The backends of this build, addresses apart.
const BACKENDS: &[&str] = &[
    "embedded",
    "memory",
    #[cfg(feature = "redis")]
    "redis",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
];
/// Those that other builds may have.
const KNOWN: [&str; 2] = ["rocksdb", "redis"];

/// What stands for a secret.
const HIDDEN: &str = "(hidden)";

/// An address without the password in it, for messages.
pub fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let Some((user, host)) = rest.rsplit_once('@') else {
        return text.to_owned();
    };
    match user.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}@{host}"),
        None => text.to_owned(),
    }
}

pub(super) fn check(storage: &Storage, checker: &mut Checker<'_>) {
    let backend = storage.backend.as_str();
    let address = is_redis(backend);
    let name = if address { "redis" } else { backend };
    if !BACKENDS.contains(&name) {
        let message = if KNOWN.contains(&name) {
            format!("is \"{name}\", which this build does not contain")
        } else {
            format!("is \"{name}\", which is no storage")
        };
        checker.add("storage.backend", message).help = Some(
            "write backend = \"embedded\" to keep everything in a directory, or \"memory\": sessions, queues and retained messages then end with the process".to_owned(),
        );
    } else if let Err(error) = Place::of(storage) {
        checker.add(
            "storage.backend",
            format!("is no address of a Redis server: {error}"),
        );
    }
    if !storage.password.is_empty() && name != "redis" {
        checker.add("storage.password", "is of use to a Redis server only");
    }
    if storage.path.as_os_str().is_empty() {
        checker.add("storage.path", "is empty").help =
            Some("name a directory, such as \"/var/lib/martlet\"".to_owned());
    }
    checker.duration("storage.fsync_interval", storage.fsync_interval, false);
}
