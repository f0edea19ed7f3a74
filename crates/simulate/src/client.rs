//! A client: a session of its own, packets through the real codec in both directions, and its answers in the right order
//! but whenever the dice say. What it sends and receives it tells the [`Model`].
//!
//! Deliberately absent: wrong packets; those are the business of `martlet-codec` and of the conformance tests.

mod hear;

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use martlet_codec::{
    Ack, AckKind, Connect, Disconnect, Packet, PacketId, Property, Props, PropsBuf, Publish, QoS,
    ReasonCode, Subscribe, SubscribeFiltersBuf, SubscribeOptions, Unsubscribe,
    UnsubscribeFiltersBuf, Version, Will,
};

use crate::{
    dice::Dice,
    model::{Filter, Model, Topic, Violation, Which, Who, WillFate},
    network::Wire,
    trace,
};

/// Messages of its own that a client leaves unanswered at once.
const OPEN_MAX: usize = 12;

/// What a client is like for the whole run.
#[derive(Clone, Debug)]
pub(crate) struct Traits {
    pub(crate) version: Version,
    /// Seconds its session outlives its connections; 0 for not at all, `u32::MAX` for ever.
    pub(crate) expiry_secs: u32,
    pub(crate) keep_alive_secs: u16,
    pub(crate) receive_maximum: Option<u16>,
    /// It starts over once in so many connections; 0 for never.
    pub(crate) clean_start_once_in: usize,
    pub(crate) wills: bool,
    pub(crate) will_delay_secs: u32,
    pub(crate) in_share_group: bool,
    /// The QoS of everything it retains.
    pub(crate) retained_qos: QoS,
}

/// A message of its own under way.
#[derive(Clone, Copy)]
struct Outgoing {
    /// None at QoS 0.
    id: Option<PacketId>,
    which: Which,
    qos: QoS,
    topic: Topic,
    clears: bool,
    bytes: usize,
    released: bool,
}

/// An answer it waits for; they come in the order of what was sent.
#[derive(Debug)]
enum Expected {
    Ack(AckKind, PacketId),
    SubAck(PacketId, Filter, QoS),
    UnsubAck(PacketId, Filter),
}

/// What it knows about its session on the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    None,
    There,
    Unsure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Away,
    /// CONNECT is under way; whether it asked to start over.
    Connecting(bool),
    Online,
    /// DISCONNECT is sent.
    Leaving,
}

/// A connection that was given up before its CONNACK: the broker may read its CONNECT after that of a later one.
struct Rival {
    wire: Wire,
    clean_start: bool,
    lasting: bool,
}

/// A simulated client.
pub(crate) struct Client {
    pub(crate) who: Who,
    pub(crate) traits: Traits,
    dice: Rc<Dice>,
    state: State,
    pub(crate) wire: Option<Wire>,
    rivals: Vec<Rival>,
    /// Whether an earlier CONNECT may still take the session over from this connection.
    is_rivalled: bool,
    /// Counts connections.
    connection: u64,
    received: Vec<u8>,
    session: Session,
    /// Whether it asked to start over and has heard no answer.
    has_started_over: bool,
    /// When it heard the last CONNACK, in events.
    online_since: u64,
    /// Connections since the last CONNACK.
    attempts: u32,
    /// Whether it has closed its direction: what it says now reaches nobody.
    is_half_closed: bool,
    /// Whether the session of this connection outlives it.
    lasting: bool,
    /// When the connection began that it heard CONNACK on, in virtual milliseconds; the broker may have lost it long before
    /// the client hears of that.
    connected: u64,
    /// When this connection began.
    began: u64,
    /// When it last thought itself connected.
    last_connected: u64,
    next_id: u16,
    outgoing: Vec<Outgoing>,
    /// QoS 2 identifiers it has received and not released.
    incoming: BTreeMap<PacketId, Which>,
    /// QoS 1 identifiers it has received and not acknowledged yet.
    unacknowledged: BTreeMap<PacketId, Which>,
    expected: VecDeque<Expected>,
    /// Answers it owes, oldest first.
    replies: VecDeque<(AckKind, PacketId)>,
    asking: Vec<Filter>,
    will: Option<Which>,
    /// The wills whose connections ended well while this broker runs; a crash may bring them back.
    discarded: Vec<Which>,
    pings: usize,
}

fn encode(packet: &Packet<'_>, version: Version) -> Result<Vec<u8>, Violation> {
    let mut bytes = Vec::new();
    packet
        .encode(version, &mut bytes)
        .map_err(|error| format!("the simulator cannot encode its packet: {error}"))?;
    Ok(bytes)
}

impl Client {
    pub(crate) fn new(who: Who, traits: Traits, dice: Rc<Dice>) -> Self {
        Self {
            who,
            traits,
            dice,
            state: State::Away,
            wire: None,
            rivals: Vec::new(),
            is_rivalled: false,
            connection: 0,
            received: Vec::new(),
            session: Session::None,
            has_started_over: false,
            online_since: 0,
            attempts: 0,
            is_half_closed: false,
            lasting: false,
            connected: 0,
            began: 0,
            last_connected: 0,
            next_id: 0,
            outgoing: Vec::new(),
            incoming: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
            expected: VecDeque::new(),
            replies: VecDeque::new(),
            asking: Vec::new(),
            will: None,
            discarded: Vec::new(),
            pings: 0,
        }
    }

    fn is_online(&self) -> bool {
        self.state == State::Online
    }

    pub(crate) fn is_away(&self) -> bool {
        self.state == State::Away
    }

    /// Whether its session outlives a connection.
    pub(crate) fn is_durable(&self) -> bool {
        self.traits.expiry_secs > 0
    }

    /// Whether it neither owes nor awaits anything. One whose session ended with its connection has given up.
    pub(crate) fn is_settled(&self) -> bool {
        if self.is_away() {
            return !self.is_durable();
        }
        self.is_online()
            && self.expected.is_empty()
            && self.replies.is_empty()
            && self.outgoing.is_empty()
            && self.incoming.is_empty()
            && self.pings == 0
    }

    pub(crate) fn owes(&self) -> bool {
        !self.replies.is_empty()
    }

    /// What it is waiting for, for the report of a run that does not settle.
    pub(crate) fn describe(&self) -> String {
        format!(
            "client {} is {:?}: awaits {:?}, owes {} answers, {} messages open, {} identifiers held",
            self.who,
            self.state,
            self.expected.front(),
            self.replies.len(),
            self.outgoing.len(),
            self.incoming.len()
        )
    }

    fn send(&self, bytes: &[u8]) {
        if let Some(wire) = &self.wire {
            wire.send(bytes);
        }
    }

    fn send_packet(&self, packet: &Packet<'_>) -> Result<(), Violation> {
        trace::line(self.connection, || {
            format!("client {} sends {}", self.who, brief(packet))
        });
        self.send(&encode(packet, self.traits.version)?);
        Ok(())
    }

    // ---------------------------------------------------------------- connections

    /// Whether its next CONNECT is to start over; `None` if it has to wait with it.
    pub(crate) fn plans_connection(&mut self, millis: u64, may_start_over: bool) -> Option<bool> {
        let traits = &self.traits;
        // Who has thrown its half of the session away cannot resume the other [MQTT-3.2.2-4], and who may have lost the
        // CONNACK of another session, after the one it knows had expired, cannot tell whose half it has.
        let starts_over = self.has_started_over
            || self.attempts > 0 && self.may_have_expired(millis)
            || may_start_over
                && traits.clean_start_once_in > 0
                && self.dice.once_in(traits.clean_start_once_in);
        // Before version 5 the same flag says that nothing outlives the connection.
        let clean_start = starts_over || !traits.version.is_v5() && traits.expiry_secs == 0;
        let lasting = self.outlives_connection(clean_start);
        // Where the broker's order would decide which session is left, nobody could judge what comes of it.
        let quarrels = |old_clean_start, old_lasting| {
            (old_clean_start, old_lasting) != (clean_start, lasting) || clean_start && lasting
        };
        self.rivals.retain(|rival| !rival.wire.is_dropped());
        let mut waits = matches!(self.state, State::Connecting(old) if quarrels(old, self.lasting));
        for rival in &self.rivals {
            if quarrels(rival.clean_start, rival.lasting) {
                rival.wire.cut();
                waits = true;
            }
        }
        (!waits).then_some(clean_start)
    }

    /// Whether the session of a connection that begins so outlives it.
    fn outlives_connection(&self, clean_start: bool) -> bool {
        self.is_durable() && (self.traits.version.is_v5() || !clean_start)
    }

    /// Opens a connection and says CONNECT. A connection it has is left as it is: the broker takes it away.
    pub(crate) fn connect(
        &mut self,
        wire: Wire,
        model: &mut Model,
        millis: u64,
        clean_start: bool,
    ) -> Result<(), Violation> {
        if self.wire.is_some() {
            self.lose(model, Ending::TakenOver);
        }
        let traits = self.traits.clone();
        let v5 = traits.version.is_v5();
        let mut props = PropsBuf::new();
        if v5 && traits.expiry_secs > 0 {
            props.push(Property::SessionExpiry(traits.expiry_secs));
        }
        if let (true, Some(maximum)) = (v5, traits.receive_maximum) {
            props.push(Property::ReceiveMaximum(maximum));
        }
        let mut will_props = PropsBuf::new();
        if v5 && traits.will_delay_secs > 0 {
            will_props.push(Property::WillDelay(traits.will_delay_secs));
        }
        self.will = None;
        let mut will_payload = Vec::new();
        let will_topic = Topic::Will(self.who).name();
        let mut will = None;
        if traits.wills {
            let qos = if self.dice.once_in(2) {
                QoS::ExactlyOnce
            } else {
                QoS::AtLeastOnce
            };
            let which = model.published(self.who, Topic::Will(self.who), qos, false);
            model.messages[which].will = Some(WillFate::Open);
            self.will = Some(which);
            will_payload.extend_from_slice(&payload(which, 8));
            will = Some(Will {
                qos,
                retain: false,
                props: will_props.as_props(),
                topic: &will_topic,
                payload: &will_payload,
            });
        }
        let name = format!("client-{}", self.who);
        let connect = Connect {
            version: traits.version,
            bridge: false,
            clean_start,
            keep_alive_secs: traits.keep_alive_secs,
            props: props.as_props(),
            client_id: &name,
            will,
            username: None,
            password: None,
        };
        self.wire = Some(wire);
        self.is_rivalled = self.rivals.iter().any(|rival| !rival.wire.is_dropped());
        self.connection += 1;
        self.attempts += 1;
        self.began = millis;
        self.received.clear();
        self.is_half_closed = false;
        self.state = State::Connecting(clean_start);
        self.lasting = self.outlives_connection(clean_start);
        model.connects(self.who, self.lasting && traits.expiry_secs == u32::MAX);
        if clean_start {
            self.has_started_over = true;
            // The old session is over once CONNECT is read, whether or not its answer arrives [MQTT-3.1.2-4].
            self.outgoing.clear();
            self.incoming.clear();
            model.session_is_unsure(self.who);
            if self.session == Session::There {
                self.session = Session::Unsure;
            }
        }
        self.send_packet(&Packet::Connect(connect))
    }

    /// Whether the broker may have ended the session that this client knows: it may have lost the connection as soon as it
    /// began.
    fn may_have_expired(&self, millis: u64) -> bool {
        let secs = self.traits.expiry_secs;
        (1..u32::MAX).contains(&secs) && millis - self.connected >= u64::from(secs) * 1_000
    }

    /// Whether the broker may have ended this connection before it read DISCONNECT: for its silence, or because it took
    /// nothing for a minute.
    fn may_have_seemed_dead(&self) -> bool {
        self.last_connected - self.began >= 60_000
    }

    /// Says DISCONNECT and closes.
    pub(crate) fn leave(&mut self) -> Result<(), Violation> {
        if self.state != State::Online || self.is_half_closed {
            return Ok(());
        }
        self.send_packet(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)))?;
        if let Some(wire) = &self.wire {
            wire.close();
        }
        self.state = State::Leaving;
        Ok(())
    }

    /// Closes its direction, or everything, without a word.
    pub(crate) fn vanish(&mut self, model: &mut Model, half: bool) {
        if let Some(wire) = &self.wire {
            if half {
                wire.close();
                self.is_half_closed = true;
                return;
            }
            wire.cut();
        }
        self.lose(model, Ending::Broken);
    }

    /// The connection is gone.
    pub(crate) fn lose(&mut self, model: &mut Model, ending: Ending) {
        trace::line(self.connection, || {
            format!("client {} loses its connection: {ending:?}", self.who)
        });
        let wire = self.wire.take();
        let finished = wire.as_ref().is_some_and(Wire::is_finished);
        if let (State::Connecting(clean_start), Some(wire)) = (self.state, wire) {
            self.rivals.push(Rival {
                wire,
                clean_start,
                lasting: self.lasting,
            });
        }
        model.disconnected(self.who);
        if let Some(which) = self.will.take() {
            let fate = match (self.state, ending) {
                (State::Online, _) if self.traits.will_delay_secs == 0 => {
                    WillFate::Due(self.online_since)
                }
                (State::Leaving, Ending::Closed)
                    if finished && !self.is_rivalled && !self.may_have_seemed_dead() =>
                {
                    self.discarded.push(which);
                    WillFate::Discarded
                }
                _ => WillFate::Open,
            };
            model.messages[which].will = Some(fate);
        }
        if !self.lasting && !matches!(self.state, State::Connecting(_)) {
            self.session = Session::None;
            self.outgoing.clear();
            self.incoming.clear();
            model.session_is_new(self.who);
        }
        if self.lasting && self.session == Session::None {
            // CONNECT may have arrived.
            self.session = Session::Unsure;
        }
        self.state = State::Away;
        self.expected.clear();
        // Nobody knows whether the broker heard what was asked.
        self.asking.clear();
        self.replies.clear();
        self.unacknowledged.clear();
        self.pings = 0;
    }

    /// The broker has died and stands up again.
    pub(crate) fn broker_died(&mut self, model: &mut Model) {
        if self.wire.is_some() {
            self.lose(model, Ending::Broken);
        }
        self.rivals.clear();
        for which in self.discarded.drain(..) {
            // Nothing waits for the deletion of a will that DISCONNECT discarded.
            model.messages[which].will = Some(WillFate::Open);
        }
    }

    // ---------------------------------------------------------------- what it does

    fn free_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id % 40 + 1;
            if let Some(id) = PacketId::new(self.next_id)
                && !self.outgoing.iter().any(|message| message.id == Some(id))
                && !self.expected.iter().any(|expected| match expected {
                    Expected::Ack(_, used)
                    | Expected::SubAck(used, ..)
                    | Expected::UnsubAck(used, _) => *used == id,
                })
            {
                return id;
            }
        }
    }

    /// Publishes something, unless too much is open already.
    pub(crate) fn publish(&mut self, model: &mut Model) -> Result<(), Violation> {
        if self.state != State::Online || self.outgoing.len() >= OPEN_MAX {
            return Ok(());
        }
        let topic = match self.dice.roll(10) {
            0..6 => Topic::Plain(self.dice.roll(3)),
            6..8 => Topic::Retained(self.who),
            _ => Topic::Shared,
        };
        let (qos, clears) = match topic {
            Topic::Retained(_) => (self.traits.retained_qos, self.dice.once_in(6)),
            _ => {
                let qos = self.dice.pick(&[
                    QoS::AtMostOnce,
                    QoS::AtLeastOnce,
                    QoS::AtLeastOnce,
                    QoS::ExactlyOnce,
                    QoS::ExactlyOnce,
                ]);
                (qos, false)
            }
        };
        let bytes = self.dice.pick(&[8, 8, 8, 40, 200, 1_500, 9_000]);
        let which = model.published(self.who, topic, qos, clears);
        let message = Outgoing {
            id: (qos > QoS::AtMostOnce).then(|| self.free_id()),
            which,
            qos,
            topic,
            clears,
            bytes,
            released: false,
        };
        self.send_publish(message, false)?;
        if qos > QoS::AtMostOnce {
            self.outgoing.push(message);
        }
        Ok(())
    }

    fn send_publish(&mut self, message: Outgoing, dup: bool) -> Result<(), Violation> {
        let payload = if message.clears {
            Vec::new()
        } else {
            payload(message.which, message.bytes)
        };
        self.send_packet(&Packet::Publish(Publish {
            dup,
            qos: message.qos,
            retain: matches!(message.topic, Topic::Retained(_)),
            topic: &message.topic.name(),
            id: message.id,
            props: Props::EMPTY,
            payload: &payload,
        }))?;
        if let Some(id) = message.id {
            let kind = if message.qos == QoS::AtLeastOnce {
                AckKind::PubAck
            } else {
                AckKind::PubRec
            };
            self.expected.push_back(Expected::Ack(kind, id));
        }
        Ok(())
    }

    /// Subscribes to something, or unsubscribes from it.
    pub(crate) fn change_subscriptions(
        &mut self,
        model: &mut Model,
        clients: usize,
    ) -> Result<(), Violation> {
        if self.state != State::Online || self.expected.len() > OPEN_MAX {
            return Ok(());
        }
        let filter = match self.dice.roll(8) {
            0..3 => Filter::AllPlain,
            3 => Filter::Exactly(Topic::Plain(self.dice.roll(3))),
            4 => Filter::Exactly(Topic::Retained(self.dice.roll(clients))),
            5 => Filter::AllRetained,
            6 if self.traits.in_share_group => Filter::Share,
            _ => Filter::AllWills,
        };
        if self.asking.contains(&filter) {
            return Ok(());
        }
        let id = self.free_id();
        self.asking.push(filter);
        model.asks(self.who, filter);
        if self.dice.once_in(5) {
            let mut filters = UnsubscribeFiltersBuf::new();
            filters
                .push(&filter.text())
                .map_err(|error| error.to_string())?;
            self.expected.push_back(Expected::UnsubAck(id, filter));
            return self.send_packet(&Packet::Unsubscribe(Unsubscribe {
                id,
                props: Props::EMPTY,
                filters: filters.as_filters(),
            }));
        }
        let qos = self.dice.pick(&[
            QoS::AtMostOnce,
            QoS::AtLeastOnce,
            QoS::ExactlyOnce,
            QoS::ExactlyOnce,
        ]);
        // What a member gets at QoS 0 is nobody's any more.
        let qos = if filter == Filter::Share {
            qos.max(QoS::AtLeastOnce)
        } else {
            qos
        };
        self.subscribe(id, filter, qos)
    }

    /// Subscribes to everything that is retained.
    pub(crate) fn look_at_retained(&mut self, model: &mut Model) -> Result<(), Violation> {
        let id = self.free_id();
        let filter = Filter::AllRetained;
        self.asking.push(filter);
        model.asks(self.who, filter);
        self.subscribe(id, filter, QoS::AtLeastOnce)
    }

    fn subscribe(&mut self, id: PacketId, filter: Filter, qos: QoS) -> Result<(), Violation> {
        let mut filters = SubscribeFiltersBuf::new();
        filters
            .push(&filter.text(), SubscribeOptions::qos(qos))
            .map_err(|error| error.to_string())?;
        self.expected.push_back(Expected::SubAck(id, filter, qos));
        self.send_packet(&Packet::Subscribe(Subscribe {
            id,
            props: Props::EMPTY,
            filters: filters.as_filters(),
        }))
    }

    pub(crate) fn ping(&mut self) -> Result<(), Violation> {
        if self.state != State::Online {
            return Ok(());
        }
        self.pings += 1;
        self.send_packet(&Packet::PingReq)
    }

    /// Sends the oldest answers it owes.
    pub(crate) fn reply(&mut self, count: usize) -> Result<(), Violation> {
        if self.state != State::Online {
            return Ok(());
        }
        for _ in 0..count {
            let Some((kind, id)) = self.replies.pop_front() else {
                return Ok(());
            };
            match kind {
                AckKind::PubAck => _ = self.unacknowledged.remove(&id),
                AckKind::PubRec => {}
                AckKind::PubRel => {
                    self.expected.push_back(Expected::Ack(AckKind::PubComp, id));
                }
                AckKind::PubComp => _ = self.incoming.remove(&id),
            }
            self.send_packet(&Packet::Ack(Ack::new(kind, id)))?;
        }
        Ok(())
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The broker closed it.
    Closed,
    /// It broke.
    Broken,
    /// The client opened another one.
    TakenOver,
}

/// A payload of `bytes`, at least four, that names its message.
pub(crate) fn payload(which: Which, bytes: usize) -> Vec<u8> {
    let number = u32::try_from(which).unwrap_or(u32::MAX);
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(bytes.max(4), number as u8);
    payload
}

/// The message that a payload names.
pub(crate) fn which(payload: &[u8]) -> Option<Which> {
    let (number, _) = payload.split_first_chunk()?;
    usize::try_from(u32::from_be_bytes(*number)).ok()
}

/// A packet in a line.
fn brief(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Publish(publish) => format!(
            "PUBLISH {:?} on {} at QoS {}, id {:?}{}{}",
            which(publish.payload),
            publish.topic,
            publish.qos as u8,
            publish.id.map(PacketId::get),
            if publish.dup { ", DUP" } else { "" },
            if publish.retain { ", RETAIN" } else { "" },
        ),
        other => format!("{other:?}"),
    }
}
