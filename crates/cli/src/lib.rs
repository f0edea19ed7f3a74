//! Commands and configuration of the `martlet` program.

pub mod config;
