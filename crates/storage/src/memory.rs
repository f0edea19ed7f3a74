//! The memory backend: ordered maps that end with the process. Deliberately absent: persistence.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use martlet_sync::RwLock;

use crate::backend::{Storage, StorageError, Table, Value, Write};

type Rows = BTreeMap<Vec<u8>, Value>;

/// Tables in memory. Clones share them, so that a clone is what a reopened store would be.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    tables: Arc<RwLock<[Rows; Table::ALL.len()]>>,
}

impl MemoryStorage {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows of a table.
    pub fn len(&self, table: Table) -> usize {
        self.tables.read()[table as usize].len()
    }

    /// Whether a table has no rows.
    pub fn is_empty(&self, table: Table) -> bool {
        self.len(table) == 0
    }
}

/// The rows whose keys start with `prefix`.
fn with_prefix<'a>(
    rows: &'a Rows,
    prefix: &'a [u8],
) -> impl Iterator<Item = (&'a Vec<u8>, &'a Value)> {
    rows.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
}

impl Storage for MemoryStorage {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        let mut tables = self.tables.write();
        for write in writes {
            match write {
                Write::Put { table, key, value } => {
                    tables[*table as usize].insert(key.clone(), value.clone());
                }
                Write::Delete { table, key } => {
                    tables[*table as usize].remove(key);
                }
                Write::DeletePrefix { table, prefix } => {
                    let rows = &mut tables[*table as usize];
                    let keys: Vec<_> = with_prefix(rows, prefix)
                        .map(|(key, _)| key.clone())
                        .collect();
                    for key in keys {
                        rows.remove(&key);
                    }
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let tables = self.tables.read();
        for (key, value) in with_prefix(&tables[table as usize], prefix) {
            if !visit(key, value.as_bytes()) {
                break;
            }
        }
        Ok(())
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError> {
        let tables = self.tables.read();
        let row = tables[table as usize].get(key);
        if let Some(value) = row {
            read(value.as_bytes());
        }
        Ok(row.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_the_contract() {
        crate::contract::run(MemoryStorage::new, |storage| storage);
    }
}
