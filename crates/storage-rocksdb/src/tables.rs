//! What is in the database: a column family for each table, how each is kept, and how a batch is written.
//!
//! Bodies have a second column family with their keys only: at the start every key is listed, and no body is read
//! for it. Deliberately absent: files, and what errors mean.

use martlet_storage::{KEY_BYTES_MAX, Table, Write};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, LogLevel, Options, WriteBatch,
};

/// The column family that every RocksDB has. Ours holds one row: the number of the last batch.
const DEFAULT: &str = "default";
/// The key of that row.
pub(crate) const BATCH_KEY: &[u8] = b"batch";
/// The keys of the bodies.
const MESSAGE_KEYS: &str = "message-keys";

/// What rows may take in memory before they are written out, over all tables.
const MEMORY_BYTES: usize = 64 << 20;
/// What one table may take of it.
const TABLE_MEMORY_BYTES: usize = 32 << 20;
/// How long the write-ahead log grows until what holds it is written out; also what a start reads of it.
const WAL_BYTES: u64 = 64 << 20;
/// What is kept of files that were read.
const CACHE_BYTES: usize = 32 << 20;
/// Values from here on are kept out of the sorted files, so that these can be merged without them.
const BLOB_BYTES: u64 = 4 << 10;
/// A sorted file in which this many of so many neighbouring rows are deletions is merged soon: a queue that was
/// drained gives its room back.
const DELETIONS: usize = 2_000;
const DELETIONS_AMONG: usize = 4_000;

/// The column family of a table.
fn name(table: Table) -> &'static str {
    table.name()
}

/// Options of the database as a whole.
pub(crate) fn options(create: bool, recovery: DBRecoveryMode) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_wal_recovery_mode(recovery);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_db_write_buffer_size(MEMORY_BYTES);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    // Its own log, for whoever asks what it did: short, and no statistics.
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options
}

/// Every column family with its options.
pub(crate) fn families() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    let family = |name: &str, bodies: bool| {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&cache);
        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(TABLE_MEMORY_BYTES);
        options.set_compression_type(DBCompressionType::Lz4);
        options.add_compact_on_deletion_collector_factory(DELETIONS_AMONG, DELETIONS, 0.5);
        if bodies {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(BLOB_BYTES);
            options.set_blob_compression_type(DBCompressionType::Lz4);
            options.set_enable_blob_gc(true);
        }
        ColumnFamilyDescriptor::new(name, options)
    };
    let mut families = vec![family(DEFAULT, false), family(MESSAGE_KEYS, false)];
    families.extend(Table::ALL.iter().map(|table| {
        let bodies = matches!(table, Table::Message | Table::Retained | Table::Will);
        family(name(*table), bodies)
    }));
    families
}

/// The rows of a table; `None` in a database that is not ours.
pub(crate) fn rows(db: &DB, table: Table) -> Option<&ColumnFamily> {
    db.cf_handle(name(table))
}

/// Where the keys of a table can be listed.
pub(crate) fn keys(db: &DB, table: Table) -> Option<&ColumnFamily> {
    match table {
        Table::Message => db.cf_handle(MESSAGE_KEYS),
        _ => rows(db, table),
    }
}

/// All column families, for what is done to each.
pub(crate) fn all(db: &DB) -> impl Iterator<Item = &ColumnFamily> {
    let names = Table::ALL.iter().map(|table| name(*table));
    names
        .chain([DEFAULT, MESSAGE_KEYS])
        .filter_map(|name| db.cf_handle(name))
}

/// Puts `writes` and the number of their batch into one batch of the database, which is atomic and ordered.
pub(crate) fn batch(db: &DB, writes: &[Write], number: u64) -> Option<WriteBatch> {
    let mut batch = WriteBatch::default();
    for write in writes {
        match write {
            Write::Put { table, key, value } => {
                batch.put_cf(rows(db, *table)?, key, value.as_bytes());
                if *table == Table::Message {
                    batch.put_cf(keys(db, *table)?, key, []);
                }
            }
            Write::Delete { table, key } => {
                batch.delete_cf(rows(db, *table)?, key);
                if *table == Table::Message {
                    batch.delete_cf(keys(db, *table)?, key);
                }
            }
            Write::DeletePrefix { table, prefix } => {
                let end = behind(prefix);
                batch.delete_range_cf(rows(db, *table)?, prefix, &end);
                if *table == Table::Message {
                    batch.delete_range_cf(keys(db, *table)?, prefix, &end);
                }
            }
        }
    }
    batch.put_cf(db.cf_handle(DEFAULT)?, BATCH_KEY, number.to_be_bytes());
    Some(batch)
}

/// The first key behind all that start with `prefix`.
pub(crate) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    // Without the highest bytes at the end, the last one raised.
    while end.last() == Some(&0xFF) {
        end.pop();
    }
    match end.last_mut() {
        Some(last) => *last += 1,
        // Longer than any key, and of the highest bytes.
        None => end = vec![0xFF; KEY_BYTES_MAX + 1],
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_behind_the_last_key_of_its_prefix() {
        let check = |prefix: &[u8], expect: &[u8]| {
            assert_eq!(behind(prefix), expect, "{prefix:?}");
        };
        check(b"ab", b"ac");
        check(b"a\xFF", b"b");
        check(b"", &vec![0xFF; KEY_BYTES_MAX + 1]);
        check(b"\xFF\xFF", &vec![0xFF; KEY_BYTES_MAX + 1]);
    }
}
