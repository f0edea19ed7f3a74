//! [`PacketBuf`]: a packet that owns its bytes, for those who keep packets.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::error::{DecodeError, EncodeError, ErrorKind};
use crate::frame::{Split, split};
use crate::packet::Packet;
use crate::types::Version;

/// A packet that owns its bytes: a validated frame and its version.
///
/// `packet()` decodes it again (tens of nanoseconds); cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketBuf {
    version: Version,
    frame: Bytes,
}

impl PacketBuf {
    /// Takes a whole packet, fixed header included. A CONNECT sets its own version.
    ///
    /// # Errors
    /// The rule that the packet breaks; [`ErrorKind::Truncated`] and [`ErrorKind::TrailingBytes`] if
    /// `frame` is less or more than one packet.
    pub fn decode(frame: Bytes, version: Version) -> Result<Self, DecodeError> {
        let packet = decode(&frame, version)?;
        let version = match packet {
            Packet::Connect(connect) => connect.version,
            _ => version,
        };
        Ok(Self { version, frame })
    }

    /// Encodes and checks a packet. A CONNECT sets its own version.
    ///
    /// # Errors
    /// What cannot be expressed; [`EncodeError::Invalid`] for a packet that breaks a rule, like a
    /// topic name with a wildcard.
    pub fn from_packet(packet: &Packet<'_>, version: Version) -> Result<Self, EncodeError> {
        let mut bytes = Vec::with_capacity(packet.encoded_len(version)?);
        packet.encode(version, &mut bytes)?;
        Self::decode(bytes.into(), version).map_err(|error| EncodeError::Invalid(error.kind))
    }

    /// The packet, borrowed from the bytes held here.
    pub fn packet(&self) -> Packet<'_> {
        match decode(&self.frame, self.version) {
            Ok(packet) => packet,
            // Both constructors decoded the same bytes, and nothing changes them.
            Err(error) => unreachable!("a kept packet no longer decodes: {error}"),
        }
    }

    /// The version that the bytes are written in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The whole packet, fixed header included.
    pub fn as_bytes(&self) -> &Bytes {
        &self.frame
    }
}

fn decode(frame: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
    match split(frame, u32::MAX)? {
        Split::Frame(found) if found.len == frame.len() => Packet::decode(found, version),
        Split::Frame(_) => Err(DecodeError::header(ErrorKind::TrailingBytes)),
        Split::Partial { .. } => Err(DecodeError::header(ErrorKind::Truncated)),
    }
}
