//! The threads of a broker, simulated: tasks and blocking work run on stacks of their own, all on one real thread, and
//! each step the dice choose who goes on. A task gives way at every await, and by chance wherever a lock is taken or
//! released, so that several tasks can be in the middle of a poll at once, as on a runtime with many threads.
//!
//! Deliberately absent: what the tasks are.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use generator::{Generator, Gn};
use martlet_broker::clock::{Job, Spawner, Task};
use martlet_sync::simulated::Scheduler;

use crate::{dice::Dice, time::Time};

/// Stack of a simulated thread, in machine words; pages that are never touched take no memory.
const STACK_WORDS: usize = 64 << 10;

/// Steps for which others go on, at most, while a thread is put aside.
const ASIDE_STEPS: usize = 300;

/// Runs work that comes through [`HANDED`], piece after piece.
type Fiber = Generator<'static, (), Turn>;

/// Why a fiber gave the real thread back.
enum Turn {
    /// Its work is done; it takes more.
    Done,
    /// It can go on at any time.
    Ready,
    /// Others go on for so many steps, as when the machine takes a thread's processor away.
    Aside(usize),
    /// It waits for the flag, or for the time.
    Parked(Arc<AtomicBool>, Option<Duration>),
}

/// What a fiber is to do.
enum Work {
    Poll(Arc<Entry>),
    Run(Job),
}

thread_local! {
    static HANDED: RefCell<Option<Work>> = const { RefCell::new(None) };
    /// Fibers without work, kept from one broker to the next.
    static IDLE: RefCell<Vec<Fiber>> = const { RefCell::new(Vec::new()) };
    /// The fiber that runs, 0 outside of all.
    static RUNNING: Cell<u64> = const { Cell::new(0) };
    /// The first panic of a piece of work, in words.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A task and its waker.
struct Entry {
    number: u64,
    future: Mutex<Option<Task>>,
    /// Whether it has come to its end.
    done: AtomicBool,
    /// Whether it is queued for a poll; a wake during its poll queues it again.
    queued: AtomicBool,
    woken: Arc<Mutex<VecDeque<Arc<Entry>>>>,
}

impl Wake for Entry {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            locked(&self.woken).push_back(Arc::clone(self));
        }
    }
}

/// A standard lock, whose holders never give way and never panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Somebody who can go on, or waits to.
struct Suspended {
    fiber: Fiber,
    number: u64,
    /// The task it polls; never polled by two at once.
    task: Option<u64>,
}

struct Parked {
    who: Suspended,
    woken: Arc<AtomicBool>,
    deadline: Option<Duration>,
}

#[derive(Default)]
struct Queues {
    tasks: Vec<Arc<Entry>>,
    /// Queued tasks that are still in the middle of a poll.
    busy: Vec<Arc<Entry>>,
    fibers: Vec<Suspended>,
    /// Who can go on, but not before this step, unless nobody else can.
    aside: Vec<(u64, Suspended)>,
    parked: Vec<Parked>,
    jobs: VecDeque<Work>,
}

impl Queues {
    /// Lets those go on whose time aside ends with `step`, or the one who has waited longest if nobody else can.
    fn bring_back(&mut self, step: u64) {
        let due = self.aside.extract_if(.., |(until, _)| *until <= step);
        self.fibers.extend(due.map(|(_, who)| who));
        if self.fibers.is_empty()
            && self.tasks.is_empty()
            && self.jobs.is_empty()
            && !self.aside.is_empty()
        {
            self.fibers.push(self.aside.remove(0).1);
        }
    }
}

/// The simulated threads of one broker.
pub(crate) struct Executor {
    dice: Rc<Dice>,
    time: Arc<Time>,
    queues: RefCell<Queues>,
    woken: Arc<Mutex<VecDeque<Arc<Entry>>>>,
    spawned: Arc<Mutex<VecDeque<Work>>>,
    /// Every task that is alive, for the end.
    alive: Arc<Mutex<Vec<Arc<Entry>>>>,
    /// A lock gives way once in so many times; 0 for never.
    switch_once_in: Cell<usize>,
    /// Who gives way at a lock is put aside once in so many times; 0 for never.
    aside_once_in: usize,
    steps: Cell<u64>,
    fibers_made: Cell<u64>,
    /// Locks taken and released, and awaits: where somebody else could have gone on.
    pub(crate) points: Cell<u64>,
}

/// What the broker is given to spawn with.
struct Handle {
    woken: Arc<Mutex<VecDeque<Arc<Entry>>>>,
    spawned: Arc<Mutex<VecDeque<Work>>>,
    alive: Arc<Mutex<Vec<Arc<Entry>>>>,
    numbers: Mutex<u64>,
}

impl Spawner for Handle {
    fn spawn(&self, task: Task) {
        let number = {
            let mut numbers = locked(&self.numbers);
            *numbers += 1;
            *numbers
        };
        let entry = Arc::new(Entry {
            number,
            future: Mutex::new(Some(task)),
            done: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            woken: Arc::clone(&self.woken),
        });
        {
            let mut alive = locked(&self.alive);
            alive.retain(|entry| !entry.done.load(Ordering::Acquire));
            alive.push(Arc::clone(&entry));
        }
        entry.wake();
    }

    fn spawn_blocking(&self, job: Job) {
        locked(&self.spawned).push_back(Work::Run(job));
    }
}

impl Executor {
    pub(crate) fn new(dice: Rc<Dice>, time: Arc<Time>) -> Rc<Self> {
        // Some runs switch at every other lock, some nearly never.
        let switch_once_in = dice.pick(&[0, 3, 10, 30, 100, 300]);
        let aside_once_in = dice.pick(&[0, 2, 10]);
        Rc::new(Self {
            dice,
            time,
            queues: RefCell::default(),
            woken: Arc::default(),
            spawned: Arc::default(),
            alive: Arc::default(),
            switch_once_in: Cell::new(switch_once_in),
            aside_once_in,
            steps: Cell::new(0),
            fibers_made: Cell::new(0),
            points: Cell::new(0),
        })
    }

    /// For [`martlet_broker::Builder::spawner`].
    pub(crate) fn spawner(&self) -> Arc<dyn Spawner> {
        Arc::new(Handle {
            woken: Arc::clone(&self.woken),
            spawned: Arc::clone(&self.spawned),
            alive: Arc::clone(&self.alive),
            numbers: Mutex::new(0),
        })
    }

    /// Lets somebody go on; `false` when nobody can.
    pub(crate) fn step(&self) -> bool {
        self.collect();
        self.steps.set(self.steps.get() + 1);
        let chosen = {
            let mut queues = self.queues.borrow_mut();
            queues.bring_back(self.steps.get());
            let all = queues.tasks.len() + queues.fibers.len() + queues.jobs.len();
            if all == 0 {
                return false;
            }
            let at = self.dice.roll(all);
            if at < queues.tasks.len() {
                let entry = queues.tasks.remove(at);
                Ok(Work::Poll(entry))
            } else if at < queues.tasks.len() + queues.fibers.len() {
                let at = at - queues.tasks.len();
                Err(queues.fibers.remove(at))
            } else {
                match queues.jobs.pop_front() {
                    Some(work) => Ok(work),
                    None => return false,
                }
            }
        };
        match chosen {
            Ok(work) => self.begin(work),
            Err(suspended) => self.resume(suspended),
        }
        true
    }

    /// Takes over what was woken and spawned, and what its time has come for.
    fn collect(&self) {
        let mut queues = self.queues.borrow_mut();
        queues.jobs.extend(locked(&self.spawned).drain(..));
        let mut woken: Vec<_> = std::mem::take(&mut queues.busy);
        woken.extend(locked(&self.woken).drain(..));
        for entry in woken {
            let in_poll = |suspended: &Suspended| suspended.task == Some(entry.number);
            if queues.fibers.iter().any(in_poll)
                || queues.aside.iter().any(|(_, who)| in_poll(who))
                || queues.parked.iter().any(|parked| in_poll(&parked.who))
            {
                queues.busy.push(entry);
            } else {
                queues.tasks.push(entry);
            }
        }
        let now = self.time.now();
        let mut at = 0;
        while let Some(parked) = queues.parked.get(at) {
            if parked.woken.load(Ordering::Acquire)
                || parked.deadline.is_some_and(|deadline| deadline <= now)
            {
                let parked = queues.parked.remove(at);
                queues.fibers.push(parked.who);
            } else {
                at += 1;
            }
        }
    }

    fn begin(&self, work: Work) {
        let task = match &work {
            Work::Poll(entry) => Some(entry.number),
            Work::Run(_) => None,
        };
        let fiber = IDLE
            .with(|idle| idle.borrow_mut().pop())
            .unwrap_or_else(new_fiber);
        HANDED.with(|handed| *handed.borrow_mut() = Some(work));
        self.fibers_made.set(self.fibers_made.get() + 1);
        self.resume(Suspended {
            fiber,
            number: self.fibers_made.get(),
            task,
        });
    }

    fn resume(&self, mut suspended: Suspended) {
        let outer = RUNNING.replace(suspended.number);
        let turn = suspended.fiber.resume();
        RUNNING.set(outer);
        self.points.set(self.points.get() + 1);
        match turn {
            Some(Turn::Done) => IDLE.with(|idle| idle.borrow_mut().push(suspended.fiber)),
            Some(Turn::Ready) => self.queues.borrow_mut().fibers.push(suspended),
            Some(Turn::Aside(steps)) => {
                let until = self.steps.get() + steps as u64;
                self.queues.borrow_mut().aside.push((until, suspended));
            }
            Some(Turn::Parked(woken, deadline)) => {
                self.queues.borrow_mut().parked.push(Parked {
                    who: suspended,
                    woken,
                    deadline,
                });
            }
            // A fiber ends only when it is dropped.
            None => {}
        }
    }

    /// Ends everything: whoever is between two locks goes on to its next await, then all tasks are dropped,
    /// and what `release` lets go of.
    pub(crate) fn finish(&self, release: impl FnOnce()) {
        self.switch_once_in.set(0);
        // Critical sections are short and never wait for anything but locks.
        self.settle();
        let alive = std::mem::take(&mut *locked(&self.alive));
        for entry in alive {
            let future = locked(&entry.future).take();
            drop(future);
        }
        release();
        self.settle();
    }

    /// Lets those go on who are in the middle of something.
    fn settle(&self) {
        for _ in 0..1_000_000 {
            self.collect();
            let next = {
                let mut queues = self.queues.borrow_mut();
                queues.bring_back(u64::MAX);
                if queues.fibers.is_empty() {
                    queues.jobs.pop_front().map(Ok)
                } else {
                    Some(Err(queues.fibers.remove(0)))
                }
            };
            match next {
                Some(Ok(work)) => self.begin(work),
                Some(Err(suspended)) => self.resume(suspended),
                None => return,
            }
        }
    }

    /// Who is where, for the report of a run that does not settle.
    pub(crate) fn describe(&self) -> String {
        let queues = self.queues.borrow();
        format!(
            "{} tasks ready, {} busy, {} between locks, {} parked, {} alive",
            queues.tasks.len(),
            queues.busy.len(),
            queues.fibers.len() + queues.aside.len(),
            queues.parked.len(),
            locked(&self.alive).len()
        )
    }

    fn leave(turn: Turn) {
        #[expect(
            deprecated,
            reason = "the scope that replaces it cannot be reached from within a lock"
        )]
        generator::yield_with(turn);
    }
}

impl Scheduler for Executor {
    fn point(&self) {
        let once_in = self.switch_once_in.get();
        if once_in > 0 && RUNNING.get() != 0 && self.dice.once_in(once_in) {
            let aside = self.aside_once_in > 0 && self.dice.once_in(self.aside_once_in);
            Self::leave(if aside {
                Turn::Aside(self.dice.roll(ASIDE_STEPS))
            } else {
                Turn::Ready
            });
        }
    }

    fn give_way(&self) {
        if RUNNING.get() != 0 {
            Self::leave(Turn::Ready);
        } else {
            // Outside of all threads, at the end of a broker: whoever it waits for runs now.
            self.settle();
        }
    }

    fn park(&self, woken: &Arc<AtomicBool>, deadline: Option<Duration>) {
        if RUNNING.get() != 0 {
            Self::leave(Turn::Parked(Arc::clone(woken), deadline));
        } else {
            self.settle();
        }
    }

    fn spawn(&self, body: Box<dyn FnOnce() + Send>) {
        locked(&self.spawned).push_back(Work::Run(body));
    }

    fn now(&self) -> Duration {
        self.time.now()
    }

    fn current(&self) -> u64 {
        RUNNING.get()
    }
}

fn new_fiber() -> Fiber {
    Gn::new_opt(STACK_WORDS, || {
        loop {
            let work = HANDED.with(|handed| handed.borrow_mut().take());
            if let Some(work) = work
                && let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(work)))
            {
                let text = panic_text(&*panic);
                PANIC.with(|first| {
                    first.borrow_mut().get_or_insert(text);
                });
            }
            Executor::leave(Turn::Done);
        }
    })
}

fn run(work: Work) {
    match work {
        Work::Run(job) => job(),
        Work::Poll(entry) => {
            entry.queued.store(false, Ordering::Release);
            let Some(mut future) = locked(&entry.future).take() else {
                return;
            };
            let waker = Waker::from(Arc::clone(&entry));
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled == Poll::Pending {
                *locked(&entry.future) = Some(future);
            } else {
                entry.done.store(true, Ordering::Release);
            }
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// The first panic of the broker on this thread since the last call.
pub(crate) fn take_panic() -> Option<String> {
    PANIC.with(|first| first.borrow_mut().take())
}

/// Lets go of the stacks of this thread.
pub(crate) fn release_fibers() {
    let idle = IDLE.with(|idle| std::mem::take(&mut *idle.borrow_mut()));
    drop(idle);
}
