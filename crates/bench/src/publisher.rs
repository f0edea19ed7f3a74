//! The publishing half of a client: packets that were encoded once, stamped anew for each message.
//!
//! A batch holds as many copies of one packet as fit 64 KiB. Sending a message changes its header in the payload, the
//! packet identifier and the digits of the topic, in place; nothing is encoded or allocated per message.

use std::ops::Range;

use martlet_codec::{PacketId, Property, Props, PropsBuf, Publish, QoS, Version, varint};

use crate::failure::Failure;
use crate::payload::{self, Header};
use crate::shared::{Flow, Gate, Shared, Topic, put_digits};
use crate::verdict::Breach;

/// Size of a batch, unless a single packet is larger.
const BATCH_BYTES: usize = 64 << 10;

/// Which number the topic of the next message has, and with it the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbers {
    /// All messages have the same topic: one stream.
    None,
    /// Each message has the next number, from 0: one stream, and no topic twice.
    Ascending,
    /// 0 to below `count` in turn; each number is a stream.
    Turns {
        /// Numbers.
        count: u32,
    },
    /// Evenly drawn below `count`; every `per_stream` numbers are a stream.
    Drawn {
        /// Numbers.
        count: u32,
        /// Numbers of each receiver.
        per_stream: u32,
    },
}

/// What a publisher is to do.
#[derive(Clone, Debug)]
pub(crate) struct PublisherPlan {
    /// Its flow.
    pub(crate) flow: u32,
    /// Its first stream.
    pub(crate) stream: u32,
    /// Its topics.
    pub(crate) topic: Topic,
    /// The number in them.
    pub(crate) numbers: Numbers,
    /// A response topic with the same number, sent as property where the version has it.
    pub(crate) response: Option<Topic>,
    /// QoS of the publications.
    pub(crate) qos: QoS,
    /// RETAIN flag.
    pub(crate) retain: bool,
    /// Messages in all, if there is a bound.
    pub(crate) count: Option<u32>,
    /// For a paced run: this publisher's turn, and how many publishers take turns.
    pub(crate) turn: (u32, u32),
}

/// How far the handshake of a packet identifier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    Free,
    /// PUBLISH is out; when the message was due.
    Published(u64),
    /// PUBREL is out.
    Released(u64),
}

/// Packet identifiers 1 to the number of slots, given out in turn.
#[derive(Debug)]
pub(crate) struct Identifiers {
    slots: Vec<Handshake>,
    next: usize,
}

impl Identifiers {
    pub(crate) fn new(window: u32) -> Self {
        Self {
            slots: vec![Handshake::Free; window.clamp(1, 65_535) as usize],
            next: 0,
        }
    }

    /// Whether the next identifier is free.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.slots[self.next] == Handshake::Free
    }

    /// Takes the next identifier.
    #[inline]
    pub(crate) fn take(&mut self, due: u64) -> u16 {
        let slot = self.next;
        self.slots[slot] = Handshake::Published(due);
        self.next = if slot + 1 == self.slots.len() {
            0
        } else {
            slot + 1
        };
        slot as u16 + 1
    }

    fn slot(&mut self, id: u16) -> Option<&mut Handshake> {
        self.slots.get_mut(usize::from(id).checked_sub(1)?)
    }

    /// PUBACK, or PUBREC with an error: when the message was due.
    pub(crate) fn published(&mut self, id: u16) -> Option<u64> {
        let slot = self.slot(id)?;
        let Handshake::Published(due) = *slot else {
            return None;
        };
        *slot = Handshake::Free;
        Some(due)
    }

    /// PUBREC: whether PUBREL is the answer.
    pub(crate) fn received(&mut self, id: u16) -> Option<()> {
        let slot = self.slot(id)?;
        let Handshake::Published(due) = *slot else {
            return None;
        };
        *slot = Handshake::Released(due);
        Some(())
    }

    /// PUBCOMP: when the message was due.
    pub(crate) fn completed(&mut self, id: u16) -> Option<u64> {
        let slot = self.slot(id)?;
        let Handshake::Released(due) = *slot else {
            return None;
        };
        *slot = Handshake::Free;
        Some(due)
    }
}

/// The publishing half of a client.
pub(crate) struct Publisher {
    plan: PublisherPlan,
    pub(crate) ids: Identifiers,
    /// Messages sent.
    sent: u32,
    batch: Vec<u8>,
    stride: usize,
    payload_at: usize,
    id_at: usize,
    /// Where digits of the number stand in a packet.
    digits_at: [Range<usize>; 2],
    /// The part of `batch` that is stamped and not yet written.
    pub(crate) unwritten: Range<usize>,
    random: u64,
}

impl Publisher {
    /// Encodes the batch.
    pub(crate) fn new(
        plan: PublisherPlan,
        flow: &Flow,
        payload: usize,
        version: Version,
    ) -> Result<Self, Failure> {
        let mut bytes = vec![0; payload];
        payload::fill(&mut bytes);
        let response = plan.response.as_ref().filter(|_| version.is_v5());
        let response_name = response.map(|topic| topic.name(0));
        let props = response_name
            .as_deref()
            .map(|name| PropsBuf::new().with(Property::ResponseTopic(name)));
        let topic = plan.topic.name(0);
        let publish = Publish {
            dup: false,
            qos: plan.qos,
            retain: plan.retain,
            topic: &topic,
            id: PacketId::new(1).filter(|_| plan.qos > QoS::AtMostOnce),
            props: props.as_ref().map_or(Props::EMPTY, PropsBuf::as_props),
            payload: &bytes,
        };
        let mut packet = Vec::new();
        publish
            .encode(version, &mut packet)
            .map_err(|error| Failure::Options(format!("a message cannot be encoded: {error}")))?;
        let stride = packet.len();
        let payload_at = stride - payload;
        // Packet type and remaining length, then the length of the topic.
        let header = (2..=5).find(|header| varint::len((stride - header) as u32) == header - 1);
        let topic_at = header.unwrap_or(2) + 2;
        let id_at = topic_at + topic.len();
        let digits = |at: usize, topic: &Topic| {
            let begin = at + topic.prefix.len();
            begin..begin + topic.digits
        };
        let response_digits = match (response, &response_name) {
            // The response topic is the only property and ends where the payload begins.
            (Some(topic), Some(name)) => digits(payload_at - name.len(), topic),
            _ => 0..0,
        };
        let digits_at = [digits(topic_at, &plan.topic), response_digits];
        let slots = (BATCH_BYTES / stride).clamp(1, flow.window.max(1) as usize);
        Ok(Self {
            ids: Identifiers::new(if plan.qos > QoS::AtMostOnce {
                flow.window
            } else {
                1
            }),
            sent: 0,
            batch: packet.repeat(slots),
            stride,
            payload_at,
            id_at,
            digits_at,
            unwritten: 0..0,
            random: u64::from(plan.flow).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            plan,
        })
    }

    /// The flow of this publisher.
    pub(crate) fn flow(&self) -> u32 {
        self.plan.flow
    }

    /// The part of the batch that waits for the socket.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.batch[self.unwritten.clone()]
    }

    /// Whether all messages of a bounded run are sent.
    pub(crate) fn is_done(&self) -> bool {
        self.plan.count.is_some_and(|count| self.sent >= count)
    }

    /// Stamps as many messages as may be sent now, if everything before has been written.
    pub(crate) fn refill(&mut self, shared: &mut Shared) {
        if !self.unwritten.is_empty() {
            return;
        }
        let room = shared.flows[self.plan.flow as usize].room();
        let left = self.plan.count.map_or(u32::MAX, |count| count - self.sent);
        let slots = (self.batch.len() / self.stride) as u32;
        let due = match shared.gate {
            Gate::Shut => 0,
            Gate::Open => u32::MAX,
            Gate::Paced { interval, begin } => self.due(shared.now, interval, begin),
        };
        let wanted = slots.min(room).min(left).min(due);
        let mut end = 0;
        for _ in 0..wanted {
            let acknowledged = self.plan.qos > QoS::AtMostOnce;
            if acknowledged && !self.ids.is_free() {
                break;
            }
            let time = match shared.gate {
                Gate::Paced { interval, begin } => self.due_at(self.sent, interval, begin),
                Gate::Open | Gate::Shut => shared.now,
            };
            let (number, stream) = self.pick();
            let sequence = shared.sent(stream, acknowledged);
            let packet = &mut self.batch[end..end + self.stride];
            if acknowledged {
                let id = self.ids.take(time);
                packet[self.id_at..self.id_at + 2].copy_from_slice(&id.to_be_bytes());
            }
            if !matches!(self.plan.numbers, Numbers::None) {
                for range in &self.digits_at {
                    put_digits(&mut packet[range.clone()], number);
                }
            }
            let header = Header {
                stream,
                sequence,
                time,
                number,
            };
            payload::stamp(&mut packet[self.payload_at..], &header);
            self.sent += 1;
            end += self.stride;
        }
        self.unwritten = 0..end;
    }

    /// Number and stream of the next message.
    fn pick(&mut self) -> (u32, u32) {
        match self.plan.numbers {
            Numbers::None => (0, self.plan.stream),
            Numbers::Ascending => (self.sent, self.plan.stream),
            Numbers::Turns { count } => {
                let number = self.sent % count.max(1);
                (number, self.plan.stream + number)
            }
            Numbers::Drawn { count, per_stream } => {
                // xorshift64*: even enough to choose topics.
                self.random ^= self.random >> 12;
                self.random ^= self.random << 25;
                self.random ^= self.random >> 27;
                let drawn = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
                let number = ((drawn * u64::from(count)) >> 32) as u32;
                (number, self.plan.stream + number / per_stream.max(1))
            }
        }
    }

    /// Messages that are due and not sent.
    fn due(&self, now: u64, interval: f64, begin: u64) -> u32 {
        let (turn, turns) = self.plan.turn;
        let elapsed = now.saturating_sub(begin) as f64 / interval - f64::from(turn);
        if elapsed < 0.0 {
            return 0;
        }
        let due = (elapsed / f64::from(turns.max(1))) as u32 + 1;
        due.saturating_sub(self.sent)
    }

    /// When the message with this index is due.
    fn due_at(&self, index: u32, interval: f64, begin: u64) -> u64 {
        let (turn, turns) = self.plan.turn;
        let position = f64::from(index) * f64::from(turns) + f64::from(turn);
        begin + (position * interval) as u64
    }

    /// PUBACK, PUBREC or PUBCOMP from the broker. Returns the identifier to release.
    pub(crate) fn answered(
        &mut self,
        first: u8,
        id: u16,
        error: bool,
        shared: &mut Shared,
    ) -> Option<u16> {
        if error {
            shared.verdict.add(Breach::Acknowledgement, 1, || {
                format!("packet {id} was answered with an error")
            });
        }
        let flow = self.plan.flow;
        let (answer, release) = match (first >> 4, self.plan.qos) {
            (4, QoS::AtLeastOnce) => (self.ids.published(id).map(Some), false),
            (5, QoS::ExactlyOnce) if error => (self.ids.published(id).map(Some), false),
            (5, QoS::ExactlyOnce) => (self.ids.received(id).map(|()| None), true),
            (7, QoS::ExactlyOnce) => (self.ids.completed(id).map(Some), false),
            _ => (None, false),
        };
        match answer {
            Some(Some(due)) => shared.acknowledged(flow, due),
            Some(None) => {}
            None => shared.verdict.add(Breach::Acknowledgement, 1, || {
                format!(
                    "packet type {} with identifier {id} answers nothing",
                    first >> 4
                )
            }),
        }
        release.then_some(id)
    }
}
