//! Figures of the store on the disk at hand: `cargo run --release -p martlet-storage-rocksdb --features rocksdb --example
//! measure_rocksdb [DIRECTORY [BYTES]]`. What is measured, and what else it takes, is told in `martlet_storage::contract::measure`.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use martlet_storage::Storage;
use martlet_storage::contract::measure;
use martlet_storage_rocksdb::RocksDbOptions;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let open = |path: &Path| {
        let (storage, _) = RocksDbOptions::default().open(path)?;
        Ok(Arc::new(storage) as Arc<dyn Storage>)
    };
    measure::run(&open, &args, &mut std::io::stdout())
}
