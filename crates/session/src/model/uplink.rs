//! The other direction: a model client that sends QoS 2, and the broker's [`Inbound`] half behind its commit
//! gate. Deliberately absent: routing; a delivery is an entry in a list.

use std::collections::VecDeque;

use martlet_codec::{AckKind, PacketId};
use martlet_storage::{Committer, Lsn, ManualCommitter, SessionId, StoreOp};

use super::Random;
use super::pair::Violation;
use crate::inbound::{Arrival, Inbound};

/// A QoS 2 message of the client, until its PUBCOMP.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    id: PacketId,
    number: u32,
    released: bool,
}

/// What travels from client to broker.
#[derive(Clone, Copy, Debug)]
enum Up {
    Publish { id: PacketId, number: u32 },
    Release(PacketId),
}

/// Both ends of the way up.
#[derive(Debug, Default)]
pub(crate) struct Uplink {
    sending: Vec<Outgoing>,
    next_id: u16,
    next_number: u32,
    on_wire: VecDeque<Up>,
    answers: VecDeque<(AckKind, PacketId)>,

    inbound: Inbound,
    /// Answers and deliveries that wait for a commit, in order.
    gated: VecDeque<(Lsn, Gated)>,
    last: Lsn,
    pub(crate) delivered: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Gated {
    Deliver(u32),
    Answer(AckKind, PacketId),
}

/// Messages the client keeps open at most.
const WINDOW: usize = 5;

impl Uplink {
    pub(crate) fn publish(&mut self, connected: bool) {
        if self.sending.len() >= WINDOW {
            return;
        }
        // Small identifiers, used again as soon as they are free: the hardest case for the receiver.
        let mut id = None;
        for _ in 0..=WINDOW {
            self.next_id = self.next_id % (WINDOW as u16 + 1) + 1;
            id = PacketId::new(self.next_id)
                .filter(|id| self.sending.iter().all(|open| open.id != *id));
            if id.is_some() {
                break;
            }
        }
        let Some(id) = id else { return };
        let number = self.next_number;
        self.next_number += 1;
        self.sending.push(Outgoing {
            id,
            number,
            released: false,
        });
        if connected {
            self.on_wire.push_back(Up::Publish { id, number });
        }
    }

    /// The connection is gone, with the last part of what was on the wire.
    pub(crate) fn cut(
        &mut self,
        random: &mut dyn Random,
        session: SessionId,
        store: Option<&ManualCommitter>,
    ) {
        let arrives = random.below(self.on_wire.len() as u32 + 1);
        for _ in 0..arrives {
            self.arrive(session, store);
        }
        self.on_wire.clear();
        let answered = random.below(self.answers.len() as u32 + 1);
        for _ in 0..answered {
            self.answer();
        }
        self.answers.clear();
        // The client's own packets after this are lost as well.
        self.on_wire.clear();
        // What is gated stays with the session, but its answers go nowhere.
        self.gated
            .retain(|(_, gated)| matches!(gated, Gated::Deliver(_)));
    }

    /// The client is back: everything unfinished again, in order.
    pub(crate) fn reconnect(&mut self) {
        self.on_wire.extend(self.sending.iter().map(|open| {
            if open.released {
                Up::Release(open.id)
            } else {
                Up::Publish {
                    id: open.id,
                    number: open.number,
                }
            }
        }));
    }

    /// One packet reaches the broker.
    pub(crate) fn arrive(&mut self, session: SessionId, store: Option<&ManualCommitter>) {
        let submit = |op| store.map_or(Lsn::ZERO, |store| store.submit(vec![op]));
        match self.on_wire.pop_front() {
            Some(Up::Publish { id, number }) => {
                if self.inbound.publish(id) == Arrival::New {
                    self.last = submit(StoreOp::PutInbound {
                        session,
                        packet_id: id,
                    });
                    // The onward delivery of a real broker is in the same batch.
                    self.gated.push_back((self.last, Gated::Deliver(number)));
                }
                self.gated
                    .push_back((self.last, Gated::Answer(AckKind::PubRec, id)));
            }
            Some(Up::Release(id)) => {
                if self.inbound.release(id) {
                    self.last = submit(StoreOp::DeleteInbound {
                        session,
                        packet_id: id,
                    });
                }
                self.gated
                    .push_back((self.last, Gated::Answer(AckKind::PubComp, id)));
            }
            None => {}
        }
    }

    /// The store has come this far.
    pub(crate) fn release(&mut self, watermark: Option<Lsn>, connected: bool) {
        while let Some((lsn, gated)) = self.gated.front().copied() {
            if watermark.is_some_and(|watermark| lsn > watermark) {
                return;
            }
            self.gated.pop_front();
            match gated {
                Gated::Deliver(number) => self.delivered.push(number),
                Gated::Answer(kind, id) if connected => self.answers.push_back((kind, id)),
                Gated::Answer(..) => {}
            }
        }
    }

    /// One answer reaches the client.
    pub(crate) fn answer(&mut self) {
        match self.answers.pop_front() {
            Some((AckKind::PubRec, id)) => {
                if let Some(open) = self.sending.iter_mut().find(|open| open.id == id) {
                    open.released = true;
                    self.on_wire.push_back(Up::Release(id));
                }
            }
            Some((_, id)) => self.sending.retain(|open| open.id != id || !open.released),
            None => {}
        }
    }

    /// The broker starts again from what is stored.
    pub(crate) fn restart(&mut self, inbound: Inbound) {
        self.inbound = inbound;
        self.last = Lsn::ZERO;
        // Of what was not committed, nobody heard.
        self.gated.clear();
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.sending.is_empty()
            && self.on_wire.is_empty()
            && self.gated.is_empty()
            && self.answers.is_empty()
    }

    /// Each message once, in order.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        if self.delivered.iter().copied().eq(0..self.next_number) {
            Ok(())
        } else {
            Err(Violation(format!(
                "the broker delivered {:?} of {}",
                self.delivered, self.next_number
            )))
        }
    }
}
