//! Zero-copy MQTT 3.1, 3.1.1 and 5.0: frame splitting, borrowed packets, exact-size encoders.
//!
//! One family of packets serves all three versions; the [`Version`] is a value. [`split`] finds the
//! next packet in a stream of bytes, [`Packet::decode`] borrows it from there, and
//! [`Packet::encode`] writes one. Both directions are complete: a client decodes what servers send
//! and encodes what they expect, and the other way round.
//!
//! Decoding never allocates, never panics, takes time linear in the packet, and enforces every rule
//! that can be judged from one packet alone; each rule is an [`ErrorKind`] that knows its reason code
//! and statement. Deliberately absent: connections, sessions, time, logging, sockets, `unsafe`, and
//! whether a topic filter is valid.
//!
//! ```
//! use martlet_codec::{Packet, Split, Version, split};
//!
//! let input = b"\x30\x07\x00\x03a/bhi\xC0\x00";
//! let Split::Frame(frame) = split(input, 1024)? else { unreachable!("it is complete") };
//! let Packet::Publish(publish) = Packet::decode(frame, Version::V311)? else { unreachable!() };
//! assert_eq!((publish.topic, publish.payload), ("a/b", &b"hi"[..]));
//!
//! let mut written = Vec::new();
//! publish.encode(Version::V311, &mut written).unwrap();
//! assert_eq!(written, &input[..frame.len]);
//! # Ok::<(), martlet_codec::DecodeError>(())
//! ```
//!
//! Features: `std` (default; without it the crate needs `alloc` only), `tokio` (a `tokio_util` codec),
//! `serde` (`Serialize` for packets, both for small values), `corpus` (named packets for tests).
#![no_std]

extern crate alloc;
#[cfg(feature = "tokio")]
extern crate std;

mod ack;
mod connack;
mod connect;
#[cfg(feature = "corpus")]
pub mod corpus;
mod disconnect;
mod error;
mod frame;
mod owned;
mod packet;
pub mod props;
mod publish;
mod reason;
#[cfg(feature = "serde")]
mod serde_impl;
mod suback;
mod subscribe;
mod text;
#[cfg(feature = "tokio")]
pub mod tokio;
mod types;
pub mod varint;
mod wire;

pub use ack::{Ack, AckKind};
pub use connack::ConnAck;
pub use connect::{Connect, Will};
pub use disconnect::{Auth, Disconnect};
pub use error::{DecodeError, EncodeError, ErrorKind};
pub use frame::{Frame, MAX_REMAINING_LENGTH, Split, split};
pub use owned::PacketBuf;
pub use packet::Packet;
pub use props::{
    MAX_REPEATED_PROPERTIES, Property, Props, PropsBuf, PropsContext, PropsIter, Segments,
};
pub use publish::Publish;
pub use reason::{ReasonCode, UnknownReasonCode};
pub use suback::{ReasonCodes, ReasonCodesIter, SubAck, UnsubAck};
pub use subscribe::{
    RetainHandling, Subscribe, SubscribeFilters, SubscribeFiltersBuf, SubscribeFiltersIter,
    SubscribeOptions, Unsubscribe, UnsubscribeFilters, UnsubscribeFiltersBuf,
    UnsubscribeFiltersIter,
};
pub use types::{OutOfRange, PacketId, PacketType, QoS, Version};
