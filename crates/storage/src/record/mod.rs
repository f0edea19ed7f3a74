//! Versioned binary records: rows and operations as bytes and back.
//!
//! Every record starts with its version (messages carry theirs in their head), every length is checked
//! against what is there, and trailing bytes are refused. Numbers in values are little-endian, numbers in
//! keys big-endian, so that keys sort as their numbers do. Deliberately absent: checksums, which belong to
//! the backend.

mod op;
#[cfg(test)]
mod tests;
pub use op::{decode_batch, encode_batch};
mod wire;

use martlet_codec::{PacketId, QoS, SubscribeOptions};

use crate::op::{CountersRecord, OutboundState, SessionRecord, WillRecord};
use crate::{Message, MessageId, SessionId, Timestamp};
pub(crate) use wire::{Reader, Writer};

/// The version that new records are written with.
pub const VERSION: u8 = 1;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It ends early.
    #[error("the record is cut short")]
    Truncated,
    /// It goes on after its end.
    #[error("the record has {0} bytes too many")]
    Trailing(usize),
    /// A newer or damaged record.
    #[error("the record has version {0}, this program knows 1")]
    Version(u8),
    /// A field is out of its range.
    #[error("the record's {0} is not valid")]
    Invalid(&'static str),
}

/// A queue row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedRow {
    /// The message.
    pub message: MessageId,
    /// Length of its body in bytes.
    pub bytes: u32,
    /// When it may no longer be delivered.
    pub expires: Option<Timestamp>,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// The RETAIN flag of this delivery.
    pub retain: bool,
    /// The Subscription Identifiers of this delivery.
    pub subscription_ids: Box<[u32]>,
    /// The share group it came through.
    pub share: Option<u64>,
}

/// A row of a QoS 2 delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboundRow {
    /// The packet id.
    pub packet_id: PacketId,
    /// The message.
    pub message: MessageId,
    /// Its state.
    pub state: OutboundState,
    /// Its place in the order of sending.
    pub sequence: u64,
}

/// A subscription's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// The filter as the client wrote it.
    pub filter: Box<str>,
    /// Its options.
    pub options: SubscribeOptions,
    /// Its Subscription Identifier.
    pub subscription_id: Option<u32>,
}

/// The one row that every batch writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The last batch in the store.
    pub lsn: crate::Lsn,
    /// When it was written.
    pub committed: Timestamp,
    /// The highest session number ever stored.
    pub last_session: u64,
    /// The highest message number ever stored.
    pub last_message: u64,
    /// The last place given out in an order of sending.
    pub last_sequence: u64,
}

const RETAIN: u8 = 0b0000_0100;
const EXPIRES: u8 = 0b0000_1000;
const SHARE: u8 = 0b0001_0000;

impl Meta {
    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::record();
        w.u64(self.lsn.get());
        w.u64(self.committed.as_millis());
        w.u64(self.last_session);
        w.u64(self.last_message);
        w.u64(self.last_sequence);
        w.done()
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::record(bytes)?;
        let meta = Self {
            lsn: crate::Lsn::new(r.u64()?),
            committed: Timestamp::from_millis(r.u64()?),
            last_session: r.u64()?,
            last_message: r.u64()?,
            last_sequence: r.u64()?,
        };
        r.end()?;
        Ok(meta)
    }
}

impl SessionRecord {
    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::record();
        self.write(&mut w);
        w.done()
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::record(bytes)?;
        let record = Self::read(&mut r)?;
        r.end()?;
        Ok(record)
    }

    fn write(&self, w: &mut Writer) {
        w.text(&self.client_id);
        w.option(self.username.as_deref(), Writer::text);
        w.u32(self.expiry_interval_secs);
        w.option(self.expires, Writer::time);
        w.bool(self.connected);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            client_id: r.text()?.into(),
            username: r.option(Reader::text)?.map(Into::into),
            expiry_interval_secs: r.u32()?,
            expires: r.option(Reader::time)?,
            connected: r.bool()?,
        })
    }
}

impl WillRecord {
    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::record();
        self.write(&mut w);
        w.done()
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::record(bytes)?;
        let record = Self::read(&mut r)?;
        r.end()?;
        Ok(record)
    }

    fn write(&self, w: &mut Writer) {
        w.option(self.due, Writer::time);
        w.u32(self.delay_secs);
        w.bytes(self.message.as_record());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, RecordError> {
        let due = r.option(Reader::time)?;
        let delay_secs = r.u32()?;
        Ok(Self {
            message: Message::from_record(r.bytes()?)?,
            due,
            delay_secs,
        })
    }
}

impl CountersRecord {
    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::record();
        self.write(&mut w);
        w.done()
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::record(bytes)?;
        let record = Self::read(&mut r)?;
        r.end()?;
        Ok(record)
    }

    fn write(&self, w: &mut Writer) {
        // There are some hundred names; more than fit here would be a defect.
        let totals = &self.totals[..self.totals.len().min(usize::from(u16::MAX))];
        w.u16(totals.len() as u16);
        for (name, total) in totals {
            w.text(name);
            w.u64(*total);
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, RecordError> {
        let count = r.u16()?;
        // Grows as totals are found: the announced count may be a lie.
        let mut totals = Vec::new();
        for _ in 0..count {
            totals.push((r.text()?.into(), r.u64()?));
        }
        Ok(Self { totals })
    }
}

impl SubscriptionRow {
    /// Encodes the value; the filter is in the key.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::record();
        write_subscription(&mut w, self.options, self.subscription_id);
        w.done()
    }

    /// Decodes key (without its session) and value.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(filter: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let filter = core::str::from_utf8(filter).map_err(|_| RecordError::Invalid("filter"))?;
        let mut r = Reader::record(value)?;
        let (options, subscription_id) = read_subscription(&mut r)?;
        r.end()?;
        Ok(Self {
            filter: filter.into(),
            options,
            subscription_id,
        })
    }
}

fn write_subscription(w: &mut Writer, options: SubscribeOptions, subscription_id: Option<u32>) {
    w.u8(options.to_u8());
    w.option(subscription_id, Writer::u32);
}

fn read_subscription(r: &mut Reader<'_>) -> Result<(SubscribeOptions, Option<u32>), RecordError> {
    let options =
        SubscribeOptions::from_u8(r.u8()?).ok_or(RecordError::Invalid("subscription options"))?;
    Ok((options, r.option(Reader::u32)?))
}

impl QueuedRow {
    /// Encodes the value; the message's identity is in the key.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::record();
        let flags = self.qos as u8
            | if self.retain { RETAIN } else { 0 }
            | if self.expires.is_some() { EXPIRES } else { 0 }
            | if self.share.is_some() { SHARE } else { 0 };
        w.u8(flags);
        w.u32(self.bytes);
        if let Some(at) = self.expires {
            w.time(at);
        }
        if let Some(share) = self.share {
            w.u64(share);
        }
        w.ids(&self.subscription_ids);
        w.done()
    }

    /// Decodes the value of the row that queues `message`.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(message: MessageId, value: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::record(value)?;
        let flags = r.u8()?;
        if flags & !(0b11 | RETAIN | EXPIRES | SHARE) != 0 {
            return Err(RecordError::Invalid("flags"));
        }
        let qos = QoS::from_bits(flags & 0b11).ok_or(RecordError::Invalid("QoS"))?;
        let bytes = r.u32()?;
        let expires = if flags & EXPIRES != 0 {
            Some(r.time()?)
        } else {
            None
        };
        let share = if flags & SHARE != 0 {
            Some(r.u64()?)
        } else {
            None
        };
        let subscription_ids = r.ids()?;
        r.end()?;
        Ok(Self {
            message,
            bytes,
            expires,
            qos,
            retain: flags & RETAIN != 0,
            subscription_ids,
            share,
        })
    }
}

impl OutboundRow {
    /// Encodes the value; the packet id is in the key.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::record();
        w.state(self.state);
        w.u64(self.message.get());
        w.u64(self.sequence);
        w.done()
    }

    /// Decodes the value of the row of `packet_id`.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(packet_id: PacketId, value: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::record(value)?;
        let state = r.state()?;
        let row = Self {
            packet_id,
            state,
            message: MessageId::new(r.u64()?),
            sequence: r.u64()?,
        };
        r.end()?;
        Ok(row)
    }
}

/// The value of an inbound row: its version, nothing else.
pub(crate) fn encode_inbound() -> Vec<u8> {
    Writer::record().done()
}

/// Checks the value of an inbound row.
pub(crate) fn decode_inbound(value: &[u8]) -> Result<(), RecordError> {
    Reader::record(value)?.end()
}

/// A session's number as it starts the keys of its rows.
pub(crate) fn session_key(session: SessionId) -> [u8; 8] {
    session.get().to_be_bytes()
}
