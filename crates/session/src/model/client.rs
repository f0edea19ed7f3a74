//! The model client's receiving side: the specification's receiver, as naive as can be, with an opinion on
//! everything the broker sends. Deliberately absent: the connection, which the pair owns.

use std::collections::{BTreeMap, BTreeSet};

use martlet_codec::{Ack, AckKind, Packet, PacketId, Props, Publish, QoS, ReasonCode, Version};

use super::pair::Violation;

/// A message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) number: u32,
    pub(crate) qos: QoS,
}

/// What the client announced when it connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announced {
    pub(crate) version: Version,
    pub(crate) receive_maximum: u16,
    pub(crate) packet_bytes_max: u32,
    pub(crate) topic_alias_maximum: u16,
}

/// An acknowledgement on its way to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) kind: AckKind,
    pub(crate) id: PacketId,
    pub(crate) reason: ReasonCode,
}

impl Reply {
    pub(crate) fn new(kind: AckKind, id: PacketId) -> Self {
        Self {
            kind,
            id,
            reason: ReasonCode::Success,
        }
    }

    pub(crate) fn packet(self) -> Packet<'static> {
        Packet::Ack(Ack {
            kind: self.kind,
            id: self.id,
            reason: self.reason,
            props: Props::EMPTY,
        })
    }
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) announced: Announced,
    /// QoS 2 identifiers that are stored; part of the session.
    stored: BTreeSet<PacketId>,
    /// Identifiers the broker sent on this connection and we have not finished with.
    open: BTreeMap<PacketId, QoS>,
    aliases: BTreeMap<u16, String>,
    /// Everything that was delivered, in order.
    pub(crate) delivered: Vec<Received>,
    /// Messages that were refused.
    pub(crate) refused: BTreeSet<u32>,
}

impl Receiver {
    pub(crate) fn new(announced: Announced) -> Self {
        Self {
            announced,
            stored: BTreeSet::new(),
            open: BTreeMap::new(),
            aliases: BTreeMap::new(),
            delivered: Vec::new(),
            refused: BTreeSet::new(),
        }
    }

    /// A new connection: aliases and quota start over, stored identifiers stay.
    pub(crate) fn connect(&mut self, announced: Announced) {
        self.announced = announced;
        self.aliases.clear();
        self.open.clear();
    }

    pub(crate) fn publish(
        &mut self,
        publish: &Publish<'_>,
        packet_len: usize,
        refuse: bool,
    ) -> Result<Option<Reply>, Violation> {
        if packet_len > self.announced.packet_bytes_max as usize {
            return Err(Violation(format!(
                "a packet of {packet_len} bytes [MQTT-3.1.2-24]"
            )));
        }
        let number = self.number(publish)?;
        let Some(id) = publish.id else {
            if publish.dup {
                return Err(Violation("DUP on QoS 0 [MQTT-3.3.1-2]".into()));
            }
            self.delivered.push(Received {
                number,
                qos: QoS::AtMostOnce,
            });
            return Ok(None);
        };
        if self.open.insert(id, publish.qos).is_some() {
            return Err(Violation(format!(
                "packet id {id:?} is in flight already on this connection"
            )));
        }
        if self.open.len() > usize::from(self.announced.receive_maximum) {
            return Err(Violation(format!(
                "{} messages are open [MQTT-3.3.4-9]",
                self.open.len()
            )));
        }
        if publish.qos == QoS::AtLeastOnce {
            self.open.insert(id, publish.qos);
            if refuse {
                self.refused.insert(number);
                return Ok(Some(Reply {
                    kind: AckKind::PubAck,
                    id,
                    reason: ReasonCode::QuotaExceeded,
                }));
            }
            self.delivered.push(Received {
                number,
                qos: QoS::AtLeastOnce,
            });
            return Ok(Some(Reply::new(AckKind::PubAck, id)));
        }
        if self.stored.contains(&id) {
            if !publish.dup {
                return Err(Violation(format!(
                    "packet id {id:?} is used again before PUBCOMP [MQTT-2.2.1-4]"
                )));
            }
        } else {
            if refuse {
                self.refused.insert(number);
                return Ok(Some(Reply {
                    kind: AckKind::PubRec,
                    id,
                    reason: ReasonCode::QuotaExceeded,
                }));
            }
            self.stored.insert(id);
            self.delivered.push(Received {
                number,
                qos: QoS::ExactlyOnce,
            });
        }
        Ok(Some(Reply::new(AckKind::PubRec, id)))
    }

    /// PUBREL: always PUBCOMP.
    pub(crate) fn release(&mut self, id: PacketId) -> Reply {
        let known = self.stored.remove(&id);
        self.open.entry(id).or_insert(QoS::ExactlyOnce);
        let reason = if known {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        Reply {
            kind: AckKind::PubComp,
            id,
            reason,
        }
    }

    /// An acknowledgement leaves: where it ends an exchange, the slot is the broker's again.
    pub(crate) fn sent(&mut self, reply: Reply) {
        if reply.kind != AckKind::PubRec || reply.reason.is_error() {
            self.open.remove(&reply.id);
        }
    }

    /// Identifiers that are open, for stray acknowledgements to avoid.
    pub(crate) fn is_open(&self, id: PacketId) -> bool {
        self.open.contains_key(&id) || self.stored.contains(&id)
    }

    /// Topic (by alias if need be) and number of a message; the topic must be the one of the number.
    fn number(&mut self, publish: &Publish<'_>) -> Result<u32, Violation> {
        let alias = publish.props.topic_alias();
        if let Some(alias) = alias {
            if alias == 0 || alias > self.announced.topic_alias_maximum {
                return Err(Violation(format!("topic alias {alias} [MQTT-3.1.2-26]")));
            }
            if !publish.topic.is_empty() {
                self.aliases.insert(alias, publish.topic.to_owned());
            }
        }
        let topic = match alias {
            Some(alias) => self.aliases.get(&alias).map(String::as_str),
            None => Some(publish.topic),
        };
        let number = publish
            .payload
            .first_chunk()
            .map(|bytes| u32::from_be_bytes(*bytes));
        let number = number.ok_or_else(|| Violation("a payload that nobody sent".into()))?;
        if topic != Some(topic_of(number).as_str()) {
            return Err(Violation(format!(
                "message {number} came with topic {topic:?}"
            )));
        }
        Ok(number)
    }
}

/// The topic that message `number` goes to: three topics, so that aliases and order both have work.
pub(crate) fn topic_of(number: u32) -> String {
    format!("topic/of/publisher/{}", number % 3)
}
