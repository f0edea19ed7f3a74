//! Acknowledgements: those we owe, which leave in order of receipt behind their batch, and those the client sends.

use std::collections::VecDeque;

use martlet_codec::{Ack, AckKind, Packet, PacketId, Props, PropsBuf, ReasonCode};
use martlet_session::{AckError, Acked};
use martlet_storage::{Lsn, StoreOp, Timestamp};
use martlet_sync::Planted;
use martlet_transport::ByteStream;

use super::{Connection, End, Violation};
use crate::work::Sink;

/// Acknowledgements that may wait for a commit before reading stops (rule 8).
const WAITING_MAX: usize = 4_096;

/// Own packets that wait for their batch, in order.
#[derive(Default)]
pub(super) struct Acks {
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    lsn: Lsn,
    bytes: Encoded,
    /// Whether its departure frees a slot of the Receive Maximum.
    frees_slot: bool,
}

/// An encoded packet; nearly all are acknowledgements of four bytes, which take no memory of their own.
enum Encoded {
    Short([u8; 4]),
    Long(Box<[u8]>),
}

impl From<Vec<u8>> for Encoded {
    fn from(bytes: Vec<u8>) -> Self {
        match bytes.as_slice().try_into() {
            Ok(short) => Self::Short(short),
            Err(_) => Self::Long(bytes.into_boxed_slice()),
        }
    }
}

impl Encoded {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Long(bytes) => bytes,
        }
    }
}

impl Acks {
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes over what another stream owed.
    pub(super) fn append(&mut self, mut other: Self) {
        self.waiting.append(&mut other.waiting);
    }
}

impl<S: ByteStream> Connection<S> {
    /// Owes `packet`, to leave after the batch `lsn` and after everything owed before.
    pub(super) fn owe(&mut self, packet: &Packet<'_>, lsn: Lsn, frees_slot: bool) {
        if !self.must_wait(lsn) {
            self.put(packet);
            if frees_slot {
                self.quota.give_back();
            }
            return;
        }
        let mut bytes = Vec::new();
        if packet.encode(self.version, &mut bytes).is_ok() {
            self.lane.acks.waiting.push_back(Waiting {
                lsn,
                bytes: bytes.into(),
                frees_slot,
            });
        }
    }

    /// Whether something goes before, or the batch `lsn` is not committed.
    fn must_wait(&self, lsn: Lsn) -> bool {
        let is_open = lsn != Lsn::ZERO && lsn > self.core.committer.watermark();
        !self.lane.acks.is_empty() || is_open && !Planted::EarlyAcknowledgement.is_active()
    }

    /// Encodes a packet of our own, without reason string and user properties if it would be too large for the client.
    pub(super) fn put(&mut self, packet: &Packet<'_>) {
        let fits = packet
            .encoded_len(self.version)
            .is_ok_and(|len| len <= self.packet_bytes_max as usize);
        if fits {
            // The length was computed above; encoding cannot fail any more.
            let _ = packet.encode(self.version, &mut self.lane.local);
        }
    }

    /// Moves what has been committed to the output; asks to be woken for the rest.
    pub(super) fn release_acks(&mut self) {
        if self.lane.acks.is_empty() {
            return;
        }
        self.core.commits.wait(&self.session);
        let watermark = self.core.committer.watermark();
        if self.core.store_failed() {
            return;
        }
        while let Some(front) = self.lane.acks.waiting.front()
            && front.lsn <= watermark
        {
            let Some(waiting) = self.lane.acks.waiting.pop_front() else {
                break;
            };
            self.lane.local.extend_from_slice(waiting.bytes.as_bytes());
            if waiting.frees_slot {
                self.quota.give_back();
            }
        }
    }

    /// A PUBACK, PUBREC or PUBCOMP that we owe.
    pub(super) fn owe_ack(
        &mut self,
        kind: AckKind,
        id: PacketId,
        reason: ReasonCode,
        lsn: Lsn,
        frees_slot: bool,
    ) {
        if reason == ReasonCode::Success {
            // The common case, four bytes in every version.
            let first = match kind {
                AckKind::PubAck => 0x40,
                AckKind::PubRec => 0x50,
                AckKind::PubRel => 0x62,
                AckKind::PubComp => 0x70,
            };
            let [high, low] = id.get().to_be_bytes();
            let bytes = [first, 2, high, low];
            if self.must_wait(lsn) {
                self.lane.acks.waiting.push_back(Waiting {
                    lsn,
                    bytes: Encoded::Short(bytes),
                    frees_slot,
                });
                return;
            }
            self.lane.local.extend_from_slice(&bytes);
            if frees_slot {
                self.quota.give_back();
            }
            return;
        }
        self.owe(
            &Packet::Ack(Ack {
                kind,
                id,
                reason,
                props: Props::EMPTY,
            }),
            lsn,
            frees_slot,
        );
    }

    /// Like [`Self::owe_ack`] with words for the client, if it wants any [MQTT-3.1.2-29].
    pub(super) fn owe_refusal(
        &mut self,
        kind: AckKind,
        id: PacketId,
        reason: ReasonCode,
        text: &str,
        lsn: Lsn,
    ) {
        let words = PropsBuf::new().with(martlet_codec::Property::ReasonString(text));
        let mut ack = Ack {
            kind,
            id,
            reason,
            props: Props::EMPTY,
        };
        if self.problem_information {
            ack.props = words.as_props();
            if Packet::Ack(ack)
                .encoded_len(self.version)
                .is_ok_and(|len| len > self.packet_bytes_max as usize)
            {
                ack.props = Props::EMPTY;
            }
        }
        self.owe(&Packet::Ack(ack), lsn, true);
    }

    /// An acknowledgement from the client.
    pub(super) fn on_ack(
        &mut self,
        ack: &Ack<'_>,
        sink: &mut Sink,
        now: Timestamp,
    ) -> Result<(), End> {
        if ack.kind == AckKind::PubRel {
            self.on_pubrel(ack.id);
            return Ok(());
        }
        let core = &self.core;
        let acked = self.session.with_outbox(|outbox| {
            let own = outbox.attached.as_mut();
            let own = own.filter(|_| outbox.epoch == self.epoch)?;
            own.progress = now;
            let acked = outbox.half.acknowledge(
                now,
                ack.kind,
                ack.id,
                ack.reason,
                &mut own.out,
                &mut sink.effects,
            );
            core.settle(&self.session, outbox, &mut sink.effects, now);
            let attached = outbox.attached.as_ref();
            if attached.is_some_and(|own| own.out.has_output()) {
                self.session.nudge();
            }
            Some(acked)
        });
        core.after(&self.session, &mut sink.effects, &mut sink.counts);
        match acked {
            Some(Some(Ok(Acked::Unknown))) => {
                tracing::debug!(event = "ack_unknown", client = &*self.session.client_id, kind = ?ack.kind, packet_id = ack.id.get());
                Ok(())
            }
            Some(Some(Ok(_))) => Ok(()),
            Some(Some(Err(AckError::WrongKind))) => {
                let text = format!(
                    "{:?} for packet id {} which waits for something else",
                    ack.kind,
                    ack.id.get()
                );
                Err(Violation::new(ReasonCode::ProtocolError, text).into())
            }
            Some(None) => Err(End::Lost),
            None => Err(Violation::new(ReasonCode::UnspecifiedError, "internal error").into()),
        }
    }

    /// PUBREL: the identifier is free again once its deletion is committed; then PUBCOMP.
    fn on_pubrel(&mut self, id: PacketId) {
        let known = self.session.state.lock().inbound.release(id);
        let mut lsn = Lsn::ZERO;
        if known && self.session.durable {
            let session = self.session.id;
            lsn = self.core.submit(vec![StoreOp::DeleteInbound {
                session,
                packet_id: id,
            }]);
        }
        let reason = if known {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        self.owe_ack(AckKind::PubComp, id, reason, lsn, known);
    }
}
