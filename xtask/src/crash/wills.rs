//! Clients with wills, and what must become of each will.
//!
//! A will whose CONNACK was received must fire when its connection ends in any way but a DISCONNECT, also when that is
//! the broker's own end. One that was cancelled must not fire once the same client has got a further CONNACK, for that is
//! committed after the cancelling. Deliberately absent: delays; they are tested on the virtual clock of the broker's tests.

use super::link::{Identity, Link};
use super::scene::{Kind, Ledger, Scene};
use martlet_codec::{Packet, Props, Publish, QoS, Version, Will};
use std::collections::HashMap;
use std::time::{Duration, Instant};

pub(super) const FILTER: &str = "crash/wills/#";
/// Clients with wills.
pub(super) const CLIENTS: usize = 3;

/// What must become of a will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing was acknowledged.
    May,
    Must,
    MustNot,
}

/// A client and the number of its last will.
type Key = (u8, u32);

/// What is known about all wills that are not settled.
#[derive(Default)]
pub(super) struct Wills {
    fates: HashMap<Key, Fate>,
    fired: HashMap<Key, u32>,
    /// Wills that fired as they must, over all rounds.
    pub(super) right: u64,
}

impl Wills {
    /// Books a will that fired.
    pub(super) fn deliver(&mut self, publish: &Publish<'_>, ledger: &Ledger) {
        match publish.payload {
            [client, a, b, c, d] if publish.topic == topic(*client) => {
                let key = (*client, u32::from_be_bytes([*a, *b, *c, *d]));
                let times = self.fired.entry(key).or_default();
                *times += 1;
                if *times > 1 && publish.qos == QoS::ExactlyOnce {
                    ledger.find(Kind::Will, format!("will {key:?} fired again"));
                }
            }
            _ => ledger.find(Kind::Corrupt, format!("no will: {}", publish.topic)),
        }
    }

    fn decide(&mut self, fates: &[(Key, Fate)]) {
        self.fates.extend(fates.iter().copied());
    }

    pub(super) fn is_complete(&self) -> bool {
        let mut fates = self.fates.iter();
        fates.all(|(key, fate)| *fate != Fate::Must || self.fired.contains_key(key))
    }

    /// Books wills that did not do as they must, and forgets all.
    pub(super) fn settle(&mut self, ledger: &Ledger) {
        for (key, fate) in self.fates.drain() {
            match (fate, self.fired.contains_key(&key)) {
                (Fate::Must, false) => ledger.find(Kind::Will, format!("will {key:?} is lost")),
                (Fate::MustNot, true) => {
                    ledger.find(Kind::Will, format!("will {key:?} fired though cancelled"));
                }
                (Fate::Must, true) => self.right += 1,
                _ => {}
            }
        }
        self.fired.clear();
    }
}

fn topic(client: u8) -> String {
    format!("crash/wills/{client}")
}

/// The durable state of a client with wills.
pub(super) struct Testator {
    client: u8,
    identity: Identity,
    last: u32,
    /// What this cycle has shown.
    fates: Vec<(Key, Fate)>,
}

impl Testator {
    pub(super) fn new(client: u8) -> Self {
        let version = if client == 0 {
            Version::V311
        } else {
            Version::V5
        };
        let mut identity = Identity::new(format!("testator-{client}"), version);
        // The will of a session that is not stored must be safe all the same.
        identity.clean = client < 2;
        Self {
            client,
            identity,
            last: 0,
            fates: Vec::new(),
        }
    }

    /// Hands over what this cycle has shown.
    pub(super) fn tell(&mut self, wills: &mut Wills) {
        wills.decide(&self.fates);
        self.fates.clear();
    }

    /// Connects with one will after the other until the broker is gone.
    pub(super) fn run(&mut self, scene: &Scene) {
        if scene.drain {
            return;
        }
        let mut random = scene.random(32 + u64::from(self.client));
        let topic = topic(self.client);
        let mut cancelled: Option<Key> = None;
        while !scene.is_killed() {
            self.last += 1;
            let key = (self.client, self.last);
            let number = self.last.to_be_bytes();
            let payload = [self.client, number[0], number[1], number[2], number[3]];
            let will = Will {
                qos: if self.client == 1 {
                    QoS::AtLeastOnce
                } else {
                    QoS::ExactlyOnce
                },
                retain: false,
                props: Props::EMPTY,
                topic: &topic,
                payload: &payload,
            };
            let Ok((mut link, _)) = Link::open(scene, &mut self.identity, Some(will)) else {
                self.fates.push((key, Fate::May));
                return;
            };
            if let Some(before) = cancelled.take() {
                self.fates.push((before, Fate::MustNot));
            }
            let stay = Duration::from_millis(random.below(400));
            let how = random.below(3);
            let begin = Instant::now();
            // Every third stays until the broker goes.
            while how == 0 || begin.elapsed() < stay {
                let heard = link.read(usize::MAX, &mut |packet, _| match packet {
                    Packet::Disconnect(_) => Err("DISCONNECT".to_string()),
                    other => Err(format!("a client with a will was sent {other:?}")),
                });
                if heard.is_err() {
                    self.fates.push((key, Fate::Must));
                    return;
                }
            }
            if how == 1 {
                self.fates.push((key, Fate::Must));
                drop(link);
            } else {
                // Until the next CONNACK, nobody knows whether it arrived.
                cancelled = Some(key);
                link.out.disconnect();
                link.until_closed();
            }
        }
    }
}
