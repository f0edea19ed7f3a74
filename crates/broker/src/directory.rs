//! Which session belongs to which client id, and the one serialised way to take it.
//!
//! A claim holds the client id's turn: the old connection is told, lets go within a bounded time, and only then
//! does the newcomer see the session. Takeover, clean start, expiry and kick all come this way (architecture
//! rule 6), so there is never more than one owner. Deliberately absent: what happens to a session; see `lifecycle`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hashbrown::HashTable;
use martlet_sync::Mutex;
use martlet_topic::TopicHasher;
use tokio::sync::Semaphore;

use crate::session::Session;

/// Shards of the map; a claim touches one.
const SHARDS: usize = 64;

/// Sessions by client id.
pub(crate) struct Directory {
    shards: Box<[Mutex<Shard>]>,
    hasher: TopicHasher,
    sessions: AtomicUsize,
}

#[derive(Default)]
struct Shard(HashTable<Entry>);

/// One client id; one of both is there. Most are sessions nobody claims, of clients that are away or at work.
struct Entry {
    session: Option<Arc<Session>>,
    /// While somebody has the turn or waits for it.
    turn: Option<Arc<Turn>>,
}

/// Whose turn it is on a client id.
struct Turn {
    client_id: Arc<str>,
    hash: u64,
    /// One permit, the turn. Fair: it goes to those who wait in the order they came.
    permit: Semaphore,
    /// Those who have the turn or wait for it. Changed under the shard's lock, which the count of references is not.
    claims: AtomicUsize,
}

/// The turn on a client id; given back on drop.
pub(crate) struct Claim<'a> {
    directory: &'a Directory,
    turn: Arc<Turn>,
    /// False while it waits.
    is_held: bool,
}

impl Entry {
    fn client_id(&self) -> &str {
        match (&self.session, &self.turn) {
            (Some(session), _) => &session.client_id,
            (None, Some(turn)) => &turn.client_id,
            (None, None) => "",
        }
    }

    fn hash(&self) -> u64 {
        match (&self.session, &self.turn) {
            (Some(session), _) => session.client_hash,
            (None, Some(turn)) => turn.hash,
            (None, None) => 0,
        }
    }

    /// The turn, which is there from now on, with one claim more.
    fn turn(&mut self, client_id: &Arc<str>, hash: u64) -> Arc<Turn> {
        let turn = self.turn.get_or_insert_with(|| {
            Arc::new(Turn {
                client_id: Arc::clone(client_id),
                hash,
                permit: Semaphore::new(1),
                claims: AtomicUsize::new(0),
            })
        });
        turn.claims.fetch_add(1, Ordering::Relaxed);
        Arc::clone(turn)
    }
}

impl Shard {
    fn get(&self, client_id: &str, hash: u64) -> Option<&Entry> {
        self.0.find(hash, |entry| entry.client_id() == client_id)
    }

    fn get_mut(&mut self, client_id: &str, hash: u64) -> Option<&mut Entry> {
        self.0
            .find_mut(hash, |entry| entry.client_id() == client_id)
    }

    /// The entry of `client_id`; the caller puts something into a new one.
    fn entry(&mut self, client_id: &str, hash: u64) -> &mut Entry {
        let empty = || Entry {
            session: None,
            turn: None,
        };
        self.0
            .entry(hash, |entry| entry.client_id() == client_id, Entry::hash)
            .or_insert_with(empty)
            .into_mut()
    }
}

impl Directory {
    /// An empty one. `seed` decides which client ids share a shard.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: TopicHasher::with_seed(seed),
            sessions: AtomicUsize::new(0),
        }
    }

    /// A hash of `client_id` that is stable while the broker runs.
    pub(crate) fn hash(&self, client_id: &str) -> u64 {
        self.hasher.hash(client_id)
    }

    /// By bits in the middle: a shard's table goes by those at both ends.
    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    /// Waits for the turn on `client_id`; claims are served in the order they came, so the newest wins.
    pub(crate) async fn claim(&self, client_id: &Arc<str>) -> Claim<'_> {
        let hash = self.hash(client_id);
        let turn = {
            let mut shard = self.shard(hash).lock();
            shard.entry(client_id, hash).turn(client_id, hash)
        };
        let mut claim = Claim {
            directory: self,
            turn,
            is_held: false,
        };
        // The semaphore is never closed, so this waits and does not fail.
        if let Ok(permit) = claim.turn.permit.acquire().await {
            permit.forget();
        }
        claim.is_held = true;
        claim
    }

    /// Puts a session there before anybody can have the turn, while the broker starts.
    pub(crate) fn restore(&self, session: &Arc<Session>) {
        let hash = session.client_hash;
        let mut shard = self.shard(hash).lock();
        let entry = shard.entry(&session.client_id, hash);
        if entry.session.replace(Arc::clone(session)).is_none() {
            self.sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The turn on `client_id`, if nobody has it.
    pub(crate) fn try_claim(&self, client_id: &Arc<str>) -> Option<Claim<'_>> {
        let hash = self.hash(client_id);
        let turn = {
            let mut shard = self.shard(hash).lock();
            shard.get_mut(client_id, hash)?.turn(client_id, hash)
        };
        let mut claim = Claim {
            directory: self,
            turn,
            is_held: false,
        };
        claim.turn.permit.try_acquire().ok()?.forget();
        claim.is_held = true;
        Some(claim)
    }

    /// The session of `client_id` as it is now.
    pub(crate) fn find(&self, client_id: &str) -> Option<Arc<Session>> {
        let hash = self.hash(client_id);
        let shard = self.shard(hash).lock();
        shard.get(client_id, hash)?.session.clone()
    }

    /// Every session, shard by shard; each is copied when its turn comes.
    pub(crate) fn shards(&self) -> impl Iterator<Item = Vec<Arc<Session>>> {
        self.shards.iter().map(|shard| {
            let shard = shard.lock();
            let sessions = shard.0.iter().filter_map(|entry| entry.session.clone());
            sessions.collect()
        })
    }

    /// Every session.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = Arc<Session>> {
        self.shards().flatten()
    }

    /// Sessions, connected or not.
    pub(crate) fn len(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }
}

impl Claim<'_> {
    fn shard(&self) -> &Mutex<Shard> {
        self.directory.shard(self.turn.hash)
    }

    /// The session that is there.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.directory.find(&self.turn.client_id)
    }

    /// Puts a session there, or none.
    pub(crate) fn set(&self, session: Option<Arc<Session>>) {
        let is_some = session.is_some();
        let before = {
            let mut shard = self.shard().lock();
            // The turn keeps the entry there.
            let entry = shard.entry(&self.turn.client_id, self.turn.hash);
            std::mem::replace(&mut entry.session, session)
        };
        match (before.is_some(), is_some) {
            (false, true) => _ = self.directory.sessions.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.directory.sessions.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.is_held {
            self.turn.permit.add_permits(1);
        }
        let mut shard = self.shard().lock();
        if self.turn.claims.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let is_ours = |entry: &Entry| entry.client_id() == &*self.turn.client_id;
        if let Ok(mut found) = shard.0.find_entry(self.turn.hash, is_ours) {
            if found.get().session.is_some() {
                found.get_mut().turn = None;
            } else {
                found.remove();
            }
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
        assert!(is_empty(&directory));
        assert!(directory.find("a").is_none());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let directory = Directory::new(1);
        let id: Arc<str> = Arc::from("a");
        let first = directory.claim(&id).await;
        let mut second = Box::pin(directory.claim(&id));
        assert!(is_pending(second.as_mut()).await);
        drop(first);
        // It was given the turn, and never saw it.
        drop(second);
        assert!(is_empty(&directory));
    }

    #[tokio::test]
    async fn a_reference_that_is_dropped_a_moment_later_leaves_nothing_behind() {
        let directory = Directory::new(1);
        let claim = directory.claim(&Arc::from("a")).await;
        // As another claim holds it that has just been given back.
        let reference = Arc::clone(&claim.turn);
        drop(claim);
        drop(reference);
        assert!(is_empty(&directory));
    }

    async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending()))
            .await
    }

    fn is_empty(directory: &Directory) -> bool {
        directory
            .shards
            .iter()
            .all(|shard| shard.lock().0.is_empty())
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
