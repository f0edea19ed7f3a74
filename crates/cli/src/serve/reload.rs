//! SIGHUP: the configuration is read again. What is wrong changes nothing, what cannot change while running is named.

use martlet_broker::Broker;

use super::banner::planned_notes;
use super::listeners::Listeners;
use crate::args::ConfigArgs;
use crate::config::{Loaded, load};
use crate::logging::LogHandle;

/// Keys, or tables by their names, that are looked at only when the process starts.
const AT_START: [&str; 10] = [
    "pid_file",
    "log.format",
    "storage.backend",
    "storage.password",
    "storage.path",
    "storage.fsync",
    "storage.fsync_interval",
    "storage.reserve",
    "acme",
    "worker_threads",
];

/// Reads the configuration again and applies it; returns the one that is in force afterwards.
pub async fn reload(
    args: &ConfigArgs,
    before: Loaded,
    broker: &Broker,
    listeners: &mut Listeners,
    log: &LogHandle,
) -> Loaded {
    let after = match load(&args.inputs()) {
        Ok(after) => after,
        Err(problems) => {
            for problem in problems.lines() {
                tracing::error!("{problem}");
            }
            tracing::error!("reload refused, nothing has changed");
            return before;
        }
    };
    // Going on with the defaults would take everybody's users away.
    if let Some(file) = &before.file
        && after.file.as_ref() != Some(file)
        && !file.exists()
    {
        tracing::error!(
            "reload refused, nothing has changed: {} is gone",
            file.display()
        );
        return before;
    }
    // The same names may stand for new certificates.
    let reading = broker.clone();
    let read = tokio::task::spawn_blocking(move || reading.reload_certificates()).await;
    for (listener, result) in read.unwrap_or_default() {
        match result {
            Ok(()) => tracing::info!(listener, "certificates read again; connections go on"),
            Err(error) => tracing::error!(
                listener,
                "the certificates of listener {listener} stay as they were: {error}"
            ),
        }
    }
    let changed = before.changed_keys(&after);
    if changed.is_empty() {
        tracing::info!("reloaded, nothing has changed");
        return before;
    }
    if let Err(error) = listeners_then_broker(&before, &after, broker, listeners).await {
        tracing::error!("reload refused, nothing has changed: {}", error);
        return before;
    }
    log.set_level(&after.settings.program.log.level);
    let waiting: Vec<&String> = changed
        .iter()
        .filter(|key| AT_START.contains(&key.as_str()))
        .collect();
    for key in &waiting {
        tracing::warn!(key, "takes effect at the next start");
    }
    let applied: Vec<&str> = changed
        .iter()
        .map(String::as_str)
        .filter(|key| !AT_START.contains(key))
        .collect();
    tracing::info!(changed = applied.join(", "), "reloaded");
    for warning in &after.warnings {
        tracing::warn!("{warning}");
    }
    let notes = planned_notes(&after.settings);
    if notes != planned_notes(&before.settings) {
        for note in notes {
            tracing::info!("{note}");
        }
    }
    after
}

async fn listeners_then_broker(
    before: &Loaded,
    after: &Loaded,
    broker: &Broker,
    listeners: &mut Listeners,
) -> Result<(), String> {
    // The broker checks first and changes all or nothing; its former settings are good for the way back.
    broker
        .reload(after.settings.broker.clone())
        .map_err(|error| {
            after
                .problem(&error.key, &error.problem)
                .lines()
                .collect::<String>()
        })?;
    match listeners
        .change(broker, &after.settings.program.listeners)
        .await
    {
        Ok(change) => {
            for id in change.opened {
                tracing::info!(listener = id, "listener opened");
            }
            for id in change.closed {
                tracing::info!(listener = id, "listener closed; its connections go on");
            }
            for id in change.changed {
                tracing::info!(
                    listener = id,
                    "listener changed; its connections go on as they are"
                );
            }
            for id in change.needs_restart {
                tracing::warn!(
                    listener = id,
                    "backlog, reuse_port, dual_stack, interface, unix or scheme of listener {id} changed: that takes \
                     effect at the next start, and so does all else that changed about it"
                );
            }
            for (id, error) in change.failed {
                tracing::error!(
                    listener = id,
                    "listener {id} stays as it was: {}",
                    error.in_a_line()
                );
            }
            Ok(())
        }
        Err(error) => {
            let error = error.in_a_line();
            let back = broker.reload(before.settings.broker.clone());
            Err(match back {
                Ok(()) => error,
                Err(worse) => format!("{error}; and the former settings are refused: {worse}"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reference_leaves_to_the_next_start_is_said_to_wait() {
        let mut key = "";
        let mut checked = 0;
        for line in include_str!("../../configuration.md").lines() {
            if let Some(rest) = line.strip_prefix("### `") {
                key = rest.trim_end_matches('`');
            }
            // Listeners say so by themselves, and tables are told by their names.
            if line.contains("Reload: next start.") && !key.starts_with("listeners[]") {
                let table = key.split('.').next().unwrap_or_default();
                assert!(
                    AT_START.contains(&key) || AT_START.contains(&table),
                    "{key}"
                );
                checked += 1;
            }
        }
        assert!(checked >= AT_START.len(), "{checked}");
    }
}
