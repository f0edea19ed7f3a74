//! A publisher that keeps its half of a session: what is not acknowledged is sent again, what is received is released.
//!
//! Deliberately absent: what becomes of the messages.

use super::link::{Identity, Link, Over};
use super::random::Random;
use super::scene::{Kind, Scene};
use super::streams::{self, Stream, Use};
use martlet_codec::{AckKind, Packet, PacketId, Props, Publish, QoS, ReasonCode, Version};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Messages a publisher has open at most.
const WINDOW: usize = 32;
/// Messages sent in one go, at most, and how long until the next.
const BURST: u64 = 8;
const PAUSE: Duration = Duration::from_millis(7);
/// How long finishing what was begun may take.
const DRAIN_LIMIT: Duration = Duration::from_mins(1);

/// A message on its way.
struct Flight {
    id: PacketId,
    stream: usize,
    number: u64,
    /// PUBREC has come.
    released: bool,
}

/// The durable state of a publisher.
pub(super) struct Publisher {
    index: usize,
    identity: Identity,
    /// Its streams, by their number in payloads.
    own: Vec<usize>,
    in_flight: VecDeque<Flight>,
    next_id: u16,
    /// For each of all streams: sent, and acknowledged.
    pub(super) sent: Vec<u64>,
    pub(super) acknowledged: Vec<u64>,
}

impl Publisher {
    pub(super) fn new(index: usize, all: &[Stream]) -> Self {
        let version = if index.is_multiple_of(2) {
            Version::V311
        } else {
            Version::V5
        };
        let own = (0..all.len()).filter(|at| all[*at].publisher == index);
        Self {
            index,
            identity: Identity::new(format!("publisher-{index}"), version),
            own: own.collect(),
            in_flight: VecDeque::new(),
            next_id: 0,
            sent: vec![0; all.len()],
            acknowledged: vec![0; all.len()],
        }
    }

    /// Messages sent whose handshake is not over.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Publishes until the broker is gone; in a drain, until nothing is in flight.
    pub(super) fn run(&mut self, scene: &Scene, all: &[Stream]) {
        let mut random = scene.random(self.index as u64);
        let begin = Instant::now();
        loop {
            // Sometimes the connection ends although the broker lives.
            let stay = if scene.drain || random.once_in(2) {
                DRAIN_LIMIT
            } else {
                Duration::from_millis(50 + random.below(1_000))
            };
            match self.connection(scene, all, stay, &mut random) {
                Ok(true) => return,
                Ok(false) => {}
                // Reported, if it was the broker's doing.
                Err(Over) => return,
            }
            if begin.elapsed() > DRAIN_LIMIT {
                let open = self.in_flight.len();
                let who = &self.identity.client_id;
                let what = format!("{who}: {open} handshakes never ended");
                scene.ledger.find(Kind::Stalled, what);
                return;
            }
        }
    }

    /// One connection of at most `stay`. Returns whether everything is done.
    fn connection(
        &mut self,
        scene: &Scene,
        all: &[Stream],
        stay: Duration,
        random: &mut Random,
    ) -> Result<bool, Over> {
        let known = self.identity.acknowledged;
        let (mut link, present) = Link::open(scene, &mut self.identity, None)?;
        if known && !present {
            // A broker without the session has forgotten what it received: only what it never had is sent again.
            self.in_flight.retain(|flight| !flight.released);
        }
        for flight in &self.in_flight {
            if flight.released {
                link.out.ack(AckKind::PubRel, flight.id);
            } else {
                send(&mut link, all, flight, true);
            }
        }
        let begin = Instant::now();
        let mut next = begin;
        while begin.elapsed() < stay {
            if !scene.drain && Instant::now() >= next {
                for _ in 0..random.below(BURST + 1) {
                    if self.in_flight.len() >= WINDOW {
                        break;
                    }
                    self.begin(&mut link, all, random);
                }
                next = Instant::now() + PAUSE;
            }
            link.read(usize::MAX, &mut |packet, out| match packet {
                Packet::Ack(ack) if self.answered(scene, all, ack.kind, ack.id, ack.reason)? => {
                    out.ack(AckKind::PubRel, ack.id);
                    Ok(())
                }
                Packet::Ack(_) => Ok(()),
                other => Err(format!("a publisher was sent {other:?}")),
            })?;
            if scene.drain && self.in_flight.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends a new message of one of the streams.
    fn begin(&mut self, link: &mut Link<'_>, all: &[Stream], random: &mut Random) {
        let at = random.below(self.own.len() as u64) as usize;
        let Some(stream) = self.own.get(at).copied() else {
            return;
        };
        let id = loop {
            self.next_id = self.next_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.next_id)
                && self.in_flight.iter().all(|flight| flight.id != id)
            {
                break id;
            }
        };
        self.sent[stream] += 1;
        let flight = Flight {
            id,
            stream,
            number: self.sent[stream],
            released: false,
        };
        send(link, all, &flight, false);
        self.in_flight.push_back(flight);
    }

    /// Takes an answer. Returns whether PUBREL follows.
    fn answered(
        &mut self,
        scene: &Scene,
        all: &[Stream],
        kind: AckKind,
        id: PacketId,
        reason: ReasonCode,
    ) -> Result<bool, String> {
        let found = self.in_flight.iter().position(|flight| flight.id == id);
        let Some(at) = found else {
            return Err(format!("{kind:?} for {id}, which is not in flight"));
        };
        let flight = &mut self.in_flight[at];
        let qos = all[flight.stream].qos;
        let refused = reason as u8 >= 0x80;
        match (kind, qos, flight.released) {
            // After a crash the broker may have forgotten the identifier: the message is long delivered.
            (AckKind::PubComp, QoS::ExactlyOnce, true)
                if !refused || reason == ReasonCode::PacketIdentifierNotFound =>
            {
                self.in_flight.remove(at);
                Ok(false)
            }
            (AckKind::PubAck, QoS::AtLeastOnce, _) if !refused => {
                self.acknowledged[flight.stream] =
                    self.acknowledged[flight.stream].max(flight.number);
                self.in_flight.remove(at);
                scene.acknowledged.fetch_add(1, Relaxed);
                Ok(false)
            }
            (AckKind::PubRec, QoS::ExactlyOnce, released) if !refused => {
                if !released {
                    flight.released = true;
                    self.acknowledged[flight.stream] =
                        self.acknowledged[flight.stream].max(flight.number);
                    scene.acknowledged.fetch_add(1, Relaxed);
                }
                Ok(true)
            }
            _ => Err(format!("{kind:?} {reason:?} for {id}, sent with {qos:?}")),
        }
    }
}

fn send(link: &mut Link<'_>, all: &[Stream], flight: &Flight, dup: bool) {
    let stream = &all[flight.stream];
    let payload = streams::payload(flight.stream, stream.what, flight.number);
    link.out.publish(Publish {
        dup,
        qos: stream.qos,
        retain: stream.what != Use::Data,
        topic: &stream.name,
        id: Some(flight.id),
        props: Props::EMPTY,
        payload: &payload,
    });
}
