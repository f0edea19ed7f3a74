//! The loop of a connected client: output first, then input, until neither can go on.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use martlet_codec::{Frame, Packet, Props, ReasonCode, Split, Version, split};
use martlet_session::{Chunk, Effects, InboundAliases, MAIN_LANE, ReceiveQuota};
use martlet_storage::Timestamp;
use martlet_sync::Planted;
use martlet_transport::ByteStream;
use tokio::io::ReadBuf;

use super::{
    End, Violation,
    complaints::Complaints,
    gather::Gather,
    lane::Lane,
    metered::Extras,
    parked::Parked,
    pressure::Pause,
    publish::{TopicMemo, check_user_properties},
    replay::SLICES_AT_ONCE,
    streams::Streams,
};
use crate::{
    attachment::Attachment,
    config::Config,
    core::Core,
    counters::{Event, Limit},
    hooks::Identity,
    router::{Availability, RouteMemo},
    session::{Outbox, Session},
    work::{READ_BYTES, Work, with_work},
};

/// Output and input alternate this often before other tasks get their turn.
const ROUNDS: usize = 8;

/// What an idle connection keeps for its next acknowledgements.
const LOCAL_BYTES_KEPT: usize = 64;

/// A connected client.
pub(crate) struct Connection<S> {
    pub(super) core: Arc<Core>,
    /// The byte stream that is being looked after: the client's only one, mostly.
    pub(super) lane: Lane<S>,
    /// The client's further streams, where it may have any.
    pub(super) streams: Option<Box<Streams<S>>>,
    pub(super) session: Arc<Session>,
    pub(super) identity: Arc<Identity>,
    /// The settings when the client connected: what was announced to it stays true for it.
    pub(super) config: Arc<Config>,
    pub(super) epoch: u64,
    pub(super) version: Version,
    pub(super) bridge: bool,
    /// Whether reason strings may be sent [MQTT-3.1.2-29].
    pub(super) problem_information: bool,
    /// The client's Maximum Packet Size.
    pub(super) packet_bytes_max: u32,
    /// The session expiry given at CONNECT; 0 there may not become anything else at DISCONNECT.
    pub(super) connect_expiry_secs: u32,
    /// Whether the first output, which begins with CONNACK, is on its way.
    greeted: bool,
    /// Identity of the waker that is in the outbox since it was found empty; 0 while there may be something in it.
    resting_waker: usize,
    gather: Gather,
    pub(super) quota: ReceiveQuota,
    pub(super) memo: RouteMemo<Arc<Session>>,
    pub(super) topic_memo: TopicMemo,
    pub(super) pause: Option<Box<Pause>>,
    /// Streams that are not read because a packet is parked there.
    pub(super) held_up: u8,
    /// Publications to slow subscribers that are let through before the next wait.
    pub(super) forbearance: u32,
    pub(super) complaints: Complaints,
    pub(super) extras: Option<Box<Extras>>,
    connected_at: Timestamp,
    /// Counts down what a panic must still clean up.
    finished: bool,
}

/// Why output has come to rest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// There is nothing more; whoever appends wakes us.
    Idle,
    /// The socket takes no more; it wakes us when it does.
    Blocked,
    /// There is nothing more here, but for another stream of the client.
    Elsewhere,
    /// A little is there, and more is expected from those who are ready to run: they get their turn first.
    Gathering,
}

/// What a packet handler wants.
pub(super) enum Flow {
    Continue,
    /// Process nothing more until the parked decision is there.
    Park(Parked),
}

/// What a connection starts with.
pub(super) struct Start<S> {
    pub(super) core: Arc<Core>,
    pub(super) stream: S,
    pub(super) session: Arc<Session>,
    pub(super) identity: Arc<Identity>,
    pub(super) config: Arc<Config>,
    pub(super) epoch: u64,
    pub(super) version: Version,
    pub(super) bridge: bool,
    pub(super) problem_information: bool,
    pub(super) packet_bytes_max: u32,
    pub(super) connect_expiry_secs: u32,
    /// Bytes that came after CONNECT.
    pub(super) unread: Vec<u8>,
    pub(super) extras: Option<Box<Extras>>,
}

impl<S: ByteStream> Connection<S> {
    pub(super) fn new(start: Start<S>) -> Self {
        let mqtt = &start.config.mqtt;
        let aliases = InboundAliases::new(alias_maximum(&start.config, start.version));
        Self {
            connected_at: start.core.clock.now(),
            lane: Lane::new(MAIN_LANE, start.stream, aliases, start.unread),
            streams: None,
            quota: ReceiveQuota::new(mqtt.receive_maximum),
            core: start.core,
            session: start.session,
            identity: start.identity,
            epoch: start.epoch,
            version: start.version,
            bridge: start.bridge,
            problem_information: start.problem_information,
            packet_bytes_max: start.packet_bytes_max,
            connect_expiry_secs: start.connect_expiry_secs,
            config: start.config,
            greeted: false,
            resting_waker: 0,
            gather: Gather::default(),
            memo: RouteMemo::default(),
            topic_memo: TopicMemo::default(),
            pause: None,
            held_up: 0,
            forbearance: 0,
            complaints: Complaints::default(),
            extras: start.extras,
            finished: false,
        }
    }

    /// The stream that carried CONNECT.
    pub(crate) fn stream(&self) -> &S {
        &self.lane.stream
    }

    /// Reads, routes and writes until the connection ends.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for _ in 0..ROUNDS {
            let others_moved = match self.poll_others(cx) {
                Ok(moved) => moved,
                Err(end) => {
                    let _ = self.poll_output(cx);
                    return Poll::Ready(end);
                }
            };
            let output = match self.poll_output(cx) {
                Ok(output) => output,
                Err(end) => return Poll::Ready(end),
            };
            match self.poll_input(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => {
                    // What was acknowledged before the end still leaves, if the socket takes it at once.
                    let _ = self.poll_output(cx);
                    return Poll::Ready(end);
                }
                Poll::Pending if others_moved || output == Output::Elsewhere => {}
                Poll::Pending if output == Output::Gathering => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending if output == Output::Blocked || self.lane.local.is_empty() => {
                    return Poll::Pending;
                }
                Poll::Pending => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The turn of the client's further streams, once CONNACK is on its way. Returns whether they have more to do.
    #[inline]
    fn poll_others(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        match (&self.streams, self.greeted) {
            (None, _) => Ok(false),
            // They come next, when this has been said.
            (Some(_), false) => Ok(true),
            (Some(_), true) => self.poll_streams(cx),
        }
    }

    // ---------------------------------------------------------------- output

    /// Writes until there is nothing more, or the socket takes no more; then something will wake us.
    pub(super) fn poll_output(&mut self, cx: &mut Context<'_>) -> Result<Output, End> {
        if self.is_at_rest(cx) {
            return Ok(Output::Idle);
        }
        self.release_acks();
        let mut slices = SLICES_AT_ONCE;
        loop {
            if self.lane.chunk.is_empty() {
                if self.lane.replays.capacity() > 0 {
                    self.replay(cx, &mut slices);
                }
                let more = self.fetch(cx)?;
                if self.gather.is_waiting() {
                    return Ok(Output::Gathering);
                }
                if !more {
                    if self.lane.needs_flush {
                        match Pin::new(&mut self.lane.stream).poll_flush(cx) {
                            Poll::Ready(Ok(())) => self.lane.needs_flush = false,
                            Poll::Ready(Err(error)) => return Err(stream_end(&error)),
                            Poll::Pending => {}
                        }
                    }
                    return Ok(self.rested());
                }
            }
            let metered = self.meters_output();
            let allowed = if metered {
                match self.poll_allowance(cx) {
                    Poll::Ready(allowed) => allowed,
                    Poll::Pending => {
                        self.note_waiting(cx, false)?;
                        return Ok(Output::Blocked);
                    }
                }
            } else {
                usize::MAX
            };
            match self.lane.poll_write(cx, allowed) {
                Poll::Ready(Ok(0)) => return Err(End::PeerClosed),
                Poll::Ready(Ok(bytes)) => {
                    self.core.counters.bytes_sent(bytes);
                    self.lane.chunk.advance(bytes);
                    if metered {
                        self.metered_out(bytes);
                    }
                    self.lane.confirm += bytes;
                    self.lane.needs_flush = true;
                }
                Poll::Ready(Err(error)) => return Err(stream_end(&error)),
                Poll::Pending => {
                    self.core.counters.write_blocked();
                    self.note_waiting(cx, true)?;
                    return Ok(Output::Blocked);
                }
            }
        }
    }

    /// Whether there is nothing to write and nobody has appended anything since that was found.
    fn is_at_rest(&self, cx: &Context<'_>) -> bool {
        if self.lane.number != MAIN_LANE {
            return self.lane.has_written_all() && !self.session.was_nudged();
        }
        self.resting_waker == cx.waker().data() as usize
            && self.lane.local.is_empty()
            && self.lane.acks.is_empty()
            && self.lane.replays.is_empty()
            && !self.lane.needs_flush
            && !self.session.was_nudged()
    }

    /// There is nothing to write here.
    fn rested(&self) -> Output {
        if self.lane.number == MAIN_LANE && self.resting_waker == 0 {
            return Output::Elsewhere;
        }
        Output::Idle
    }

    /// Takes the next piece of output; when there is none, goes to sleep on the outbox and returns false.
    fn fetch(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let now = self.core.clock.now();
        let pressure = self.core.pressure_bytes();
        self.core.counters.packets_sent(&self.lane.local);
        let Self {
            session,
            core,
            lane,
            streams,
            epoch,
            gather,
            greeted,
            resting_waker,
            ..
        } = self;
        let Lane {
            number,
            local,
            chunk,
            confirm,
            ahead,
            ..
        } = lane;
        let (number, is_main) = (*number, *number == MAIN_LANE);
        let blocked = streams.as_ref().map_or(u32::MAX, |streams| streams.blocked);
        let woken = std::mem::take(resting_waker) != 0 && local.is_empty();
        // Seldom needed, and large.
        let mut effects: Option<Box<Effects>> = None;
        let mut emptied = Vec::new();
        let taken = session.with_outbox(|outbox| {
            let own = check_owner(outbox, *epoch)?;
            if *confirm > 0 {
                own.wrote(number, *confirm, now);
                *confirm = 0;
            }
            if outbox.half.waits_for().is_some() {
                core.release(session, outbox, effects.get_or_insert_default(), now);
            }
            let Outbox {
                half,
                attached: Some(own),
                ..
            } = outbox
            else {
                return Err(End::Lost);
            };
            own.append(number, local);
            if half.has_queued() {
                let effects = effects.get_or_insert_default();
                half.pump(now, &mut own.out, effects);
                core.settle(session, outbox, effects, now);
            }
            outbox.resume_publishers(pressure / 2);
            let Outbox {
                half,
                attached: Some(own),
                ..
            } = outbox
            else {
                return Err(End::Lost);
            };
            own.wakes(cx.waker());
            if half.counts().queued == 0 {
                session.set_availability(Availability::Online);
            }
            if own.out.lane(number).is_empty() {
                if !is_main {
                } else if own.out.has_output_besides(blocked) {
                    session.nudge();
                } else {
                    own.idle = true;
                    if !Planted::LostWake.is_active() {
                        session.rest();
                    }
                    *resting_waker = cx.waker().data() as usize;
                }
                emptied = std::mem::take(own.out.lane_mut(number).inline());
                return Ok(false);
            }
            own.idle = false;
            if is_main && gather.waits(own.out.pending_bytes(), woken) {
                return Ok(true);
            }
            let spare = std::mem::take(chunk).into_spare();
            *chunk = own.out.lane_mut(number).take(spare);
            *ahead = 0;
            *greeted = true;
            Ok(true)
        });
        if Planted::LostWake.is_active() && *resting_waker != 0 {
            session.rest();
        }
        if let Some(effects) = &mut effects {
            core.after_alone(session, effects);
        }
        let more = taken.unwrap_or_else(|| Err(suspect()))?;
        if !more {
            self.give_buffers_back(emptied);
        }
        Ok(more)
    }

    /// An idle connection keeps no buffers.
    fn give_buffers_back(&mut self, emptied: Vec<u8>) {
        let chunk = std::mem::take(&mut self.lane.chunk).into_spare();
        let local = if self.lane.local.capacity() > LOCAL_BYTES_KEPT {
            std::mem::take(&mut self.lane.local)
        } else {
            Vec::new()
        };
        if emptied.capacity() + chunk.capacity() + local.capacity() > 0 {
            with_work(|work| {
                for buffer in [emptied, chunk, local] {
                    work.sink.spares.give(buffer, &self.core.spares);
                }
            });
        }
    }

    /// Output has to wait: for the socket, if it is `stalled`, since when is remembered. Listens for a kick.
    fn note_waiting(&mut self, cx: &mut Context<'_>, stalled: bool) -> Result<(), End> {
        let now = self.core.clock.now();
        let has_others = self.streams.as_ref().is_some_and(|all| all.are_open());
        let Self {
            session,
            lane: Lane {
                number, confirm, ..
            },
            epoch,
            ..
        } = self;
        session
            .with_outbox(|outbox| {
                let own = check_owner(outbox, *epoch)?;
                if *confirm > 0 {
                    own.wrote(*number, *confirm, now);
                    *confirm = 0;
                }
                if stalled {
                    own.stalls(*number, now);
                }
                if *number == MAIN_LANE {
                    // Its stream wakes the owner; output for others must do so itself.
                    own.idle = has_others;
                }
                own.wakes(cx.waker());
                Ok(())
            })
            .unwrap_or_else(|| Err(suspect()))
    }

    // ---------------------------------------------------------------- input

    #[inline]
    pub(super) fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if self.lane.parked.is_some() {
            // What was decided may have brought output.
            return self.poll_parked(cx);
        }
        if self.pause.is_some() {
            ready!(self.poll_pause(cx));
        }
        if self.lane.is_behind() {
            return Poll::Pending;
        }
        with_work(|work| {
            let result = self.poll_batch(cx, work);
            work.sink.counts.flush(&self.core.counters);
            result
        })
    }

    /// Reads once and processes what came.
    fn poll_batch(&mut self, cx: &mut Context<'_>, work: &mut Work) -> Poll<Result<(), End>> {
        let have = self.lane.partial.len();
        if have >= self.lane.partial_need && have > 0 {
            // Left over from a batch that had to stop: complete packets may be waiting.
            let bytes = std::mem::take(&mut self.lane.partial);
            let consumed = self.process(&bytes, work)?;
            self.keep(bytes, consumed);
            return Poll::Ready(Ok(()));
        }
        if self.lane.partial_need > READ_BYTES {
            return self.poll_large(cx, work);
        }
        let mut scratch = std::mem::take(&mut work.read);
        scratch[..have].copy_from_slice(&self.lane.partial);
        let mut buffer = ReadBuf::new(&mut scratch);
        buffer.set_filled(have);
        let polled = Pin::new(&mut self.lane.stream).poll_read(cx, &mut buffer);
        let filled = buffer.filled().len();
        let result = match polled {
            Poll::Pending => {
                work.sink.counts.read_empty();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(stream_end(&error))),
            Poll::Ready(Ok(())) if filled == have => Poll::Ready(Err(End::PeerClosed)),
            Poll::Ready(Ok(())) => {
                work.sink.counts.bytes_received(filled - have);
                self.lane.partial.clear();
                let outcome = self.process(&scratch[..filled], work);
                Poll::Ready(outcome.map(|consumed| {
                    if consumed < filled {
                        if self.lane.partial.capacity() == 0 {
                            self.lane.partial = work.sink.spares.take(&self.core.spares);
                        }
                        self.lane
                            .partial
                            .extend_from_slice(&scratch[consumed..filled]);
                    } else {
                        let emptied = std::mem::take(&mut self.lane.partial);
                        work.sink.spares.give(emptied, &self.core.spares);
                    }
                }))
            }
        };
        work.read = scratch;
        result
    }

    /// Reads into a buffer of its own, which doubles as bytes arrive: what a packet announces is not yet memory (rule 16).
    fn poll_large(&mut self, cx: &mut Context<'_>, work: &mut Work) -> Poll<Result<(), End>> {
        let have = self.lane.partial.len();
        if self.lane.partial.capacity() == have {
            let target = self
                .lane
                .partial_need
                .min(have.saturating_mul(2).max(READ_BYTES));
            self.lane.partial.reserve_exact(target - have);
        }
        let room = self.lane.partial.capacity().min(self.lane.partial_need) - have;
        self.lane.partial.resize(have + room, 0);
        let mut buffer = ReadBuf::new(&mut self.lane.partial[have..]);
        let polled = Pin::new(&mut self.lane.stream).poll_read(cx, &mut buffer);
        let read = buffer.filled().len();
        self.lane.partial.truncate(have + read);
        if polled.is_pending() {
            work.sink.counts.read_empty();
        }
        match ready!(polled) {
            Err(error) => return Poll::Ready(Err(stream_end(&error))),
            Ok(()) if read == 0 => return Poll::Ready(Err(End::PeerClosed)),
            Ok(()) => {}
        }
        work.sink.counts.bytes_received(read);
        self.session.saw_client(self.core.clock.now());
        if self.lane.partial.len() >= self.lane.partial_need {
            let bytes = std::mem::take(&mut self.lane.partial);
            let consumed = self.process(&bytes, work)?;
            self.keep(bytes, consumed);
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn keep(&mut self, mut bytes: Vec<u8>, consumed: usize) {
        if consumed == 0 {
            self.lane.partial = bytes;
        } else if consumed < bytes.len() {
            bytes.drain(..consumed);
            bytes.shrink_to(READ_BYTES);
            self.lane.partial = bytes;
        }
    }

    /// Processes the packets in `input`, as far as they are complete and nothing has to wait. Returns the bytes used.
    pub(super) fn process(&mut self, input: &[u8], work: &mut Work) -> Result<usize, End> {
        let now = self.core.clock.now();
        let packet_max = u32::try_from(self.config.mqtt.maximum_packet_size).unwrap_or(u32::MAX);
        let mut used = 0;
        let metered = self.meters_input();
        self.lane.partial_need = 1;
        if self.lane.local.capacity() == 0 {
            self.lane.local = work.sink.spares.take(&self.core.spares);
        }
        while used < input.len() {
            let frame =
                match split(&input[used..], packet_max).map_err(|error| self.too_large(error))? {
                    Split::Frame(frame) => frame,
                    Split::Partial { need } => {
                        self.lane.partial_need = need;
                        break;
                    }
                };
            if metered && self.holds_back(frame, now)? {
                break;
            }
            used += frame.len;
            match self.packet(frame, work, now)? {
                Flow::Continue => {}
                Flow::Park(parked) => {
                    self.park(parked);
                    break;
                }
            }
            if let Some(subscriber) = work.sink.pressure.take()
                && self.slow_down_for(subscriber)
            {
                break;
            }
            if self.core.memory.is_above() && work.sink.counts.has_publish_received() {
                // Publishers are what fills memory: each batch of theirs costs them a pause.
                self.start_pause(None);
                break;
            }
            if self.lane.acks.is_full() {
                break;
            }
        }
        if used > 0 {
            // Half a packet is no sign of life [MQTT-3.1.2-22].
            self.session.saw_client(now);
        }
        Ok(used)
    }

    pub(super) fn too_large(&self, error: martlet_codec::DecodeError) -> End {
        let mut violation = Violation::from(error);
        if violation.reason == ReasonCode::PacketTooLarge {
            self.core.counters.limit(Limit::MaximumPacketSize);
            violation.text = format!(
                "packet larger than mqtt.maximum_packet_size ({} bytes)",
                self.config.mqtt.maximum_packet_size
            );
        }
        violation.into()
    }

    /// One packet of a connected client.
    #[inline]
    fn packet(&mut self, frame: Frame<'_>, work: &mut Work, now: Timestamp) -> Result<Flow, End> {
        if frame.first >> 4 == 3 {
            work.sink.counts.packet_received(3);
            return self.on_publish(frame, work, now);
        }
        self.other_packet(frame, work, now)
    }

    /// One packet that is no PUBLISH.
    pub(super) fn other_packet(
        &mut self,
        frame: Frame<'_>,
        work: &mut Work,
        now: Timestamp,
    ) -> Result<Flow, End> {
        work.sink.counts.packet_received(frame.first >> 4);
        self.check_stream(frame.first >> 4)?;
        let packet = Packet::decode(frame, self.version)?;
        if let Some(props) = props_of(&packet).filter(|props| !props.is_empty()) {
            check_user_properties(&self.core, &self.config, props)?;
        }
        match packet {
            Packet::Ack(ack) => self.on_ack(&ack, &mut work.sink, now)?,
            Packet::PingReq => self.lane.local.extend_from_slice(&[0xD0, 0]),
            Packet::Subscribe(subscribe) => return self.on_subscribe(&subscribe, frame),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(&unsubscribe)?,
            Packet::Disconnect(disconnect) => return Err(self.on_disconnect(&disconnect)),
            Packet::Connect(_) => {
                return Err(Violation::new(
                    ReasonCode::ProtocolError,
                    "a second CONNECT [MQTT-3.1.0-2]",
                )
                .into());
            }
            Packet::Auth(_) => {
                return Err(Violation::new(
                    ReasonCode::ProtocolError,
                    "AUTH without an authentication method",
                )
                .into());
            }
            Packet::Publish(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => {
                return Err(Violation::new(
                    ReasonCode::ProtocolError,
                    "a packet that only servers send",
                )
                .into());
            }
        }
        Ok(Flow::Continue)
    }

    fn on_disconnect(&self, disconnect: &martlet_codec::Disconnect<'_>) -> End {
        if disconnect.props.server_reference().is_some() {
            let text = "DISCONNECT of a client with a Server Reference (3.14.2.2.5)";
            return Violation::new(ReasonCode::ProtocolError, text).into();
        }
        let expiry = disconnect.props.session_expiry_secs();
        if expiry.is_some_and(|secs| secs > 0) && self.connect_expiry_secs == 0 {
            let text = "DISCONNECT extends a session that CONNECT gave no expiry";
            return Violation::new(ReasonCode::ProtocolError, text).into();
        }
        let granted = expiry.map(|secs| secs.min(self.config.mqtt.session_expiry_max_secs));
        // Every reason but Normal disconnection leaves the will in place [MQTT-3.14.4-3].
        End::Disconnected {
            with_will: disconnect.reason != ReasonCode::Success,
            session_expiry_secs: granted,
        }
    }

    /// The Topic Alias Maximum that was announced.
    pub(super) fn alias_maximum(&self) -> u16 {
        alias_maximum(&self.config, self.version)
    }

    pub(super) fn connected_for_secs(&self) -> u64 {
        self.core.clock.now().millis_since(self.connected_at) / 1000
    }

    /// The output that was taken and not yet written, for the last words.
    pub(super) fn take_chunk(&mut self) -> Chunk {
        std::mem::take(&mut self.lane.chunk)
    }

    pub(super) fn has_greeted(&self) -> bool {
        self.greeted
    }

    pub(super) fn mark_finished(&mut self) {
        self.finished = true;
    }
}

fn alias_maximum(config: &Config, version: Version) -> u16 {
    if version.is_v5() {
        config.mqtt.topic_alias_maximum
    } else {
        0
    }
}

/// A task that panics leaves its session to nobody: it is ended, so that no half-done state is ever resumed.
impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        if !self.finished {
            let core = Arc::clone(&self.core);
            let session = Arc::clone(&self.session);
            core.counters.event(Event::Panic);
            core.counters
                .client_disconnected(ReasonCode::UnspecifiedError);
            core.abandon(&session, self.epoch);
        }
    }
}

/// The properties of a packet that a connected client may send, besides PUBLISH.
fn props_of<'a>(packet: &Packet<'a>) -> Option<Props<'a>> {
    match packet {
        Packet::Ack(ack) => Some(ack.props),
        Packet::Subscribe(subscribe) => Some(subscribe.props),
        Packet::Unsubscribe(unsubscribe) => Some(unsubscribe.props),
        Packet::Disconnect(disconnect) => Some(disconnect.props),
        Packet::Auth(auth) => Some(auth.props),
        _ => None,
    }
}

/// What is this connection's, if it still owns the session and nobody wants it to end.
fn check_owner(outbox: &mut Outbox, epoch: u64) -> Result<&mut Attachment, End> {
    let own = outbox.owned_by(epoch).ok_or(End::Lost)?;
    match &own.kick {
        Some(kick) => Err(End::Kicked(kick.clone())),
        None => Ok(own),
    }
}

/// A panic under this session's lock: its content cannot be trusted (rule 15).
fn suspect() -> End {
    Violation::new(ReasonCode::UnspecifiedError, "internal error").into()
}

pub(super) fn stream_end(error: &std::io::Error) -> End {
    if martlet_transport::is_peer_gone(error) {
        return End::PeerClosed;
    }
    End::Stream(error.kind(), error.to_string())
}

impl Core {
    /// Lets go of a session whose connection's task panicked, and ends it.
    pub(crate) fn abandon(&self, session: &Arc<Session>, epoch: u64) {
        tracing::error!(
            event = "connection_panicked",
            client = &*session.client_id,
            "internal error; the session is ended"
        );
        session.state.lock().expiry_secs = 0;
        self.detach(session, epoch, true, Some(0));
    }

    /// Whether the store has failed and nothing may be acknowledged.
    pub(crate) fn store_failed(&self) -> bool {
        self.commits.failed.load(Ordering::Acquire)
    }
}
