//! Persistent subscribers that keep their half of a session: a QoS 2 identifier that was received is not received again
//! until it was released.
//!
//! Deliberately absent: subscriptions that change; see [`super::changer`].

use super::link::{Identity, Link, Out, Over};
use super::random::Random;
use super::scene::{Kind, Scene};
use super::streams::{self, Promise, Seen, Stream, Use};
use super::wills::{self, Wills};
use martlet_codec::{AckKind, Packet, PacketId, Publish, QoS, ReasonCode, Version};
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a subscriber waits for the rest when nothing comes.
const SILENCE: Duration = Duration::from_secs(4);
/// How long it listens for what must not come, when everything came.
const AFTERWARDS: Duration = Duration::from_millis(150);
/// How long a drain may take at all.
const DRAIN_LIMIT: Duration = Duration::from_mins(1);
const SUBSCRIBE_ID: u16 = 1;

/// What a subscription has seen; the members of a shared one have it together.
pub(super) struct Book {
    who: String,
    qos: QoS,
    /// Which streams it gets.
    wants: fn(&Stream) -> bool,
    in_order: bool,
    seen: Vec<Seen>,
    wills: Option<Wills>,
}

impl Book {
    fn promise(&self, stream: &Stream) -> Promise {
        Promise {
            exactly_once: stream.qos.min(self.qos) == QoS::ExactlyOnce,
            in_order: self.in_order,
        }
    }

    fn deliver(&mut self, scene: &Scene, all: &[Stream], publish: &Publish<'_>) {
        if let Some(wills) = &mut self.wills {
            wills.deliver(publish, &scene.ledger);
            return;
        }
        match streams::read(all, publish.topic, publish.payload) {
            Some((at, number)) if (self.wants)(&all[at]) => {
                let who = format!("{}, {} {:?}", self.who, all[at].name, all[at].qos);
                let promise = self.promise(&all[at]);
                self.seen[at].deliver(number, promise, &who, &scene.ledger);
            }
            _ => {
                let (who, topic) = (&self.who, publish.topic);
                let what = format!("{who}: a message nobody sent, to {topic}");
                scene.ledger.find(Kind::Corrupt, what);
            }
        }
    }

    fn is_complete(&self, all: &[Stream], expected: &[u64]) -> bool {
        if let Some(wills) = &self.wills {
            return wills.is_complete();
        }
        let mut streams = all.iter().zip(&self.seen).zip(expected);
        streams
            .all(|((stream, seen), expected)| !(self.wants)(stream) || seen.is_complete(*expected))
    }

    /// Books what never came.
    pub(super) fn settle(&mut self, scene: &Scene, all: &[Stream], expected: &[u64]) {
        if let Some(wills) = &mut self.wills {
            wills.settle(&scene.ledger);
            return;
        }
        for ((stream, seen), expected) in all.iter().zip(&mut self.seen).zip(expected) {
            if (self.wants)(stream) {
                let who = format!("{}, {} {:?}", self.who, stream.name, stream.qos);
                seen.settle(*expected, &who, &scene.ledger);
            }
        }
    }
}

/// The durable state of a subscriber.
pub(super) struct Subscriber {
    index: usize,
    identity: Identity,
    filter: &'static str,
    qos: QoS,
    subscribed: bool,
    /// QoS 2 identifiers received and not released.
    received: HashSet<PacketId>,
    pub(super) book: Arc<Mutex<Book>>,
    /// Away in all cycles but every `naps`-th.
    naps: u64,
    /// Reads slowly, so that much is in flight.
    slow: bool,
}

/// A book with its lock, whatever a panic left.
pub(super) fn lock<T>(book: &Mutex<T>) -> MutexGuard<'_, T> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All subscribers.
pub(super) fn all(streams: usize) -> Vec<Subscriber> {
    let data = |stream: &Stream| stream.what == Use::Data;
    let of_first = |stream: &Stream| stream.what == Use::Data && stream.publisher == 0;
    let first_topic = |stream: &Stream| stream.what == Use::Data && stream.topic == 0;
    let second_topic = |stream: &Stream| stream.what == Use::Data && stream.topic == 1;
    let both = [QoS::AtLeastOnce, QoS::ExactlyOnce];
    let book = |who: &str, qos, wants, in_order| {
        Arc::new(Mutex::new(Book {
            who: who.to_string(),
            qos,
            wants,
            in_order,
            seen: vec![Seen::default(); streams],
            wills: None,
        }))
    };
    let mut list: Vec<Subscriber> = Vec::new();
    let mut add = |version, filter, qos, book| {
        let index = list.len();
        let mut subscriber = Subscriber {
            index,
            identity: Identity::new(format!("subscriber-{index}"), version),
            filter,
            qos,
            subscribed: false,
            received: HashSet::new(),
            book,
            naps: 1,
            slow: index == 2,
        };
        match index {
            1 => subscriber.identity.receive_maximum = 20,
            3 => subscriber.naps = 3,
            _ => {}
        }
        list.push(subscriber);
    };
    let [one, two] = both;
    add(
        Version::V311,
        "crash/data/#",
        two,
        book("everything, QoS 2", two, data, true),
    );
    add(
        Version::V5,
        "crash/data/#",
        one,
        book("everything, QoS 1", one, data, true),
    );
    add(
        Version::V311,
        "crash/data/+/1",
        two,
        book("slow", two, second_topic, true),
    );
    add(
        Version::V5,
        "crash/data/0/+",
        two,
        book("mostly away", two, of_first, true),
    );
    let shared = book("shared", two, first_topic, false);
    add(
        Version::V5,
        "$share/group/crash/data/+/0",
        two,
        Arc::clone(&shared),
    );
    add(Version::V311, "$share/group/crash/data/+/0", two, shared);
    let of_wills = book("wills", two, |_| false, true);
    lock(&of_wills).wills = Some(Wills::default());
    add(Version::V5, wills::FILTER, two, of_wills);
    list
}

impl Subscriber {
    /// Subscribes before anything is published.
    pub(super) fn prepare(&mut self, scene: &Scene) -> Result<(), Over> {
        let (mut link, _) = Link::open(scene, &mut self.identity, None)?;
        self.subscribe(&mut link);
        let begin = Instant::now();
        while !self.subscribed {
            if begin.elapsed() > DRAIN_LIMIT {
                return Err(link.report("no SUBACK in time"));
            }
            let granted = &mut self.subscribed;
            link.read(usize::MAX, &mut |packet, _| granted_by(&packet, granted))?;
        }
        Ok(())
    }

    fn subscribe(&self, link: &mut Link<'_>) {
        if let Some(id) = PacketId::new(SUBSCRIBE_ID) {
            link.out.subscribe(id, self.filter, self.qos);
        }
    }

    /// The wills that the broker was told of and that this subscriber waits for, if it does.
    pub(super) fn with_wills(&self, change: impl FnOnce(&mut Wills)) {
        if let Some(wills) = &mut lock(&self.book).wills {
            change(wills);
        }
    }

    /// QoS 2 messages received and not yet released.
    pub(super) fn unreleased(&self) -> usize {
        self.received.len()
    }

    /// Receives until the broker is gone; in a drain, until everything has come or nothing comes any more.
    pub(super) fn run(&mut self, scene: &Scene, all: &[Stream]) {
        if !scene.drain && !scene.cycle.is_multiple_of(self.naps) {
            return;
        }
        let mut random = scene.random(16 + self.index as u64);
        loop {
            let stay = if scene.drain || random.once_in(2) {
                Duration::MAX
            } else {
                Duration::from_millis(30 + random.below(1_000))
            };
            match self.connection(scene, all, stay, &mut random) {
                Ok(true) | Err(Over) => return,
                Ok(false) => {}
            }
        }
    }

    /// One connection of at most `stay`. Returns whether everything has come.
    fn connection(
        &mut self,
        scene: &Scene,
        all: &[Stream],
        stay: Duration,
        random: &mut Random,
    ) -> Result<bool, Over> {
        let (mut link, present) = Link::open(scene, &mut self.identity, None)?;
        if !present {
            self.received.clear();
            self.subscribe(&mut link);
        }
        let begin = Instant::now();
        let mut heard = begin;
        let mut complete: Option<Instant> = None;
        while begin.elapsed() < stay {
            // A slow one takes a few packets at a time, and answers late.
            let most = if self.slow && !scene.drain {
                std::thread::sleep(Duration::from_millis(random.below(5)));
                16
            } else {
                usize::MAX
            };
            if link.read(most, &mut |packet, out| {
                self.packet(scene, all, packet, out)
            })? > 0
            {
                heard = Instant::now();
            }
            let Some(expected) = scene.expected.get() else {
                continue;
            };
            // Nothing may be left open: the next round starts from nothing.
            let done = self.received.is_empty() && lock(&self.book).is_complete(all, expected);
            match complete {
                Some(since) if since.elapsed() > AFTERWARDS => return Ok(true),
                None if done => complete = Some(Instant::now()),
                _ => {}
            }
            if heard.elapsed() > SILENCE && complete.is_none() {
                return Ok(true);
            }
            if begin.elapsed() > DRAIN_LIMIT {
                let who = &self.identity.client_id;
                let what = format!("{who}: messages do not end");
                scene.ledger.find(Kind::Stalled, what);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn packet(
        &mut self,
        scene: &Scene,
        all: &[Stream],
        packet: Packet<'_>,
        out: &mut Out,
    ) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => match (publish.qos, publish.id) {
                (QoS::AtLeastOnce, Some(id)) => {
                    self.deliver(scene, all, &publish);
                    out.ack(AckKind::PubAck, id);
                    Ok(())
                }
                (QoS::ExactlyOnce, Some(id)) => {
                    if self.received.insert(id) {
                        self.deliver(scene, all, &publish);
                    } else if !publish.dup {
                        return Err(format!("identifier {id} used again before its release"));
                    }
                    out.ack(AckKind::PubRec, id);
                    Ok(())
                }
                _ => Err(format!("a message at QoS 0 to {}", publish.topic)),
            },
            Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                // Also when it is not known any more: the broker may not have heard the first PUBCOMP.
                self.received.remove(&ack.id);
                out.ack(AckKind::PubComp, ack.id);
                Ok(())
            }
            Packet::SubAck(_) => granted_by(&packet, &mut self.subscribed),
            other => Err(format!("a subscriber was sent {other:?}")),
        }
    }

    fn deliver(&self, scene: &Scene, all: &[Stream], publish: &Publish<'_>) {
        scene.delivered.fetch_add(1, Relaxed);
        lock(&self.book).deliver(scene, all, publish);
    }
}

fn granted_by(packet: &Packet<'_>, granted: &mut bool) -> Result<(), String> {
    match packet {
        Packet::SubAck(suback)
            if suback
                .codes
                .iter()
                .all(|code| (code as u8) < ReasonCode::UnspecifiedError as u8) =>
        {
            *granted = true;
            Ok(())
        }
        other => Err(format!("instead of a granting SUBACK: {other:?}")),
    }
}
