//! From the `[storage]` table to a broker that keeps what must outlive the process.

use std::error::Error;

use martlet_broker::Builder;
use martlet_cli::config::{FsyncPolicy, Storage};
use martlet_storage::{CommitOptions, Fsync};
use martlet_storage_embedded::EmbeddedOptions;

/// Opens the store and hands it to the builder. Says what was out of the ordinary; what lost anything that was
/// acknowledged is refused unless `accept_loss`.
///
/// # Errors
/// The store cannot be opened or read; nothing of it was changed.
pub(crate) fn open(
    builder: Builder,
    settings: &Storage,
    accept_loss: bool,
) -> Result<Builder, Box<dyn Error>> {
    if settings.backend == "memory" {
        return Ok(builder);
    }
    let (storage, report) = EmbeddedOptions::default()
        .accept_loss(accept_loss)
        .reserve_bytes(settings.reserve)
        .open(&settings.path)
        .map_err(|error| format!("error: {error}"))?;
    for remark in report.remarks() {
        tracing::warn!(event = "store_repaired", "{remark}");
    }
    tracing::info!(
        event = "store_opened",
        path = %settings.path.display(),
        rows = report.rows,
        took = ?report.took,
        "store {} opened",
        settings.path.display()
    );
    let options = CommitOptions {
        fsync: match settings.fsync {
            FsyncPolicy::Always => Fsync::Always,
            FsyncPolicy::Interval => Fsync::Interval(settings.fsync_interval),
            FsyncPolicy::Never => Fsync::Never,
        },
        ..CommitOptions::default()
    };
    let path = settings.path.display();
    Ok(builder
        .store(storage, options)
        .map_err(|error| format!("error: {path}: {error}"))?)
}
