//! Conversations with a running broker, by area of the specifications.
//!
//! The `shows:` comment in front of a test lists the normative statements it shows; `cargo xtask conformance` joins them with
//! `statements.csv`. All tests share one broker, so names of clients and topics are unique.

mod prelude {
    //! What every conversation needs.
    pub(crate) use martlet_interop::broker::Broker;
    pub(crate) use martlet_interop::client::{Client, Event, WAIT, client, unique};
    pub(crate) use martlet_interop::wire::property as properties;
    pub(crate) use martlet_interop::wire::property::id as property;
    pub(crate) use martlet_interop::wire::*;
    pub(crate) use martlet_interop::{BOTH, ReasonCode, V5, V31, V311, Version};
    pub(crate) use std::time::{Duration, Instant};
    pub(crate) use tokio::time::sleep;
}

mod alias;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod errors;
mod flow;
mod interplay;
mod keep_alive;
#[cfg(feature = "embedded")]
mod limits;
mod publish;
mod qos;
mod retain;
mod session;
#[cfg(feature = "embedded")]
mod settings;
mod shared;
mod subscribe;
mod topics;
mod unsubscribe;
mod v31;
mod websocket;
mod will;
