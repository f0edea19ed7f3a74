//! Conversations with a running broker, by area of the specifications.
//!
//! The `shows:` comment in front of a test lists the normative statements it shows; `cargo xtask conformance` joins them with
//! `statements.csv`. All tests share one broker, so names of clients and topics are unique.

mod connect;
