//! Which session belongs to which client id, and the one serialised way to take it.
//!
//! A claim holds the client id's turn: the old connection is told, lets go within a bounded time, and only then
//! does the newcomer see the session. Takeover, clean start, expiry and kick all come this way (architecture
//! rule 6), so there is never more than one owner. Deliberately absent: what happens to a session; see `lifecycle`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use martlet_sync::Mutex;
use martlet_topic::TopicHasher;
use tokio::sync::Semaphore;

use crate::session::Session;

/// Shards of the map; a claim touches one.
const SHARDS: usize = 64;

type Shard = Mutex<HashMap<Arc<str>, Arc<Slot>, RandomState>>;

/// Sessions by client id.
pub(crate) struct Directory {
    shards: Box<[Shard]>,
    hasher: TopicHasher,
    sessions: AtomicUsize,
}

/// One client id: whose turn it is, and the session.
struct Slot {
    /// One permit, the turn. Fair: it goes to those who wait in the order they came.
    turn: Semaphore,
    session: Mutex<Option<Arc<Session>>>,
}

/// The turn on a client id; given back on drop.
pub(crate) struct Claim<'a> {
    directory: &'a Directory,
    slot: Arc<Slot>,
    client_id: Arc<str>,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            turn: Semaphore::new(1),
            session: Mutex::default(),
        }
    }
}

impl Directory {
    /// An empty one. `seed` decides which client ids share a shard.
    pub(crate) fn new(seed: u64) -> Self {
        let shards = (0..SHARDS)
            .map(|_| Mutex::new(HashMap::with_hasher(RandomState::default())))
            .collect();
        Self {
            shards,
            hasher: TopicHasher::with_seed(seed),
            sessions: AtomicUsize::new(0),
        }
    }

    /// A hash of `client_id` that is stable while the broker runs.
    pub(crate) fn hash(&self, client_id: &str) -> u64 {
        self.hasher.hash(client_id)
    }

    fn shard(&self, client_id: &str) -> &Shard {
        &self.shards[self.hash(client_id) as usize % SHARDS]
    }

    /// Waits for the turn on `client_id`; claims are served in the order they came, so the newest wins.
    pub(crate) async fn claim(&self, client_id: &Arc<str>) -> Claim<'_> {
        let slot = {
            let mut shard = self.shard(client_id).lock();
            Arc::clone(shard.entry(Arc::clone(client_id)).or_default())
        };
        // The semaphore is never closed, so this waits and does not fail.
        if let Ok(turn) = slot.turn.acquire().await {
            turn.forget();
        }
        Claim {
            directory: self,
            slot,
            client_id: Arc::clone(client_id),
        }
    }

    /// Puts a session there before anybody can have the turn, while the broker starts.
    pub(crate) fn restore(&self, session: &Arc<Session>) {
        let mut shard = self.shard(&session.client_id).lock();
        let slot = shard.entry(Arc::clone(&session.client_id)).or_default();
        let old = slot.session.lock().replace(Arc::clone(session));
        if old.is_none() {
            self.sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The turn on `client_id`, if nobody has it.
    pub(crate) fn try_claim(&self, client_id: &Arc<str>) -> Option<Claim<'_>> {
        let slot = Arc::clone(self.shard(client_id).lock().get(client_id)?);
        slot.turn.try_acquire().ok()?.forget();
        Some(Claim {
            directory: self,
            slot,
            client_id: Arc::clone(client_id),
        })
    }

    /// The session of `client_id` as it is now.
    pub(crate) fn find(&self, client_id: &str) -> Option<Arc<Session>> {
        let slot = Arc::clone(self.shard(client_id).lock().get(client_id)?);
        slot.session.lock().clone()
    }

    /// Every session as it is now; shards are copied one by one.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let slots: Vec<Arc<Slot>> = shard.lock().values().cloned().collect();
            all.extend(slots.iter().filter_map(|slot| slot.session.lock().clone()));
        }
        all
    }

    /// Sessions, connected or not.
    pub(crate) fn len(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }
}

impl Claim<'_> {
    /// The session that is there.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.slot.session.lock().clone()
    }

    /// Puts a session there, or none.
    pub(crate) fn set(&self, session: Option<Arc<Session>>) {
        let is_some = session.is_some();
        let before = std::mem::replace(&mut *self.slot.session.lock(), session);
        match (before.is_some(), is_some) {
            (false, true) => _ = self.directory.sessions.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.directory.sessions.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.slot.turn.add_permits(1);
        let mut shard = self.directory.shard(&self.client_id).lock();
        // Two references are the map's and ours: nobody else waits for the turn.
        if Arc::strong_count(&self.slot) == 2 && self.slot.session.lock().is_none() {
            shard.remove(&self.client_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unused_client_id_leaves_nothing_behind() {
        let directory = Directory::new(1);
        let id: Arc<str> = Arc::from("a");
        drop(directory.claim(&id).await);
        assert!(directory.shards.iter().all(|shard| shard.lock().is_empty()));
        assert!(directory.find("a").is_none());
    }

    #[tokio::test]
    async fn a_second_claim_waits_for_the_first() {
        let directory = Directory::new(1);
        let id: Arc<str> = Arc::from("a");
        let first = directory.claim(&id).await;
        assert!(directory.try_claim(&id).is_none());
        drop(first);
        drop(directory.claim(&id).await);
    }
}
