//! Commands and configuration of the `martlet` program.
//!
//! [`args`] reads the command line, [`config`] makes settings of defaults, file, environment and flags; each command
//! is a function that returns an exit code. What `martlet serve` needs around the broker itself is in [`serve`] and
//! [`logging`]; the program puts it together.
//!
//! Deliberately absent: anything that a program that embeds a broker needs.

pub mod args;
pub mod bench;
pub mod check;
pub mod client;
pub mod config;
pub mod init;
pub mod logging;
pub mod output;
pub mod passwd;
pub mod serve;
pub mod store;
pub mod stores;
