//! The group committer: one thread, one synced write for everything that gathered meanwhile, one watermark.
//!
//! While one group is being synced the next one gathers, so load sets the size of groups and an idle broker
//! waits for one sync only. Deliberately absent: a future per message; whoever waits compares numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use martlet_sync::{Condvar, Instant, Mutex, thread};

use super::{CommitListener, CommitStats, Committer};
use crate::backend::{Storage, StorageError};
use crate::op::StoreOp;
use crate::planner::{Group, Planner};
use crate::{Lsn, Message, MessageId, Timestamp};

/// When written batches are made to survive a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before they are acknowledged.
    Always,
    /// This long after, at most; acknowledged when the process may die.
    Interval(Duration),
    /// When the operating system likes.
    Never,
}

/// How a [`GroupCommitter`] works.
#[derive(Clone, Debug)]
pub struct CommitOptions {
    /// Default [`Fsync::Always`].
    pub fsync: Fsync,
    /// How long a group is left to grow before it is written. Default zero: the write itself is long enough
    /// for the next group to gather.
    pub linger: Duration,
    /// The time of the last commit is written at least this often, so that after a crash it is known when
    /// sessions were last connected. Not synced on its own. Default one second.
    pub heartbeat: Duration,
    /// How long to wait before a full store is tried again, and the longest wait for one that cannot be reached, whose
    /// waits begin with a sixteenth of it and double. Default one second.
    pub retry_after: Duration,
    /// Name of the thread. Default `martlet-store`.
    pub thread_name: String,
}

/// The first wait for a store that is away, as a part of the longest.
const BACK_OFF_STEPS: u32 = 16;

impl Default for CommitOptions {
    fn default() -> Self {
        Self {
            fsync: Fsync::Always,
            linger: Duration::ZERO,
            heartbeat: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
            thread_name: "martlet-store".to_owned(),
        }
    }
}

/// A committer with a thread of its own. Dropping it commits what was submitted and ends the thread.
pub struct GroupCommitter<S> {
    shared: Arc<Shared<S>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared<S> {
    storage: S,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    inbox: Mutex<Inbox>,
    /// Something was submitted, or the end has come.
    work: Condvar,
    /// The watermark moved, or never will again.
    moved: Condvar,
    watermark: AtomicU64,
    backlog: AtomicUsize,
    listener: Mutex<Option<Arc<dyn CommitListener>>>,
    stats: Mutex<CommitStats>,
}

struct Inbox {
    batches: Vec<(Lsn, Vec<StoreOp>)>,
    next: Lsn,
    stopping: bool,
    failed: bool,
    /// The committer sleeps and must be woken.
    idle: bool,
}

impl<S: Storage> GroupCommitter<S> {
    /// Starts the thread, going on where `planner`, from [`crate::load`], ended. `clock` dates the batches.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub fn start(
        storage: S,
        planner: Planner,
        options: CommitOptions,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let lsn = planner.meta().lsn;
        let inbox = Inbox {
            batches: Vec::new(),
            next: lsn.next(),
            stopping: false,
            failed: false,
            idle: false,
        };
        let shared = Arc::new(Shared {
            storage,
            clock: Box::new(clock),
            inbox: Mutex::new(inbox),
            work: Condvar::new(),
            moved: Condvar::new(),
            watermark: AtomicU64::new(lsn.get()),
            backlog: AtomicUsize::new(0),
            listener: Mutex::new(None),
            stats: Mutex::default(),
        });
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(options.thread_name.clone())
            .spawn(move || {
                let worker = Worker {
                    shared: &of_thread,
                    planner,
                    options,
                    dirty: None,
                    low: false,
                };
                // A panic must not leave waiters waiting for a thread that is gone.
                let end = catch_unwind(AssertUnwindSafe(|| worker.run()));
                match end {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => of_thread.fail(&error.to_string()),
                    Err(panic) => {
                        of_thread.fail(&format!("the committer panicked: {}", panic_text(&*panic)));
                    }
                }
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The backend, for reading.
    pub fn storage(&self) -> &S {
        &self.shared.storage
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

impl<S> Shared<S> {
    /// Stops acknowledging for ever.
    fn fail(&self, error: &str) {
        {
            let mut inbox = self.inbox.lock();
            inbox.failed = true;
            inbox.batches = Vec::new();
        }
        self.backlog.store(0, Ordering::Release);
        self.moved.notify_all();
        if let Some(listener) = self.listener.lock().clone() {
            // The listener's own panic must not hide the failure from `flush`, which was told above.
            let _ = catch_unwind(AssertUnwindSafe(|| listener.failed(error)));
        }
    }

    fn listener(&self) -> Option<Arc<dyn CommitListener>> {
        self.listener.lock().clone()
    }
}

/// The committer's thread.
struct Worker<'a, S> {
    shared: &'a Shared<S>,
    planner: Planner,
    options: CommitOptions,
    /// When the oldest write that is not synced was made.
    dirty: Option<Instant>,
    /// Whether the listener was told that room is running out.
    low: bool,
}

impl<S: Storage> Worker<'_, S> {
    fn run(mut self) -> Result<(), StorageError> {
        loop {
            let (batches, stopping) = self.gather();
            if batches.is_empty() {
                if stopping {
                    return if self.dirty.is_some() {
                        self.shared.storage.sync()
                    } else {
                        Ok(())
                    };
                }
                self.idle_turn()?;
                continue;
            }
            self.commit(batches)?;
        }
    }

    /// Sleeps until there is work, or until the heartbeat or a pending sync is due.
    fn gather(&mut self) -> (Vec<(Lsn, Vec<StoreOp>)>, bool) {
        let mut inbox = self.shared.inbox.lock();
        if inbox.batches.is_empty() && !inbox.stopping {
            let mut wait = self.options.heartbeat;
            if let (Some(dirty), Fsync::Interval(every)) = (self.dirty, self.options.fsync) {
                wait = wait.min(every.saturating_sub(dirty.elapsed()));
            }
            inbox.idle = true;
            self.shared.work.wait_for(&mut inbox, wait);
            inbox.idle = false;
        }
        if !inbox.batches.is_empty() && !inbox.stopping && !self.options.linger.is_zero() {
            drop(inbox);
            thread::sleep(self.options.linger);
            inbox = self.shared.inbox.lock();
        }
        (std::mem::take(&mut inbox.batches), inbox.stopping)
    }

    /// Nothing was submitted for a while.
    fn idle_turn(&mut self) -> Result<(), StorageError> {
        self.sync_if_due()?;
        let now = (self.shared.clock)();
        if now.millis_since(self.planner.meta().committed)
            >= self.options.heartbeat.as_millis() as u64
        {
            let writes = self.planner.finish(Group::default(), now);
            self.apply(&writes)?;
            self.look_for_room();
        }
        Ok(())
    }

    fn look_for_room(&mut self) {
        let why = self.shared.storage.low();
        // Until somebody listens it counts as not told.
        if why.is_some() != self.low
            && let Some(listener) = self.shared.listener()
        {
            self.low = why.is_some();
            listener.low(why.as_deref());
        }
    }

    fn commit(&mut self, batches: Vec<(Lsn, Vec<StoreOp>)>) -> Result<(), StorageError> {
        let Some(last) = batches.last().map(|(lsn, _)| *lsn) else {
            return Ok(());
        };
        let begin = Instant::now();
        let count = batches.len() as u64;
        let mut group = Group::default();
        let mut weight = 0;
        for (lsn, ops) in batches {
            weight += batch_weight(&ops);
            self.planner.add(lsn, ops, &mut group);
        }
        let writes = self.planner.finish(group, (self.shared.clock)());
        self.apply(&writes)?;
        self.look_for_room();
        match self.options.fsync {
            Fsync::Always => self.shared.storage.sync()?,
            Fsync::Interval(_) => {
                self.dirty.get_or_insert_with(Instant::now);
                self.sync_if_due()?;
            }
            Fsync::Never => {}
        }
        {
            let mut stats = self.shared.stats.lock();
            stats
                .commit_micros
                .record(begin.elapsed().as_micros() as u64);
            stats.batches.record(count);
            stats.records += writes.len() as u64;
        }
        {
            // Under the lock, so that nobody misses the move between looking and sleeping.
            let _inbox = self.shared.inbox.lock();
            self.shared.watermark.store(last.get(), Ordering::Release);
            self.shared.backlog.fetch_sub(weight, Ordering::AcqRel);
        }
        self.shared.moved.notify_all();
        if let Some(listener) = self.shared.listener() {
            listener.committed(last);
        }
        Ok(())
    }

    fn sync_if_due(&mut self) -> Result<(), StorageError> {
        if let (Some(dirty), Fsync::Interval(every)) = (self.dirty, self.options.fsync)
            && dirty.elapsed() >= every
        {
            self.shared.storage.sync()?;
            self.dirty = None;
        }
        Ok(())
    }

    /// Applies a group; on a full disk or a store that is away, again and again.
    fn apply(&mut self, writes: &[crate::Write]) -> Result<(), StorageError> {
        let mut stalled = false;
        let mut back_off = self.options.retry_after / BACK_OFF_STEPS;
        loop {
            let (error, wait) = match self.shared.storage.apply(writes) {
                Err(error @ StorageError::NoSpace(_)) => (error, self.options.retry_after),
                Err(error @ StorageError::Unavailable(_)) => {
                    let wait = back_off;
                    back_off = (back_off * 2).min(self.options.retry_after);
                    (error, wait)
                }
                other => {
                    if stalled
                        && other.is_ok()
                        && let Some(listener) = self.shared.listener()
                    {
                        listener.recovered();
                    }
                    return other;
                }
            };
            stalled = true;
            self.shared.stats.lock().stalls += 1;
            if let Some(listener) = self.shared.listener() {
                listener.stalled(&error.to_string());
            }
            // What is brought meanwhile only waits in memory.
            self.look_for_room();
            if self.wait_for_store(wait) {
                return Err(error);
            }
            match self.shared.storage.reopen() {
                // Without reopening, trying the same handle again is all that can be done.
                Ok(())
                | Err(
                    StorageError::Unsupported(_)
                    | StorageError::NoSpace(_)
                    | StorageError::Unavailable(_),
                ) => {}
                Err(other) => return Err(other),
            }
        }
    }

    /// Sleeps; whether the committer is being stopped.
    fn wait_for_store(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut inbox = self.shared.inbox.lock();
        // Submissions wake the thread as well; they do not make room.
        while !inbox.stopping {
            if self
                .shared
                .work
                .wait_until(&mut inbox, deadline)
                .timed_out()
            {
                return false;
            }
        }
        true
    }
}

fn batch_weight(ops: &[StoreOp]) -> usize {
    ops.iter().map(StoreOp::weight_bytes).sum()
}

impl<S: Storage> Committer for GroupCommitter<S> {
    fn submit(&self, batch: Vec<StoreOp>) -> Lsn {
        let weight = batch_weight(&batch);
        let mut inbox = self.shared.inbox.lock();
        let lsn = inbox.next;
        inbox.next = lsn.next();
        if inbox.failed {
            // Nothing will be acknowledged; gathering it would only eat memory.
            return lsn;
        }
        inbox.batches.push((lsn, batch));
        self.shared.backlog.fetch_add(weight, Ordering::AcqRel);
        let idle = inbox.idle;
        drop(inbox);
        if idle {
            self.shared.work.notify_one();
        }
        lsn
    }

    fn watermark(&self) -> Lsn {
        Lsn::new(self.shared.watermark.load(Ordering::Acquire))
    }

    fn set_listener(&self, listener: Arc<dyn CommitListener>) {
        *self.shared.listener.lock() = Some(listener);
    }

    fn backlog_bytes(&self) -> usize {
        self.shared.backlog.load(Ordering::Acquire)
    }

    fn stats(&self) -> CommitStats {
        let mut stats = self.shared.stats.lock().clone();
        stats.backlog_bytes = self.backlog_bytes() as u64;
        stats.usage = self.shared.storage.usage();
        stats
    }

    fn flush(&self) {
        let mut inbox = self.shared.inbox.lock();
        let target = inbox.next.get() - 1;
        while !inbox.failed && self.shared.watermark.load(Ordering::Acquire) < target {
            self.shared.moved.wait(&mut inbox);
        }
    }

    fn read_bodies(
        &self,
        ids: &[MessageId],
        read: &mut dyn FnMut(MessageId, Option<Message>),
    ) -> Result<(), StorageError> {
        for id in ids {
            let mut body = self.shared.storage.read_body(*id)?;
            if body.is_none() {
                // It may have been submitted and not written yet.
                self.flush();
                body = self.shared.storage.read_body(*id)?;
            }
            read(*id, body);
        }
        Ok(())
    }
}

impl<S> Drop for GroupCommitter<S> {
    fn drop(&mut self) {
        self.shared.inbox.lock().stopping = true;
        self.shared.work.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // Its panics were turned into a failure already.
            let _ = thread.join();
        }
    }
}
