//! The client against a server that a test plays by hand.

mod connection;
mod messages;
mod raw;
mod requests;
mod support;
