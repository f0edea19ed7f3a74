//! The `martlet` program as its users meet it: as a process.

mod acme;
#[cfg(unix)]
mod activation;
mod bench;
mod carry;
mod clients;
mod commands;
mod counters;
mod doors;
mod redis;
mod refusals;
mod rocksdb;
mod serve;
mod support;
