//! Clients whose subscriptions change all the time, and who look after each restart whether those that were acknowledged
//! hold: with a message of their own to every topic.
//!
//! What was not acknowledged when the broker died may be either way and is asked for again.

use super::link::{Identity, Link, Out, Over};
use super::scene::{Kind, Scene};
use martlet_codec::{AckKind, Packet, PacketId, Props, Publish, QoS, ReasonCode, Version};
use std::time::{Duration, Instant};

pub(super) const CLIENTS: usize = 2;
/// Filters that come and go; the one behind them stays.
const FILTERS: usize = 12;
const SENTINEL: usize = FILTERS;
const LIMIT: Duration = Duration::from_secs(20);

/// What the broker has acknowledged about a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    On,
    Off,
    /// Asked for, not acknowledged.
    Asked {
        on: bool,
    },
}

/// The durable state of one of them.
pub(super) struct Changer {
    number: usize,
    identity: Identity,
    known: [Known; FILTERS + 1],
    last_id: u16,
    /// Number of the last look.
    look: u32,
    /// Looks that found everything right.
    pub(super) right: u64,
}

/// What one look has shown.
#[derive(Default)]
struct Look {
    acknowledged: usize,
    came: [bool; FILTERS + 1],
}

impl Changer {
    pub(super) fn new(number: usize) -> Self {
        let version = if number == 0 {
            Version::V311
        } else {
            Version::V5
        };
        let mut known = [Known::Off; FILTERS + 1];
        known[SENTINEL] = Known::Asked { on: true };
        Self {
            number,
            identity: Identity::new(format!("changer-{number}"), version),
            known,
            last_id: 0,
            look: 0,
            right: 0,
        }
    }

    fn topic(&self, filter: usize) -> String {
        format!("crash/changing/{}/{filter}", self.number)
    }

    fn id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last_id) {
                return id;
            }
        }
    }

    /// Looks, then changes subscriptions until the broker is gone; in a drain, only looks.
    pub(super) fn run(&mut self, scene: &Scene) {
        // Whatever ended it was reported, or is the end of the cycle.
        let _ = self.connection(scene);
    }

    fn connection(&mut self, scene: &Scene) -> Result<(), Over> {
        let mut random = scene.random(48 + self.number as u64);
        let first = !self.identity.acknowledged;
        let (mut link, present) = Link::open(scene, &mut self.identity, None)?;
        if !first && !present {
            self.known = [Known::Off; FILTERS + 1];
            self.known[SENTINEL] = Known::Asked { on: true };
        }
        for filter in 0..self.known.len() {
            if let Known::Asked { on } = self.known[filter] {
                self.change(&mut link, filter, on)?;
            }
        }
        self.check(scene, &mut link)?;
        if scene.drain {
            return Ok(());
        }
        loop {
            let filter = random.below(FILTERS as u64) as usize;
            let on = self.known[filter] == Known::Off;
            self.change(&mut link, filter, on)?;
            if random.once_in(10) {
                self.check(scene, &mut link)?;
            }
            // Deliveries of an earlier look may still come.
            let until = Instant::now() + Duration::from_millis(random.below(40));
            while Instant::now() < until {
                link.read(usize::MAX, &mut |packet, out| match packet {
                    Packet::Publish(publish) => answer(&publish, out).map(drop),
                    other => Err(format!("unasked: {other:?}")),
                })?;
            }
        }
    }

    /// Subscribes or unsubscribes and waits for the acknowledgement.
    fn change(&mut self, link: &mut Link<'_>, filter: usize, on: bool) -> Result<(), Over> {
        let asked = self.id();
        let topic = self.topic(filter);
        self.known[filter] = Known::Asked { on };
        if on {
            link.out.subscribe(asked, &topic, QoS::AtLeastOnce);
        } else {
            link.out.unsubscribe(asked, &topic);
        }
        let mut done = false;
        let begin = Instant::now();
        while !done {
            if begin.elapsed() > LIMIT {
                return Err(link.report("no SUBACK or UNSUBACK in time"));
            }
            link.read(usize::MAX, &mut |packet, out| {
                let granted = |codes: martlet_codec::ReasonCodes<'_>| {
                    let mut codes = codes.iter();
                    codes.all(|code| (code as u8) < ReasonCode::UnspecifiedError as u8)
                };
                match packet {
                    Packet::SubAck(ack) if on && ack.id == asked && granted(ack.codes) => {
                        done = true;
                    }
                    Packet::UnsubAck(ack) if !on && ack.id == asked && granted(ack.codes) => {
                        done = true;
                    }
                    Packet::Publish(publish) => answer(&publish, out).map(drop)?,
                    other => return Err(format!("instead of an answer to {asked}: {other:?}")),
                }
                Ok(())
            })?;
        }
        self.known[filter] = if on { Known::On } else { Known::Off };
        Ok(())
    }

    /// Publishes to every topic and compares what comes with what was acknowledged.
    fn check(&mut self, scene: &Scene, link: &mut Link<'_>) -> Result<(), Over> {
        self.look += 1;
        let look = self.look;
        for filter in 0..self.known.len() {
            let id = self.id();
            let mut payload = look.to_be_bytes().to_vec();
            payload.push(filter as u8);
            link.out.publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: &self.topic(filter),
                id: Some(id),
                props: Props::EMPTY,
                payload: &payload,
            });
        }
        let known = self.known;
        let mut shown = Look::default();
        let begin = Instant::now();
        // What is delivered at once is delivered before PUBACK; so nothing that must not come is missed.
        while shown.acknowledged < known.len()
            || (0..known.len()).any(|filter| known[filter] == Known::On && !shown.came[filter])
        {
            if begin.elapsed() > LIMIT {
                break;
            }
            link.read(usize::MAX, &mut |packet, out| match packet {
                Packet::Ack(ack) if ack.kind == AckKind::PubAck => {
                    shown.acknowledged += 1;
                    Ok(())
                }
                Packet::Publish(publish) => {
                    let (found, filter) = answer(&publish, out)?;
                    if found == look {
                        shown.came[filter] = true;
                    }
                    Ok(())
                }
                other => Err(format!("unasked: {other:?}")),
            })?;
        }
        let mut right = true;
        for (filter, (known, came)) in known.iter().zip(shown.came).enumerate() {
            let what = match (known, came) {
                (Known::On, false) => "was acknowledged and is gone",
                (Known::Off, true) => "was ended and is there",
                _ => continue,
            };
            right = false;
            let topic = self.topic(filter);
            let who = &self.identity.client_id;
            let what = format!("{who}: the subscription to {topic} {what}");
            scene.ledger.find(Kind::Subscription, what);
        }
        self.right += u64::from(right);
        Ok(())
    }
}

/// Acknowledges a delivery. Returns look and filter.
fn answer(publish: &Publish<'_>, out: &mut Out) -> Result<(u32, usize), String> {
    if let Some(id) = publish.id {
        out.ack(AckKind::PubAck, id);
    }
    match publish.payload {
        [a, b, c, d, filter] if usize::from(*filter) <= SENTINEL => {
            Ok((u32::from_be_bytes([*a, *b, *c, *d]), usize::from(*filter)))
        }
        _ => Err(format!("a message nobody sent, to {}", publish.topic)),
    }
}
