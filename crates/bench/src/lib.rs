//! A load generator for MQTT brokers that checks every message, and is cheap where messages come in batches.
//!
//! [`run`] connects the clients of a [`Workload`], lets them publish, and returns a [`Report`], or a [`Failure`] when a
//! message was lost, doubled, out of order, corrupted or misdirected: a run that broke a promise has no figures. Told
//! the broker's process id, it reports the CPU time per delivered message, the one figure that can be compared on a
//! busy machine.
//!
//! All clients live on one thread with nonblocking sockets. Packets are encoded once and stamped for each message;
//! what arrives is judged where it lies in the read buffer. Sender and receiver share one clock and one account, so
//! windows reach from end to end at every QoS, and latency is measured from the time a message *was to be* sent.
//!
//! [`disk`] measures what a disk could do at best, for brokers that acknowledge what is on it.
//!
//! Deliberately absent: a general client (that is `martlet-client`), reconnecting, and more than one machine.

mod connection;
mod disk;
mod engine;
mod failure;
mod meter;
mod options;
mod pacer;
mod payload;
mod plan;
mod process;
mod progress;
mod publisher;
mod quic;
mod receiver;
mod relay;
mod report;
mod run;
mod scenario;
mod selftest;
mod shared;
mod socket;
mod svg;
mod tls;
mod verdict;

pub use disk::disk;
pub use failure::Failure;
pub use options::{Options, Workload};
pub use progress::Progress;
pub use relay::{Fault, Relay, serve as serve_relay};
pub use report::{Figure, Percentiles, Report, Sample};
pub use run::run;
pub use selftest::{Trial, selftest};
pub use socket::Wrapping;
pub use tls::tls;
pub use verdict::{Breach, Verdict};
