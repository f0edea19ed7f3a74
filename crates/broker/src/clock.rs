//! Time and tasks from outside, so that the broker runs unchanged in a deterministic simulator.

use std::{
    future::Future,
    pin::Pin,
    time::{SystemTime, UNIX_EPOCH},
};

use martlet_storage::Timestamp;

/// A boxed task.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the broker reads the time.
pub trait Clock: Send + Sync {
    /// Now; never goes backwards.
    fn now(&self) -> Timestamp;
}

/// Where the broker runs its tasks.
pub trait Spawner: Send + Sync {
    /// Starts `task`.
    fn spawn(&self, task: Task);
}

/// Wall time at the start plus tokio's monotonic clock, so that a changed system clock moves no deadline and a
/// paused tokio clock is virtual time.
pub(crate) struct TokioClock {
    started: tokio::time::Instant,
    started_at: Timestamp,
}

impl TokioClock {
    pub(crate) fn new() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: tokio::time::Instant::now(),
            started_at: Timestamp::from_millis(
                u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            ),
        }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.started_at.plus_millis(elapsed)
    }
}

/// Spawns on the runtime the broker was started on.
pub(crate) struct TokioSpawner(pub(crate) tokio::runtime::Handle);

impl Spawner for TokioSpawner {
    fn spawn(&self, task: Task) {
        self.0.spawn(task);
    }
}
