//! The broker's rules that no single connection shows: what waits for the store, who owns a session, what a panic
//! or a client that does not read may touch, what stays of a topic, and that a run repeats itself from its seed.
//!
//! Clients speak over in-memory streams; only what has to outlast the patience of a takeover sleeps in real time.

mod ground;
mod isolation;
mod last_write;
mod ownership;
mod restart;
mod retained;
mod rights;
mod room;
mod simulation;
mod slow_owner;
mod store;
mod sync_first;
