//! Reading and writing the fields of records. Deliberately absent: which fields a record has.

use martlet_codec::{PacketId, QoS};

use super::{RecordError, VERSION};
use crate::{MessageId, OutboundState, SessionId, Timestamp};

/// Appends fields.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A record of the current version.
    pub(crate) fn record() -> Self {
        Self {
            bytes: vec![VERSION],
        }
    }

    /// Goes on after `bytes`.
    pub(crate) fn after(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn time(&mut self, value: Timestamp) {
        self.u64(value.as_millis());
    }

    pub(crate) fn session(&mut self, value: SessionId) {
        self.u64(value.get());
    }

    pub(crate) fn message(&mut self, value: MessageId) {
        self.u64(value.get());
    }

    pub(crate) fn packet_id(&mut self, value: PacketId) {
        self.u16(value.get());
    }

    pub(crate) fn state(&mut self, value: OutboundState) {
        self.u8(match value {
            OutboundState::Published => 0,
            OutboundState::Released => 1,
        });
    }

    pub(crate) fn qos(&mut self, value: QoS) {
        self.u8(value as u8);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        // MQTT bounds every field far below this; a longer one is cut rather than misread.
        let value = value.get(..u32::MAX as usize).unwrap_or(value);
        self.u32(value.len() as u32);
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn ids(&mut self, ids: &[u32]) {
        let ids = ids.get(..usize::from(u16::MAX)).unwrap_or(ids);
        self.u16(ids.len() as u16);
        for id in ids {
            self.u32(*id);
        }
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Takes fields off the front.
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the version.
    pub(crate) fn record(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Self { left: bytes };
        match reader.u8()? {
            VERSION => Ok(reader),
            other => Err(RecordError::Version(other)),
        }
    }

    pub(crate) fn end(&self) -> Result<(), RecordError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(RecordError::Trailing(self.left.len()))
        }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (taken, left) = self
            .left
            .split_at_checked(len)
            .ok_or(RecordError::Truncated)?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, left) = self
            .left
            .split_first_chunk()
            .ok_or(RecordError::Truncated)?;
        self.left = left;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RecordError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, RecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            #[cfg(planted_bug)]
            2..=200 => Ok(true),
            _ => Err(RecordError::Invalid("flag")),
        }
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, RecordError> {
        self.u64().map(Timestamp::from_millis)
    }

    pub(crate) fn session(&mut self) -> Result<SessionId, RecordError> {
        self.u64().map(SessionId::new)
    }

    pub(crate) fn message(&mut self) -> Result<MessageId, RecordError> {
        self.u64().map(MessageId::new)
    }

    pub(crate) fn packet_id(&mut self) -> Result<PacketId, RecordError> {
        PacketId::new(self.u16()?).ok_or(RecordError::Invalid("packet id"))
    }

    pub(crate) fn state(&mut self) -> Result<OutboundState, RecordError> {
        match self.u8()? {
            0 => Ok(OutboundState::Published),
            1 => Ok(OutboundState::Released),
            _ => Err(RecordError::Invalid("state")),
        }
    }

    pub(crate) fn qos(&mut self) -> Result<QoS, RecordError> {
        QoS::from_bits(self.u8()?).ok_or(RecordError::Invalid("QoS"))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, RecordError> {
        core::str::from_utf8(self.bytes()?).map_err(|_| RecordError::Invalid("text"))
    }

    pub(crate) fn ids(&mut self) -> Result<Box<[u32]>, RecordError> {
        let count = usize::from(self.u16()?);
        // The bytes are there before memory is taken for them.
        let bytes = self.take(count * 4)?;
        let (ids, _) = bytes.as_chunks();
        Ok(ids.iter().map(|id| u32::from_le_bytes(*id)).collect())
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        if self.bool()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }
}
