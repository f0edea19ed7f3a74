//! A store as lines of JSON and back; also the way from one backend to another.
//!
//! The first line says the version, the last one how many rows there were, so that half an export is known for
//! what it is. Between them one line is one row: table, key and value in hexadecimal, and what it is in words,
//! which is not read back. Deliberately absent: merging; an import fills an empty store.

use std::io::{self, BufRead, Read as _, Write as _};

use serde::{Deserialize, Serialize};

use super::check::hex;
use super::{Totals, describe};
use crate::backend::{KEY_BYTES_MAX, Storage, StorageError, Table, Value, Write};

/// The version of the format of the lines.
pub const EXPORT_VERSION: u32 = 1;

/// Longer lines are refused: the largest packet in hexadecimal, and something for the rest.
const LINE_BYTES_MAX: u64 = 2 * (268_435_455 + 2 * KEY_BYTES_MAX as u64) + 4096;

/// How much is written at once.
const BATCH_BYTES: usize = 1 << 20;

/// Why an export or import ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The lines could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1 on.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The store that should be filled holds something.
    #[error("the store is not empty; an import fills an empty one")]
    NotEmpty,
    /// The lines end before their end.
    #[error("the export is not complete: it ends after {0} rows, without its last line")]
    Incomplete(u64),
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Line {
    Head {
        martlet_export: u32,
    },
    Row {
        table: String,
        key: String,
        value: String,
        #[serde(default)]
        about: String,
    },
    End {
        rows: u64,
    },
}

/// Writes every row. Tells `progress` how many are done.
///
/// # Errors
/// See [`TransferError`]. A row that cannot be read ends the export.
pub fn export(
    storage: &dyn Storage,
    out: &mut dyn io::Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Totals, TransferError> {
    let mut out = io::BufWriter::new(out);
    let mut totals = Totals::default();
    line(
        &mut out,
        &Line::Head {
            martlet_export: EXPORT_VERSION,
        },
    )?;
    for table in Table::ALL {
        let mut failed: Option<TransferError> = None;
        storage.scan(table, &[], &mut |key, value| {
            let written = match describe(table, key, value) {
                Ok(about) => line(
                    &mut out,
                    &Line::Row {
                        table: table.name().to_owned(),
                        key: hex(key),
                        value: hex(value),
                        about,
                    },
                )
                .map_err(TransferError::from),
                Err(error) => Err(StorageError::from(error).into()),
            };
            totals.add(table, key.len() + value.len());
            progress(totals.all());
            written.map_err(|error| failed = Some(error)).is_ok()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    line(&mut out, &Line::End { rows: totals.all() })?;
    out.flush()?;
    Ok(totals)
}

fn line(out: &mut impl io::Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Fills an empty store and syncs it. Tells `progress` how many rows are done.
///
/// # Errors
/// See [`TransferError`]. The store then holds a part; it is of no use and can be deleted.
pub fn import(
    storage: &dyn Storage,
    input: &mut dyn BufRead,
    progress: &mut dyn FnMut(u64),
) -> Result<Totals, TransferError> {
    for table in Table::ALL {
        let mut empty = true;
        storage.scan_keys(table, &[], &mut |_| {
            empty = false;
            false
        })?;
        if !empty {
            return Err(TransferError::NotEmpty);
        }
    }
    let mut totals = Totals::default();
    let (mut writes, mut bytes) = (Vec::new(), 0);
    let mut text = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        let wrong = |why: String| TransferError::Line { line: number, why };
        text.clear();
        (&mut *input)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut text)?;
        if text.is_empty() {
            return Err(TransferError::Incomplete(totals.all()));
        }
        if text.last() != Some(&b'\n') && text.len() as u64 >= LINE_BYTES_MAX {
            return Err(wrong("is too long".to_owned()));
        }
        let parsed: Line = match serde_json::from_slice(&text) {
            Ok(parsed) => parsed,
            // A line without its end: the file was cut off in it.
            Err(_) if text.last() != Some(&b'\n') => {
                return Err(TransferError::Incomplete(totals.all()));
            }
            Err(error) => return Err(wrong(format!("is no line of an export: {error}"))),
        };
        match (number, parsed) {
            (1, Line::Head { martlet_export }) if martlet_export == EXPORT_VERSION => {}
            (1, Line::Head { martlet_export }) => {
                return Err(wrong(format!(
                    "is of version {martlet_export}, this program knows {EXPORT_VERSION}"
                )));
            }
            (1, _) => return Err(wrong("is not the first line of an export".to_owned())),
            (_, Line::Head { .. }) => {
                return Err(wrong("another export starts here".to_owned()));
            }
            (
                _,
                Line::Row {
                    table, key, value, ..
                },
            ) => {
                let (table, key, value) =
                    row(&table, &key, &value).map_err(|why| wrong(why.to_owned()))?;
                describe(table, &key, &value).map_err(|error| wrong(error.to_string()))?;
                totals.add(table, key.len() + value.len());
                bytes += key.len() + value.len();
                writes.push(Write::Put {
                    table,
                    key,
                    value: Value::Record(value),
                });
                if bytes >= BATCH_BYTES {
                    storage.apply(&writes)?;
                    (writes, bytes) = (Vec::new(), 0);
                }
                progress(totals.all());
            }
            (_, Line::End { rows }) => {
                if rows != totals.all() {
                    return Err(wrong(format!(
                        "{rows} rows were exported, {} are here",
                        totals.all()
                    )));
                }
                storage.apply(&writes)?;
                storage.sync()?;
                return Ok(totals);
            }
        }
    }
}

fn row(table: &str, key: &str, value: &str) -> Result<(Table, Vec<u8>, Vec<u8>), &'static str> {
    let table = Table::ALL
        .into_iter()
        .find(|known| known.name() == table)
        .ok_or("names a table that does not exist")?;
    let key = unhex(key).ok_or("has a key that is not hexadecimal")?;
    if key.len() > KEY_BYTES_MAX {
        return Err("has a key that is too long");
    }
    let value = unhex(value).ok_or("has a value that is not hexadecimal")?;
    Ok((table, key, value))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}
