//! Bugs that the simulator plants to prove that it finds them. Without `--cfg martlet_simulate` none can be planted:
//! [`Planted::is_active`] is a constant.

/// One planted bug. The rules are those of ARCHITECTURE.md and of the durability contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Acknowledgements leave before their batch is committed.
    EarlyAcknowledgement,
    /// PUBREL leaves before "released" is committed.
    EarlyPubRel,
    /// A message is offered before the batch with its row is submitted, so that its acknowledgement can come first.
    AcknowledgedBeforeInserted,
    /// A connection comes to rest outside of the lock, and what is appended in between wakes nobody.
    LostWake,
    /// PUBREC frees a packet identifier that belongs to the exchange until PUBCOMP.
    ReusedIdentifier,
    /// References to bodies are counted where batches are submitted, so that a body goes while a queue still names it.
    RacedReferences,
    /// A takeover discards what the session's publications were still waiting to deliver.
    TakeoverDropsGated,
    /// A message of a share group moves to another member and stays with the first as well.
    DoubledShareMove,
    /// The retained messages of a topic are read for a new subscriber before it is subscribed.
    StaleRetained,
    /// The rows of a session that a clean start ended stay in the store.
    DeadIncarnation,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::EarlyAcknowledgement,
        Self::EarlyPubRel,
        Self::AcknowledgedBeforeInserted,
        Self::LostWake,
        Self::ReusedIdentifier,
        Self::RacedReferences,
        Self::TakeoverDropsGated,
        Self::DoubledShareMove,
        Self::StaleRetained,
        Self::DeadIncarnation,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EarlyAcknowledgement => "early-acknowledgement",
            Self::EarlyPubRel => "early-pubrel",
            Self::AcknowledgedBeforeInserted => "acknowledged-before-inserted",
            Self::LostWake => "lost-wake",
            Self::ReusedIdentifier => "reused-identifier",
            Self::RacedReferences => "raced-references",
            Self::TakeoverDropsGated => "takeover-drops-gated",
            Self::DoubledShareMove => "doubled-share-move",
            Self::StaleRetained => "stale-retained",
            Self::DeadIncarnation => "dead-incarnation",
        }
    }

    /// Whether this run is to have it.
    #[cfg(not(martlet_simulate))]
    pub const fn is_active(self) -> bool {
        false
    }

    /// Whether this run is to have it.
    #[cfg(martlet_simulate)]
    pub fn is_active(self) -> bool {
        ACTIVE.get() == Some(self)
    }

    /// Plants `bug` in everything that runs on this thread from here on.
    #[cfg(martlet_simulate)]
    pub fn plant(bug: Option<Self>) {
        ACTIVE.set(bug);
    }
}

#[cfg(martlet_simulate)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}
