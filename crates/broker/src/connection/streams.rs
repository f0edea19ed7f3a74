//! The further byte streams of one client: QUIC's data streams, as EMQX and NanoMQ map MQTT to them.
//!
//! The stream that carried CONNECT is the control stream; it may carry everything, and its end is the end of the
//! connection. A *data stream*, which the client opens later, carries PUBLISH, SUBSCRIBE and UNSUBSCRIBE in either
//! direction with their answers, in order; anything else on it is a protocol error. All are streams of one session:
//! packet identifiers, Receive Maximum and keep alive are the client's, whichever stream is used. Topic aliases are each
//! stream's own towards us, and the control stream's only towards the client.
//!
//! * An answer leaves on the stream of what it answers: PUBACK, PUBREC, PUBCOMP, SUBACK and UNSUBACK on the stream of
//!   the client's packet, PUBREL on that of our PUBLISH. The client may acknowledge on any stream.
//! * Messages of a subscription go out on the stream that it was last made on. A topic has one stream, so that its
//!   messages stay in order; of several that match it the lowest, and a data stream before the control stream.
//! * When a data stream ends, its subscriptions stay and belong to the control stream; so does what had not left: owed
//!   acknowledgements, and messages of which no byte was written. If it ends with the client's FIN, what was meant for
//!   it is still written to it first. A message that was on its way when a stream was reset stays in flight, and is
//!   sent again when the session is resumed, as any other [MQTT-4.4.0-1].
//! * A stream that is not read holds up the others only through what they share: the window, the queue, and QUIC's
//!   windows for the connection. One that takes nothing for `limits.slow_consumer_timeout` ends the connection, as
//!   that of any slow client.
//!
//! Each is processed by the code of the driver, in turn, by taking the place of the connection's own lane. Nothing of a
//! data stream is read before CONNACK is on its way. Deliberately absent: where streams come from
//! ([`martlet_transport::StreamSource`]); priorities.

use std::task::{Context, Poll};

use martlet_codec::ReasonCode;
use martlet_session::{InboundAliases, LANES_MAX, MAIN_LANE};
use martlet_transport::{ByteStream, StreamSource};

use super::{Connection, End, Violation, driver::Output, lane::Lane};

/// The data streams of a connection that may have some.
pub(super) struct Streams<S> {
    source: Option<Box<dyn StreamSource<S>>>,
    open: Vec<DataStream<S>>,
    /// How many there may be at one time.
    max: u8,
    /// A bit for each lane whose stream takes nothing now, and for the main one.
    pub(super) blocked: u32,
}

struct DataStream<S> {
    lane: Lane<S>,
    /// The client sends nothing more on it.
    input_over: bool,
    /// What the meter has let out of its chunk.
    admitted: usize,
}

/// What came of a turn of one data stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It goes on when it is woken.
    Rests,
    /// The same, but its stream takes nothing now.
    Blocked,
    /// It has more to do.
    Moved,
    /// It is over.
    Over,
}

impl<S> Streams<S> {
    /// Whether there is more than the control stream.
    pub(super) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The lowest lane that is free.
    fn free(&self) -> Option<u8> {
        let taken = |number| self.open.iter().any(|data| data.lane.number == number);
        (1..=self.max).find(|number| !taken(*number))
    }
}

impl<S: ByteStream> Connection<S> {
    /// Lets the client have up to `max` further streams from `source`.
    pub(crate) fn accept_streams(&mut self, source: Box<dyn StreamSource<S>>, max: u8) {
        self.streams = Some(Box::new(Streams {
            source: Some(source),
            open: Vec::new(),
            max: max.min(LANES_MAX),
            blocked: 1 << MAIN_LANE,
        }));
    }

    /// Gives each data stream a turn. Returns whether any of them has more to do.
    pub(super) fn poll_streams(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(mut streams) = self.streams.take() else {
            return Ok(false);
        };
        self.accept_new(&mut streams, cx);
        let result = self.poll_each(&mut streams, cx);
        self.streams = Some(streams);
        result
    }

    fn accept_new(&mut self, streams: &mut Streams<S>, cx: &mut Context<'_>) {
        while let Some(source) = &mut streams.source {
            let stream = match source.poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(stream)) => stream,
                Poll::Ready(None) => {
                    streams.source = None;
                    return;
                }
            };
            // Whoever hands in more than may be open sees them closed; QUIC does not let it come to that.
            let Some(number) = streams.free() else {
                continue;
            };
            let epoch = self.epoch;
            self.session.with_outbox(|outbox| {
                if let Some(own) = outbox.owned_by(epoch) {
                    own.out.open_lane(number);
                }
            });
            let aliases = InboundAliases::new(self.alias_maximum());
            streams.open.push(DataStream {
                lane: Lane::new(number, stream, aliases, Vec::new()),
                input_over: false,
                admitted: 0,
            });
        }
    }

    fn poll_each(&mut self, streams: &mut Streams<S>, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        let mut at = 0;
        while let Some(data) = streams.open.get_mut(at) {
            let bit = 1 << data.lane.number;
            let turn = self.in_place_of_own(data, |connection, input_over| {
                connection.poll_data_stream(cx, input_over)
            })?;
            streams.blocked &= !bit;
            at += 1;
            match turn {
                Turn::Rests => {}
                Turn::Blocked => streams.blocked |= bit,
                Turn::Moved => moved = true,
                Turn::Over => {
                    at -= 1;
                    moved = true;
                    let over = streams.open.swap_remove(at);
                    self.let_go_of(over);
                }
            }
        }
        Ok(moved)
    }

    /// Runs `f` with the lane of `data` in the place of the connection's own.
    fn in_place_of_own<R>(
        &mut self,
        data: &mut DataStream<S>,
        f: impl FnOnce(&mut Self, &mut bool) -> R,
    ) -> R {
        std::mem::swap(&mut self.lane, &mut data.lane);
        self.swap_admitted(&mut data.admitted);
        let result = f(self, &mut data.input_over);
        self.swap_admitted(&mut data.admitted);
        std::mem::swap(&mut self.lane, &mut data.lane);
        result
    }

    /// Output and input of the data stream whose lane is in place.
    fn poll_data_stream(
        &mut self,
        cx: &mut Context<'_>,
        input_over: &mut bool,
    ) -> Result<Turn, End> {
        let output = match self.poll_output(cx) {
            Ok(output) => output,
            Err(end) => return only_the_stream(end),
        };
        let mut moved = false;
        if !*input_over {
            match self.poll_input(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(End::PeerClosed | End::Stream(..))) => {
                    *input_over = true;
                    moved = true;
                    let (number, epoch) = (self.lane.number, self.epoch);
                    self.session.with_outbox(|outbox| {
                        if let Some(own) = outbox.owned_by(epoch) {
                            own.out.close_lane(number);
                        }
                    });
                }
                Poll::Ready(Err(end)) => {
                    // What was acknowledged before the end still leaves, if the stream takes it at once.
                    let _ = self.poll_output(cx);
                    return Err(end);
                }
            }
        }
        if *input_over && output == Output::Idle && self.lane.has_written_all() {
            return Ok(
                match std::pin::Pin::new(&mut self.lane.stream).poll_shutdown(cx) {
                    Poll::Pending => Turn::Rests,
                    Poll::Ready(_) => Turn::Over,
                },
            );
        }
        if output == Output::Blocked {
            return Ok(if moved { Turn::Moved } else { Turn::Blocked });
        }
        Ok(if moved || !self.lane.local.is_empty() {
            Turn::Moved
        } else {
            Turn::Rests
        })
    }

    /// A data stream is over: what it leaves goes on with the control stream.
    fn let_go_of(&mut self, over: DataStream<S>) {
        let Lane {
            number,
            local,
            acks,
            replays,
            parked,
            ..
        } = over.lane;
        if let Some(parked) = parked.as_deref() {
            if parked.holds_slot() {
                // Nobody will acknowledge it any more.
                self.quota.give_back();
            }
            self.unpark(parked);
        }
        self.lane.local.extend_from_slice(&local);
        self.lane.acks.append(acks);
        self.lane.replays.extend(replays);
        let epoch = self.epoch;
        self.session.with_outbox(|outbox| {
            if let Some(own) = outbox.owned_by(epoch) {
                own.out.remove_lane(number);
                own.unstall(number);
                outbox.half.forget_lane(number);
                self.session.nudge();
            }
        });
    }

    /// Refuses what may not travel on the stream whose lane is in place.
    #[inline]
    pub(super) fn check_stream(&self, packet_type: u8) -> Result<(), Violation> {
        // PUBLISH to UNSUBACK; what only servers send is refused as anywhere.
        let last = if cfg!(planted_bug) { 12 } else { 11 };
        if self.lane.number == MAIN_LANE || (3..=last).contains(&packet_type) {
            return Ok(());
        }
        Err(Violation::new(
            ReasonCode::ProtocolError,
            "a data stream carries PUBLISH, SUBSCRIBE, UNSUBSCRIBE and what acknowledges them",
        ))
    }
}

/// What ends the stream only; other ends are those of the connection.
fn only_the_stream(end: End) -> Result<Turn, End> {
    match end {
        End::PeerClosed | End::Stream(..) => Ok(Turn::Over),
        other => Err(other),
    }
}
