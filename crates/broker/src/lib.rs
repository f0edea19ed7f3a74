//! An embeddable MQTT 3.1, 3.1.1 and 5.0 broker.

pub mod config;
mod embed_contract;
pub use embed_contract::*;
