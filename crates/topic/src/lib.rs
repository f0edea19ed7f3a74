//! MQTT topic names and filters, their matching rules, and the data structures a broker routes with.
//!
//! No IO, no async, no locks, no sessions: everything here is a plain value. Nothing recurses on
//! input, so a hostile topic of 65,535 levels costs time in proportion and no stack.
//!
//! * [`TopicName`], [`TopicFilter`], [`SharedFilter`], [`Filter`]: text that was validated once and is
//!   trusted afterwards; [`TopicError`] names the rule a refused text broke. [`Limits`] holds what a
//!   server bounds beyond the specification.
//! * [`ExactMap`]: filters without wildcards, one hash probe per topic.
//! * [`Trie`]: filters with wildcards; calls back for each that matches a topic.
//! * [`RetainedTree`]: the mirror image, many topics asked with one filter, in slices that can be
//!   resumed.
//!
//! The rules of matching (section 4.7 of the specification), in one table:
//!
//! ```
//! use martlet_topic::{TopicFilter, TopicName};
//!
//! let matches = |filter, topic| {
//!     TopicFilter::new(filter).unwrap().matches(TopicName::new(topic).unwrap())
//! };
//! assert!(matches("home/+/temperature", "home/kitchen/temperature"));
//! assert!(matches("home/#", "home/kitchen/temperature"));
//! assert!(matches("home/#", "home")); // '#' includes the parent level
//! assert!(matches("+/+", "/home")); // an empty level is a level
//! assert!(!matches("+", "/home"));
//! assert!(!matches("#", "$SYS/broker/uptime")); // '$' hides from a leading wildcard
//! assert!(matches("$SYS/#", "$SYS/broker/uptime"));
//! ```
//!
//! Finding the subscribers of a topic:
//!
//! ```
//! use martlet_topic::{TopicFilter, TopicName, Trie};
//!
//! let mut trie = Trie::new();
//! trie.insert(TopicFilter::new("home/+/temperature")?, "a thermostat");
//! trie.insert(TopicFilter::new("home/#")?, "a logger");
//!
//! let mut found = Vec::new();
//! trie.for_each_match(TopicName::new("home/kitchen/temperature")?, |who| found.push(*who));
//! found.sort();
//! assert_eq!(found, ["a logger", "a thermostat"]);
//! # Ok::<(), martlet_topic::TopicError>(())
//! ```

mod error;
pub use error::TopicError;

mod name;
mod pages;
pub use name::TopicName;

mod filter;
pub use filter::{Filter, QUEUE_GROUP, SharedFilter, TopicFilter};

mod limits;
pub use limits::Limits;

mod hasher;
pub use hasher::TopicHasher;

mod exact;
pub use exact::ExactMap;

mod trie;
pub use trie::Trie;

mod retained;
pub use retained::{Cursor, HasTopic, RetainedTree};

/// Longest topic name or filter the wire can carry, in bytes of UTF-8 [MQTT-4.7.3-3].
pub const MAX_BYTES: usize = 65_535;
