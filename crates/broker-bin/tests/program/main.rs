//! The `martlet` program as its users meet it: as a process.

mod bench;
mod clients;
mod commands;
mod doors;
mod serve;
mod support;
