//! Packets and bytes in and out, nothing automatic: the layer that tests use.

use crate::error::RawError;
use crate::frames::Frames;
use crate::options::PACKET_BYTES_MAX;
use bytes::Bytes;
use martlet_codec::{Packet, PacketBuf, Version};
use martlet_transport::{ByteStream, ConnectAddress, ConnectOptions, connect};
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// A connection on which nothing happens by itself: no acknowledgements, no pings, no checks.
///
/// ```no_run
/// # use martlet_client::{RawConnection, codec::*};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut connection = RawConnection::connect(&"tcp://127.0.0.1:1883".parse()?).await?;
/// connection.send_bytes(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c").await?;
/// connection
///     .expect(&Packet::ConnAck(ConnAck {
///         session_present: false,
///         reason: ReasonCode::Success,
///         props: Props::EMPTY,
///     }))
///     .await?;
/// connection.send_bytes(b"\xf0\0").await?;
/// connection.expect_eof().await?;
/// # Ok(())
/// # }
/// ```
pub struct RawConnection {
    stream: Box<dyn ByteStream>,
    frames: Frames,
    version: Version,
    limit: Duration,
}

impl RawConnection {
    /// How long [`Self::receive`] and the `expect` methods wait unless told otherwise.
    pub const DEFAULT_LIMIT: Duration = Duration::from_secs(5);

    /// Connects; no packet is sent.
    ///
    /// # Errors
    /// What the operating system or the server's HTTP answer said.
    pub async fn connect(address: &ConnectAddress) -> io::Result<Self> {
        Ok(Self::over(
            connect(address, &ConnectOptions::default()).await?,
        ))
    }

    /// Uses `stream`.
    pub fn over(stream: impl ByteStream) -> Self {
        Self {
            stream: Box::new(stream),
            frames: Frames::new(PACKET_BYTES_MAX),
            version: Version::V311,
            limit: Self::DEFAULT_LIMIT,
        }
    }

    /// Sets the version that packets are encoded and decoded in. The default is 3.1.1; a CONNECT
    /// that [`Self::send`] sends or [`Self::receive`] gets sets it as well.
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Sets how long to wait for something that is expected.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), RawError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Encodes and sends a packet, without further checks.
    ///
    /// # Errors
    /// [`RawError::Encode`] for what cannot be encoded, and those of the stream.
    pub async fn send(&mut self, packet: &Packet<'_>) -> Result<(), RawError> {
        if let Packet::Connect(connect) = packet {
            self.version = connect.version;
        }
        let mut bytes = Vec::with_capacity(packet.encoded_len(self.version)?);
        packet.encode(self.version, &mut bytes)?;
        self.send_bytes(&bytes).await
    }

    /// Waits for the next packet.
    ///
    /// # Errors
    /// [`RawError::Timeout`], [`RawError::Eof`], [`RawError::Decode`], and those of the stream.
    pub async fn receive(&mut self) -> Result<PacketBuf, RawError> {
        let next = async {
            loop {
                if let Some(bytes) = self.frames.next()? {
                    let packet = PacketBuf::decode(bytes, self.version)?;
                    self.version = packet.version();
                    return Ok(packet);
                }
                if self.frames.read(&mut self.stream).await? == 0 {
                    return Err(RawError::Eof);
                }
            }
        };
        match timeout(self.limit, next).await {
            Ok(result) => result,
            Err(_) => Err(RawError::Timeout(self.limit)),
        }
    }

    /// Waits for the next bytes, whatever they are; empty at the end of the stream.
    ///
    /// # Errors
    /// [`RawError::Timeout`] and those of the stream.
    pub async fn receive_bytes(&mut self) -> Result<Bytes, RawError> {
        let buffered = self.frames.take_bytes();
        if !buffered.is_empty() {
            return Ok(buffered);
        }
        match timeout(self.limit, self.frames.read(&mut self.stream)).await {
            Ok(read) => {
                read?;
                Ok(self.frames.take_bytes())
            }
            Err(_) => Err(RawError::Timeout(self.limit)),
        }
    }

    /// Waits for the next packet and compares it.
    ///
    /// # Errors
    /// [`RawError::Unexpected`] if it is another one, else like [`Self::receive`].
    pub async fn expect(&mut self, expected: &Packet<'_>) -> Result<(), RawError> {
        let got = self.receive().await?;
        if got.packet() == *expected {
            return Ok(());
        }
        Err(RawError::Unexpected {
            expected: format!("{expected:?}"),
            got: Box::new(got),
        })
    }

    /// Waits for the end of the stream. A reset by the peer counts as the end.
    ///
    /// # Errors
    /// [`RawError::Unexpected`] if a packet comes, [`RawError::Timeout`] if nothing does.
    pub async fn expect_eof(&mut self) -> Result<(), RawError> {
        match self.receive().await {
            Err(RawError::Eof) => Ok(()),
            Err(RawError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error),
            Ok(got) => Err(RawError::Unexpected {
                expected: "the end of the stream".into(),
                got: Box::new(got),
            }),
        }
    }

    /// Shows that nothing is under way: sends PINGREQ, and PINGRESP must be the next packet.
    ///
    /// # Errors
    /// [`RawError::Unexpected`] if another packet comes first, else like [`Self::receive`].
    pub async fn expect_nothing(&mut self) -> Result<(), RawError> {
        self.send(&Packet::PingReq).await?;
        self.expect(&Packet::PingResp).await
    }

    /// Closes the write side; the server can still be heard.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn shutdown(&mut self) -> Result<(), RawError> {
        Ok(self.stream.shutdown().await?)
    }
}

impl fmt::Debug for RawConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawConnection")
            .field("version", &self.version)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
