//! The pair: one step at a time, until everything has healed and the books are compared.
//!
//! Deliberately absent: threads and waiting; a day takes a millisecond.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use martlet_codec::{AckKind, Packet, PacketId, QoS, Split, Version};
use martlet_storage::{
    Committer, Lsn, ManualCommitter, Message, MessageHead, MessageId, OutboundRow, QueuedRow,
    SessionId, SessionRecord, StoreOp, Timestamp, Visitor, load,
};

use super::client::{Announced, Receiver, Reply, topic_of};
use super::uplink::Uplink;
use super::{Faults, Random};
use crate::{
    Acked, Delivery, DropReason, Effects, FanOut, Inbound, Link, Offered, OutBuf, Outbound,
    OutboundLimits, Overflow, Publication,
};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is joined.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The client's version.
    pub version: Version,
    /// Whether the session is stored.
    pub durable: bool,
    /// What goes wrong.
    pub faults: Faults,
}

/// What the broker promised about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    /// It will be delivered.
    Kept,
    /// It was given up with a report.
    Dropped,
    /// The broker forgot it in a crash, before anybody was told that it is safe.
    Unsafe,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    qos: QoS,
    promise: Promise,
    /// Position of the batch that makes it safe.
    lsn: Lsn,
}

/// A message whose batch is not committed, so that its delivery has not begun.
struct Waiting {
    number: u32,
    lsn: Lsn,
    message: Message,
}

const SESSION: SessionId = SessionId::new(1);

/// A broker's session and a model client.
pub struct Pair {
    options: Options,
    now: Timestamp,
    limits: OutboundLimits,
    broker: Outbound,
    out: OutBuf,
    fx: Effects,
    fan_out: FanOut,
    store: Option<ManualCommitter>,
    waiting: VecDeque<Waiting>,
    /// Bodies the session asked for.
    wanted: Vec<MessageId>,

    connected: bool,
    /// Bytes between broker and client.
    to_client: Vec<u8>,
    client: Receiver,
    replies: VecDeque<Reply>,
    to_broker: VecDeque<Reply>,
    uplink: Uplink,

    sent: BTreeMap<u32, Sent>,
}

impl Pair {
    /// A fresh pair, not connected.
    pub fn new(options: Options, random: &mut dyn Random) -> Self {
        let limits = OutboundLimits {
            queued_messages_max: [3, 20, 1_000][random.below(3) as usize],
            queued_bytes_max: [3_000, 1 << 20][random.below(2) as usize],
            inflight_max: [1, 4, 100][random.below(3) as usize],
            pending_bytes_max: [500, 1 << 20][random.below(2) as usize],
            encode_ahead_bytes: [1, 300, 1 << 20][random.below(3) as usize],
            share_from_bytes: [0, 100, 1_024][random.below(3) as usize],
            share_one_from_bytes: [0, 2_000][random.below(2) as usize],
            queue_qos0: random.chance(500),
            overflow: [Overflow::DropOldest, Overflow::DropNewest][random.below(2) as usize],
            inflight_expiry_secs: [None, Some(30)][random.below(2) as usize],
        };
        let announced = Announced {
            version: options.version,
            receive_maximum: u16::MAX,
            packet_bytes_max: u32::MAX,
            topic_alias_maximum: 0,
        };
        let store = options.durable.then(ManualCommitter::default);
        let pair = Self {
            options,
            now: Timestamp::from_millis(1_000_000),
            broker: Outbound::new(SESSION, limits.clone(), options.durable),
            limits,
            out: OutBuf::new(),
            fx: Effects::default(),
            fan_out: FanOut::default(),
            store,
            waiting: VecDeque::new(),
            wanted: Vec::new(),
            connected: false,
            to_client: Vec::new(),
            client: Receiver::new(announced),
            replies: VecDeque::new(),
            to_broker: VecDeque::new(),
            uplink: Uplink::default(),
            sent: BTreeMap::new(),
        };
        if let Some(store) = &pair.store {
            let record = SessionRecord {
                client_id: "model".into(),
                username: None,
                expiry_interval_secs: u32::MAX,
                expires: None,
                connected: true,
            };
            store.submit(vec![StoreOp::PutSession {
                session: SESSION,
                record,
            }]);
            store.commit_all();
        }
        pair
    }

    /// One event, and whatever goes wrong with it.
    ///
    /// # Errors
    /// A broken promise.
    pub fn step(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        let faults = self.options.faults;
        if random.chance(faults.restart) {
            self.restart(random)?;
        }
        if random.chance(faults.cut) {
            self.cut(random)?;
        }
        if random.chance(faults.second_connection) {
            self.lose_wire(random)?;
            self.connect(random)?;
        }
        match random.below(12) {
            0..=2 => self.publish(random)?,
            3 => self.uplink.publish(self.connected),
            4 | 5 => self.write(random)?,
            6 => self.read_all(random)?,
            7 => self.reply(random),
            8 => self.hear(random)?,
            9 => self.commit(random)?,
            10 => {
                self.uplink_step();
                if !self.connected {
                    self.connect(random)?;
                }
            }
            _ => self.upkeep(random)?,
        }
        self.settle()
    }

    /// Heals everything, waits until nothing moves, and compares the books.
    ///
    /// # Errors
    /// A broken promise.
    pub fn finish(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        self.options.faults = Faults::NONE;
        if self.connected {
            self.lose_wire(random)?;
        }
        self.connect(random)?;
        let mut turns = 0;
        loop {
            self.commit(random)?;
            self.write(random)?;
            self.read_all(random)?;
            self.reply(random);
            self.hear(random)?;
            self.uplink_step();
            self.settle()?;
            let counts = self.broker.counts();
            let idle = counts.inflight + counts.queued == 0
                && self.out.pending_bytes() == 0
                && self.waiting.is_empty()
                && self.replies.is_empty()
                && self.to_broker.is_empty()
                && self.to_client.is_empty()
                && self.store.as_ref().is_none_or(|store| store.pending() == 0)
                && self.uplink.is_idle();
            if idle {
                break;
            }
            turns += 1;
            if turns > 200_000 {
                return Err(Violation(format!(
                    "the pair does not come to rest: {counts:?}"
                )));
            }
        }
        self.compare()?;
        if self.options.durable {
            self.check_store()?;
        }
        Ok(())
    }

    /// How many messages reached the client, repetitions included.
    pub fn delivered(&self) -> usize {
        self.client.delivered.len()
    }

    // ------------------------------------------------------------ events

    fn publish(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        let number = self.sent.len() as u32;
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][random.below(3) as usize];
        let len = [0, 50, 1_500][random.below(3) as usize];
        let expires = random
            .chance(100)
            .then(|| self.now.plus_millis(u64::from(random.below(5_000))));
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(4 + len, b'x');
        let durable = self.options.durable && qos != QoS::AtMostOnce;
        let id = if durable {
            MessageId::new(u64::from(number) + 1)
        } else {
            MessageId::NONE
        };
        let head = MessageHead {
            id,
            qos,
            retain: false,
            publisher: SessionId::NONE,
            received: self.now,
            expires,
        };
        let message = Message::new(head, &topic_of(number), &[], &payload, &mut Vec::new());
        let mut sent = Sent {
            qos,
            promise: Promise::Kept,
            lsn: Lsn::ZERO,
        };
        if durable && let Some(store) = &self.store {
            sent.lsn = store.submit(vec![
                StoreOp::PutMessage {
                    message: message.clone(),
                },
                StoreOp::Enqueue {
                    session: SESSION,
                    message: id,
                    qos,
                    retain: false,
                    subscription_ids: ids_of(number).into(),
                    share: None,
                },
            ]);
        }
        self.sent.insert(number, sent);
        if durable && qos == QoS::ExactlyOnce {
            self.waiting.push_back(Waiting {
                number,
                lsn: sent.lsn,
                message,
            });
            return Ok(());
        }
        self.offer(number, &message)
    }

    fn offer(&mut self, number: u32, message: &Message) -> Result<(), Violation> {
        let mut publication = Publication::from_message(message, &mut self.fan_out);
        if number.is_multiple_of(2) {
            publication.expect_one();
        }
        let ids = ids_of(number);
        let delivery = Delivery {
            qos: QoS::ExactlyOnce,
            retain: false,
            subscription_ids: &ids,
        };
        let before = self.broker.counts();
        let offered = self.broker.offer(
            self.now,
            &mut publication,
            delivery,
            &mut self.out,
            &mut self.fx,
        );
        if message.is_expired(self.now) && offered != Offered::Dropped(DropReason::Expired) {
            return Err(Violation(
                "an expired message was taken [MQTT-3.3.2-5]".into(),
            ));
        }
        match offered {
            Offered::Sent if !self.connected => return Err(Violation("sent to nobody".into())),
            Offered::Sent | Offered::Queued => {}
            Offered::Dropped(_) | Offered::Disconnect => {
                self.dropped(number);
                if before.queued < self.broker.counts().queued {
                    return Err(Violation("a dropped message was queued".into()));
                }
            }
        }
        self.settle()
    }

    /// The socket takes bytes.
    fn write(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        if !self.connected || random.chance(self.options.faults.slow_socket) {
            return Ok(());
        }
        let before = self.out.pending_bytes();
        let mut chunk = self.out.take(Vec::new());
        let len = chunk.len();
        if before != len || self.out.pending_bytes() != len {
            return Err(Violation("taken bytes are not counted as pending".into()));
        }
        while !chunk.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 2];
            let filled = chunk.slices(&mut slices);
            let written: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
            for slice in &slices[..filled] {
                self.to_client.extend_from_slice(slice);
            }
            if written == 0 {
                return Err(Violation("a chunk has bytes but no slices".into()));
            }
            chunk.advance(written);
        }
        self.out.written(len);
        self.broker.pump(self.now, &mut self.out, &mut self.fx);
        self.settle()
    }

    /// The client reads everything that has arrived.
    fn read_all(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        let bytes = std::mem::take(&mut self.to_client);
        let rest = self.read(&bytes, random)?;
        self.to_client = bytes[bytes.len() - rest..].to_vec();
        Ok(())
    }

    /// Handles whole packets; how many bytes are left over.
    fn read(&mut self, mut bytes: &[u8], random: &mut dyn Random) -> Result<usize, Violation> {
        let version = self.options.version;
        while !bytes.is_empty() {
            let split = martlet_codec::split(bytes, u32::MAX);
            let frame =
                match split.map_err(|error| Violation(format!("the broker's bytes: {error}")))? {
                    Split::Frame(frame) => frame,
                    Split::Partial { .. } => break,
                };
            bytes = &bytes[frame.len..];
            let packet = Packet::decode(frame, version);
            match packet.map_err(|error| Violation(format!("the broker's packet: {error}")))? {
                Packet::Publish(publish) => {
                    let refuse = version.is_v5() && random.chance(self.options.faults.refuse);
                    let number = publish
                        .payload
                        .first_chunk()
                        .map(|bytes| u32::from_be_bytes(*bytes));
                    let ids = if version.is_v5() {
                        ids_of(number.unwrap_or_default())
                    } else {
                        Vec::new()
                    };
                    if !publish.props.subscription_ids().eq(ids.iter().copied()) {
                        return Err(Violation(
                            "the wrong subscription identifiers [MQTT-3.3.4-3]".into(),
                        ));
                    }
                    if let Some(reply) = self.client.publish(&publish, frame.len, refuse)? {
                        self.replies.push_back(reply);
                    }
                }
                Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                    let reply = self.client.release(ack.id);
                    self.replies.push_back(reply);
                }
                other => return Err(Violation(format!("an unexpected packet: {other:?}"))),
            }
        }
        Ok(bytes.len())
    }

    /// The client sends an acknowledgement.
    fn reply(&mut self, random: &mut dyn Random) {
        let faults = self.options.faults;
        if !self.connected {
            return;
        }
        if random.chance(faults.stray_ack)
            && let Some(id) = PacketId::new(60_000 + random.below(5_000) as u16)
            && !self.client.is_open(id)
        {
            let kind = [AckKind::PubAck, AckKind::PubComp][random.below(2) as usize];
            self.to_broker.push_back(Reply::new(kind, id));
        }
        let at = if random.chance(faults.reorder) {
            random.below(self.replies.len() as u32 + 1) as usize
        } else {
            0
        };
        // PUBREL is answered in order [MQTT-4.6.0-4], and so is PUBREC; across identifiers any order will do here.
        let Some(reply) = self.replies.get(at).copied() else {
            return;
        };
        if self
            .replies
            .iter()
            .take(at)
            .any(|earlier| earlier.id == reply.id)
        {
            return;
        }
        self.replies.remove(at);
        self.client.sent(reply);
        self.to_broker.push_back(reply);
        if reply.kind == AckKind::PubRec
            && !reply.reason.is_error()
            && random.chance(faults.repeat_pubrec)
        {
            self.to_broker.push_back(reply);
        }
    }

    /// The broker hears one acknowledgement.
    fn hear(&mut self, _random: &mut dyn Random) -> Result<(), Violation> {
        if !self.connected {
            return Ok(());
        }
        let Some(reply) = self.to_broker.pop_front() else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        let encoded = reply.packet().encode(self.options.version, &mut bytes);
        encoded.map_err(|error| Violation(format!("the client's packet: {error}")))?;
        let known = self.broker.rows().any(|(id, ..)| id == Some(reply.id));
        let (kind, id, reason) = (reply.kind, reply.id, reply.reason);
        let acked =
            self.broker
                .acknowledge(self.now, kind, id, reason, &mut self.out, &mut self.fx);
        match acked {
            Ok(Acked::Done | Acked::Released) if known => {}
            Ok(Acked::Unknown) if !known => {}
            other => {
                return Err(Violation(format!(
                    "{reply:?} (known: {known}) was taken as {other:?}"
                )));
            }
        }
        self.settle()
    }

    /// The store commits, and everything that waited goes on.
    fn commit(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        let Some(store) = &self.store else {
            self.uplink.release(None, self.connected);
            return Ok(());
        };
        if random.chance(self.options.faults.slow_store) {
            return Ok(());
        }
        for _ in 0..=random.below(4) {
            store.commit_one();
        }
        let watermark = store.watermark();
        self.read_bodies()?;
        self.broker
            .release(self.now, watermark, &mut self.out, &mut self.fx);
        self.uplink.release(Some(watermark), self.connected);
        self.settle()?;
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.lsn <= watermark)
        {
            let Some(Waiting {
                number, message, ..
            }) = self.waiting.pop_front()
            else {
                break;
            };
            self.offer(number, &message)?;
        }
        Ok(())
    }

    fn uplink_step(&mut self) {
        if self.connected {
            self.uplink.arrive(SESSION, self.store.as_ref());
            self.uplink.answer();
        }
    }

    /// Time passes, and the periodic visit comes.
    fn upkeep(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        self.now = self.now.plus_millis(u64::from(random.below(2_000)));
        match random.below(5) {
            0 => self.broker.expire(self.now, &mut self.fx),
            1 => self.broker.shrink(),
            2 if self.options.durable => {
                // Bodies may be let go once they are stored.
                let stored = self.store.as_ref().is_none_or(|store| store.pending() == 0);
                if stored {
                    self.broker.spill(random.below(2_000) as usize);
                }
            }
            _ => {
                self.broker.pump(self.now, &mut self.out, &mut self.fx);
            }
        }
        self.settle()
    }

    // ------------------------------------------------------------ faults

    /// Part of what is on the wire arrives, the rest never will.
    fn lose_wire(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        self.write(random)?;
        let bytes = std::mem::take(&mut self.to_client);
        let arrives = random.below(bytes.len() as u32 + 1) as usize;
        self.read(&bytes[..arrives], random)?;
        for _ in 0..random.below(self.to_broker.len() as u32 + 1) {
            self.hear(random)?;
        }
        self.to_broker.clear();
        self.replies.clear();
        self.uplink.cut(random, SESSION, self.store.as_ref());
        self.out.reset();
        Ok(())
    }

    fn cut(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        if self.connected {
            self.lose_wire(random)?;
            self.connected = false;
            self.broker.disconnect();
        }
        Ok(())
    }

    fn connect(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        let mut announced = self.client.announced;
        if random.chance(self.options.faults.change_limits) {
            announced.receive_maximum = [1, 2, 20, u16::MAX][random.below(4) as usize];
            announced.topic_alias_maximum = [0, 1, 2, 10][random.below(4) as usize];
            announced.packet_bytes_max = [u32::MAX, u32::MAX, 600, 60][random.below(4) as usize];
        } else if !self.options.version.is_v5() {
            announced.receive_maximum = u16::MAX;
        }
        if !self.options.version.is_v5() {
            announced = Announced {
                receive_maximum: u16::MAX,
                packet_bytes_max: u32::MAX,
                topic_alias_maximum: 0,
                ..announced
            };
        }
        self.client.connect(announced);
        self.connected = true;
        self.uplink.reconnect();
        let link = Link {
            version: announced.version,
            receive_maximum: announced.receive_maximum,
            packet_bytes_max: announced.packet_bytes_max,
            topic_alias_maximum: announced.topic_alias_maximum,
        };
        self.broker
            .connect(self.now, link, &mut self.out, &mut self.fx);
        self.settle()
    }

    /// The broker dies and starts again from what was committed.
    fn restart(&mut self, random: &mut dyn Random) -> Result<(), Violation> {
        if self.store.is_none() {
            return Ok(());
        }
        self.cut(random)?;
        let Some(store) = self.store.take() else {
            return Ok(());
        };
        let watermark = store.watermark();
        // Committed deliveries are in the queues of a real broker.
        self.uplink.release(Some(watermark), false);
        self.waiting.clear();
        self.wanted.clear();
        for sent in self.sent.values_mut() {
            // QoS 0 was never promised to survive; the rest where its batch was not committed.
            if sent.qos == QoS::AtMostOnce || sent.lsn > watermark {
                sent.promise = Promise::Unsafe;
            }
        }
        let storage = store.storage().clone();
        drop(store);
        let mut rows = Rows::default();
        let (planner, opened) =
            load(&storage, &mut rows).map_err(|error| Violation(error.to_string()))?;
        if opened.removed > 0 {
            return Err(Violation(format!(
                "{} rows belonged to nothing",
                opened.removed
            )));
        }
        self.broker = Outbound::new(SESSION, self.limits.clone(), true);
        self.broker.restore(&rows.outbound, rows.queued);
        self.uplink
            .restart(rows.inbound.into_iter().collect::<Inbound>());
        self.store = Some(ManualCommitter::new(storage, planner));
        self.fx.clear();
        Ok(())
    }

    // ------------------------------------------------------------ books

    /// Submits what the session wants stored, reads bodies it asks for, notes what it gave up.
    fn settle(&mut self) -> Result<(), Violation> {
        let ops = std::mem::take(&mut self.fx.ops);
        if !ops.is_empty() {
            let Some(store) = &self.store else {
                return Err(Violation(format!(
                    "a session that is not stored wants {ops:?} stored"
                )));
            };
            let lsn = store.submit(ops);
            self.broker.submitted(lsn);
        }
        for (message, _) in std::mem::take(&mut self.fx.dropped) {
            let number = message
                .payload()
                .first_chunk()
                .map(|bytes| u32::from_be_bytes(*bytes));
            self.dropped(number.unwrap_or_default());
        }
        for (id, _) in std::mem::take(&mut self.fx.dropped_stored) {
            self.dropped((id.get() - 1) as u32);
        }
        self.wanted.append(&mut self.fx.need_bodies);
        if self.store.is_none() && !self.wanted.is_empty() {
            return Err(Violation(
                "a session that is not stored wants bodies".into(),
            ));
        }
        self.broker
            .check()
            .map_err(|rule| Violation(rule.to_owned()))?;
        let counts = self.broker.counts();
        if counts.inflight > usize::from(self.limits.inflight_max).max(1) {
            return Err(Violation(format!(
                "{} messages are in flight",
                counts.inflight
            )));
        }
        let spare = usize::from(self.limits.inflight_max);
        if !self.options.durable && counts.queued > self.limits.queued_messages_max + spare {
            return Err(Violation(format!("{} messages are queued", counts.queued)));
        }
        if counts.queued_bytes > self.limits.queued_bytes_max && !self.options.durable {
            return Err(Violation(format!(
                "{} bytes are queued",
                counts.queued_bytes
            )));
        }
        Ok(())
    }

    /// The store reads what was asked for.
    fn read_bodies(&mut self) -> Result<(), Violation> {
        let wanted = std::mem::take(&mut self.wanted);
        let Some(store) = &self.store else {
            return Ok(());
        };
        if wanted.is_empty() {
            return Ok(());
        }
        let mut lost = Vec::new();
        let broker = &mut self.broker;
        let read = store.read_bodies(&wanted, &mut |id, body| match body {
            Some(message) => broker.body(&message),
            None => lost.push(id),
        });
        read.map_err(|error| Violation(error.to_string()))?;
        // A message that was given up meanwhile is gone from both.
        if let Some(id) = lost
            .into_iter()
            .find(|id| self.broker.rows().any(|(_, message, _)| message == *id))
        {
            return Err(Violation(format!("the store has no body {id:?}")));
        }
        self.broker.pump(self.now, &mut self.out, &mut self.fx);
        self.settle()
    }

    fn dropped(&mut self, number: u32) {
        if let Some(sent) = self.sent.get_mut(&number)
            && sent.promise == Promise::Kept
        {
            sent.promise = Promise::Dropped;
        }
    }

    /// Exactly once, at least once, at most once, in order.
    fn compare(&self) -> Result<(), Violation> {
        let mut times: BTreeMap<u32, usize> = BTreeMap::new();
        for received in &self.client.delivered {
            *times.entry(received.number).or_default() += 1;
            if self
                .sent
                .get(&received.number)
                .is_none_or(|sent| sent.qos != received.qos)
            {
                return Err(Violation(format!("{received:?} was never sent like that")));
            }
        }
        for (number, sent) in &self.sent {
            let times = times.get(number).copied().unwrap_or_default();
            let refused = self.client.refused.contains(number);
            let owed = sent.promise == Promise::Kept && !refused;
            let right = match sent.qos {
                QoS::AtMostOnce => times <= 1,
                QoS::AtLeastOnce => times >= usize::from(owed),
                QoS::ExactlyOnce => times <= 1 && times >= usize::from(owed),
            };
            if !right {
                return Err(Violation(format!(
                    "message {number} {sent:?} was delivered {times} times"
                )));
            }
        }
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for topic in 0..3 {
                let mut seen = BTreeSet::new();
                // A message that was given up may come back when the broker dies before it is noted, one that
                // was refused when the refusal is lost.
                let of_this = self.client.delivered.iter().filter(|received| {
                    let sent = self.sent.get(&received.number);
                    let kept = sent.is_some_and(|sent| sent.promise != Promise::Dropped)
                        && !self.client.refused.contains(&received.number);
                    kept && received.qos == qos && received.number % 3 == topic
                });
                let first: Vec<u32> = of_this
                    .map(|r| r.number)
                    .filter(|number| seen.insert(*number))
                    .collect();
                if !first.is_sorted() {
                    return Err(Violation(format!(
                        "{qos:?} of topic {topic} came as {first:?} [MQTT-4.6.0-6]"
                    )));
                }
            }
        }
        self.uplink.check()
    }

    /// Nothing is left in the store but the session.
    fn check_store(&self) -> Result<(), Violation> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let mut rows = Rows::default();
        load(store.storage(), &mut rows).map_err(|error| Violation(error.to_string()))?;
        if rows.queued.is_empty() && rows.outbound.is_empty() && rows.inbound.is_empty() {
            Ok(())
        } else {
            Err(Violation(format!("the store still has {rows:?}")))
        }
    }
}

/// Subscription identifiers of a message, so that one, several and none occur.
fn ids_of(number: u32) -> Vec<u32> {
    (0..number % 4).map(|n| n * 1_000 + 1).collect()
}

/// The rows of the one session.
#[derive(Debug, Default)]
struct Rows {
    queued: Vec<QueuedRow>,
    outbound: Vec<OutboundRow>,
    inbound: Vec<PacketId>,
}

impl Visitor for Rows {
    fn outbound(&mut self, _session: SessionId, rows: &[OutboundRow]) {
        self.outbound.extend_from_slice(rows);
    }
    fn queued(&mut self, _session: SessionId, row: QueuedRow) {
        self.queued.push(row);
    }
    fn inbound(&mut self, _session: SessionId, packet_id: PacketId) {
        self.inbound.push(packet_id);
    }
}
