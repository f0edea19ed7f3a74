//! Rates of messages and bytes: buckets that any number of connections may share, and the meter of one connection.
//!
//! A bucket is one atomic number, so that sharing it takes no lock; a connection that no rate concerns has no meter.
//! Deliberately absent: waiting, and what is said to whom (`connection::metered`); bodies of messages, of which only
//! lengths are looked at.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use martlet_session::Chunk;
use martlet_storage::Timestamp;

use crate::{
    config::{Rate, RateExceeded},
    counters::Limit,
};

const NANOS_PER_MILLI: u64 = 1_000_000;
/// What may pass at once: as much as in this time.
const BURST_NANOS: u64 = 1_000_000_000;
/// Bytes admitted to a socket at once.
const OUTPUT_STEP: usize = 64 << 10;

/// Something of which a certain amount may pass in a second.
///
/// It keeps the time at which all that has passed would have passed at an even pace (the generic cell rate
/// algorithm), which may be a second ahead. What is larger than that passes when nothing is ahead, and is paid for
/// afterwards.
#[derive(Debug)]
struct Bucket {
    per_second: u64,
    /// In nanoseconds of the broker's clock.
    even: AtomicU64,
}

impl Bucket {
    fn new(per_second: u64) -> Option<Self> {
        (per_second > 0).then_some(Self {
            per_second,
            even: AtomicU64::new(0),
        })
    }

    /// Milliseconds until so much may pass; 0 for now.
    fn wait_millis(&self, now: Timestamp, amount: usize) -> u64 {
        let now = now.as_millis().saturating_mul(NANOS_PER_MILLI);
        let ahead = self.even.load(Ordering::Relaxed).saturating_sub(now);
        let cost = self.cost(amount).min(BURST_NANOS);
        let over = ahead.saturating_add(cost).saturating_sub(BURST_NANOS);
        over.div_ceil(NANOS_PER_MILLI)
    }

    /// How long it takes to pass at an even pace, in nanoseconds.
    fn cost(&self, amount: usize) -> u64 {
        let cost = amount as u128 * 1_000_000_000 / u128::from(self.per_second);
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    fn charge(&self, now: Timestamp, amount: usize) {
        let now = now.as_millis().saturating_mul(NANOS_PER_MILLI);
        let cost = self.cost(amount);
        let add = |even: u64| Some(even.max(now).saturating_add(cost));
        // It always adds, so it never fails.
        let _ = self
            .even
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// The buckets of one direction.
#[derive(Debug)]
struct Direction {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Direction {
    fn new(messages: u32, bytes: u64) -> Option<Self> {
        let direction = Self {
            messages: Bucket::new(messages.into()),
            bytes: Bucket::new(bytes),
        };
        (direction.messages.is_some() || direction.bytes.is_some()).then_some(direction)
    }

    /// The bucket that a packet has to wait for, by what it is of, and for how long; the longest wait.
    fn wait(&self, is_message: bool, bytes: usize, now: Timestamp) -> Option<(&'static str, u64)> {
        let messages = self.messages.as_ref().filter(|_| is_message);
        let waits = [
            ("messages", messages, 1),
            ("bytes", self.bytes.as_ref(), bytes),
        ];
        waits
            .into_iter()
            .filter_map(|(what, bucket, amount)| Some((what, bucket?.wait_millis(now, amount))))
            .filter(|(_, millis)| *millis > 0)
            .max_by_key(|(_, millis)| *millis)
    }

    fn charge(&self, is_message: bool, bytes: usize, now: Timestamp) {
        if let Some(bucket) = self.messages.as_ref().filter(|_| is_message) {
            bucket.charge(now, 1);
        }
        if let Some(bucket) = &self.bytes {
            bucket.charge(now, bytes);
        }
    }
}

/// The buckets of a client, of a user, or of a listener.
#[derive(Debug)]
pub(crate) struct Scope {
    limit: Limit,
    input: Option<Direction>,
    output: Option<Direction>,
}

impl Scope {
    /// `None` where nothing is bounded.
    pub(crate) fn new(limit: Limit, rate: &Rate) -> Option<Arc<Self>> {
        (!rate.is_unbounded()).then(|| {
            Arc::new(Self {
                limit,
                input: Direction::new(rate.messages_in, rate.bytes_in),
                output: Direction::new(rate.messages_out, rate.bytes_out),
            })
        })
    }
}

/// Why a packet has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Whose rate it is.
    pub(crate) limit: Limit,
    /// `messages` or `bytes`.
    pub(crate) what: &'static str,
    pub(crate) millis: u64,
}

/// What one connection is charged to.
#[derive(Debug)]
pub(crate) struct Meter {
    input: Vec<Arc<Scope>>,
    output: Vec<Arc<Scope>>,
    pub(crate) exceeded: RateExceeded,
    /// Bytes at the front of the output that were charged and are not yet written: whole packets when all is written.
    admitted: usize,
    /// Whether its waiting was logged.
    told: AtomicBool,
}

impl Meter {
    /// `None` where no rate concerns the connection.
    pub(crate) fn new(
        scopes: impl IntoIterator<Item = Arc<Scope>>,
        exceeded: RateExceeded,
    ) -> Option<Self> {
        let scopes: Vec<_> = scopes.into_iter().collect();
        let with = |has: fn(&Scope) -> bool| scopes.iter().filter(|s| has(s)).cloned().collect();
        let meter = Self {
            input: with(|scope| scope.input.is_some()),
            output: with(|scope| scope.output.is_some()),
            exceeded,
            admitted: 0,
            told: AtomicBool::new(false),
        };
        (!scopes.is_empty()).then_some(meter)
    }

    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether this is the first wait that is to be spoken of.
    pub(crate) fn tells(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// Takes a packet from the client in, or says what it has to wait for.
    pub(crate) fn take_in(
        &self,
        is_message: bool,
        bytes: usize,
        now: Timestamp,
    ) -> Result<(), Wait> {
        pass(&self.input, |scope| &scope.input, is_message, bytes, now)
    }

    /// How many bytes of `chunk`, which begins where the last call and [`Meter::wrote`] have left it, may be written.
    pub(crate) fn let_out(&mut self, chunk: &Chunk, now: Timestamp) -> Result<usize, Wait> {
        while self.admitted < OUTPUT_STEP {
            let mut head = [0; 5];
            let have = chunk.peek(self.admitted, &mut head);
            let Some((is_message, bytes)) = packet(&head[..have]) else {
                // Nothing is left; were it something else than packets, it would not be for us to hold back.
                self.admitted = chunk.len();
                break;
            };
            match pass(&self.output, |scope| &scope.output, is_message, bytes, now) {
                Ok(()) => self.admitted += bytes,
                Err(_) if self.admitted > 0 => break,
                Err(wait) => return Err(wait),
            }
        }
        Ok(self.admitted)
    }

    /// Goes on with another chunk, which `admitted` is about, and returns what was let out of this one.
    pub(crate) fn swap_admitted(&mut self, admitted: &mut usize) {
        std::mem::swap(&mut self.admitted, admitted);
    }

    /// So much was written.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.admitted = self.admitted.saturating_sub(bytes);
    }
}

/// Charges a packet to all `scopes` if none makes it wait.
fn pass(
    scopes: &[Arc<Scope>],
    direction: impl Fn(&Scope) -> &Option<Direction>,
    is_message: bool,
    bytes: usize,
    now: Timestamp,
) -> Result<(), Wait> {
    for scope in scopes {
        let wait = direction(scope)
            .as_ref()
            .and_then(|direction| direction.wait(is_message, bytes, now));
        if let Some((what, millis)) = wait {
            return Err(Wait {
                limit: scope.limit,
                what,
                millis,
            });
        }
    }
    for scope in scopes {
        if let Some(direction) = direction(scope) {
            direction.charge(is_message, bytes, now);
        }
    }
    Ok(())
}

/// Whether an encoded packet is a PUBLISH, and its length; `None` where there is none.
fn packet(head: &[u8]) -> Option<(bool, usize)> {
    let (first, rest) = head.split_first()?;
    let mut len = 0;
    for (at, byte) in rest.iter().enumerate() {
        len |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((first >> 4 == 3, 2 + at + len));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use martlet_session::OutBuf;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    fn scope(messages: u32, bytes: u64) -> Arc<Scope> {
        let rate = Rate {
            messages_in: messages,
            bytes_in: bytes,
            messages_out: messages,
            bytes_out: bytes,
        };
        Scope::new(Limit::RateClient, &rate).expect("bounded")
    }

    fn meter(scopes: Vec<Arc<Scope>>) -> Meter {
        Meter::new(scopes, RateExceeded::Wait).expect("bounded")
    }

    #[test]
    fn a_second_at_once_and_then_at_the_rate() {
        // Messages a second | taken in the first instant | taken in the ten seconds after it, tried each millisecond.
        for (rate, burst, later) in [(1, 1, 10), (10, 10, 100), (1_000, 1_000, 10_000)] {
            let meter = meter(vec![scope(rate, 0)]);
            let taken = |now| {
                let mut taken = 0;
                while taken < 5_000 && meter.take_in(true, 9, now).is_ok() {
                    taken += 1;
                }
                taken
            };
            assert_eq!(taken(at(0)), burst, "{rate}");
            let sum: u32 = (1..=10_000).map(|millis| taken(at(millis))).sum();
            assert_eq!(sum, later, "{rate}");
        }
    }

    #[test]
    fn the_wait_that_is_named_is_long_enough_and_not_too_long() {
        let meter = meter(vec![scope(3, 0)]);
        let mut now = 0;
        for _ in 0..100 {
            match meter.take_in(true, 9, at(now)) {
                Ok(()) => {}
                Err(wait) => {
                    assert_eq!(
                        meter.take_in(true, 9, at(now + wait.millis - 1)),
                        Err(Wait { millis: 1, ..wait })
                    );
                    now += wait.millis;
                    assert_eq!(meter.take_in(true, 9, at(now)), Ok(()));
                }
            }
        }
        assert!((32_000..33_400).contains(&now), "{now}");
    }

    #[test]
    fn a_large_packet_passes_and_is_paid_for_afterwards() {
        let meter = meter(vec![scope(0, 1_000)]);
        assert_eq!(meter.take_in(true, 10_000, at(0)), Ok(()));
        let wait = meter
            .take_in(false, 2, at(0))
            .expect_err("other packets wait too");
        assert_eq!((wait.what, wait.millis), ("bytes", 9_002));
        assert_eq!(meter.take_in(true, 1, at(9_001)), Ok(()));
    }

    #[test]
    fn only_messages_are_counted_as_messages() {
        let meter = meter(vec![scope(1, 0)]);
        assert_eq!(meter.take_in(true, 9, at(0)), Ok(()));
        assert_eq!(meter.take_in(false, 9, at(0)), Ok(()));
        assert!(meter.take_in(true, 9, at(0)).is_err());
    }

    #[test]
    fn those_who_share_a_bucket_share_its_rate_and_are_charged_only_for_what_passed() {
        let shared = scope(10, 0);
        let (a, b) = (
            meter(vec![scope(2, 0), Arc::clone(&shared)]),
            meter(vec![shared]),
        );
        let takes = |meter: &Meter| {
            let tries = (0..100).filter(|_| meter.take_in(true, 9, at(0)).is_ok());
            tries.count()
        };
        assert_eq!((takes(&a), takes(&b)), (2, 8));
    }

    #[test]
    fn output_leaves_in_whole_packets_however_it_is_written() {
        let mut out = OutBuf::new();
        // PUBLISH, PINGRESP, PUBLISH, PUBLISH.
        for bytes in [
            &[0x30, 3, 0, 1, b't'][..],
            &[0xD0, 0],
            &[0x30, 3, 0, 1, b't'],
        ] {
            out.put(bytes);
        }
        let mut long = vec![0x30, 0x80, 0x01];
        long.resize(3 + 128, 0);
        out.put(&long);
        let mut chunk = out.take(Vec::new());
        let mut meter = meter(vec![scope(1, 0)]);
        assert_eq!(meter.let_out(&chunk, at(0)), Ok(7), "PUBLISH and PINGRESP");
        chunk.advance(6);
        meter.wrote(6);
        assert_eq!(meter.let_out(&chunk, at(0)), Ok(1), "the rest of it");
        chunk.advance(1);
        meter.wrote(1);
        let wait = meter.let_out(&chunk, at(0)).expect_err("one a second");
        assert_eq!(meter.let_out(&chunk, at(wait.millis)), Ok(5));
        chunk.advance(5);
        meter.wrote(5);
        assert_eq!(meter.let_out(&chunk, at(wait.millis + 1_000)), Ok(131));
        chunk.advance(131);
        meter.wrote(131);
        assert_eq!(meter.let_out(&chunk, at(60_000)), Ok(0), "nothing is left");
    }
}
