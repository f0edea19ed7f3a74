//! The backend against real servers: private ones, each on a free port and in a directory of its own. Where no
//! redis-server is installed, every test says that it is skipped.
#![expect(
    clippy::print_stderr,
    reason = "a test that cannot run here says so by name"
)]

mod away;
mod contract;
mod doors;
mod owner;
mod support;
