//! Virtual time: one number that the broker's clock, the committer's and tokio's timers all follow.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use martlet_broker::clock::Clock;
use martlet_storage::Timestamp;

/// When runs begin, in milliseconds since 1970.
const BEGINNING: u64 = 1_800_000_000_000;

/// Milliseconds since the run began.
#[derive(Default)]
pub(crate) struct Time(AtomicU64);

impl Time {
    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.millis())
    }

    pub(crate) fn millis(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Lets `millis` pass, and wakes what waited for them on `timers`.
    pub(crate) fn advance(&self, millis: u64, timers: &tokio::runtime::Runtime) {
        self.0.fetch_add(millis, Ordering::AcqRel);
        timers.block_on(tokio::time::advance(Duration::from_millis(millis)));
    }
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(BEGINNING + self.millis())
    }
}

/// A runtime that only has timers, whose clock stands still.
///
/// # Errors
/// The operating system refuses it.
pub(crate) fn timers() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
}
