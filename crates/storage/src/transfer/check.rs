//! Looking at every row: whether it can be read, and whether rows fit together. Deliberately absent: repairs.

use super::{Totals, describe};
use crate::backend::{Storage, StorageError, Table, Write};
use crate::load;

/// How many problems are named; more are counted.
pub const PROBLEMS_MAX: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What was looked at.
    pub totals: Totals,
    /// What is wrong, in words; the first [`PROBLEMS_MAX`].
    pub problems: Vec<String>,
    /// How much is wrong.
    pub problem_count: u64,
}

impl Checked {
    fn problem(&mut self, text: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        }
    }
}

/// Reads every row and every body, and proves that no row dangles and no body is an orphan. Tells `progress` how
/// many rows are done.
///
/// # Errors
/// The store cannot be read at all. What is damaged in it is a problem, not an error.
pub fn check(
    storage: &dyn Storage,
    progress: &mut dyn FnMut(u64),
) -> Result<Checked, StorageError> {
    let mut checked = Checked::default();
    for table in Table::ALL {
        // By key, so that one damaged value does not hide the rest.
        storage.scan_keys(table, &[], &mut |key| {
            let mut length = 0;
            let mut described = None;
            let found = storage.get(table, key, &mut |value| {
                length = value.len();
                described = Some(describe(table, key, value));
            });
            let name = table.name();
            match (found, described) {
                (Ok(_), Some(Ok(_))) => {}
                (Ok(_), Some(Err(error))) => {
                    checked.problem(format!("table {name}, key {}: {error}", hex(key)));
                }
                (Ok(_), None) => checked.problem(format!(
                    "table {name}, key {}: listed, but not there",
                    hex(key)
                )),
                (Err(error), _) => {
                    checked.problem(format!("table {name}, key {}: {error}", hex(key)));
                }
            }
            checked.totals.add(table, key.len() + length);
            progress(checked.totals.all());
            true
        })?;
    }
    match load::read(storage, &mut ()) {
        Ok((_, cleanup)) => {
            for write in cleanup {
                if let Write::Delete { table, key } = write {
                    checked.problem(format!(
                        "table {}, key {}: belongs to nothing",
                        table.name(),
                        hex(&key)
                    ));
                }
            }
        }
        // Named above already, unless it is of another kind.
        Err(error) if checked.problem_count == 0 => checked.problem(error.to_string()),
        Err(_) => {}
    }
    Ok(checked)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
