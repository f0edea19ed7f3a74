//! A row in words. Deliberately absent: payloads, which are nobody's business.

use crate::backend::COUNTERS_KEY;
use crate::load::Keyed;
use crate::op::{CountersRecord, OutboundState, SessionRecord, WillRecord};
use crate::record::{self, Meta, OutboundRow, QueuedRow, RecordError, SubscriptionRow};
use crate::{Message, MessageId, Table};

/// Says what a row is, on one line.
///
/// # Errors
/// The row cannot be read.
pub fn describe(table: Table, key: &[u8], value: &[u8]) -> Result<String, RecordError> {
    Ok(match table {
        Table::Meta if key == COUNTERS_KEY => {
            let totals = CountersRecord::decode(value)?.totals;
            let totals: Vec<_> = totals
                .iter()
                .map(|(name, total)| format!("{name} {total}"))
                .collect();
            format!("counters: {}", totals.join(", "))
        }
        Table::Meta if !key.is_empty() => return Err(RecordError::Invalid("meta key")),
        Table::Meta => {
            let meta = Meta::decode(value)?;
            format!(
                "batch {} at {} ms, sessions up to {}, messages up to {}",
                meta.lsn.get(),
                meta.committed.as_millis(),
                meta.last_session,
                meta.last_message
            )
        }
        Table::Session => {
            let session = Keyed::new(key)?.end()?;
            let record = SessionRecord::decode(value)?;
            let user = match &record.username {
                Some(user) => format!(", user {user:?}"),
                None => String::new(),
            };
            let kept = match record.expiry_interval_secs {
                u32::MAX => ", never expires".to_owned(),
                seconds => format!(", kept for {seconds} s"),
            };
            let state = match record.expires {
                Some(at) => format!(", until {} ms", at.as_millis()),
                None if record.connected => ", connected".to_owned(),
                None => String::new(),
            };
            let client = &record.client_id;
            format!(
                "session {}: client {client:?}{user}{kept}{state}",
                session.get()
            )
        }
        Table::Subscription => {
            let keyed = Keyed::new(key)?;
            let row = SubscriptionRow::decode(keyed.rest, value)?;
            let id = row
                .subscription_id
                .map_or(String::new(), |id| format!(", identifier {id}"));
            format!(
                "session {}: {:?}, QoS {}{id}",
                keyed.session.get(),
                row.filter,
                row.options.qos as u8
            )
        }
        Table::Message => {
            let id: [u8; 8] = key
                .try_into()
                .map_err(|_| RecordError::Invalid("message key"))?;
            let message = Message::from_record(value)?;
            if message.id() != MessageId::new(u64::from_be_bytes(id)) {
                return Err(RecordError::Invalid("message key"));
            }
            format!("message {}: {}", message.id().get(), about(&message))
        }
        Table::Queue => {
            let keyed = Keyed::new(key)?;
            let (id, copy) = keyed
                .rest
                .split_first_chunk()
                .ok_or(RecordError::Truncated)?;
            if copy.len() != 2 {
                return Err(RecordError::Invalid("queue key"));
            }
            let row = QueuedRow::decode(MessageId::new(u64::from_be_bytes(*id)), value)?;
            let share = row.share.map_or("", |_| ", shared");
            format!(
                "session {}: message {}, QoS {}, {} bytes{share}",
                keyed.session.get(),
                row.message.get(),
                row.qos as u8,
                row.bytes
            )
        }
        Table::Outbound => {
            let (session, packet_id) = Keyed::new(key)?.packet_id()?;
            let row = OutboundRow::decode(packet_id, value)?;
            let state = match row.state {
                OutboundState::Published => "sent",
                OutboundState::Released => "released",
            };
            format!(
                "session {}: packet {} is message {}, {state}",
                session.get(),
                packet_id.get(),
                row.message.get()
            )
        }
        Table::Inbound => {
            let (session, packet_id) = Keyed::new(key)?.packet_id()?;
            record::decode_inbound(value)?;
            format!(
                "session {}: packet {} was received",
                session.get(),
                packet_id.get()
            )
        }
        Table::Retained => {
            let message = Message::from_record(value)?;
            if message.topic().as_bytes() != key {
                return Err(RecordError::Invalid("topic key"));
            }
            format!("retained {}", about(&message))
        }
        Table::Will => {
            let session = Keyed::new(key)?.end()?;
            let will = WillRecord::decode(value)?;
            let due = will.due.map_or_else(
                || format!("{} s after its connection ends", will.delay_secs),
                |at| format!("at {} ms", at.as_millis()),
            );
            format!(
                "session {}: will {}, {due}",
                session.get(),
                about(&will.message)
            )
        }
    })
}

fn about(message: &Message) -> String {
    let expires = message.expires().map_or(String::new(), |at| {
        format!(", expires at {} ms", at.as_millis())
    });
    format!(
        "{:?}, QoS {}, {} bytes{expires}",
        message.topic(),
        message.qos() as u8,
        message.payload().len()
    )
}
