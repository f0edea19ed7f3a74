//! From the `[storage]` table to a broker that keeps what must outlive the process.

use std::error::Error;
use std::time::Instant;

use martlet_broker::Builder;
use martlet_cli::config::{FsyncPolicy, Storage};
use martlet_cli::stores::{How, Place, Store};
use martlet_storage::{CommitOptions, Fsync};

/// Opens the store and hands it to the builder; it can be copied while the broker uses it. Says what was out of the ordinary; what lost anything that was
/// acknowledged is refused unless `accept_loss`.
///
/// # Errors
/// The store cannot be opened or read; nothing of it was changed.
pub(crate) fn open(
    builder: Builder,
    settings: &Storage,
    accept_loss: bool,
) -> Result<(Builder, Option<Store>), Box<dyn Error>> {
    let named = |error| format!("error: {error}");
    let Some(place) = Place::of(settings).map_err(named)? else {
        return Ok((builder, None));
    };
    let begin = Instant::now();
    let how = How {
        accept_loss,
        reserve_bytes: settings.reserve,
        ..How::default()
    };
    let opened = place.open(how).map_err(named)?;
    for remark in &opened.remarks {
        tracing::warn!(event = "store_repaired", "{remark}");
    }
    tracing::info!(
        event = "store_opened",
        path = %place,
        backend = opened.store.backend(),
        last_batch = opened.store.last_batch(),
        took = ?begin.elapsed(),
        "store {place} opened"
    );
    let options = CommitOptions {
        fsync: match settings.fsync {
            FsyncPolicy::Always => Fsync::Always,
            FsyncPolicy::Interval => Fsync::Interval(settings.fsync_interval),
            FsyncPolicy::Never => Fsync::Never,
        },
        ..CommitOptions::default()
    };
    let builder = builder
        .store(opened.store.storage(), options)
        .map_err(|error| format!("error: {place}: {error}"))?;
    Ok((builder, Some(opened.store)))
}
