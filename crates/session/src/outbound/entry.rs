//! One message of one session, waiting or in flight. Deliberately absent: where it stands among others.

use martlet_codec::{PacketId, QoS};
use martlet_storage::{Message, MessageId, Timestamp};

use crate::lanes::MAIN_LANE;

/// Where the body of a message is.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// In memory.
    Loaded(Message),
    /// In the store.
    Stored {
        id: MessageId,
        /// Length of the body.
        bytes: u32,
        /// `Timestamp::MAX` where it never expires.
        expires: Timestamp,
    },
    /// Not needed any more: a QoS 2 exchange after PUBREC.
    Gone { id: MessageId },
}

/// The latest time there is, standing for "never".
pub(crate) const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// A message of a session. Forty bytes, because there may be millions.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) body: Body,
    /// What few messages have.
    extra: Option<Box<Extra>>,
    /// The only subscription identifier, or 0.
    subscription_id: u32,
    /// 0 while waiting.
    id: u16,
    flags: u8,
    /// Where its PUBLISH went on this connection.
    lane: u8,
}

#[derive(Debug)]
struct Extra {
    /// Empty unless there are several.
    subscription_ids: Box<[u32]>,
    share: Option<u64>,
}

const QOS_BITS: u8 = 0b0000_0011;
const RETAIN: u8 = 0b0000_0100;
/// Facts that change while a message lives.
pub(crate) mod flag {
    /// The body was asked for.
    pub(crate) const REQUESTED: u8 = 0b0000_1000;
    /// The next packet waits for its commit.
    pub(crate) const GATED: u8 = 0b0001_0000;
    /// The PUBLISH was encoded at least once, on whatever connection.
    pub(crate) const SENT: u8 = 0b0010_0000;
    /// It takes a place in the window of this connection.
    pub(crate) const ACTIVE: u8 = 0b0100_0000;
    /// PUBREC arrived.
    pub(crate) const RELEASED: u8 = 0b1000_0000;
}

impl Entry {
    pub(crate) fn new(
        body: Body,
        qos: QoS,
        retain: bool,
        subscription_ids: &[u32],
        share: Option<u64>,
    ) -> Self {
        let (subscription_id, several) = match subscription_ids {
            [] => (0, &[][..]),
            [one] => (*one, &[][..]),
            several => (0, several),
        };
        let extra = (share.is_some() || !several.is_empty()).then(|| {
            Box::new(Extra {
                subscription_ids: several.into(),
                share,
            })
        });
        Self {
            body,
            extra,
            subscription_id,
            id: 0,
            lane: MAIN_LANE,
            flags: qos as u8 | if retain { RETAIN } else { 0 },
        }
    }

    pub(crate) fn qos(&self) -> QoS {
        match self.flags & QOS_BITS {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    pub(crate) fn retain(&self) -> bool {
        self.flags & RETAIN != 0
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    pub(crate) fn clear(&mut self, flag: u8) {
        self.flags &= !flag;
    }

    pub(crate) fn id(&self) -> Option<PacketId> {
        PacketId::new(self.id)
    }

    pub(crate) fn set_id(&mut self, id: PacketId) {
        self.id = id.get();
    }

    pub(crate) fn lane(&self) -> u8 {
        self.lane
    }

    pub(crate) fn set_lane(&mut self, lane: u8) {
        self.lane = lane;
    }

    pub(crate) fn subscription_ids(&self) -> &[u32] {
        match &self.extra {
            Some(extra) if !extra.subscription_ids.is_empty() => &extra.subscription_ids,
            _ if self.subscription_id != 0 => core::slice::from_ref(&self.subscription_id),
            _ => &[],
        }
    }

    pub(crate) fn share(&self) -> Option<u64> {
        self.extra.as_ref().and_then(|extra| extra.share)
    }

    pub(crate) fn message_id(&self) -> MessageId {
        match &self.body {
            Body::Loaded(message) => message.id(),
            Body::Stored { id, .. } | Body::Gone { id } => *id,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.body {
            Body::Loaded(message) => message.len_bytes(),
            Body::Stored { bytes, .. } => *bytes as usize,
            Body::Gone { .. } => 0,
        }
    }

    /// When it may no longer be sent; [`NEVER`] without Message Expiry Interval.
    pub(crate) fn expires(&self) -> Timestamp {
        match &self.body {
            Body::Loaded(message) => message.expires().unwrap_or(NEVER),
            Body::Stored { expires, .. } => *expires,
            Body::Gone { .. } => NEVER,
        }
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires() <= now
    }

    /// Asks for the body, unless it is here or was asked for; its length and identity then.
    pub(crate) fn request(&mut self) -> Option<MessageId> {
        match self.body {
            Body::Stored { id, .. } if !self.has(flag::REQUESTED) => {
                self.set(flag::REQUESTED);
                Some(id)
            }
            _ => None,
        }
    }

    /// Lets the body go where the store has it.
    pub(crate) fn spill(&mut self) {
        if let Body::Loaded(message) = &self.body
            && message.id() != MessageId::NONE
            && let Ok(bytes) = u32::try_from(message.len_bytes())
        {
            self.body = Body::Stored {
                id: message.id(),
                bytes,
                expires: message.expires().unwrap_or(NEVER),
            };
            self.clear(flag::REQUESTED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Body {
        Body::Stored {
            id: MessageId::new(1),
            bytes: 10,
            expires: NEVER,
        }
    }

    #[test]
    fn an_entry_is_forty_bytes() {
        assert_eq!(size_of::<Entry>(), 40);
    }

    #[test]
    fn subscription_identifiers_come_back() {
        for ids in [&[][..], &[7], &[1, 268_435_455, 3]] {
            for share in [None, Some(0), Some(u64::MAX)] {
                let entry = Entry::new(stored(), QoS::ExactlyOnce, true, ids, share);
                assert_eq!(entry.subscription_ids(), ids);
                assert_eq!(entry.share(), share);
                assert_eq!(
                    (entry.qos(), entry.retain(), entry.id()),
                    (QoS::ExactlyOnce, true, None)
                );
            }
        }
    }

    #[test]
    fn a_body_is_asked_for_once() {
        let mut entry = Entry::new(stored(), QoS::AtLeastOnce, false, &[], None);
        assert_eq!(entry.request(), Some(MessageId::new(1)));
        assert_eq!(entry.request(), None);
    }
}
