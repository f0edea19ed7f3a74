//! Frame splitting: where one packet ends in a stream of bytes (section 2.1), judged on the header alone.
//!
//! Written by hand: it runs again for every partial read, and has to say how much is missing.
//! Bodies are not looked at.

use crate::error::{DecodeError, ErrorKind};
use crate::types::{PacketType, Version};
use crate::varint::{self, VarintError};

/// Largest remaining length the wire can express.
pub const MAX_REMAINING_LENGTH: u32 = varint::MAX;

/// One complete packet as it lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The first byte: packet type and flags.
    pub first: u8,
    /// What follows the fixed header.
    pub body: &'a [u8],
    /// Length with fixed header.
    pub len: usize,
}

impl Frame<'_> {
    /// The packet type; `None` for the reserved type 0, which [`split`] never returns.
    #[inline]
    pub const fn packet_type(&self) -> Option<PacketType> {
        PacketType::from_first_byte(self.first)
    }
}

/// What [`split`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// A whole packet; the next one starts `len` bytes further.
    Frame(Frame<'a>),
    /// The packet is not complete yet.
    Partial {
        /// At least so many bytes in all, counted from the start of `input`, are wanted before
        /// another call can succeed. Always more than were given.
        need: usize,
    },
}

/// Splits the first packet off `input`.
///
/// `max_packet` bounds the whole packet, header included. It, the form of the remaining length and
/// the flags that are wrong in every version are judged on the header, before the body arrived, so
/// that no one has to wait for, or make room for, a packet that is refused anyway.
///
/// # Errors
/// [`ErrorKind::PacketTooLarge`], [`ErrorKind::RemainingLengthTooLong`],
/// [`ErrorKind::RemainingLengthNotMinimal`], [`ErrorKind::ReservedPacketType`] and the errors of
/// header flags. The stream has no next packet then.
#[inline]
pub fn split(input: &[u8], max_packet: u32) -> Result<Split<'_>, DecodeError> {
    let Some((&first, after)) = input.split_first() else {
        return Ok(Split::Partial { need: 2 });
    };
    check_first_byte(first, None)?;
    let (remaining, taken) = match varint::read(after) {
        Ok(read) => read,
        Err(VarintError::Incomplete) => {
            return Ok(Split::Partial {
                need: input.len() + 1,
            });
        }
        Err(VarintError::TooLong) => {
            return Err(DecodeError::header(ErrorKind::RemainingLengthTooLong));
        }
        Err(VarintError::NotMinimal) => {
            return Err(DecodeError::header(ErrorKind::RemainingLengthNotMinimal));
        }
    };
    let header = 1 + taken;
    // At most 268,435,460: no overflow, even with 32 bits.
    let len = header + remaining as usize;
    if len > max_packet as usize {
        return Err(DecodeError::header(ErrorKind::PacketTooLarge));
    }
    match input.get(header..len) {
        Some(body) => Ok(Split::Frame(Frame { first, body, len })),
        None => Ok(Split::Partial { need: len }),
    }
}

/// Checks type and flags (section 2.1.3). Without a version, only what is wrong in all of them:
/// MQTT 3.1 alone allows DUP on SUBSCRIBE, UNSUBSCRIBE and PUBREL, and only MQTT 5 has AUTH.
#[inline]
pub(crate) fn check_first_byte(
    first: u8,
    version: Option<Version>,
) -> Result<PacketType, DecodeError> {
    let flags = first & 0x0F;
    let Some(kind) = PacketType::from_first_byte(first) else {
        return Err(DecodeError::header(ErrorKind::ReservedPacketType));
    };
    let error = match kind {
        PacketType::Publish => match flags & 0b1110 {
            0b0110 | 0b1110 => ErrorKind::PublishQos3,
            0b1000 => ErrorKind::DupWithQos0,
            _ => return Ok(kind),
        },
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => {
            let dup_allowed = matches!(version, None | Some(Version::V31));
            if flags == 0b0010 || (dup_allowed && flags == 0b1010) {
                return Ok(kind);
            }
            match kind {
                PacketType::PubRel => ErrorKind::PubRelHeaderFlags,
                PacketType::Subscribe => ErrorKind::SubscribeHeaderFlags,
                _ => ErrorKind::UnsubscribeHeaderFlags,
            }
        }
        PacketType::Auth if version.is_some_and(|version| !version.is_v5()) => {
            ErrorKind::AuthNotInThisVersion
        }
        _ if flags == 0 => return Ok(kind),
        PacketType::Disconnect => ErrorKind::DisconnectHeaderFlags,
        PacketType::Auth => ErrorKind::AuthHeaderFlags,
        _ => ErrorKind::ReservedHeaderFlags,
    };
    Err(DecodeError::header(error))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_packet_needs_two_bytes_then_its_length_then_its_body() {
        let packet = b"\x30\x05\x00\x01aXY";
        assert_eq!(split(b"", 100), Ok(Split::Partial { need: 2 }));
        assert_eq!(split(&packet[..1], 100), Ok(Split::Partial { need: 2 }));
        for end in 2..packet.len() {
            assert_eq!(split(&packet[..end], 100), Ok(Split::Partial { need: 7 }));
        }
        let whole = Frame {
            first: 0x30,
            body: b"\x00\x01aXY",
            len: 7,
        };
        assert_eq!(split(packet, 100), Ok(Split::Frame(whole)));
        assert_eq!(
            split(b"\x30\x05\x00\x01aXY\xC0\x00", 100),
            Ok(Split::Frame(whole))
        );
    }

    #[test]
    fn a_long_remaining_length_is_asked_for_byte_by_byte() {
        assert_eq!(split(b"\x30\xFF", u32::MAX), Ok(Split::Partial { need: 3 }));
        assert_eq!(
            split(b"\x30\xFF\xFF\xFF", u32::MAX),
            Ok(Split::Partial { need: 5 })
        );
        assert_eq!(
            split(b"\x30\xFF\xFF\xFF\x7F", u32::MAX),
            Ok(Split::Partial {
                need: 5 + MAX_REMAINING_LENGTH as usize
            })
        );
    }

    #[test]
    fn size_is_judged_on_the_header() {
        let mut packet = vec![0x30, 98];
        packet.extend([0; 98]);
        assert!(matches!(
            split(&packet, 100),
            Ok(Split::Frame(Frame { len: 100, .. }))
        ));
        let too_large = Err(DecodeError::header(ErrorKind::PacketTooLarge));
        assert_eq!(split(&packet, 99), too_large);
        assert_eq!(split(&packet[..2], 99), too_large);
        assert_eq!(split(b"\x30\xFF\xFF\xFF\x7F", 1_000_000), too_large);
    }

    #[test]
    fn bytes_that_are_not_mqtt_are_refused_on_the_first_byte() {
        // "GET / HTTP/1.1" and a TLS ClientHello.
        assert_eq!(
            split(b"GET /", 100).map_err(|e| e.kind),
            Err(ErrorKind::ReservedHeaderFlags)
        );
        assert_eq!(
            split(b"\x16", 100).map_err(|e| e.kind),
            Err(ErrorKind::ReservedHeaderFlags)
        );
        assert_eq!(
            split(b"\x00", 100).map_err(|e| e.kind),
            Err(ErrorKind::ReservedPacketType)
        );
    }

    /// The sixteen flag values of one packet type: which are right in a version.
    fn check_flags(kind: PacketType, version: Option<Version>, right: &[u8]) {
        for flags in 0..16 {
            let got = check_first_byte((kind as u8) << 4 | flags, version);
            assert_eq!(
                got.is_ok(),
                right.contains(&flags),
                "{kind} {flags:04b} {version:?}"
            );
        }
    }

    #[test]
    fn flags_per_packet_type_and_version() {
        let versions = [
            None,
            Some(Version::V31),
            Some(Version::V311),
            Some(Version::V5),
        ];
        for version in versions {
            for kind in PacketType::ALL {
                match kind {
                    PacketType::Publish => {
                        check_flags(kind, version, &[0, 1, 2, 3, 4, 5, 10, 11, 12, 13]);
                    }
                    PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => {
                        let dup = matches!(version, None | Some(Version::V31));
                        check_flags(kind, version, if dup { &[2, 10] } else { &[2] });
                    }
                    PacketType::Auth => {
                        let known = matches!(version, None | Some(Version::V5));
                        check_flags(kind, version, if known { &[0] } else { &[] });
                    }
                    _ => check_flags(kind, version, &[0]),
                }
            }
        }
    }
}
