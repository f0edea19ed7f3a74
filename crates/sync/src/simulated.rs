//! Locks, threads and time under a [`Scheduler`]: the interfaces of parking_lot and of the standard library, as far as
//! the code above uses them. On a thread without a scheduler locks are plain locks.

use std::{
    cell::RefCell,
    ops::{Add, Deref, DerefMut},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Who decides which simulated thread goes on. All of them share one real thread.
pub trait Scheduler {
    /// A lock is about to be taken, or was just released: others may go first.
    fn point(&self);
    /// The caller cannot go on until somebody else has: others go first.
    fn give_way(&self);
    /// Waits until `woken` is set, or until `deadline` of the virtual time since the start.
    fn park(&self, woken: &Arc<AtomicBool>, deadline: Option<Duration>);
    /// Starts a simulated thread.
    fn spawn(&self, body: Box<dyn FnOnce() + Send>);
    /// Virtual time since the start.
    fn now(&self) -> Duration;
    /// The simulated thread that asks; 0 outside of all.
    fn current(&self) -> u64;
}

thread_local! {
    static SCHEDULER: RefCell<Option<Rc<dyn Scheduler>>> = const { RefCell::new(None) };
}

/// Lets `scheduler` decide on this thread from here on; `None` ends that.
pub fn install(scheduler: Option<Rc<dyn Scheduler>>) {
    SCHEDULER.with(|slot| *slot.borrow_mut() = scheduler);
}

fn scheduler() -> Option<Rc<dyn Scheduler>> {
    SCHEDULER.with(|slot| slot.borrow().clone())
}

/// A schedule point, where there is a scheduler. Nothing is switched while a panic unwinds.
pub fn point() {
    if !std::thread::panicking()
        && let Some(scheduler) = scheduler()
    {
        scheduler.point();
    }
}

/// Lets others go on, whatever the scheduler thinks of it.
pub fn give_way() {
    match scheduler() {
        Some(scheduler) => scheduler.give_way(),
        None => std::thread::yield_now(),
    }
}

/// Tries until it succeeds, others in between.
fn acquire<G>(mut attempt: impl FnMut() -> Option<G>) -> G {
    point();
    loop {
        if let Some(guard) = attempt() {
            return guard;
        }
        give_way();
    }
}

/// A lock; taking and releasing it are schedule points.
#[derive(Debug, Default)]
pub struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// Takes the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            lock: &self.0,
            guard: Some(acquire(|| self.0.try_lock())),
        }
    }

    /// Takes the lock if it is open.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        point();
        let guard = self.0.try_lock()?;
        Some(MutexGuard {
            lock: &self.0,
            guard: Some(guard),
        })
    }

    /// The value, which nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// The value, without the lock.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

/// What a taken [`Mutex`] guards.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    lock: &'a parking_lot::Mutex<T>,
    /// Empty only while a [`Condvar`] waits, and at the end.
    guard: Option<parking_lot::MutexGuard<'a, T>>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.guard {
            Some(guard) => guard,
            None => unreachable!("the lock is held while the guard can be reached"),
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.guard {
            Some(guard) => guard,
            None => unreachable!("the lock is held while the guard can be reached"),
        }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        point();
    }
}

/// A lock for readers and a writer; taking and releasing it are schedule points.
#[derive(Debug, Default)]
pub struct RwLock<T>(parking_lot::RwLock<T>);

/// What a taken [`RwLock`] guards.
#[derive(Debug)]
pub struct RwGuard<G>(Option<G>);

impl<T> RwLock<T> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::RwLock::new(value))
    }

    /// Takes the lock as one of its readers.
    pub fn read(&self) -> RwGuard<parking_lot::RwLockReadGuard<'_, T>> {
        RwGuard(Some(acquire(|| self.0.try_read())))
    }

    /// Takes the lock as its writer.
    pub fn write(&self) -> RwGuard<parking_lot::RwLockWriteGuard<'_, T>> {
        RwGuard(Some(acquire(|| self.0.try_write())))
    }
}

impl<G: Deref> Deref for RwGuard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        match &self.0 {
            Some(guard) => guard,
            None => unreachable!("the lock is held until the guard is dropped"),
        }
    }
}

impl<G: DerefMut> DerefMut for RwGuard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        match &mut self.0 {
            Some(guard) => guard,
            None => unreachable!("the lock is held until the guard is dropped"),
        }
    }
}

impl<G> Drop for RwGuard<G> {
    fn drop(&mut self) {
        self.0 = None;
        point();
    }
}

/// A condition to wait for.
#[derive(Debug, Default)]
pub struct Condvar(parking_lot::Mutex<Vec<Arc<AtomicBool>>>);

/// Whether a wait ended because its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether it did.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition that nobody waits for.
    pub const fn new() -> Self {
        Self(parking_lot::Mutex::new(Vec::new()))
    }

    /// Wakes the one who has waited longest.
    pub fn notify_one(&self) {
        let mut waiting = self.0.lock();
        if !waiting.is_empty() {
            waiting.remove(0).store(true, Ordering::Release);
        }
    }

    /// Wakes everybody.
    pub fn notify_all(&self) {
        for waiting in self.0.lock().drain(..) {
            waiting.store(true, Ordering::Release);
        }
    }

    /// Waits, with the lock released meanwhile.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_deadline(guard, None);
    }

    /// Waits for at most `time`.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> WaitTimeoutResult {
        self.wait_until(guard, Instant::now() + time)
    }

    /// Waits until `deadline` at most.
    pub fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        self.wait_deadline(guard, Some(deadline.0))
    }

    fn wait_deadline<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Duration>,
    ) -> WaitTimeoutResult {
        let woken = Arc::new(AtomicBool::new(false));
        self.0.lock().push(Arc::clone(&woken));
        guard.guard = None;
        match scheduler() {
            Some(scheduler) => scheduler.park(&woken, deadline),
            None => {
                while !woken.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            }
        }
        self.0
            .lock()
            .retain(|waiting| !Arc::ptr_eq(waiting, &woken));
        guard.guard = Some(acquire(|| guard.lock.try_lock()));
        WaitTimeoutResult(!woken.load(Ordering::Acquire))
    }
}

/// A moment of the virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// Now.
    pub fn now() -> Self {
        Self(scheduler().map_or(Duration::ZERO, |scheduler| scheduler.now()))
    }

    /// Time since then.
    pub fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

/// Simulated threads, as `std::thread` names things.
pub mod thread {
    use super::{
        Arc, AtomicBool, Condvar, Duration, Instant, Mutex, Ordering, give_way, scheduler,
    };
    use std::{io, sync::atomic::AtomicU64};

    /// Makes a thread.
    #[derive(Debug, Default)]
    pub struct Builder(());

    /// Waits for a thread.
    #[derive(Debug)]
    pub struct JoinHandle<T> {
        done: Arc<AtomicBool>,
        thread: Thread,
        result: std::marker::PhantomData<T>,
    }

    /// A thread.
    #[derive(Clone, Debug)]
    pub struct Thread(Arc<AtomicU64>);

    /// Which thread.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ThreadId(u64);

    impl Thread {
        /// Which.
        pub fn id(&self) -> ThreadId {
            ThreadId(self.0.load(Ordering::Acquire))
        }
    }

    impl Builder {
        /// Begins.
        pub fn new() -> Self {
            Self::default()
        }

        /// Threads of the simulator have no names.
        pub fn name(self, _name: String) -> Self {
            self
        }

        /// Starts `body`.
        ///
        /// # Errors
        /// There is no scheduler.
        pub fn spawn(self, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
            let done = Arc::new(AtomicBool::new(false));
            let number = Arc::new(AtomicU64::new(u64::MAX));
            let thread = Thread(Arc::clone(&number));
            let finished = Arc::clone(&done);
            let scheduler = scheduler().ok_or_else(|| io::Error::other("no scheduler"))?;
            scheduler.spawn(Box::new(move || {
                number.store(current().id().0, Ordering::Release);
                body();
                finished.store(true, Ordering::Release);
            }));
            Ok(JoinHandle {
                done,
                thread,
                result: std::marker::PhantomData,
            })
        }
    }

    impl<T> JoinHandle<T> {
        /// The thread.
        pub fn thread(&self) -> &Thread {
            &self.thread
        }

        /// Waits for its end.
        ///
        /// # Errors
        /// None; a panic of a simulated thread is the simulator's business.
        pub fn join(self) -> std::thread::Result<()> {
            while !self.done.load(Ordering::Acquire) {
                give_way();
            }
            Ok(())
        }
    }

    /// The thread that asks.
    pub fn current() -> Thread {
        let number = scheduler().map_or(0, |scheduler| scheduler.current());
        Thread(Arc::new(AtomicU64::new(number)))
    }

    /// Sleeps in virtual time.
    pub fn sleep(time: Duration) {
        let lock = Mutex::new(());
        Condvar::new().wait_until(&mut lock.lock(), Instant::now() + time);
    }
}
