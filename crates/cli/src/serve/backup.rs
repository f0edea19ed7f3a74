//! SIGUSR1: a copy of the store while the broker runs on it. Deliberately absent: when, how many, and taking them away.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::config::Storage;
use crate::stores::Store;

/// Starts a copy into a new directory under `storage.backup_path`; the log says how it ends. The broker goes on.
///
/// `running` holds the copy that is being made, of which there is one at a time.
pub fn start(
    store: Option<&Store>,
    settings: &Storage,
    running: &mut Option<tokio::task::JoinHandle<()>>,
) {
    if running.as_ref().is_some_and(|copy| !copy.is_finished()) {
        tracing::warn!(
            event = "backup_refused",
            "a copy of the store is being made already"
        );
        return;
    }
    let Some(store) = store.filter(|store| store.backend() != "redis") else {
        tracing::warn!(
            event = "backup_refused",
            "only a store in a directory is copied on SIGUSR1; a Redis server has its own ways"
        );
        return;
    };
    if settings.backup_path.as_os_str().is_empty() {
        tracing::warn!(
            event = "backup_refused",
            "no copy of the store: name a directory in storage.backup_path"
        );
        return;
    }
    let store = store.clone();
    let under = settings.backup_path.clone();
    *running = Some(tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        match copy(&store, &under) {
            Ok((to, bytes)) => tracing::info!(
                event = "store_copied",
                path = %to.display(),
                bytes,
                took = ?begin.elapsed(),
                "the store was copied to {}",
                to.display()
            ),
            Err(error) => tracing::error!(event = "backup_failed", "no copy of the store: {error}"),
        }
    }));
}

fn copy(store: &Store, under: &Path) -> Result<(PathBuf, u64), String> {
    let named = |error| format!("{}: {error}", under.display());
    std::fs::create_dir_all(under).map_err(named)?;
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ");
    let name = format!("martlet-{now}");
    let to = under.join(&name);
    // Whole when it has its name, and no name of a whole one when the process ends before.
    let unfinished = under.join(format!("{name}.unfinished"));
    let mut bytes = 0;
    let made = store.checkpoint(&unfinished, &mut |_, total| bytes = total);
    made.map_err(|error| error.to_string())?;
    std::fs::rename(&unfinished, &to).map_err(named)?;
    Ok((to, bytes))
}
