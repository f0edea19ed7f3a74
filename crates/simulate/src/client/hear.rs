//! What a client hears: packets judged as they arrive, told to the [`Model`], and the answers they ask for.
//!
//! Deliberately absent: what it does of its own accord.

use martlet_codec::{Ack, AckKind, Packet, PacketId, Publish, QoS, ReasonCode, Split, split};

use super::{Client, Ending, Expected, Session, State, brief, which};
use crate::{
    model::{Arrival, Model, Violation},
    trace,
};

/// Larger than any packet of a run.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// Virtual time for which the broker may be late with the end of a session.
const EXPIRY_SLACK_MILLIS: u64 = 120_000;

impl Client {
    /// Reads what has arrived.
    pub(crate) fn receive(&mut self, model: &mut Model, millis: u64) -> Result<(), Violation> {
        let Some(wire) = self.wire.clone() else {
            return Ok(());
        };
        let open = wire.receive(&mut self.received);
        if matches!(self.state, State::Online | State::Leaving) {
            self.last_connected = millis;
        }
        let received = std::mem::take(&mut self.received);
        let mut rest = received.as_slice();
        let connection = self.connection;
        while self.connection == connection && self.wire.is_some() {
            match split(rest, PACKET_BYTES_MAX) {
                Ok(Split::Partial { .. }) => break,
                Ok(Split::Frame(frame)) => {
                    let packet = Packet::decode(frame, self.traits.version)
                        .map_err(|error| format!("client {}: {error}", self.who))?;
                    rest = &rest[frame.len..];
                    self.heard(&packet, model, millis)?;
                }
                Err(error) => return Err(format!("client {}: {error}", self.who)),
            }
        }
        self.received.extend_from_slice(rest);
        if open.is_none() {
            self.lose(model, Ending::Closed);
        }
        Ok(())
    }

    fn heard(
        &mut self,
        packet: &Packet<'_>,
        model: &mut Model,
        millis: u64,
    ) -> Result<(), Violation> {
        trace::line(self.connection, || {
            format!("client {} hears {}", self.who, brief(packet))
        });
        match packet {
            Packet::ConnAck(connack) => {
                let State::Connecting(clean_start) = self.state else {
                    return Err(format!("client {}: a second CONNACK", self.who));
                };
                if connack.reason == ReasonCode::ServerUnavailable {
                    // The store took longer than CONNECT may; the broker closes, and the client comes again.
                    return Ok(());
                }
                if connack.reason != ReasonCode::Success {
                    return Err(format!(
                        "client {}: refused with {}",
                        self.who, connack.reason
                    ));
                }
                self.welcomed(connack.session_present, clean_start, model, millis)
            }
            _ if matches!(self.state, State::Connecting(_)) => Err(format!(
                "client {}: {} before CONNACK",
                self.who,
                brief(packet)
            )),
            Packet::Publish(publish) => self.on_publish(publish, model),
            Packet::Ack(ack) => self.on_ack(ack, model),
            Packet::SubAck(suback) => match self.expected.pop_front() {
                Some(Expected::SubAck(id, filter, qos)) if id == suback.id => {
                    self.asking.retain(|asked| *asked != filter);
                    if suback.codes.iter().next().map(|code| code as u8) != Some(qos as u8) {
                        return Err(format!("client {}: {suback:?}", self.who));
                    }
                    model.answered(self.who, filter, Some(qos));
                    Ok(())
                }
                other => Err(self.out_of_order(packet, other.as_ref())),
            },
            Packet::UnsubAck(unsuback) => match self.expected.pop_front() {
                Some(Expected::UnsubAck(id, filter)) if id == unsuback.id => {
                    self.asking.retain(|asked| *asked != filter);
                    model.answered(self.who, filter, None);
                    Ok(())
                }
                other => Err(self.out_of_order(packet, other.as_ref())),
            },
            Packet::PingResp if self.pings > 0 => {
                self.pings -= 1;
                Ok(())
            }
            Packet::Disconnect(disconnect) => match disconnect.reason {
                ReasonCode::KeepAliveTimeout
                | ReasonCode::SessionTakenOver
                // A client that reads nothing for a minute.
                | ReasonCode::QuotaExceeded => Ok(()),
                reason => Err(format!("client {}: disconnected with {reason}", self.who)),
            },
            other => Err(format!("client {}: unexpected {other:?}", self.who)),
        }
    }

    fn out_of_order(&self, packet: &Packet<'_>, expected: Option<&Expected>) -> Violation {
        format!(
            "client {}: {packet:?} while {expected:?} is the next answer",
            self.who
        )
    }

    fn welcomed(
        &mut self,
        present: bool,
        clean_start: bool,
        model: &mut Model,
        millis: u64,
    ) -> Result<(), Violation> {
        self.state = State::Online;
        self.has_started_over = false;
        let away = millis - self.last_connected;
        let away_at_most = millis - self.connected;
        let expiry = u64::from(self.traits.expiry_secs) * 1_000;
        let lasts = self.traits.expiry_secs == u32::MAX;
        if present && (clean_start || self.session == Session::None) {
            return Err(format!(
                "client {}: a session is present that has ended",
                self.who
            ));
        }
        if !present
            && !clean_start
            && self.session == Session::There
            && (lasts || away_at_most + EXPIRY_SLACK_MILLIS < expiry)
        {
            return Err(format!(
                "client {}: its session is lost, after {away_at_most} ms",
                self.who
            ));
        }
        // A connection whose CONNACK was lost on the way has prolonged it.
        let first = std::mem::take(&mut self.attempts) == 1;
        if present && first && !lasts && away > expiry + EXPIRY_SLACK_MILLIS {
            return Err(format!(
                "client {}: its session is still there after {away} ms away",
                self.who
            ));
        }
        self.last_connected = millis;
        self.connected = self.began;
        self.online_since = model.now;
        if present {
            self.session = Session::There;
        } else {
            self.incoming.clear();
            self.outgoing.clear();
            model.session_is_new(self.who);
            self.session = if self.lasting {
                Session::There
            } else {
                Session::None
            };
        }
        for at in 0..self.outgoing.len() {
            let message = self.outgoing[at];
            match message.id {
                Some(id) if message.released => self.replies.push_back((AckKind::PubRel, id)),
                _ => {
                    model.messages[message.which].sends += 1;
                    self.send_publish(message, true)?;
                }
            }
        }
        Ok(())
    }

    fn on_publish(&mut self, publish: &Publish<'_>, model: &mut Model) -> Result<(), Violation> {
        let which = which(publish.payload);
        if publish.payload.is_empty() {
            // A retained message is cleared; which of them says so cannot be told.
            if publish.retain || !publish.topic.starts_with("r/") {
                return Err(format!("client {}: {publish:?}", self.who));
            }
        } else if which.is_none_or(|which| !model.is_intact(which, publish)) {
            return Err(format!(
                "client {}: a message that nobody sent on {}",
                self.who, publish.topic
            ));
        }
        // Cleared topics have no message of their own; they take part in the exchange of identifiers only.
        let tag = which.unwrap_or(usize::MAX);
        let mut new = true;
        match (publish.qos, publish.id) {
            (QoS::AtLeastOnce, Some(id)) => {
                self.check_identifier(id, tag, publish.dup)?;
                self.unacknowledged.insert(id, tag);
                self.replies.push_back((AckKind::PubAck, id));
            }
            (QoS::ExactlyOnce, Some(id)) => {
                self.check_identifier(id, tag, publish.dup)?;
                new = self.incoming.insert(id, tag).is_none();
                self.replies.push_back((AckKind::PubRec, id));
            }
            _ => {}
        }
        let Some(which) = which else { return Ok(()) };
        model.delivered(
            self.who,
            Arrival {
                which,
                qos: publish.qos,
                dup: publish.dup,
                retain: publish.retain,
                new,
                connection: self.connection,
            },
        )
    }

    /// An identifier belongs to one message until its exchange is over.
    fn check_identifier(&self, id: PacketId, tag: usize, dup: bool) -> Result<(), Violation> {
        let held = self
            .incoming
            .get(&id)
            .or_else(|| self.unacknowledged.get(&id));
        match held {
            Some(held) if *held != tag => Err(format!(
                "client {}: packet id {id} for message {tag}, but it still belongs to message {held}",
                self.who
            )),
            Some(_) if !dup => Err(format!(
                "client {}: packet id {id} and message {tag} again, without DUP",
                self.who
            )),
            _ => Ok(()),
        }
    }

    fn on_ack(&mut self, ack: &Ack<'_>, model: &mut Model) -> Result<(), Violation> {
        if ack.kind == AckKind::PubRel {
            // Unknown identifiers are answered as well: the answer to an earlier one may have been lost.
            self.replies.push_back((AckKind::PubComp, ack.id));
            return Ok(());
        }
        match self.expected.pop_front() {
            Some(Expected::Ack(kind, id)) if kind == ack.kind && id == ack.id => {}
            other => return Err(self.out_of_order(&Packet::Ack(*ack), other.as_ref())),
        }
        let Some(at) = self
            .outgoing
            .iter()
            .position(|message| message.id == Some(ack.id))
        else {
            return Err(format!("client {}: {ack:?} for nothing", self.who));
        };
        if ack.reason.is_error() && ack.kind != AckKind::PubComp {
            return Err(format!("client {}: {ack:?}", self.who));
        }
        let which = self.outgoing[at].which;
        match ack.kind {
            AckKind::PubRec => {
                self.outgoing[at].released = true;
                self.replies.push_back((AckKind::PubRel, ack.id));
            }
            _ => {
                self.outgoing.remove(at);
            }
        }
        if ack.kind != AckKind::PubComp {
            let matched = ack.reason != ReasonCode::NoMatchingSubscribers;
            // The answer to a repetition says nothing about subscribers.
            let first = model.messages[which].sends == 1;
            model.acknowledged(which, matched || !first)?;
        }
        Ok(())
    }
}
