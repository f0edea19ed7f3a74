//! A disk that keeps what is not synced apart, takes its time, fails, and loses its tail when the power does.
//!
//! It is a [`Storage`] over memory: a batch is there as a whole or not at all, as every backend promises. Deliberately
//! absent: bytes of files; `martlet-storage-embedded` has the tests of torn ones.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use martlet_storage::{MemoryStorage, Storage, StorageError, Table, Value, Write};

use crate::{dice::Dice, executor::locked};

/// The rows that a crash of the machine leaves.
#[derive(Clone, Default)]
pub(crate) struct Rows(BTreeMap<(Table, Vec<u8>), Value>);

impl Rows {
    fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put { table, key, value } => {
                    self.0.insert((*table, key.clone()), value.clone());
                }
                Write::Delete { table, key } => {
                    self.0.remove(&(*table, key.clone()));
                }
                Write::DeletePrefix { table, prefix } => {
                    self.0
                        .retain(|(of, key), _| of != table || !key.starts_with(prefix));
                }
            }
        }
    }

    /// A store with these rows.
    fn storage(&self) -> Result<MemoryStorage, StorageError> {
        let put = |((table, key), value): (&(Table, Vec<u8>), &Value)| Write::Put {
            table: *table,
            key: key.clone(),
            value: value.clone(),
        };
        let storage = MemoryStorage::new();
        storage.apply(&self.0.iter().map(put).collect::<Vec<_>>())?;
        Ok(storage)
    }
}

/// What the disk does to those who use it.
struct State {
    /// What a crash of the machine leaves, at least.
    synced: Rows,
    /// Batches since the last sync, oldest first.
    unsynced: Vec<Vec<Write>>,
    dice: Dice,
    faults: Faults,
    /// The broker it belonged to is gone.
    dead: bool,
    broken: bool,
}

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// A batch finds no room once in so many; 0 for never.
    pub(crate) full_once_in: usize,
    /// A write or a sync fails for good once in so many; 0 for never.
    pub(crate) fails_once_in: usize,
    /// Others get up to so many turns during a sync.
    pub(crate) sync_turns: usize,
}

/// The disk of one broker.
#[derive(Clone)]
pub(crate) struct Disk {
    /// What the broker sees: everything it has written.
    written: MemoryStorage,
    state: Arc<Mutex<State>>,
}

impl Disk {
    /// A disk that holds what `synced` does.
    pub(crate) fn new(synced: Rows, seed: u64, faults: Faults) -> Result<Self, StorageError> {
        Ok(Self {
            written: synced.storage()?,
            state: Arc::new(Mutex::new(State {
                synced,
                unsynced: Vec::new(),
                dice: Dice::new(seed),
                faults,
                dead: false,
                broken: false,
            })),
        })
    }

    /// What is left when the broker dies now: all of what was synced, and of the rest as many batches as `survive`
    /// says (all of them, if only the process died). Whatever the old broker writes from here on is lost.
    pub(crate) fn crash(&self, survive: impl FnOnce(usize) -> usize) -> Rows {
        let mut state = locked(&self.state);
        state.dead = true;
        let unsynced = std::mem::take(&mut state.unsynced);
        let left = survive(unsynced.len());
        for batch in unsynced.into_iter().take(left) {
            state.synced.apply(&batch);
        }
        std::mem::take(&mut state.synced)
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        let mut state = locked(&self.state);
        let sync_turns = state.faults.sync_turns.min(10);
        state.faults = Faults {
            sync_turns,
            ..Faults::default()
        };
    }

    /// Batches that a power failure would lose.
    pub(crate) fn unsynced(&self) -> usize {
        locked(&self.state).unsynced.len()
    }

    /// Everything that was written.
    pub(crate) fn contents(&self) -> &MemoryStorage {
        &self.written
    }

    /// Lets others go on for a while, as a disk does.
    fn take_time(&self) {
        let turns = {
            let state = locked(&self.state);
            state.dice.roll(state.faults.sync_turns + 1)
        };
        for _ in 0..turns {
            martlet_sync::simulated::give_way();
        }
    }

    /// Whether this one fails.
    fn fault(&self) -> Result<(), StorageError> {
        let mut state = locked(&self.state);
        if state.dead || state.broken {
            return Err(StorageError::Io("the disk is gone".to_owned()));
        }
        let once_in = state.faults.fails_once_in;
        if once_in > 0 && state.dice.once_in(once_in) {
            state.broken = true;
            return Err(StorageError::Io("the disk failed".to_owned()));
        }
        Ok(())
    }
}

impl Storage for Disk {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        self.take_time();
        self.fault()?;
        {
            let mut state = locked(&self.state);
            let once_in = state.faults.full_once_in;
            if once_in > 0 && state.dice.once_in(once_in) {
                return Err(StorageError::NoSpace("for now".to_owned()));
            }
            state.unsynced.push(writes.to_vec());
        }
        self.written.apply(writes)?;
        self.take_time();
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        // What was written when the sync began is safe when it ends.
        let begun = locked(&self.state).unsynced.len();
        self.take_time();
        self.fault()?;
        let mut state = locked(&self.state);
        let begun = begun.min(state.unsynced.len());
        for batch in state.unsynced.drain(..begun).collect::<Vec<_>>() {
            state.synced.apply(&batch);
        }
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.written.scan(table, prefix, visit)
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError> {
        self.take_time();
        self.written.get(table, key, read)
    }
}
