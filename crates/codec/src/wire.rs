//! What all encoders share: exact lengths first, then one pass into the destination.

use bytes::BufMut;

use crate::error::EncodeError;
use crate::frame::MAX_REMAINING_LENGTH;
use crate::types::Version;
use crate::varint;

/// A packet that can be written. Lengths are 64 bits wide so that no sum of slices overflows.
pub(crate) trait Body {
    /// The first byte of the packet.
    fn first_byte(&self) -> u8;

    /// The remaining length, or why the packet cannot be expressed in `version`.
    fn remaining_len(&self, version: Version) -> Result<u64, EncodeError>;

    /// Writes the whole packet, whose remaining length is `remaining`.
    fn put(&self, remaining: u32, version: Version, dst: &mut impl BufMut);
}

/// The exact size of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Bytes after the fixed header.
    pub(crate) remaining: u32,
    /// Bytes in all.
    pub(crate) total: usize,
}

#[inline]
pub(crate) fn size<B: Body>(packet: &B, version: Version) -> Result<Size, EncodeError> {
    let remaining = packet.remaining_len(version)?;
    if remaining > u64::from(MAX_REMAINING_LENGTH) {
        return Err(EncodeError::TooLarge);
    }
    let remaining = remaining as u32;
    Ok(Size {
        remaining,
        total: 1 + varint::len(remaining) + remaining as usize,
    })
}

#[inline]
pub(crate) fn encode<B: Body>(
    packet: &B,
    version: Version,
    dst: &mut impl BufMut,
) -> Result<(), EncodeError> {
    let size = size(packet, version)?;
    if dst.remaining_mut() < size.total {
        return Err(EncodeError::NoRoom);
    }
    packet.put(size.remaining, version, dst);
    Ok(())
}

#[inline]
pub(crate) fn put_header(first: u8, remaining: u32, dst: &mut impl BufMut) {
    let (length, taken) = varint::to_bytes(remaining);
    dst.put_slice(&[first, length[0], length[1], length[2], length[3]][..=taken]);
}

/// Bytes of a length-prefixed field.
#[inline]
pub(crate) fn field_len(field: &[u8]) -> Result<u64, EncodeError> {
    if field.len() > usize::from(u16::MAX) {
        return Err(EncodeError::StringTooLong);
    }
    Ok(2 + field.len() as u64)
}

/// Writes a length-prefixed field whose length [`field_len`] has checked.
#[inline]
pub(crate) fn put_field(field: &[u8], dst: &mut impl BufMut) {
    dst.put_u16(field.len() as u16);
    dst.put_slice(field);
}

/// Gives a packet type its public encoding methods.
macro_rules! encode_methods {
    ($packet:ident) => {
        impl $packet<'_> {
            /// Bytes that [`Self::encode`] writes, fixed header included.
            ///
            /// # Errors
            /// What cannot be expressed in `version`, see [`crate::EncodeError`].
            #[inline]
            pub fn encoded_len(
                &self,
                version: $crate::Version,
            ) -> Result<usize, $crate::EncodeError> {
                $crate::wire::size(self, version).map(|size| size.total)
            }

            /// Writes the packet, once and without going back.
            ///
            /// # Errors
            /// What cannot be expressed in `version`, see [`crate::EncodeError`]; `dst` is untouched then.
            #[inline]
            pub fn encode(
                &self,
                version: $crate::Version,
                dst: &mut impl bytes::BufMut,
            ) -> Result<(), $crate::EncodeError> {
                $crate::wire::encode(self, version, dst)
            }
        }
    };
}
pub(crate) use encode_methods;

/// `IntoIterator` for a view of bytes, by value and by reference.
macro_rules! into_iter {
    ($list:ident, $iter:ident, $item:ty) => {
        impl<'a> IntoIterator for $list<'a> {
            type Item = $item;
            type IntoIter = $iter<'a>;

            fn into_iter(self) -> $iter<'a> {
                self.iter()
            }
        }

        impl<'a> IntoIterator for &$list<'a> {
            type Item = $item;
            type IntoIter = $iter<'a>;

            fn into_iter(self) -> $iter<'a> {
                self.iter()
            }
        }
    };
}
pub(crate) use into_iter;
