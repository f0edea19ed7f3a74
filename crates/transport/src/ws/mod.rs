//! WebSocket (RFC 6455) as a byte stream.
//!
//! [`handshake`] speaks the HTTP part, [`frame`] is the framing as a plain value, [`adapter`]
//! joins it with a stream. Frame borders carry no meaning upwards: a packet may be split over
//! frames anywhere, one frame may hold many packets, frames may be empty.
//!
//! The framing is our own and not tungstenite's, because a byte stream needs no messages: the
//! bytes are unmasked in the reader's own buffer and written from the writer's own slices. An
//! idle connection therefore holds no buffer at all, and the size of a frame costs no memory.
//!
//! Deliberately absent: text messages (refused), extensions such as compression, and pings of our
//! own (the protocol above has its keep alive).

mod adapter;
mod frame;
mod handshake;

pub use adapter::{Role, WsStream, ws_stream};
pub use frame::FrameError;
pub(crate) use handshake::{Forwarded, ws_accept_forwarded};
pub use handshake::{UpgradeError, WsClientOptions, WsOptions, ws_accept, ws_connect};
