//! Tests of the backend on real files. They need RocksDB, and so the feature of its name.
#![cfg(feature = "rocksdb")]

mod contract;
mod damage;
mod disk;
mod format;
mod places;
mod support;
