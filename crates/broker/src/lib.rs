//! An embeddable MQTT 3.1, 3.1.1 and 5.0 broker.
//!
//! [`Broker`] is built with [`Broker::builder`], listens on addresses or is fed byte streams, and runs until it is
//! shut down. Settings are plain values ([`config`]); who may do what, what is watched, the store, the clock and the
//! spawner come from outside through traits ([`hooks`], [`clock`], `martlet_storage::Committer`).
//!
//! Deliberately absent: configuration files, process signals, logging set-up, concrete stores.

pub mod auth;
pub mod clock;
pub mod config;
pub mod counters;
pub mod files;
pub mod hooks;

mod attachment;
mod bodies;
mod broker;
mod check;
mod connection;
mod core;
mod directory;
mod flapping;
mod judging;
mod lifecycle;
mod listen;
mod memory;
mod publish;
mod rates;
mod redistribute;
mod restore;
mod retained;
mod router;
mod saving;
mod session;
mod spares;
mod stock;
mod subscriptions;
mod sync;
mod sys_topics;
mod tasks;
mod timers;
mod users;
mod work;

#[cfg(all(martlet_loom, martlet_simulate))]
compile_error!("loom and the simulator each want the locks for themselves");

pub use broker::{Broker, Builder, ConfigError};
pub use flapping::Banned;
pub use listen::ListenerInfo;
/// QoS, reason codes and versions, which this interface speaks of.
pub use martlet_codec as codec;
pub use martlet_transport::{
    BindError, ListenAddress, ListenerOptions, Network, PeerCertificate, TlsError,
};
