//! One client: a nonblocking socket, what is left of a packet, what waits to be written, and what it is there for.

use std::io;
use std::num::NonZeroU16;

use martlet_codec::{
    Ack, AckKind, ConnAck, Connect, Disconnect, Frame, Packet, PacketId, Property, Props, PropsBuf,
    Publish, QoS, ReasonCode, Split, Subscribe, SubscribeFiltersBuf, SubscribeOptions, Unsubscribe,
    UnsubscribeFiltersBuf, Version, split,
};

use crate::failure::Failure;
use crate::publisher::{Identifiers, Publisher, PublisherPlan};
use crate::receiver::{Receiver, ReceiverPlan};
use crate::shared::{Shared, Topic};
use crate::socket::Socket;
use crate::verdict::Breach;

/// Batches that one client writes before others have their turn.
const BATCHES_PER_TURN: u32 = 2;

/// Filters in one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 100;

/// The largest packet taken from a broker.
const PACKET_MAX: u32 = 268_435_460;

/// What a client answers requests with.
#[derive(Clone, Debug)]
pub(crate) struct ResponderPlan {
    /// Where responses go when the request does not say.
    pub(crate) topic: Topic,
    /// QoS of requests and responses.
    pub(crate) qos: QoS,
    /// Responses that may wait for their handshake.
    pub(crate) window: u32,
}

/// What a client is to do.
#[derive(Clone, Debug)]
pub(crate) struct ClientPlan {
    /// Client identifier.
    pub(crate) id: String,
    /// Whether the session ends with the connection.
    pub(crate) clean: bool,
    /// Filters to subscribe to.
    pub(crate) filters: Vec<String>,
    /// QoS of the subscriptions.
    pub(crate) qos: QoS,
    /// What it publishes.
    pub(crate) publisher: Option<PublisherPlan>,
    /// What it receives.
    pub(crate) receiver: Option<ReceiverPlan>,
    /// Whether it answers requests.
    pub(crate) responder: Option<ResponderPlan>,
}

impl ClientPlan {
    /// A client that is there and does nothing.
    pub(crate) fn idle(id: String) -> Self {
        Self {
            id,
            clean: true,
            filters: Vec::new(),
            qos: QoS::AtMostOnce,
            publisher: None,
            receiver: None,
            responder: None,
        }
    }
}

/// How every client of a run logs in.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) version: Version,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) keep_alive_secs: u16,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// CONNECT is on its way.
    Connecting,
    /// So many SUBACKs are owed.
    Subscribing(u32),
    /// Traffic.
    Ready,
    /// PINGREQ is on its way: everything before has been handled when it is answered.
    Pinging,
    /// DISCONNECT is on its way, or the broker is to close.
    Leaving,
    /// Over.
    Closed,
}

struct Responder {
    plan: ResponderPlan,
    ids: Identifiers,
}

/// One client.
pub(crate) struct Connection {
    socket: Socket,
    pub(crate) state: State,
    pub(crate) plan: ClientPlan,
    index: u32,
    version: Version,
    /// The beginning of a packet whose end has not come.
    partial: Vec<u8>,
    control: Vec<u8>,
    control_at: usize,
    /// A packet of the batch has been written in part and must be finished first.
    batch_first: bool,
    blocked: bool,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) receiver: Option<Receiver>,
    responder: Option<Responder>,
    /// Whether its end has been counted, see `scenario::connect`.
    pub(crate) counted: bool,
    /// Why the broker ends the connection, if it said so.
    farewell: Option<ReasonCode>,
}

impl Connection {
    /// Puts a client on a socket that is connected.
    pub(crate) fn new(
        socket: Socket,
        index: u32,
        plan: ClientPlan,
        login: &Login,
    ) -> Result<Self, Failure> {
        let responder = plan.responder.clone().map(|plan| Responder {
            ids: Identifiers::new(plan.window),
            plan,
        });
        let receiver = plan.receiver.clone().map(|plan| Receiver::new(plan, index));
        let mut connection = Self {
            socket,
            state: State::Connecting,
            index,
            version: login.version,
            partial: Vec::new(),
            control: Vec::new(),
            control_at: 0,
            batch_first: false,
            blocked: false,
            publisher: None,
            receiver,
            responder,
            counted: false,
            farewell: None,
            plan,
        };
        let mut props = PropsBuf::new();
        if login.version.is_v5() && !connection.plan.clean {
            props.push(Property::SessionExpiry(3_600));
        }
        let id = connection.plan.id.clone();
        connection.say(Packet::Connect(Connect {
            version: login.version,
            bridge: false,
            clean_start: connection.plan.clean,
            keep_alive_secs: login.keep_alive_secs,
            props: props.as_props(),
            client_id: &id,
            will: None,
            username: login.username.as_deref(),
            password: login.password.as_deref(),
        }))?;
        Ok(connection)
    }

    /// Appends a packet to what waits to be written.
    fn say(&mut self, packet: Packet<'_>) -> Result<(), Failure> {
        packet
            .encode(self.version, &mut self.control)
            .map_err(|error| Failure::Options(format!("a packet cannot be encoded: {error}")))
    }

    /// Asks for a sign that everything sent so far has been handled.
    pub(crate) fn ping(&mut self) -> Result<(), Failure> {
        self.state = State::Pinging;
        self.say(Packet::PingReq)
    }

    /// Says goodbye; the broker closes.
    pub(crate) fn leave(&mut self) -> Result<(), Failure> {
        self.state = State::Leaving;
        self.say(Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            props: Props::EMPTY,
        }))
    }

    /// The broker is going to close, because another client takes over.
    pub(crate) fn expect_the_end(&mut self) {
        self.state = State::Leaving;
    }

    fn failed(&self, words: &str) -> Failure {
        Failure::Broker(format!("client {}: {words}", self.plan.id))
    }

    /// Reads and handles what has come. `scratch` holds the largest packet and more.
    pub(crate) fn read(&mut self, scratch: &mut [u8], shared: &mut Shared) -> Result<(), Failure> {
        loop {
            let have = self.partial.len();
            scratch[..have].copy_from_slice(&self.partial);
            let room = scratch.len() - have;
            let got = match self.socket.read(&mut scratch[have..]) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if self.state == State::Leaving => 0,
                Err(error) => return Err(self.failed(&error.to_string())),
            };
            if got == 0 {
                let leaving = matches!(self.state, State::Leaving | State::Closed);
                self.state = State::Closed;
                if leaving {
                    return Ok(());
                }
                return Err(match self.farewell {
                    Some(reason) => self.failed(&format!("the broker disconnects: {reason}")),
                    None => self.failed("the broker closed the connection"),
                });
            }
            let filled = &scratch[..have + got];
            let consumed = self.handle(filled, shared)?;
            self.partial.clear();
            self.partial.extend_from_slice(&filled[consumed..]);
            // Less than there was room for: the socket is empty, and its next byte is a new event.
            if got < room && self.socket.tells_all() {
                return Ok(());
            }
            if self.partial.len() >= scratch.len() {
                return Err(self.failed("the broker sends a packet that nobody asked for"));
            }
        }
    }

    /// Handles the whole packets of `bytes` and says how many bytes those are.
    fn handle(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<usize, Failure> {
        let mut at = 0;
        loop {
            match split(&bytes[at..], PACKET_MAX) {
                Ok(Split::Frame(frame)) => {
                    at += frame.len;
                    self.frame(frame, shared)?;
                }
                Ok(Split::Partial { .. }) => return Ok(at),
                Err(error) => return Err(self.failed(&format!("the broker sends: {error}"))),
            }
        }
    }

    #[inline]
    fn frame(&mut self, frame: Frame<'_>, shared: &mut Shared) -> Result<(), Failure> {
        match (frame.first >> 4, frame.body) {
            (3, _) => match Publish::decode(frame, self.version) {
                Ok(publish) => self.publish(&publish, shared),
                Err(error) => Err(self.failed(&format!("the broker sends: {error}"))),
            },
            // The short forms of acknowledgements, which are nearly all.
            (4 | 5 | 7, &[high, low]) => {
                self.answered(frame.first, u16::from_be_bytes([high, low]), false, shared);
                Ok(())
            }
            (6, &[high, low]) => {
                self.control.extend_from_slice(&[0x70, 2, high, low]);
                Ok(())
            }
            _ => self.packet(frame, shared),
        }
    }

    #[inline]
    fn publish(&mut self, publish: &Publish<'_>, shared: &mut Shared) -> Result<(), Failure> {
        if let Some(id) = publish.id {
            let [high, low] = id.get().to_be_bytes();
            let first = if publish.qos == QoS::AtLeastOnce {
                0x40
            } else {
                0x50
            };
            self.control.extend_from_slice(&[first, 2, high, low]);
        }
        if let Some(responder) = &mut self.responder {
            return responder.respond(publish, self.version, &mut self.control, shared);
        }
        match &mut self.receiver {
            Some(receiver) => receiver.receive(publish, shared),
            None => shared.verdict.add(Breach::Misdirected, 1, || {
                format!("{} at a client without subscription", publish.topic)
            }),
        }
        Ok(())
    }

    /// PUBACK, PUBREC or PUBCOMP.
    #[inline]
    fn answered(&mut self, first: u8, id: u16, error: bool, shared: &mut Shared) {
        let release = if let Some(responder) = &mut self.responder {
            responder.answered(first, id)
        } else if let Some(publisher) = &mut self.publisher {
            publisher.answered(first, id, error, shared)
        } else {
            None
        };
        if let Some(id) = release {
            let [high, low] = id.to_be_bytes();
            self.control.extend_from_slice(&[0x62, 2, high, low]);
        }
    }

    /// Everything that is not on the hot path.
    fn packet(&mut self, frame: Frame<'_>, shared: &mut Shared) -> Result<(), Failure> {
        let packet = Packet::decode(frame, self.version)
            .map_err(|error| self.failed(&format!("the broker sends: {error}")))?;
        match (packet, self.state) {
            (Packet::ConnAck(ack), State::Connecting) => self.accepted(&ack, shared),
            (Packet::SubAck(ack), State::Subscribing(left)) => {
                let granted = ack.codes.as_bytes();
                if let Some(code) = granted.iter().find(|&&code| code != self.plan.qos as u8) {
                    return Err(
                        self.failed(&format!("a subscription was answered with {code:#04x}"))
                    );
                }
                self.answered_request(left);
                Ok(())
            }
            (Packet::UnsubAck(_), State::Subscribing(left)) => {
                self.answered_request(left);
                Ok(())
            }
            (Packet::PingResp, State::Pinging) => {
                self.state = State::Ready;
                Ok(())
            }
            (Packet::Ack(ack), _) if ack.kind == AckKind::PubRel => {
                self.say(Packet::Ack(Ack::new(AckKind::PubComp, ack.id)))
            }
            (Packet::Ack(ack), _) => {
                // 0x80 and above are errors; "no matching subscribers" is none.
                let error = ack.reason as u8 >= 0x80;
                self.answered(frame.first, ack.id.get(), error, shared);
                Ok(())
            }
            (Packet::Disconnect(disconnect), _) => {
                self.farewell = Some(disconnect.reason);
                Ok(())
            }
            (packet, _) => Err(self.failed(&format!(
                "the broker sends {} out of turn",
                packet.packet_type()
            ))),
        }
    }

    fn answered_request(&mut self, left: u32) {
        self.state = match left {
            0 | 1 => State::Ready,
            _ => State::Subscribing(left - 1),
        };
    }

    /// The broker took the client: subscribe, and get ready to publish.
    fn accepted(&mut self, ack: &ConnAck<'_>, shared: &mut Shared) -> Result<(), Failure> {
        if ack.reason != ReasonCode::Success {
            return Err(self.failed(&format!("the broker refuses: {}", ack.reason)));
        }
        if let Some(plan) = self.plan.publisher.clone() {
            let flow = &mut shared.flows[plan.flow as usize];
            flow.connection = self.index;
            if let Some(limit) = ack
                .props
                .receive_maximum()
                .filter(|_| plan.qos > QoS::AtMostOnce)
            {
                flow.window = flow.window.min(u32::from(limit));
            }
            let payload = shared.payload;
            self.publisher = Some(Publisher::new(plan, flow, payload, self.version)?);
        }
        self.state = State::Ready;
        let filters = std::mem::take(&mut self.plan.filters);
        self.subscribe(&filters)
    }

    /// Subscribes to filters, a hundred at a time; ready when all are answered.
    pub(crate) fn subscribe(&mut self, filters: &[String]) -> Result<(), Failure> {
        for (index, chunk) in filters.chunks(FILTERS_PER_PACKET).enumerate() {
            let mut list = SubscribeFiltersBuf::new();
            for filter in chunk {
                list.push(filter, SubscribeOptions::qos(self.plan.qos))
                    .map_err(|error| Failure::Options(format!("{filter}: {error}")))?;
            }
            self.say(Packet::Subscribe(Subscribe {
                id: request_id(index),
                props: Props::EMPTY,
                filters: list.as_filters(),
            }))?;
        }
        self.owed(filters.len());
        Ok(())
    }

    /// Unsubscribes from filters, in the same way.
    pub(crate) fn unsubscribe(&mut self, filters: &[String]) -> Result<(), Failure> {
        for (index, chunk) in filters.chunks(FILTERS_PER_PACKET).enumerate() {
            let mut list = UnsubscribeFiltersBuf::new();
            for filter in chunk {
                list.push(filter)
                    .map_err(|error| Failure::Options(format!("{filter}: {error}")))?;
            }
            self.say(Packet::Unsubscribe(Unsubscribe {
                id: request_id(index),
                props: Props::EMPTY,
                filters: list.as_filters(),
            }))?;
        }
        self.owed(filters.len());
        Ok(())
    }

    fn owed(&mut self, filters: usize) {
        let packets = filters.div_ceil(FILTERS_PER_PACKET) as u32;
        if packets > 0 {
            self.state = State::Subscribing(packets);
        }
    }

    /// Removes a retained message.
    pub(crate) fn remove_retained(&mut self, topic: &str) -> Result<(), Failure> {
        self.say(Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic,
            id: None,
            props: Props::EMPTY,
            payload: &[],
        }))
    }

    /// The socket takes bytes again.
    pub(crate) fn unblock(&mut self) -> Result<(), Failure> {
        match self.socket.flush() {
            Ok(()) => self.blocked = false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A socket that is gone shows when it is read.
            Err(_) if self.state == State::Leaving => {}
            Err(error) => return Err(self.failed(&error.to_string())),
        }
        Ok(())
    }

    /// Writes what waits, and new messages while there may be any.
    pub(crate) fn write(&mut self, shared: &mut Shared) -> Result<(), Failure> {
        let mut batches = 0;
        while !self.blocked && self.state != State::Closed {
            if let Some(publisher) = &mut self.publisher
                && publisher.unwritten.is_empty()
                && self.state == State::Ready
            {
                if batches == BATCHES_PER_TURN {
                    self.wake_again(shared);
                    return self.write_control();
                }
                shared.tick();
                publisher.refill(shared);
                batches += 1;
            }
            if !self.write_once()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Puts this client behind the others.
    fn wake_again(&self, shared: &mut Shared) {
        let Some(publisher) = &self.publisher else {
            return;
        };
        let flow = &mut shared.flows[publisher.flow() as usize];
        if !flow.woken && flow.room() > 0 && !publisher.is_done() {
            flow.woken = true;
            shared.wake.push(self.index);
        }
    }

    /// Writes acknowledgements and the like; what is published goes when a window opens. The rest of a batch that the
    /// socket did not take goes with them.
    pub(crate) fn write_answers(&mut self, shared: &mut Shared) -> Result<(), Failure> {
        let unwritten = |connection: &Self| {
            let publisher = connection.publisher.as_ref();
            publisher.is_some_and(|publisher| !publisher.unwritten.is_empty())
        };
        let had_batch = unwritten(self);
        self.write_control()?;
        if had_batch && !unwritten(self) {
            self.wake_again(shared);
        }
        Ok(())
    }

    fn write_control(&mut self) -> Result<(), Failure> {
        while !self.blocked && self.state != State::Closed && self.write_once()? {}
        Ok(())
    }

    /// One system call; false when there is nothing to write.
    fn write_once(&mut self) -> Result<bool, Failure> {
        let control = &self.control[self.control_at..];
        let batch = self.publisher.as_ref().map_or(&[][..], Publisher::bytes);
        let (first, second) = if self.batch_first || control.is_empty() {
            (batch, control)
        } else {
            (control, batch)
        };
        if first.is_empty() {
            return Ok(false);
        }
        let written = self.socket.write(first, second);
        match written {
            Ok(written) => {
                let (control, batch) = (control.len(), batch.len());
                self.advance(written, control, batch);
                // Plain sockets take all they can; layers take what they like.
                self.blocked = written < control + batch && self.socket.tells_all();
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(_) if self.state == State::Leaving => {
                self.state = State::Closed;
                Ok(false)
            }
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    /// Notes that `written` bytes of both buffers have gone.
    fn advance(&mut self, written: usize, control: usize, batch: usize) {
        let of_first = written.min(if self.batch_first { batch } else { control });
        let of_second = written - of_first;
        let (of_control, of_batch) = if self.batch_first {
            (of_second, of_first)
        } else {
            (of_first, of_second)
        };
        self.control_at += of_control;
        if self.control_at == self.control.len() {
            self.control.clear();
            self.control_at = 0;
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.unwritten.start += of_batch;
        }
        // A packet that has been begun must be finished before the other buffer has its turn. Only one of the two can
        // be in that state: the second buffer of a write is begun when the first one is through.
        let batch_begun = self.batch_first || of_batch > 0;
        self.batch_first = self.control_at == 0 && batch_begun && of_batch < batch;
    }
}

/// The identifier of the request with this index. Two of 65,535 requests that wait share one, which no client of ours
/// has: answers are only counted.
fn request_id(index: usize) -> PacketId {
    let id = NonZeroU16::new((index % 65_535) as u16 + 1).unwrap_or(NonZeroU16::MIN);
    PacketId::from(id)
}

impl Responder {
    /// Sends the payload back, to where the request says.
    fn respond(
        &mut self,
        publish: &Publish<'_>,
        version: Version,
        out: &mut Vec<u8>,
        shared: &mut Shared,
    ) -> Result<(), Failure> {
        shared.counters.delivered += 1;
        let named;
        let topic = if let Some(topic) = publish.props.response_topic() {
            topic
        } else {
            let number = crate::payload::read(publish.payload, shared.payload)
                .map_or(0, |header| header.number);
            named = self.plan.topic.name(number);
            &named
        };
        if !self.ids.is_free() {
            shared.verdict.add(Breach::Acknowledgement, 1, || {
                "a response was not acknowledged before the window came round".to_owned()
            });
            return Ok(());
        }
        let id = match self.plan.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => PacketId::new(self.ids.take(0)),
        };
        let response = Publish {
            dup: false,
            qos: self.plan.qos,
            retain: false,
            topic,
            id,
            props: Props::EMPTY,
            payload: publish.payload,
        };
        response
            .encode(version, out)
            .map_err(|error| Failure::Broker(format!("a request cannot be answered: {error}")))
    }

    fn answered(&mut self, first: u8, id: u16) -> Option<u16> {
        match first >> 4 {
            5 => self.ids.received(id).map(|()| id),
            7 => self.ids.completed(id).and(None),
            _ => self.ids.published(id).and(None),
        }
    }
}
