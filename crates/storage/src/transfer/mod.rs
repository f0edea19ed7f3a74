//! What offline tools do with any backend: [`describe`] a row, [`check`] everything, [`export`] and [`import`].
//!
//! Deliberately absent: files, terminals, and what only one backend can do.

mod check;
mod describe;
mod lines;

pub use check::{Checked, PROBLEMS_MAX, check};
pub use describe::describe;
pub use lines::{EXPORT_VERSION, TransferError, export, import};

use crate::Table;

/// How many rows of each table were looked at or moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By the number of the table.
    pub rows: [u64; Table::ALL.len()],
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Totals {
    /// Rows of all tables.
    pub fn all(&self) -> u64 {
        self.rows.iter().sum()
    }

    fn add(&mut self, table: Table, bytes: usize) {
        self.rows[table as usize] += 1;
        self.bytes += bytes as u64;
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for table in Table::ALL {
            let rows = self.rows[table as usize];
            if table != Table::Meta && rows > 0 {
                writeln!(f, "{:<13} {rows:>10}", table.name())?;
            }
        }
        write!(
            f,
            "{:<13} {:>10} ({} bytes)",
            "rows",
            self.all(),
            self.bytes
        )
    }
}
