//! [`MqttCodec`]: this codec as a `tokio_util::codec` decoder and encoder (feature `tokio`).
//!
//! Packets come out owned ([`PacketBuf`]), because a `Stream` cannot lend. A server that counts every
//! nanosecond splits and borrows by itself.

use std::io;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use crate::error::{DecodeError, EncodeError, ErrorKind};
use crate::frame::{Frame, Split, split};
use crate::owned::PacketBuf;
use crate::packet::Packet;
use crate::types::{PacketType, Version};

/// Most bytes of a packet that [`MqttCodec`] accepts before a CONNECT named the version: its six
/// fields at full length, of 65,537 bytes each, and as much again for properties.
pub const CONNECT_BYTES_MAX: u32 = 12 * 65_537;

/// Room made at least when a packet is incomplete: a page.
const RESERVE_BYTES_MIN: usize = 4096;

/// Why a [`MqttCodec`] fails. After a decoding error the stream has no next packet.
#[derive(Debug)]
#[non_exhaustive]
pub enum CodecError {
    /// The peer broke a rule.
    Decode(DecodeError),
    /// A packet cannot be expressed.
    Encode(EncodeError),
    /// The transport failed, or ended inside a packet.
    Io(io::Error),
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CodecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Decode(error) => Some(error),
            Self::Encode(error) => Some(error),
            Self::Io(error) => Some(error),
        }
    }
}

impl From<DecodeError> for CodecError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<EncodeError> for CodecError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<io::Error> for CodecError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Decoder and encoder of one connection.
///
/// It learns the version from the CONNECT that passes through it, in either direction: a server
/// decodes one, a client encodes one. Until then every other packet is refused
/// ([MQTT-3.1.0-1]), and CONNECT is bounded by [`CONNECT_BYTES_MAX`].
#[derive(Clone, Debug)]
pub struct MqttCodec {
    version: Option<Version>,
    packet_bytes_max: u32,
}

impl MqttCodec {
    /// A codec for a new connection that accepts packets of up to `packet_bytes_max` bytes, fixed
    /// header included.
    pub const fn new(packet_bytes_max: u32) -> Self {
        Self {
            version: None,
            packet_bytes_max,
        }
    }

    /// A codec for a connection on which the CONNECT has already passed.
    pub const fn with_version(packet_bytes_max: u32, version: Version) -> Self {
        Self {
            version: Some(version),
            packet_bytes_max,
        }
    }

    /// The version of the connection, once a CONNECT has passed.
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Changes the limit for packets to come.
    pub const fn set_packet_bytes_max(&mut self, packet_bytes_max: u32) {
        self.packet_bytes_max = packet_bytes_max;
    }

    fn limit(&self) -> u32 {
        match self.version {
            Some(_) => self.packet_bytes_max,
            None => self.packet_bytes_max.min(CONNECT_BYTES_MAX),
        }
    }

    /// The version to decode `first` in.
    fn expect_version(&self, first: u8) -> Result<Version, DecodeError> {
        match (self.version, PacketType::from_first_byte(first)) {
            (Some(version), _) => Ok(version),
            // CONNECT names its own; any will do.
            (None, Some(PacketType::Connect)) => Ok(Version::V5),
            (None, _) => Err(DecodeError {
                kind: ErrorKind::FirstPacketNotConnect,
                offset: 0,
            }),
        }
    }
}

impl Decoder for MqttCodec {
    type Item = PacketBuf;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<PacketBuf>, CodecError> {
        // Refused on its first byte, before its body is waited for.
        if let Some(&first) = src.first() {
            self.expect_version(first)?;
        }
        let frame = match split(src, self.limit())? {
            Split::Partial { need } => {
                // A header may announce much and send nothing: room grows with what has arrived.
                let missing = need - src.len();
                src.reserve(missing.min(src.len().max(RESERVE_BYTES_MIN)));
                return Ok(None);
            }
            Split::Frame(Frame { len, .. }) => src.split_to(len).freeze(),
        };
        let version = self.expect_version(frame[0])?;
        let packet = PacketBuf::decode(frame, version)?;
        if self.version.is_none() {
            self.version = Some(packet.version());
        }
        Ok(Some(packet))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<PacketBuf>, CodecError> {
        match self.decode(src)? {
            None if !src.is_empty() => {
                let error =
                    io::Error::new(io::ErrorKind::UnexpectedEof, "stream ended in a packet");
                Err(error.into())
            }
            packet => Ok(packet),
        }
    }
}

impl Encoder<Packet<'_>> for MqttCodec {
    type Error = CodecError;

    fn encode(&mut self, packet: Packet<'_>, dst: &mut BytesMut) -> Result<(), CodecError> {
        let version = match (&packet, self.version) {
            (Packet::Connect(connect), _) => connect.version,
            (_, Some(version)) => version,
            (_, None) => {
                return Err(EncodeError::Invalid(ErrorKind::FirstPacketNotConnect).into());
            }
        };
        dst.reserve(packet.encoded_len(version)?);
        packet.encode(version, dst)?;
        self.version = Some(version);
        Ok(())
    }
}

impl Encoder<PacketBuf> for MqttCodec {
    type Error = CodecError;

    /// Writes the bytes as they are if they are of this version, else translates them.
    fn encode(&mut self, packet: PacketBuf, dst: &mut BytesMut) -> Result<(), CodecError> {
        if self.version == Some(packet.version()) {
            dst.extend_from_slice(packet.as_bytes());
            return Ok(());
        }
        self.encode(packet.packet(), dst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::ReasonCode;
    use crate::{ConnAck, Connect, Props};

    const CONNECT: &[u8] = b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01c";

    fn decode(codec: &mut MqttCodec, bytes: &[u8]) -> Result<Option<PacketBuf>, CodecError> {
        codec.decode(&mut BytesMut::from(bytes))
    }

    #[track_caller]
    fn check_kind(result: Result<Option<PacketBuf>, CodecError>, kind: ErrorKind) {
        match result {
            Err(CodecError::Decode(error)) => assert_eq!(error.kind, kind),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_learns_the_version_from_the_connect_it_decodes() {
        let mut codec = MqttCodec::new(1000);
        let mut stream = BytesMut::from(&[CONNECT, b"\xC0\x00\xE0"].concat()[..]);
        let connect = codec.decode(&mut stream).unwrap().unwrap();
        assert_eq!(connect.as_bytes(), CONNECT);
        assert_eq!(codec.version(), Some(Version::V311));
        let ping = codec.decode(&mut stream).unwrap().unwrap();
        assert_eq!(ping.packet(), Packet::PingReq);
        assert!(codec.decode(&mut stream).unwrap().is_none());
        assert!(matches!(
            codec.decode_eof(&mut stream),
            Err(CodecError::Io(_))
        ));

        let mut answer = BytesMut::new();
        let connack = ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            props: Props::EMPTY,
        };
        codec.encode(Packet::ConnAck(connack), &mut answer).unwrap();
        assert_eq!(&answer[..], b"\x20\x02\x00\x00");
    }

    #[test]
    fn a_client_learns_the_version_from_the_connect_it_encodes() {
        let mut codec = MqttCodec::new(1000);
        let mut sent = BytesMut::new();
        assert!(codec.encode(Packet::PingReq, &mut sent).is_err());
        let connect = Connect {
            version: Version::V5,
            bridge: false,
            clean_start: true,
            keep_alive_secs: 0,
            props: Props::EMPTY,
            client_id: "c",
            will: None,
            username: None,
            password: None,
        };
        codec.encode(Packet::Connect(connect), &mut sent).unwrap();
        assert_eq!(codec.version(), Some(Version::V5));
        let connack = decode(&mut codec, b"\x20\x03\x00\x00\x00")
            .unwrap()
            .unwrap();
        assert!(matches!(connack.packet(), Packet::ConnAck(_)));
    }

    #[test]
    fn nothing_but_connect_comes_first_and_it_is_bounded() {
        let first = ErrorKind::FirstPacketNotConnect;
        check_kind(decode(&mut MqttCodec::new(1000), b"\xC0\x00"), first);
        check_kind(decode(&mut MqttCodec::new(1000), b"\x30"), first);
        let large = ErrorKind::PacketTooLarge;
        check_kind(decode(&mut MqttCodec::new(1000), b"\x10\xFF\x7F"), large);
        check_kind(
            decode(&mut MqttCodec::new(u32::MAX), b"\x10\xFF\xFF\xFF\x7F"),
            large,
        );
        let mut later = MqttCodec::with_version(u32::MAX, Version::V5);
        assert!(
            decode(&mut later, b"\x30\xFF\xFF\xFF\x7F")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn room_grows_with_what_arrived_not_with_what_was_announced() {
        let mut codec = MqttCodec::with_version(u32::MAX, Version::V5);
        let mut stream = BytesMut::from(&b"\x30\xFF\xFF\xFF\x7F"[..]);
        assert!(codec.decode(&mut stream).unwrap().is_none());
        assert!(
            stream.capacity() < 3 * RESERVE_BYTES_MIN,
            "{}",
            stream.capacity()
        );
    }

    #[test]
    fn owned_packets_are_copied_or_translated() {
        let publish =
            PacketBuf::decode((&b"\x30\x04\x00\x01ax"[..]).into(), Version::V311).unwrap();
        let mut sent = BytesMut::new();
        let mut same = MqttCodec::with_version(1000, Version::V311);
        same.encode(publish.clone(), &mut sent).unwrap();
        assert_eq!(&sent[..], &publish.as_bytes()[..]);
        sent.clear();
        let mut other = MqttCodec::with_version(1000, Version::V5);
        other.encode(publish, &mut sent).unwrap();
        assert_eq!(&sent[..], b"\x30\x05\x00\x01a\x00x");
    }
}
