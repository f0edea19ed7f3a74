//! The `[storage]` table: what must outlive the process, and where.

use std::path::PathBuf;
use std::time::Duration;

use martlet_broker::config::units;
use serde::{Deserialize, Serialize};

use super::checks::Checker;

/// Where messages and sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// `embedded` (the default) keeps sessions, queued and retained messages and wills in `path`; with `memory` they
    /// end with the process.
    pub backend: String,
    /// The directory of the embedded store, made if it is not there. Default `martlet-data`.
    pub path: PathBuf,
    /// When what is acknowledged is on the disk. Default `always`.
    pub fsync: FsyncPolicy,
    /// The longest time between two syncs with `fsync = "interval"`. Default 1 s.
    #[serde(with = "units::duration")]
    pub fsync_interval: Duration,
    /// How much of the file system is left free; below it nothing more is acknowledged until there is room. Default 64 MiB.
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
            path: PathBuf::from("martlet-data"),
            fsync: FsyncPolicy::Always,
            fsync_interval: Duration::from_secs(1),
            reserve: 64 << 20,
        }
    }
}

/// The backends of this build.
const BACKENDS: [&str; 2] = ["embedded", "memory"];
/// Those that other builds may have.
const KNOWN: [&str; 2] = ["rocksdb", "redis"];

pub(super) fn check(storage: &Storage, checker: &mut Checker<'_>) {
    let backend = storage.backend.as_str();
    if !BACKENDS.contains(&backend) {
        let message = if KNOWN.contains(&backend) {
            format!("is \"{backend}\", which this build does not contain")
        } else {
            format!("is \"{backend}\", which is no storage")
        };
        checker.add("storage.backend", message).help = Some(
            "write backend = \"embedded\" to keep everything in a directory, or \"memory\": sessions, queues and retained messages then end with the process".to_owned(),
        );
    }
    if storage.path.as_os_str().is_empty() {
        checker.add("storage.path", "is empty").help =
            Some("name a directory, such as \"/var/lib/martlet\"".to_owned());
    }
    checker.duration("storage.fsync_interval", storage.fsync_interval, false);
}
