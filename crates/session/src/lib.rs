//! The MQTT session as a plain value: packet ids, windows, queues, QoS 1 and 2 in both directions.
//!
//! Sans-IO: no socket, task, lock, clock or random number; time and settings come in as arguments, bytes
//! go out through an [`OutBuf`], and what must be stored or reported through [`Effects`]. Deliberately
//! absent: topic matching, subscriptions, CONNECT and keep alive, and anything that knows more than one
//! session.
//!
//! [`Outbound`] is the sending half, [`Inbound`] (with [`InboundAliases`] and [`ReceiveQuota`], which
//! belong to a connection) the receiving half. A [`Publication`] is a message on its way to many
//! [`Outbound`]s.

mod encode;
mod inbound;
mod lanes;
mod limits;
#[cfg(any(test, feature = "model"))]
pub mod model;
mod mount;
mod out_buf;
mod outbound;
mod publication;

pub use inbound::{AliasError, Arrival, Inbound, InboundAliases, ReceiveQuota};
pub use lanes::{LANES_MAX, MAIN_LANE};
pub use limits::{
    AckError, Acked, Delivery, DropReason, Effects, Link, Offered, OutboundCounts, OutboundLimits,
    Overflow, Sent,
};
pub use mount::Mount;
pub use out_buf::{Chunk, OutBuf};
pub use outbound::{Outbound, Row, RowBody};
pub use publication::{FanOut, Publication};
