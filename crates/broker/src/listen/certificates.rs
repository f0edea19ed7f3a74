//! Looking after the certificates of a listener while it accepts: renewed files are taken over, broken ones are
//! told, and whoever forgets to renew hears of it in time.

use std::{sync::Weak, time::Duration};

use martlet_transport::TlsError;

use super::Open;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// From so many days before the end on there is a warning a day.
const WARN_DAYS: i64 = 14;

/// Runs until the listener is closed.
pub(super) async fn watch(open: Weak<Open>) {
    let mut warned = None;
    loop {
        let Some(open) = open.upgrade() else {
            return;
        };
        let Some(certificates) = open.certificates.clone() else {
            return;
        };
        let days = certificates.days_left();
        if days <= WARN_DAYS && warned != Some(days) {
            warned = Some(days);
            tracing::warn!(
                event = "certificate_expires",
                listener = &*open.id,
                days,
                "the certificate of listener {} expires in {days} days",
                open.id
            );
        }
        // Files may be on a slow disk.
        let looked = tokio::task::spawn_blocking(move || certificates.reload_if_changed()).await;
        if let Ok(Some(result)) = looked {
            report(&open.id, &result);
        }
        drop(open);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Says what came of new files.
pub(crate) fn report(listener: &str, result: &Result<(), TlsError>) {
    match result {
        Ok(()) => tracing::info!(
            event = "certificate_reloaded",
            listener,
            "listener {listener} uses new certificates; connections go on"
        ),
        Err(error) => tracing::error!(
            event = "certificate_refused", listener, %error,
            "listener {listener} keeps its former certificates: {error}"
        ),
    }
}
