//! Synced commits by how many records share one, beside what the disk itself does: `cargo bench -p martlet-storage-rocksdb --features rocksdb`.
//!
//! The files are in the target directory, or where `MARTLET_BENCH_DIRECTORY` says. One record is a message of 256 B queued
//! for one session: a body and a row. What the disk does is an append and an `fdatasync` of as many bytes.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use martlet_storage::contract::queue_load::QueueLoad;
use martlet_storage_rocksdb::RocksDbOptions;

const BODY: usize = 256;
/// What a record is in the log, about.
const RECORD: usize = 380;

fn place() -> tempfile::TempDir {
    let named = std::env::var_os("MARTLET_BENCH_DIRECTORY").map(PathBuf::from);
    let place = named.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    tempfile::tempdir_in(place).expect("a directory")
}

fn synced_commits(criterion: &mut Criterion) {
    let root = place();
    let mut group = criterion.benchmark_group("synced commits, rocksdb");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for records in [1_u64, 10, 100, 1_000] {
        group.throughput(Throughput::Elements(records));
        let mut file = File::create(root.path().join("disk")).expect("a file");
        let bytes = vec![7; RECORD * records as usize];
        group.bench_function(BenchmarkId::new("the disk alone", records), |bencher| {
            bencher.iter(|| {
                file.write_all(&bytes).expect("there is room");
                file.sync_data().expect("syncs");
            });
        });
        let path = root.path().join(records.to_string());
        let (storage, _) = RocksDbOptions::default().open(&path).expect("opens");
        let mut load = QueueLoad::new(Arc::new(storage), 1).expect("begins");
        group.bench_function(BenchmarkId::new("records", records), |bencher| {
            bencher.iter(|| load.queue(records, BODY, true).expect("commits"));
        });
    }
    group.finish();
}

criterion_group!(benches, synced_commits);
criterion_main!(benches);
