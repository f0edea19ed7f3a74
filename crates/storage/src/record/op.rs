//! Operations as bytes, for journals and for replication to other nodes. Deliberately absent: rows.

use super::{Reader, RecordError, VERSION, Writer, read_subscription, write_subscription};
use crate::op::{CountersRecord, SessionRecord, StoreOp, WillRecord};
use crate::{Lsn, Message};

/// Tags of operations; never reused for another meaning.
mod tag {
    pub(super) const PUT_SESSION: u8 = 1;
    pub(super) const DELETE_SESSION: u8 = 2;
    pub(super) const PUT_SUBSCRIPTION: u8 = 3;
    pub(super) const DELETE_SUBSCRIPTION: u8 = 4;
    pub(super) const PUT_MESSAGE: u8 = 5;
    pub(super) const ENQUEUE: u8 = 6;
    pub(super) const DEQUEUE: u8 = 7;
    pub(super) const PUT_OUTBOUND: u8 = 8;
    pub(super) const DELETE_OUTBOUND: u8 = 9;
    pub(super) const PUT_INBOUND: u8 = 10;
    pub(super) const DELETE_INBOUND: u8 = 11;
    pub(super) const PUT_RETAINED: u8 = 12;
    pub(super) const DELETE_RETAINED: u8 = 13;
    pub(super) const PUT_WILL: u8 = 14;
    pub(super) const DELETE_WILL: u8 = 15;
    pub(super) const PUT_COUNTERS: u8 = 16;
}

/// Encodes a batch and its position.
pub fn encode_batch(lsn: Lsn, ops: &[StoreOp]) -> Vec<u8> {
    let mut w = Writer::record();
    w.u64(lsn.get());
    w.u32(u32::try_from(ops.len()).unwrap_or(u32::MAX));
    for op in ops.iter().take(u32::MAX as usize) {
        op.write(&mut w);
    }
    w.done()
}

/// Decodes a batch and its position.
///
/// # Errors
/// See [`RecordError`].
pub fn decode_batch(bytes: &[u8]) -> Result<(Lsn, Vec<StoreOp>), RecordError> {
    let mut r = Reader::record(bytes)?;
    let lsn = Lsn::new(r.u64()?);
    let count = r.u32()?;
    // Grows as operations are found: the announced count may be a lie.
    let mut ops = Vec::new();
    for _ in 0..count {
        ops.push(StoreOp::read(&mut r)?);
    }
    r.end()?;
    Ok((lsn, ops))
}

impl StoreOp {
    /// Appends the operation to `bytes`, with its version.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(VERSION);
        let mut w = Writer::after(std::mem::take(bytes));
        self.write(&mut w);
        *bytes = w.done();
    }

    /// Decodes one operation.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::record(bytes)?;
        let op = Self::read(&mut r)?;
        r.end()?;
        Ok(op)
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Self::PutSession { session, record } => {
                w.u8(tag::PUT_SESSION);
                w.session(*session);
                record.write(w);
            }
            Self::DeleteSession { session } => {
                w.u8(tag::DELETE_SESSION);
                w.session(*session);
            }
            Self::PutSubscription {
                session,
                filter,
                options,
                subscription_id,
            } => {
                w.u8(tag::PUT_SUBSCRIPTION);
                w.session(*session);
                w.text(filter);
                write_subscription(w, *options, *subscription_id);
            }
            Self::DeleteSubscription { session, filter } => {
                w.u8(tag::DELETE_SUBSCRIPTION);
                w.session(*session);
                w.text(filter);
            }
            Self::PutMessage { message } => {
                w.u8(tag::PUT_MESSAGE);
                w.bytes(message.as_record());
            }
            Self::Enqueue {
                session,
                message,
                qos,
                retain,
                subscription_ids,
                share,
            } => {
                w.u8(tag::ENQUEUE);
                w.session(*session);
                w.message(*message);
                w.qos(*qos);
                w.bool(*retain);
                w.ids(subscription_ids);
                w.option(*share, Writer::u64);
            }
            Self::Dequeue { session, message } => {
                w.u8(tag::DEQUEUE);
                w.session(*session);
                w.message(*message);
            }
            Self::PutOutbound {
                session,
                packet_id,
                message,
                state,
            } => {
                w.u8(tag::PUT_OUTBOUND);
                w.session(*session);
                w.packet_id(*packet_id);
                w.message(*message);
                w.state(*state);
            }
            Self::DeleteOutbound { session, packet_id } => {
                w.u8(tag::DELETE_OUTBOUND);
                w.session(*session);
                w.packet_id(*packet_id);
            }
            Self::PutInbound { session, packet_id } => {
                w.u8(tag::PUT_INBOUND);
                w.session(*session);
                w.packet_id(*packet_id);
            }
            Self::DeleteInbound { session, packet_id } => {
                w.u8(tag::DELETE_INBOUND);
                w.session(*session);
                w.packet_id(*packet_id);
            }
            Self::PutRetained { message } => {
                w.u8(tag::PUT_RETAINED);
                w.bytes(message.as_record());
            }
            Self::DeleteRetained { topic } => {
                w.u8(tag::DELETE_RETAINED);
                w.text(topic);
            }
            Self::PutWill { session, will } => {
                w.u8(tag::PUT_WILL);
                w.session(*session);
                will.write(w);
            }
            Self::DeleteWill { session } => {
                w.u8(tag::DELETE_WILL);
                w.session(*session);
            }
            Self::PutCounters { record } => {
                w.u8(tag::PUT_COUNTERS);
                record.write(w);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(match r.u8()? {
            tag::PUT_SESSION => Self::PutSession {
                session: r.session()?,
                record: SessionRecord::read(r)?,
            },
            tag::DELETE_SESSION => Self::DeleteSession {
                session: r.session()?,
            },
            tag::PUT_SUBSCRIPTION => {
                let session = r.session()?;
                let filter = r.text()?.into();
                let (options, subscription_id) = read_subscription(r)?;
                Self::PutSubscription {
                    session,
                    filter,
                    options,
                    subscription_id,
                }
            }
            tag::DELETE_SUBSCRIPTION => Self::DeleteSubscription {
                session: r.session()?,
                filter: r.text()?.into(),
            },
            tag::PUT_MESSAGE => Self::PutMessage {
                message: Message::from_record(r.bytes()?)?,
            },
            tag::ENQUEUE => Self::Enqueue {
                session: r.session()?,
                message: r.message()?,
                qos: r.qos()?,
                retain: r.bool()?,
                subscription_ids: r.ids()?,
                share: r.option(Reader::u64)?,
            },
            tag::DEQUEUE => Self::Dequeue {
                session: r.session()?,
                message: r.message()?,
            },
            tag::PUT_OUTBOUND => Self::PutOutbound {
                session: r.session()?,
                packet_id: r.packet_id()?,
                message: r.message()?,
                state: r.state()?,
            },
            tag::DELETE_OUTBOUND => Self::DeleteOutbound {
                session: r.session()?,
                packet_id: r.packet_id()?,
            },
            tag::PUT_INBOUND => Self::PutInbound {
                session: r.session()?,
                packet_id: r.packet_id()?,
            },
            tag::DELETE_INBOUND => Self::DeleteInbound {
                session: r.session()?,
                packet_id: r.packet_id()?,
            },
            tag::PUT_RETAINED => Self::PutRetained {
                message: Message::from_record(r.bytes()?)?,
            },
            tag::DELETE_RETAINED => Self::DeleteRetained {
                topic: r.text()?.into(),
            },
            tag::PUT_WILL => Self::PutWill {
                session: r.session()?,
                will: WillRecord::read(r)?,
            },
            tag::DELETE_WILL => Self::DeleteWill {
                session: r.session()?,
            },
            tag::PUT_COUNTERS => Self::PutCounters {
                record: CountersRecord::read(r)?,
            },
            _ => return Err(RecordError::Invalid("operation")),
        })
    }
}
