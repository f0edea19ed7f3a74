//! What all clients of a run share: streams, windows, the verdict, counters and the clock.
//!
//! A *stream* is what one publisher sends towards one receiver, or one group of receivers: the unit of order. A *flow*
//! is how far a publisher is ahead of its receivers. One thread owns all of it, so that nothing here is atomic.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::payload::Header;
use crate::verdict::{Breach, Verdict};

/// Latencies are kept from a microsecond to ten minutes with three digits.
const LATENCY_MAX_MICROS: u64 = 600_000_000;
const LATENCY_DIGITS: u8 = 3;

/// Messages of one stream that may be on their way to several recipients.
pub(crate) const PENDING_MAX: usize = 1 << 16;

/// A topic name, or a family of topic names with a number of fixed width in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    /// What comes before the number.
    pub(crate) prefix: String,
    /// Decimal digits of the number; 0 for a topic without one.
    pub(crate) digits: usize,
    /// What comes after the number.
    pub(crate) suffix: String,
}

impl Topic {
    pub(crate) fn plain(name: String) -> Self {
        Self {
            prefix: name,
            digits: 0,
            suffix: String::new(),
        }
    }

    /// The name with `number` in it.
    pub(crate) fn name(&self, number: u32) -> String {
        let Self {
            prefix,
            digits,
            suffix,
        } = self;
        if *digits == 0 {
            return prefix.clone();
        }
        format!("{prefix}{number:0digits$}{suffix}")
    }

    /// Whether `name` is the name with `number` in it.
    #[inline]
    pub(crate) fn is(&self, name: &str, number: u32) -> bool {
        let Some(rest) = name.strip_prefix(self.prefix.as_str()) else {
            return false;
        };
        if self.digits == 0 {
            return rest.is_empty();
        }
        let Some((digits, suffix)) = rest.as_bytes().split_at_checked(self.digits) else {
            return false;
        };
        let value = digits.iter().fold(0_u64, |value, &digit| {
            value * 10 + u64::from(digit.wrapping_sub(b'0'))
        });
        suffix == self.suffix.as_bytes() && value == u64::from(number)
    }
}

/// Writes `number` as decimal digits that fill `place`.
#[inline]
pub(crate) fn put_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// What one publisher sends towards one receiver or group of receivers.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Index of the publisher's flow.
    pub(crate) flow: u32,
    /// Deliveries that each message makes.
    pub(crate) recipients: u32,
    /// What its topics look like.
    pub(crate) topic: Topic,
    /// Messages sent so far.
    pub(crate) sent: u32,
    /// For streams with more than one recipient: how many a message still has to reach, by sequence number modulo
    /// the length.
    pending: Vec<u32>,
    /// For streams whose messages may come in any order, or through any of several receivers: which have come.
    seen: Option<Vec<u64>>,
}

impl Stream {
    pub(crate) fn new(flow: u32, recipients: u32, topic: Topic) -> Self {
        Self {
            flow,
            recipients,
            topic,
            sent: 0,
            pending: Vec::new(),
            seen: None,
        }
    }

    /// The same, for messages that are accounted one by one instead of by order.
    pub(crate) fn accounted(mut self) -> Self {
        self.seen = Some(Vec::new());
        self
    }

    /// How many of the messages sent were never seen; `None` for a stream that is judged by order.
    pub(crate) fn unseen(&self) -> Option<u32> {
        let seen = self.seen.as_ref()?;
        let count: u32 = seen.iter().map(|word| word.count_ones()).sum();
        Some(self.sent.saturating_sub(count))
    }
}

/// How far a publisher is ahead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow {
    /// Most messages it may be ahead.
    pub(crate) window: u32,
    /// Messages that have not reached all their recipients.
    pub(crate) undelivered: u32,
    /// Messages whose handshake is not over (QoS 1 and 2).
    pub(crate) unacknowledged: u32,
    /// The connection that publishes.
    pub(crate) connection: u32,
    /// Whether that connection is in [`Shared::wake`].
    pub(crate) woken: bool,
}

impl Flow {
    /// Messages that may be sent now.
    #[inline]
    pub(crate) fn room(&self) -> u32 {
        self.window
            .saturating_sub(self.undelivered.max(self.unacknowledged))
    }
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Messages published.
    pub(crate) sent: u64,
    /// Messages that arrived, each receiver counted.
    pub(crate) delivered: u64,
    /// Publications whose handshake is over.
    pub(crate) acknowledged: u64,
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gate {
    /// Nothing.
    Shut,
    /// As much as windows and sockets take.
    Open,
    /// What is due, with the time between two messages of all publishers, and when the first one was due.
    Paced {
        /// Nanoseconds.
        interval: f64,
        /// Nanoseconds since the run began.
        begin: u64,
    },
}

/// State of a run that any client may touch.
pub(crate) struct Shared {
    epoch: Instant,
    pub(crate) payload: usize,
    pub(crate) gate: Gate,
    pub(crate) flows: Vec<Flow>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) counters: Counters,
    pub(crate) verdict: Verdict,
    /// From the time a message was due to its arrival, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// From the time a message was due to the end of its handshake, in microseconds.
    pub(crate) acknowledgement: Histogram<u64>,
    /// Messages due before this are not in the histograms.
    pub(crate) measured_from: u64,
    /// Connections whose publisher may go on.
    pub(crate) wake: Vec<u32>,
    /// The time that handlers of one turn go by, in nanoseconds since the run began.
    pub(crate) now: u64,
}

impl Shared {
    pub(crate) fn new(payload: usize) -> Result<Self, Failure> {
        let histogram = || {
            let mut histogram = Histogram::new_with_max(LATENCY_MAX_MICROS, LATENCY_DIGITS)
                .map_err(|error| Failure::Options(error.to_string()))?;
            histogram.auto(true);
            Ok(histogram)
        };
        Ok(Self {
            epoch: Instant::now(),
            payload,
            gate: Gate::Shut,
            flows: Vec::new(),
            streams: Vec::new(),
            counters: Counters::default(),
            verdict: Verdict::default(),
            latency: histogram()?,
            acknowledgement: histogram()?,
            measured_from: u64::MAX,
            wake: Vec::new(),
            now: 0,
        })
    }

    /// Reads the clock.
    pub(crate) fn tick(&mut self) -> u64 {
        self.now = self.epoch.elapsed().as_nanos() as u64;
        self.now
    }

    /// Notes that `stream` has sent its next message.
    #[inline]
    pub(crate) fn sent(&mut self, stream: u32, acknowledged: bool) -> u32 {
        let stream = &mut self.streams[stream as usize];
        let flow = &mut self.flows[stream.flow as usize];
        let sequence = stream.sent;
        stream.sent += 1;
        self.counters.sent += 1;
        if stream.recipients > 0 {
            flow.undelivered += 1;
        }
        if stream.recipients > 1 {
            if stream.pending.is_empty() {
                let len = (flow.window as usize)
                    .clamp(1, PENDING_MAX)
                    .next_power_of_two();
                stream.pending = vec![0; len];
            }
            let slot = sequence as usize & (stream.pending.len() - 1);
            stream.pending[slot] = stream.recipients;
        }
        if acknowledged {
            flow.unacknowledged += 1;
        }
        sequence
    }

    /// Judges an arrival that is in the order of its kind, and lets the publisher go on.
    #[inline]
    pub(crate) fn arrived(&mut self, receiver: u32, header: &Header) {
        self.counters.delivered += 1;
        if header.time >= self.measured_from {
            let micros = self.now.saturating_sub(header.time) / 1_000;
            self.latency.saturating_record(micros);
        }
        let stream = &mut self.streams[header.stream as usize];
        if header.sequence >= stream.sent {
            self.verdict.add(Breach::Misdirected, 1, || {
                format!("receiver {receiver}: {header:?} was never sent")
            });
            return;
        }
        if let Some(seen) = &mut stream.seen {
            let (word, bit) = (header.sequence as usize / 64, 1 << (header.sequence % 64));
            if seen.len() <= word {
                seen.resize(word + 1, 0);
            }
            if seen[word] & bit != 0 {
                self.verdict.add(Breach::Doubled, 1, || {
                    format!("receiver {receiver}: {header:?} had arrived before")
                });
                return;
            }
            seen[word] |= bit;
        }
        if stream.recipients == 0 {
            return;
        }
        if stream.recipients > 1 {
            let slot = header.sequence as usize & (stream.pending.len() - 1);
            stream.pending[slot] = stream.pending[slot].saturating_sub(1);
            if stream.pending[slot] > 0 {
                return;
            }
        }
        let flow = stream.flow;
        let state = &mut self.flows[flow as usize];
        state.undelivered = state.undelivered.saturating_sub(1);
        self.resume(flow);
    }

    /// Notes that the handshake of a publication is over.
    #[inline]
    pub(crate) fn acknowledged(&mut self, flow: u32, due: u64) {
        self.counters.acknowledged += 1;
        if due >= self.measured_from {
            let micros = self.now.saturating_sub(due) / 1_000;
            self.acknowledgement.saturating_record(micros);
        }
        let state = &mut self.flows[flow as usize];
        state.unacknowledged = state.unacknowledged.saturating_sub(1);
        self.resume(flow);
    }

    /// Wakes a publisher once half of its window is free again, so that a full one goes on in batches, as a socket does.
    #[inline]
    fn resume(&mut self, flow: u32) {
        let flow = &mut self.flows[flow as usize];
        if !flow.woken && flow.room() >= (flow.window / 2).max(1) {
            flow.woken = true;
            self.wake.push(flow.connection);
        }
    }

    /// Everything that has been sent is going to arrive once more.
    pub(crate) fn forget_arrivals(&mut self) {
        for stream in &mut self.streams {
            stream.seen.iter_mut().for_each(Vec::clear);
        }
    }

    /// When all is over: notes what never came of the streams that are accounted one by one.
    pub(crate) fn settle(&mut self) {
        for (index, stream) in self.streams.iter().enumerate() {
            let unseen = stream.unseen().unwrap_or(0);
            if unseen > 0 {
                self.verdict.add(Breach::Lost, u64::from(unseen), || {
                    format!("stream {index}: {unseen} of {} never came", stream.sent)
                });
            }
        }
    }

    /// Messages that still have to arrive or to be acknowledged.
    pub(crate) fn outstanding(&self) -> u64 {
        let of = |flow: &Flow| u64::from(flow.undelivered.max(flow.unacknowledged));
        self.flows.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_with_numbers() {
        let topic = Topic {
            prefix: "a/".into(),
            digits: 5,
            suffix: "/b".into(),
        };
        assert_eq!(topic.name(42), "a/00042/b");
        assert!(topic.is("a/00042/b", 42));
        for wrong in [
            "a/00043/b",
            "a/0042/b",
            "a/00042/c",
            "a/00042",
            "b/00042/b",
            "a/0004x/b",
        ] {
            assert!(!topic.is(wrong, 42), "{wrong}");
        }
        assert!(Topic::plain("a/b".into()).is("a/b", 0));
        assert!(!Topic::plain("a/b".into()).is("a/bc", 0));
        let mut digits = *b"xxxx";
        put_digits(&mut digits, 123);
        assert_eq!(&digits, b"0123");
    }

    #[test]
    fn a_window_opens_when_the_last_recipient_has_a_message() {
        let mut shared = Shared::new(64).expect("bounds are right");
        shared.flows.push(Flow {
            window: 2,
            ..Flow::default()
        });
        shared
            .streams
            .push(Stream::new(0, 2, Topic::plain("t".into())));
        for sequence in 0..2 {
            assert_eq!(shared.sent(0, false), sequence);
        }
        assert_eq!(shared.flows[0].room(), 0);
        let header = |sequence| Header {
            stream: 0,
            sequence,
            time: 0,
            number: 0,
        };
        shared.arrived(0, &header(0));
        assert_eq!((shared.flows[0].room(), shared.wake.len()), (0, 0));
        shared.arrived(1, &header(0));
        assert_eq!((shared.flows[0].room(), shared.wake.len()), (1, 1));
        assert_eq!(shared.outstanding(), 1);
    }

    #[test]
    fn accounted_streams_notice_what_comes_twice_and_what_never_came() {
        let mut shared = Shared::new(64).expect("bounds are right");
        shared.flows.push(Flow::default());
        shared
            .streams
            .push(Stream::new(0, 1, Topic::plain("t".into())).accounted());
        for _ in 0..3 {
            shared.sent(0, false);
        }
        for sequence in [2, 0, 2] {
            let header = Header {
                stream: 0,
                sequence,
                time: 0,
                number: 0,
            };
            shared.arrived(0, &header);
        }
        assert_eq!(shared.verdict.count(Breach::Doubled), 1);
        assert_eq!(shared.streams[0].unseen(), Some(1));
    }
}
