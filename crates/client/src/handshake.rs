//! CONNECT and CONNACK.

use crate::error::ConnectError;
use crate::frames::{Frames, as_frame};
use crate::options::{ConnectOptions, INFLIGHT_MAX};
use martlet_codec::{ConnAck, Packet, PacketBuf, Props, QoS, Version};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// What the server said when it accepted the connection.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    connack: PacketBuf,
    client_id: String,
    keep_alive_secs: u16,
    inflight_max: u16,
}

impl ServerInfo {
    fn connack(&self) -> Option<ConnAck<'_>> {
        match self.connack.packet() {
            Packet::ConnAck(connack) => Some(connack),
            _ => None,
        }
    }

    /// Whether the server had kept a session of this client.
    pub fn session_present(&self) -> bool {
        self.connack()
            .is_some_and(|connack| connack.session_present)
    }

    /// The properties of CONNACK; empty before MQTT 5.
    pub fn props(&self) -> Props<'_> {
        self.connack().map_or(Props::EMPTY, |connack| connack.props)
    }

    /// The client identifier in use: the server's choice where we left it to the server, and
    /// empty where an MQTT 3.1.1 server did not tell.
    pub fn client_id(&self) -> &str {
        self.props().assigned_client_id().unwrap_or(&self.client_id)
    }

    /// The protocol version.
    pub fn version(&self) -> Version {
        self.connack.version()
    }

    /// The keep alive in force, in seconds; 0 for none.
    pub fn keep_alive_secs(&self) -> u16 {
        self.props()
            .server_keep_alive_secs()
            .unwrap_or(self.keep_alive_secs)
    }

    /// QoS 1 and 2 messages that may be under way to the server at once.
    pub fn inflight_max(&self) -> u16 {
        self.props()
            .receive_maximum()
            .unwrap_or(u16::MAX)
            .min(self.inflight_max)
    }

    /// The largest packet that the server accepts, in bytes.
    pub fn packet_bytes_max(&self) -> u32 {
        self.props().maximum_packet_size().unwrap_or(u32::MAX)
    }

    /// The highest quality of service that the server accepts.
    pub fn qos_max(&self) -> QoS {
        self.props().maximum_qos().unwrap_or(QoS::ExactlyOnce)
    }

    /// Whether the server keeps retained messages.
    pub fn retain_available(&self) -> bool {
        self.props().retain_available().unwrap_or(true)
    }
}

/// Sends CONNECT and waits for CONNACK. What came behind it stays in `frames`.
pub(crate) async fn handshake<S>(
    stream: &mut S,
    frames: &mut Frames,
    options: &ConnectOptions,
) -> Result<ServerInfo, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let props = options.connect_props();
    let connect = Packet::Connect(options.connect_packet(&props));
    let connect = PacketBuf::from_packet(&connect, options.version)?;
    let sent = async {
        stream.write_all(connect.as_bytes()).await?;
        stream.flush().await
    };
    sent.await.map_err(hung_up)?;
    let answer = loop {
        match frames.next() {
            Ok(Some(bytes)) => break bytes,
            Ok(None) => {}
            Err(error) => {
                return Err(match &*frames.take_bytes() {
                    [b'H', b'T', b'T', b'P', b'/', ..] => ConnectError::Http,
                    // An alert of TLS 1.0 to 1.3.
                    [0x15, 3, ..] => ConnectError::Tls,
                    _ => error.into(),
                });
            }
        }
        if frames.read(stream).await.map_err(hung_up)? == 0 {
            return Err(ConnectError::Closed);
        }
    };
    let connack = match Packet::decode(as_frame(&answer)?, options.version)? {
        Packet::ConnAck(connack) => connack,
        other => return Err(ConnectError::Unexpected(other.packet_type())),
    };
    if connack.reason.is_error() {
        return Err(ConnectError::Refused {
            reason: connack.reason,
            reason_string: connack.props.reason_string().map(str::to_owned),
            server_reference: connack.props.server_reference().map(str::to_owned),
        });
    }
    Ok(ServerInfo {
        connack: PacketBuf::decode(answer, options.version)?,
        client_id: options.client_id.clone(),
        keep_alive_secs: options.keep_alive_secs,
        inflight_max: options.inflight_max.clamp(1, INFLIGHT_MAX),
    })
}

/// A reset before the answer means the same as an orderly close: the server does not want us.
fn hung_up(error: io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ConnectError::Closed,
        _ => ConnectError::Io(error),
    }
}
