//! Packets whose decision comes later, and messages that wait for room in the store. What came behind them waits as well.
//!
//! A message may wait for room for as long as a disk stays full. Behind it the stream of CONNECT is read on, as far as one
//! read goes: the client's acknowledgements are what makes room, its PINGREQ is answered, and it is noticed when it has
//! gone. Everything else keeps its order.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use martlet_codec::{Packet, PacketBuf, Publish, QoS, Split, split};
use martlet_session::MAIN_LANE;
use martlet_storage::Timestamp;
use martlet_transport::ByteStream;
use tokio::io::ReadBuf;

use super::{Connection, End, Violation, driver::stream_end, subscribe::Grant};
use crate::{
    session::Session,
    work::{READ_BYTES, Work, with_work},
};

/// An answer that comes later.
pub(super) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A packet that nothing behind it may overtake.
pub(super) enum Parked {
    Publish(PacketBuf, Later<bool>),
    /// Its message is permitted, and the store is short of room.
    Room(PacketBuf, Behind, Later<()>),
    /// With the access generation that was asked.
    Subscribe(PacketBuf, Later<Vec<Grant>>, u64),
}

/// How far the stream was read behind a message that waits.
#[derive(Default)]
pub(super) struct Behind {
    is_read: bool,
    /// Unread bytes that were looked at, packets which have to wait; `None` until what came in one read with the message
    /// was.
    looked_at: Option<usize>,
}

impl Parked {
    /// Whether a slot of the Receive Maximum was taken for it.
    pub(super) fn holds_slot(&self) -> bool {
        match self {
            Self::Publish(packet, _) | Self::Room(packet, ..) => {
                matches!(packet.packet(), Packet::Publish(publish) if publish.qos > QoS::AtMostOnce)
            }
            Self::Subscribe(..) => false,
        }
    }

    /// Whether its stream is not read.
    pub(super) fn holds_up(&self) -> bool {
        !matches!(self, Self::Room(_, Behind { is_read: true, .. }, _))
    }
}

impl<S: ByteStream> Connection<S> {
    /// Processes nothing more until it is known what becomes of `parked`.
    pub(super) fn park(&mut self, parked: Parked) {
        self.lane.parked = Some(Box::new(parked));
        self.held_up += 1;
        self.note_reading();
    }

    /// A packet that was parked is no more.
    pub(super) fn unpark(&mut self, parked: &Parked) {
        self.held_up -= u8::from(parked.holds_up());
        self.note_reading();
    }

    /// Tells whether we ourselves do not read, some stream at least: keep alive is suspended then (rule 8).
    pub(super) fn note_reading(&self) {
        let reading = self.held_up == 0 && self.pause.is_none();
        self.session.saw_client(self.core.clock.now());
        self.session.with_outbox(|outbox| {
            if let Some(own) = outbox.owned_by(self.epoch) {
                own.reading = reading;
            }
        });
    }

    /// Waits until the store has room for `publish`, whose topic is the resolved one. To refuse a message, version 3 has no
    /// words.
    pub(super) fn until_roomy(&self, publish: &Publish<'_>) -> Result<Parked, Violation> {
        let packet = super::publish::kept(publish, self.version)?;
        let core = Arc::clone(&self.core);
        let room = Box::pin(async move { core.commits.until_roomy().await });
        Ok(Parked::Room(packet, Behind::default(), room))
    }

    /// Goes on with what is parked, if it can.
    pub(super) fn poll_parked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let now = self.core.clock.now();
        let mut pressed = None;
        let Some(mut parked) = self.lane.parked.take() else {
            return Poll::Ready(Ok(()));
        };
        match &mut *parked {
            Parked::Publish(packet, decision) => {
                let Poll::Ready(allowed) = decision.as_mut().poll(cx) else {
                    self.lane.parked = Some(parked);
                    return Poll::Pending;
                };
                if let Packet::Publish(publish) = packet.packet() {
                    if allowed && self.waits_for_room(&publish) {
                        let room = self.until_roomy(&publish)?;
                        self.unpark(&parked);
                        self.park(room);
                        return Poll::Ready(Ok(()));
                    }
                    pressed = self.take_decided(&publish, allowed, now);
                }
            }
            Parked::Room(packet, _, room) => {
                if room.as_mut().poll(cx).is_pending() {
                    self.lane.parked = Some(parked);
                    return self.poll_behind(cx);
                }
                if let Packet::Publish(publish) = packet.packet() {
                    pressed = self.take_decided(&publish, true, now);
                }
            }
            Parked::Subscribe(packet, decision, generation) => {
                let Poll::Ready(grants) = decision.as_mut().poll(cx) else {
                    self.lane.parked = Some(parked);
                    return Poll::Pending;
                };
                if let Packet::Subscribe(subscribe) = packet.packet() {
                    self.granted_subscribe(&subscribe, &grants, *generation)?;
                }
            }
        }
        self.unpark(&parked);
        if let Some(subscriber) = pressed {
            self.slow_down_for(subscriber);
        }
        Poll::Ready(Ok(()))
    }

    /// Returns who asks its publishers to slow down.
    fn take_decided(
        &mut self,
        publish: &Publish<'_>,
        allowed: bool,
        now: Timestamp,
    ) -> Option<Arc<Session>> {
        with_work(|work| {
            self.decided_publish(publish, allowed, work, now);
            work.sink.counts.flush(&self.core.counters);
            work.sink.pressure.take()
        })
    }

    /// Reads on behind a message that waits for room.
    fn poll_behind(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Some(Parked::Room(_, behind, _)) = self.lane.parked.as_deref_mut() else {
            return Poll::Pending;
        };
        // The end of a data stream is not that of its client.
        if self.lane.number != MAIN_LANE {
            return Poll::Pending;
        }
        let have = self.lane.partial.len();
        let reads = have < READ_BYTES;
        let looked_at = behind.looked_at;
        if looked_at.is_some() && behind.is_read != reads {
            behind.is_read = reads;
            self.held_up = self.held_up + u8::from(!reads) - u8::from(reads);
            self.note_reading();
        }
        if looked_at.is_some() && !reads || self.lane.is_behind() {
            return Poll::Pending;
        }
        let kept = ready!(with_work(|work| {
            let result = match looked_at {
                Some(looked_at) => self.read_behind(cx, looked_at, work),
                None => Poll::Ready(self.sift(0, work)),
            };
            work.sink.counts.flush(&self.core.counters);
            result
        }))?;
        if let Some(Parked::Room(_, behind, _)) = self.lane.parked.as_deref_mut() {
            behind.looked_at = Some(kept);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, and returns what [`Self::sift`] does.
    fn read_behind(
        &mut self,
        cx: &mut Context<'_>,
        looked_at: usize,
        work: &mut Work,
    ) -> Poll<Result<usize, End>> {
        let have = self.lane.partial.len();
        let mut scratch = std::mem::take(&mut work.read);
        let mut buffer = ReadBuf::new(&mut scratch[have..]);
        let polled = Pin::new(&mut self.lane.stream).poll_read(cx, &mut buffer);
        let read = buffer.filled().len();
        self.lane
            .partial
            .extend_from_slice(&scratch[have..have + read]);
        work.read = scratch;
        ready!(polled).map_err(|error| stream_end(&error))?;
        if read == 0 {
            return Poll::Ready(Err(self.closed_behind(work)));
        }
        work.sink.counts.bytes_received(read);
        Poll::Ready(self.sift(looked_at, work))
    }

    /// Processes what need not wait of the unread bytes from `from` on, and returns how far those reach that are left and
    /// complete. Rates count what is left, when its turn comes.
    fn sift(&mut self, from: usize, work: &mut Work) -> Result<usize, End> {
        let now = self.core.clock.now();
        let packet_max = u32::try_from(self.config.mqtt.maximum_packet_size).unwrap_or(u32::MAX);
        let mut bytes = std::mem::take(&mut self.lane.partial);
        let (mut at, mut kept) = (from, from);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let split = split(rest, packet_max).map_err(|error| self.too_large(error))?;
            let Split::Frame(frame) = split else { break };
            let len = frame.len;
            // PUBACK, PUBREC, PUBCOMP, PINGREQ: they concern what goes out.
            if matches!(frame.first >> 4, 4 | 5 | 7 | 12) {
                self.other_packet(frame, work, now)?;
            } else {
                bytes.copy_within(at..at + len, kept);
                kept += len;
            }
            at += len;
            self.session.saw_client(now);
        }
        bytes.copy_within(at.., kept);
        bytes.truncate(kept + bytes.len() - at);
        self.lane.partial = bytes;
        Ok(kept)
    }

    /// The client has closed while a message waits: it is not taken, and was not acknowledged. What came behind it is still
    /// looked at, as DISCONNECT may be there.
    fn closed_behind(&mut self, work: &mut Work) -> End {
        loop {
            if let Some(parked) = self.lane.parked.take() {
                self.unpark(&parked);
            }
            let bytes = std::mem::take(&mut self.lane.partial);
            match self.process(&bytes, work) {
                Ok(0) => return End::PeerClosed,
                Ok(consumed) => self.keep(bytes, consumed),
                Err(end) => return end,
            }
        }
    }
}
