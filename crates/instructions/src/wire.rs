//! What a broker stands on here: streams in memory, a clock that stands still, and an executor that polls what was woken.
//!
//! No runtime drives the tasks, so that what is counted is the broker and hardly anything else, and two runs poll the same
//! tasks in the same order.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use martlet_broker::clock::{Clock, Spawner, Task};
use martlet_storage::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Always the same moment.
pub(crate) struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000)
    }
}

/// Tasks to be polled, by number.
type Queue = Arc<Mutex<VecDeque<usize>>>;

/// Runs tasks when it is told to, as long as any of them is awake.
#[derive(Default)]
pub(crate) struct Executor {
    spawned: Mutex<Vec<Task>>,
    queue: Queue,
    tasks: Mutex<Vec<Option<Running>>>,
}

struct Running {
    task: Task,
    awake: Arc<Awake>,
    waker: Waker,
}

struct Awake {
    task: usize,
    is_queued: AtomicBool,
    queue: Queue,
}

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            lock(&self.queue).push_back(self.task);
        }
    }
}

impl Spawner for Executor {
    fn spawn(&self, task: Task) {
        lock(&self.spawned).push(task);
    }
}

impl Executor {
    /// Forgets the tasks that were spawned and have not run yet.
    pub(crate) fn forget_new_tasks(&self) {
        lock(&self.spawned).clear();
    }

    /// Runs until every task sleeps.
    pub(crate) fn run(&self) {
        let mut tasks = lock(&self.tasks);
        loop {
            for task in lock(&self.spawned).drain(..) {
                let awake = Arc::new(Awake {
                    task: tasks.len(),
                    is_queued: AtomicBool::new(false),
                    queue: Arc::clone(&self.queue),
                });
                awake.wake_by_ref();
                let waker = Waker::from(Arc::clone(&awake));
                tasks.push(Some(Running { task, awake, waker }));
            }
            let Some(next) = lock(&self.queue).pop_front() else {
                return;
            };
            if let Some(Running { task, awake, waker }) = &mut tasks[next] {
                awake.is_queued.store(false, Ordering::Relaxed);
                if task
                    .as_mut()
                    .poll(&mut Context::from_waker(waker))
                    .is_ready()
                {
                    tasks[next] = None;
                }
            }
        }
    }
}

#[derive(Default)]
struct Pipes {
    /// To the broker.
    input: Vec<u8>,
    /// How much of it the broker has read.
    read: usize,
    /// From the broker.
    output: Vec<u8>,
    reader: Option<Waker>,
}

/// One end of a connection in memory: the broker's as a stream, the client's by its other functions.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<Pipes>>);

impl Wire {
    /// Sends to the broker.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let reader = {
            let mut pipes = lock(&self.0);
            pipes.input.extend_from_slice(bytes);
            pipes.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Hands what the broker has sent to `f`, and forgets it.
    pub(crate) fn receive<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        let mut pipes = lock(&self.0);
        let result = f(&pipes.output);
        pipes.output.clear();
        result
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipes = lock(&self.0);
        let waiting = &pipes.input[pipes.read..];
        if waiting.is_empty() {
            pipes.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..taken]);
        pipes.read += taken;
        if pipes.read == pipes.input.len() {
            pipes.input.clear();
            pipes.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pipes = lock(&self.0);
        for slice in slices {
            pipes.output.extend_from_slice(slice);
        }
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
