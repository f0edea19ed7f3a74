//! What the clients of one cycle share, and the book of everything that went wrong.
//!
//! Deliberately absent: what is right; each client judges what it sees itself.

use super::random::Random;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An acknowledged message never came.
    Lost,
    /// A QoS 2 message came twice.
    Duplicated,
    /// A message came after a later one of its stream, for the first time.
    Order,
    /// A message came that is not what was sent.
    Corrupt,
    /// An acknowledged session is gone.
    Session,
    /// An acknowledged subscription is gone, or an ended one is back.
    Subscription,
    /// A retained message is older than an acknowledged one, or gone, or back.
    Retained,
    /// A will did not fire, fired twice, or fired although it was cancelled.
    Will,
    /// The broker said, refused or closed what it must not.
    Protocol,
    /// Something did not end in time.
    Stalled,
    /// The store did not open after damage that it must survive, or opened silently after one that it must not.
    Repair,
}

impl Kind {
    pub(super) const ALL: [Self; 11] = [
        Self::Lost,
        Self::Duplicated,
        Self::Order,
        Self::Corrupt,
        Self::Session,
        Self::Subscription,
        Self::Retained,
        Self::Will,
        Self::Protocol,
        Self::Stalled,
        Self::Repair,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Order => "out of order",
            Self::Corrupt => "corrupt",
            Self::Session => "sessions lost",
            Self::Subscription => "subscriptions wrong",
            Self::Retained => "retained wrong",
            Self::Will => "wills wrong",
            Self::Protocol => "protocol",
            Self::Stalled => "stalled",
            Self::Repair => "repairs wrong",
        }
    }
}

/// How many findings are told in words; all are counted.
const TOLD_MAX: usize = 40;

/// Counts and words of what went wrong.
#[derive(Default)]
pub(super) struct Ledger {
    counts: [AtomicU64; Kind::ALL.len()],
    told: Mutex<Vec<(Kind, String)>>,
}

impl Ledger {
    pub(super) fn find(&self, kind: Kind, what: String) {
        self.count(kind, 1, what);
    }

    /// Books `count` findings of one kind with one line of words.
    pub(super) fn count(&self, kind: Kind, count: u64, what: String) {
        self.counts[kind as usize].fetch_add(count, Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD_MAX {
            told.push((kind, what));
        }
    }

    pub(super) fn counts(&self) -> [u64; Kind::ALL.len()] {
        std::array::from_fn(|kind| self.counts[kind].load(Relaxed))
    }

    pub(super) fn sum(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// The words since the last call.
    pub(super) fn words(&self) -> Vec<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.drain(..)
            .map(|(kind, what)| format!("{}: {what}", kind.name()))
            .collect()
    }
}

/// One cycle: a broker between its start and its death.
pub(super) struct Scene {
    pub(super) port: u16,
    /// Number of the cycle, from 1.
    pub(super) cycle: u64,
    seed: u64,
    /// No new messages: publishers finish what they have begun, subscribers wait for everything.
    pub(super) drain: bool,
    killed: AtomicBool,
    /// For each stream how many messages were sent and acknowledged, once all publishers are done.
    pub(super) expected: OnceLock<Vec<u64>>,
    /// Messages acknowledged to publishers in this cycle.
    pub(super) acknowledged: AtomicU64,
    /// Messages received by subscribers in this cycle.
    pub(super) delivered: AtomicU64,
    pub(super) ledger: std::sync::Arc<Ledger>,
}

impl Scene {
    pub(super) fn new(
        port: u16,
        cycle: u64,
        seed: u64,
        drain: bool,
        ledger: std::sync::Arc<Ledger>,
    ) -> Self {
        Self {
            port,
            cycle,
            seed,
            drain,
            killed: AtomicBool::new(false),
            expected: OnceLock::new(),
            acknowledged: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            ledger,
        }
    }

    /// The broker is about to be killed: whatever ends from here on ends for that reason.
    pub(super) fn kill(&self) {
        self.killed.store(true, SeqCst);
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(SeqCst)
    }

    /// The randomness of one client in this cycle.
    pub(super) fn random(&self, client: u64) -> Random {
        Random::new(self.seed ^ self.cycle << 20 ^ client << 48)
    }
}
