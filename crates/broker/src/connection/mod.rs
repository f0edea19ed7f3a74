//! One client connection: the handshake, then a task that reads, routes and writes without locks of its own.
//!
//! The task is one `poll` function over the stream, so nothing is allocated per wait and no scratch survives an
//! await. Input is parsed from the worker's scratch; only an incomplete packet is kept. Output is what other tasks
//! appended to the session's outbox, taken by swapping, and the task's own acknowledgements, which leave in order
//! of receipt, each behind its batch (architecture rules 5 to 9).

mod acks;
mod closing;
mod complaints;
mod driver;
mod gather;
mod handshake;
mod lane;
mod metered;
mod parked;
mod pressure;
mod publish;
mod replay;
mod streams;
mod subscribe;
mod visit;

use martlet_codec::{DecodeError, ReasonCode};
use martlet_transport::ByteStream;

use crate::{
    attachment::Kick,
    hooks::{Origin, Presented},
    listen::{Seat, Terms},
};

pub(crate) use complaints::Complaints;
pub(crate) use driver::Connection;
pub(crate) use handshake::run as handshake;

/// A stream that is to become a connection: where it comes from, and what it will be held to.
pub(crate) struct Arrival {
    pub(crate) origin: Origin,
    pub(crate) terms: std::sync::Arc<Terms>,
    pub(crate) presented: Presented,
    /// When it was accepted; the deadline of the handshake counts from here.
    pub(crate) started: tokio::time::Instant,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client sent DISCONNECT.
    Disconnected {
        with_will: bool,
        session_expiry_secs: Option<u32>,
    },
    /// The client closed without DISCONNECT.
    PeerClosed,
    /// The stream failed.
    Stream(std::io::ErrorKind, String),
    /// The client broke a rule, or a limit.
    Violation(Violation),
    /// Somebody else ended it: takeover, keep alive, administration, shutdown.
    Kicked(Kick),
    /// The session was taken by force; nothing may be said any more.
    Lost,
}

/// A broken rule: what the client is told and what the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) reason: ReasonCode,
    pub(crate) text: String,
}

impl Violation {
    pub(crate) fn new(reason: ReasonCode, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }
}

impl From<DecodeError> for Violation {
    fn from(error: DecodeError) -> Self {
        Self {
            reason: error.reason_code(),
            text: error.to_string(),
        }
    }
}

impl From<DecodeError> for End {
    fn from(error: DecodeError) -> Self {
        Self::Violation(error.into())
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// Runs a connection from its handshake to its end; `seat` is given back then.
///
/// Not an `async fn`, whose future would hold its arguments twice: the large handshake is boxed and gone once the
/// client is connected.
pub(crate) fn serve<S: ByteStream>(
    seat: Seat,
    handshake: impl Future<Output = Option<Connection<S>>> + Send + 'static,
) -> impl Future<Output = ()> + Send {
    let handshake = Box::pin(handshake);
    async move {
        let _seat = seat;
        let Some(mut connection) = handshake.await else {
            return;
        };
        let end = std::future::poll_fn(|cx| connection.poll_turn(cx)).await;
        Box::pin(connection.finish(end)).await;
    }
}
