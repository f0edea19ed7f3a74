//! The protocol of one connection as a plain value: packets in, packets and messages out.
//!
//! The QoS 2 exchanges, as sender and as receiver:
//!
//! ```text
//!  sender                                        receiver
//!  PUBLISH ------------------------------------> unknown id: deliver, remember; known: nothing
//!  awaiting PUBREC <----------------- PUBREC --- (always)
//!     error: over                                    |
//!  PUBREL -------------------------------------> forget
//!  awaiting PUBCOMP <---------------- PUBCOMP -- known: success; unknown: 0x92
//!  over
//! ```

use crate::error::Disconnected;
use crate::message::{PublishOutcome, ReceivedMessage};
use crate::requests::{Command, goodbye};
use bytes::{Bytes, BytesMut};
use martlet_codec::{
    Ack, AckKind, Packet, PacketId, Props, PropsBuf, Publish, QoS, ReasonCode, ReasonCodes, Version,
};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The identifier of the Topic Alias property, which has done its work on arrival.
const TOPIC_ALIAS: u8 = 0x23;

/// Identifiers in use, aliases, and who waits for what. Time and sockets are elsewhere.
#[derive(Debug)]
pub(crate) struct State {
    version: Version,
    receive_maximum: u16,
    /// Topics by alias minus one, as long as the server may use aliases.
    aliases: Vec<Option<String>>,
    /// QoS 2 messages received and not released; at most `receive_maximum`.
    received: HashSet<PacketId>,
    /// Our requests without an answer. The permits bound them, and give the place back when
    /// dropped.
    pending: HashMap<u16, (Awaiting, OwnedSemaphorePermit)>,
    last_id: u16,
}

#[derive(Debug)]
enum Awaiting {
    PubAck(oneshot::Sender<PublishOutcome>),
    PubRec(oneshot::Sender<PublishOutcome>),
    /// What PUBREC said is the outcome.
    PubComp(oneshot::Sender<PublishOutcome>, PublishOutcome),
    SubAck(oneshot::Sender<Vec<ReasonCode>>, usize),
}

impl State {
    pub(crate) fn new(version: Version, receive_maximum: u16, alias_maximum: u16) -> Self {
        Self {
            version,
            receive_maximum,
            aliases: vec![None; usize::from(alias_maximum)],
            received: HashSet::new(),
            pending: HashMap::new(),
            last_id: 0,
        }
    }

    /// Writes the packet of a request and remembers who waits. Only the commands that have an
    /// answer; returns any other.
    pub(crate) fn request(&mut self, command: Command, out: &mut BytesMut) -> Option<Command> {
        let (packet, awaiting, permit) = match command {
            Command::Publish {
                packet,
                qos,
                permit,
                reply,
            } => {
                let awaiting = match qos {
                    QoS::ExactlyOnce => Awaiting::PubRec(reply),
                    _ => Awaiting::PubAck(reply),
                };
                (packet, awaiting, permit)
            }
            Command::Filters {
                packet,
                count,
                permit,
                reply,
            } => (packet, Awaiting::SubAck(reply, count), permit),
            other => return Some(other),
        };
        let id = self.free_id();
        out.extend_from_slice(&packet.with_id(id));
        self.pending.insert(id, (awaiting, permit));
        None
    }

    /// The permits leave hundreds of the 65,535 identifiers free at any time.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.pending.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Takes a packet that lies in `bytes`; writes what it calls for to `out`. On an error the
    /// connection is over once `out`, which may hold a DISCONNECT, is sent.
    pub(crate) fn receive(
        &mut self,
        packet: &Packet<'_>,
        bytes: &Bytes,
        out: &mut BytesMut,
    ) -> Result<Option<ReceivedMessage>, Disconnected> {
        match packet {
            Packet::Publish(publish) => return self.publish(publish, bytes, out),
            Packet::Ack(ack) => self.ack(ack, out),
            Packet::SubAck(suback) => self.codes(suback.id, suback.codes, true, out)?,
            Packet::UnsubAck(unsuback) => {
                self.codes(unsuback.id, unsuback.codes, self.version.is_v5(), out)?;
            }
            Packet::PingResp => {}
            Packet::Disconnect(disconnect) if self.version.is_v5() => {
                return Err(Disconnected::Server {
                    reason: disconnect.reason,
                    reason_string: disconnect.props.reason_string().map(str::to_owned),
                    server_reference: disconnect.props.server_reference().map(str::to_owned),
                });
            }
            _ => {
                let what = "a packet that only clients send";
                return Err(self.violation(ReasonCode::ProtocolError, what, out));
            }
        }
        Ok(None)
    }

    /// The server broke a rule: tells it, if the version has words for it.
    fn violation(
        &self,
        reason: ReasonCode,
        what: &'static str,
        out: &mut BytesMut,
    ) -> Disconnected {
        self.tell(reason, out);
        Disconnected::Protocol { what, reason }
    }

    /// Writes a DISCONNECT with an error, if the version has one.
    pub(crate) fn tell(&self, reason: ReasonCode, out: &mut BytesMut) {
        if self.version.is_v5() {
            goodbye(self.version, reason, out);
        }
    }

    fn publish(
        &mut self,
        publish: &Publish<'_>,
        bytes: &Bytes,
        out: &mut BytesMut,
    ) -> Result<Option<ReceivedMessage>, Disconnected> {
        let topic = match self.resolve_alias(publish) {
            Ok(topic) => topic,
            Err((reason, what)) => return Err(self.violation(reason, what, out)),
        };
        if let Some(id) = publish.id {
            if publish.qos == QoS::AtLeastOnce {
                self.write_ack(AckKind::PubAck, id, ReasonCode::Success, out);
            } else {
                let known = self.received.contains(&id);
                if !known && self.received.len() >= usize::from(self.receive_maximum) {
                    let what = "more QoS 2 messages than our Receive Maximum";
                    return Err(self.violation(ReasonCode::ReceiveMaximumExceeded, what, out));
                }
                self.received.insert(id);
                self.write_ack(AckKind::PubRec, id, ReasonCode::Success, out);
                if known {
                    return Ok(None);
                }
            }
        }
        let mut props = PropsBuf::new();
        if !publish.props.is_empty() {
            props.extend(publish.props, |id| id != TOPIC_ALIAS);
        }
        Ok(Some(ReceivedMessage {
            topic,
            payload: bytes.slice_ref(publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            props,
        }))
    }

    /// The topic of a message, and what its alias is from here on.
    fn resolve_alias(
        &mut self,
        publish: &Publish<'_>,
    ) -> Result<String, (ReasonCode, &'static str)> {
        let Some(alias) = publish.props.topic_alias() else {
            return Ok(publish.topic.to_owned());
        };
        let slot = usize::from(alias)
            .checked_sub(1)
            .and_then(|index| self.aliases.get_mut(index));
        match slot {
            None => Err((
                ReasonCode::TopicAliasInvalid,
                "a topic alias above our maximum",
            )),
            Some(slot) if !publish.topic.is_empty() => {
                *slot = Some(publish.topic.to_owned());
                Ok(publish.topic.to_owned())
            }
            Some(Some(topic)) => Ok(topic.clone()),
            Some(None) => Err((
                ReasonCode::ProtocolError,
                "a topic alias that was never set",
            )),
        }
    }

    fn ack(&mut self, ack: &Ack<'_>, out: &mut BytesMut) {
        match ack.kind {
            AckKind::PubRel => {
                let reason = if self.received.remove(&ack.id) {
                    ReasonCode::Success
                } else {
                    ReasonCode::PacketIdentifierNotFound
                };
                self.write_ack(AckKind::PubComp, ack.id, reason, out);
            }
            AckKind::PubRec => self.pubrec(ack, out),
            // An answer to nothing, left over from an earlier connection, is ignored.
            AckKind::PubAck => {
                let fits = |awaiting: &_| matches!(awaiting, Awaiting::PubAck(_));
                if let Some(Awaiting::PubAck(reply)) = self.take_pending(ack.id, fits) {
                    // Who asked may have stopped waiting.
                    drop(reply.send(outcome(ack)));
                }
            }
            AckKind::PubComp => {
                let fits = |awaiting: &_| matches!(awaiting, Awaiting::PubComp(..));
                if let Some(Awaiting::PubComp(reply, outcome)) = self.take_pending(ack.id, fits) {
                    drop(reply.send(outcome));
                }
            }
        }
    }

    /// Takes the request that `id` stands for, if it waits for what has come.
    fn take_pending(&mut self, id: PacketId, fits: fn(&Awaiting) -> bool) -> Option<Awaiting> {
        let Entry::Occupied(entry) = self.pending.entry(id.get()) else {
            return None;
        };
        fits(&entry.get().0).then(|| entry.remove().0)
    }

    fn pubrec(&mut self, ack: &Ack<'_>, out: &mut BytesMut) {
        let reason = match self.pending.entry(ack.id.get()) {
            Entry::Occupied(entry) => match entry.remove() {
                (Awaiting::PubRec(reply), _) if ack.reason.is_error() => {
                    // The exchange is over [MQTT-4.3.3-4].
                    drop(reply.send(outcome(ack)));
                    return;
                }
                (Awaiting::PubRec(reply), permit) => {
                    let awaiting = Awaiting::PubComp(reply, outcome(ack));
                    self.pending.insert(ack.id.get(), (awaiting, permit));
                    ReasonCode::Success
                }
                other => {
                    let repeated = matches!(other.0, Awaiting::PubComp(..));
                    self.pending.insert(ack.id.get(), other);
                    if repeated {
                        ReasonCode::Success
                    } else {
                        ReasonCode::PacketIdentifierNotFound
                    }
                }
            },
            Entry::Vacant(_) if ack.reason.is_error() => return,
            Entry::Vacant(_) => ReasonCode::PacketIdentifierNotFound,
        };
        self.write_ack(AckKind::PubRel, ack.id, reason, out);
    }

    /// SUBACK or UNSUBACK. UNSUBACK of MQTT 3 has no codes.
    fn codes(
        &mut self,
        id: PacketId,
        codes: ReasonCodes<'_>,
        has_codes: bool,
        out: &mut BytesMut,
    ) -> Result<(), Disconnected> {
        let fits = |awaiting: &_| matches!(awaiting, Awaiting::SubAck(..));
        if let Some(Awaiting::SubAck(reply, count)) = self.take_pending(id, fits) {
            let codes: Vec<_> = if has_codes {
                codes.iter().collect()
            } else {
                vec![ReasonCode::Success; count]
            };
            if codes.len() != count {
                let what = "another number of reason codes than filters";
                return Err(self.violation(ReasonCode::ProtocolError, what, out));
            }
            drop(reply.send(codes));
        }
        Ok(())
    }

    fn write_ack(&self, kind: AckKind, id: PacketId, reason: ReasonCode, out: &mut BytesMut) {
        let ack = Ack {
            kind,
            id,
            // Before MQTT 5 the packet has no room for a reason.
            reason: if self.version.is_v5() {
                reason
            } else {
                ReasonCode::Success
            },
            props: Props::EMPTY,
        };
        let written = Packet::Ack(ack).encode(self.version, out);
        debug_assert!(written.is_ok(), "an acknowledgement: {written:?}");
    }
}

fn outcome(ack: &Ack<'_>) -> PublishOutcome {
    PublishOutcome {
        reason: ack.reason,
        reason_string: ack.props.reason_string().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    #[test]
    fn identifiers_wrap_around_and_skip_those_in_use() {
        let mut state = State::new(Version::V311, 1, 0);
        let permits = Arc::new(Semaphore::new(2));
        for id in [u16::MAX, 1] {
            let permit = Arc::clone(&permits).try_acquire_owned();
            let (reply, _) = oneshot::channel();
            let pending = (Awaiting::PubAck(reply), permit.expect("two permits"));
            state.pending.insert(id, pending);
        }
        state.last_id = u16::MAX - 2;
        let ids = [state.free_id(), state.free_id(), state.free_id()];
        assert_eq!(ids, [u16::MAX - 1, 2, 3]);
    }
}
