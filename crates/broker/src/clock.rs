//! Time and tasks from outside, so that the broker runs unchanged in a deterministic simulator.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use martlet_storage::Timestamp;

/// A boxed task.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A boxed piece of work that may block.
pub type Job = Box<dyn FnOnce() + Send>;

/// Where the broker reads the time.
pub trait Clock: Send + Sync {
    /// Now; never goes backwards.
    fn now(&self) -> Timestamp;
}

/// Where the broker runs its tasks.
pub trait Spawner: Send + Sync {
    /// Starts `task`.
    fn spawn(&self, task: Task);

    /// Runs `job`, which may block on a disk, where it holds up no task. Default: a thread of its own.
    fn spawn_blocking(&self, job: Job) {
        std::thread::spawn(job);
    }
}

/// Holds the time at `floor` until it catches up: boards without a clock start in the past, and stored times must not
/// lie in the future.
pub(crate) struct Floored {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) floor: Timestamp,
}

impl Clock for Floored {
    fn now(&self) -> Timestamp {
        self.clock.now().max(self.floor)
    }
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

    fn spawn_blocking(&self, job: Job) {
        self.0.spawn_blocking(job);
    }
}
