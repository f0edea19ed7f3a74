//! Conformance suite that talks bytes to a running broker.
//!
//! The library holds the harness: [`broker`] finds or starts the broker under test, [`client`] is the conversation partner,
//! [`wire`] writes and reads MQTT bytes, [`websocket`] does the same for WebSocket frames, [`statements`] reads the table of
//! normative statements and the `shows:` lines of the tests, and [`proxy`] with [`mutants`] breaks one rule at a time to prove
//! that the tests can fail. The conversations themselves are in `tests/conformance`.
//!
//! Deliberately absent: the workspace's codec as encoder or decoder of what is tested. A mistake made in the codec would
//! otherwise be made on both ends of the connection and never be seen.

#![expect(
    clippy::missing_panics_doc,
    reason = "a failed expectation panics; that is what a test harness is for"
)]

pub mod broker;
pub mod client;
pub mod mutants;
pub mod proxy;
#[cfg(feature = "embedded")]
pub mod settings;
pub mod statements;
pub mod websocket;
pub mod wire;

pub use martlet_codec::Version::{V5, V31, V311};
pub use martlet_codec::{QoS, ReasonCode, Version};

/// The two versions whose statements are numbered.
pub const BOTH: [Version; 2] = [V311, V5];
