//! The certificates of a listener, from outside of it.

use crate::listener::Shared;
use crate::tls::{TlsError, TlsServer};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The certificates, keys and authorities of a TLS listener. New ones serve new connections; those
/// that exist go on.
#[derive(Clone, Debug)]
pub struct Certificates(pub(crate) Arc<ArcSwap<Shared>>);

impl Certificates {
    /// Reads all files again; blocks while it reads.
    ///
    /// # Errors
    /// What is wrong with which file; then everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.0.load().tls.as_ref().map_or(Ok(()), TlsServer::reload)
    }

    /// The same if a file has changed since the last attempt; `None` if none has. Cheap enough for
    /// every few seconds.
    pub fn reload_if_changed(&self) -> Option<Result<(), TlsError>> {
        self.0
            .load()
            .tls
            .as_ref()
            .and_then(TlsServer::reload_if_changed)
    }

    /// When the first of the certificates in use expires.
    pub fn not_after(&self) -> SystemTime {
        let shared = self.0.load();
        let tls = shared.tls.as_ref();
        tls.map_or(SystemTime::UNIX_EPOCH, TlsServer::not_after)
    }

    /// Whole days until then; 0 on the last day, negative afterwards.
    pub fn days_left(&self) -> i64 {
        const DAY: u64 = 86_400;
        let days = |distance: Duration| i64::try_from(distance.as_secs() / DAY).unwrap_or(i64::MAX);
        match self.not_after().duration_since(SystemTime::now()) {
            Ok(left) => days(left),
            Err(past) => -1 - days(past.duration()),
        }
    }
}
