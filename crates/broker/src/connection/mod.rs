//! One client connection: the handshake, then a task that reads, routes and writes without locks of its own.
//!
//! The task is one `poll` function over the stream, so nothing is allocated per wait and no scratch survives an
//! await. Input is parsed from the worker's scratch; only an incomplete packet is kept. Output is what other tasks
//! appended to the session's outbox, taken by swapping, and the task's own acknowledgements, which leave in order
//! of receipt, each behind its batch (architecture rules 5 to 9).

mod acks;
mod closing;
mod driver;
mod handshake;
mod publish;
mod replay;
mod subscribe;

use std::sync::Arc;

use martlet_codec::{DecodeError, ReasonCode};
use martlet_transport::ByteStream;

use crate::{core::Core, hooks::Origin, session::Kick};

use driver::Connection;

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

/// Serves one established byte stream until it ends; `started` is when it was accepted.
pub(crate) async fn serve<S: ByteStream>(
    core: Arc<Core>,
    stream: S,
    origin: Origin,
    started: tokio::time::Instant,
) {
    // The handshake's future is large; boxed, it is gone once the client is connected.
    let Some(mut connection) = Box::pin(handshake::run(core, stream, origin, started)).await else {
        return;
    };
    let end = std::future::poll_fn(|cx| connection.poll_turn(cx)).await;
    Box::pin(connection.finish(end)).await;
}
