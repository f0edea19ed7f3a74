//! Errors, in words for users.

use martlet_codec::{DecodeError, EncodeError, PacketBuf, PacketType, QoS, ReasonCode};
use martlet_transport::ConnectAddress;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server's address cannot be reached, or the WebSocket upgrade failed.
    #[error(
        "cannot connect to {address}: {source}{}",
        unreachable_hint(address, source)
    )]
    Unreachable {
        /// As given.
        address: ConnectAddress,
        /// What the operating system or the server's HTTP answer said.
        source: io::Error,
    },
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The server refused, with its reason.
    #[error("the server refused the connection: {reason}{}", said(reason_string.as_ref()))]
    Refused {
        /// The reason code; return codes of MQTT 3 appear as the code that stands for them.
        reason: ReasonCode,
        /// The server's words, if it sent any.
        reason_string: Option<String>,
        /// Another server to try, if it named one.
        server_reference: Option<String>,
    },
    /// The server hung up before it answered. Servers do this when they do not speak the
    /// protocol version or do not like the CONNECT.
    #[error("the server closed the connection instead of answering")]
    Closed,
    /// The connection broke before the server answered.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The options cannot be expressed in this protocol version.
    #[error("invalid options: {0}")]
    Options(#[from] EncodeError),
    /// The server answered in HTTP.
    #[error("the server speaks HTTP, not plain MQTT: perhaps it wants a ws:// address")]
    Http,
    /// The server answered in TLS.
    #[error("the server speaks TLS, not plain MQTT: perhaps it wants a tls:// address")]
    Tls,
    /// The server's answer breaks the protocol.
    #[error("the server does not speak proper MQTT: {0}")]
    Decode(#[from] DecodeError),
    /// The server's first packet is not CONNACK.
    #[error("the server sent {0} instead of CONNACK")]
    Unexpected(PacketType),
}

fn unreachable_hint(address: &ConnectAddress, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => " (nothing listens there)",
        io::ErrorKind::UnexpectedEof if address.is_tls() => " (perhaps it speaks no TLS)",
        _ => "",
    }
}

fn said(words: Option<&String>) -> String {
    words.map_or_else(String::new, |words| format!(": {words}"))
}

/// Why a connection ended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Disconnected {
    /// We said goodbye, or hung up.
    #[error("disconnected")]
    Local,
    /// The server said goodbye (MQTT 5).
    #[error("the server disconnected: {reason}{}", said(reason_string.as_ref()))]
    Server {
        /// Why.
        reason: ReasonCode,
        /// The server's words, if it sent any.
        reason_string: Option<String>,
        /// Another server to try, if it named one.
        server_reference: Option<String>,
    },
    /// The server closed the connection without a word.
    #[error("the server closed the connection")]
    Closed,
    /// The server was silent for too long.
    #[error("the server did not answer for {0} s")]
    KeepAlive(u64),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(Arc<io::Error>),
    /// The server sent something malformed.
    #[error("the server sent a malformed packet: {0}")]
    Decode(DecodeError),
    /// The server broke a rule of the protocol.
    #[error("the server broke the protocol: {what}")]
    Protocol {
        /// What it did.
        what: &'static str,
        /// The reason code that it was told.
        reason: ReasonCode,
    },
}

impl From<io::Error> for Disconnected {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// Why a request to a connected server failed. A refusal by the server is not an error: it is the
/// reason code of the outcome.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection ended before the server answered.
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
    /// It cannot be expressed in this protocol version.
    #[error("invalid request: {0}")]
    Encode(#[from] EncodeError),
    /// It is larger than the server accepts [MQTT-3.2.2-15].
    #[error("packet of {bytes} bytes, the server accepts {max}")]
    TooLarge {
        /// Size of the packet.
        bytes: usize,
        /// The server's Maximum Packet Size.
        max: u32,
    },
    /// The server does not support this quality of service [MQTT-3.2.2-11].
    #[error("the server supports QoS {} at most", *.0 as u8)]
    QosNotSupported(QoS),
    /// The server does not support retained messages [MQTT-3.2.2-14].
    #[error("the server does not support retained messages")]
    RetainNotSupported,
    /// A topic alias was set: this client does not send any.
    #[error("topic aliases of outgoing messages are not supported")]
    TopicAlias,
    /// There was nothing to subscribe to or to unsubscribe from [MQTT-3.8.3-2].
    #[error("no topic filter given")]
    NoFilters,
}

/// What went differently on a [`RawConnection`](crate::RawConnection).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RawError {
    /// Nothing came in time.
    #[error("nothing came within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The server closed the connection.
    #[error("the connection is closed")]
    Eof,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The server sent something malformed.
    #[error("malformed packet: {0}")]
    Decode(#[from] DecodeError),
    /// The packet to send cannot be expressed.
    #[error("cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    /// Another packet than the expected one came.
    #[error("expected {expected}, got {:?}", got.packet())]
    Unexpected {
        /// In words or as debug output.
        expected: String,
        /// What came instead.
        got: Box<PacketBuf>,
    },
}
