//! A broker's session and a model client joined in memory, with a virtual clock and every fault a named
//! probability. For tests and fuzzing only (feature `model`).
//!
//! The model is naive on purpose: it keeps everything in plain vectors and compares at the end. A failing run is
//! one seed. Deliberately absent: topics' matching, more than one session, real time.

mod client;
mod pair;
mod uplink;

#[cfg(test)]
mod tests;

pub use pair::{Options, Pair, Violation};

/// Where decisions come from: a seed in tests, the fuzzer's bytes in fuzzing.
pub trait Random {
    /// A number below `n`, which is not 0.
    fn below(&mut self, n: u32) -> u32;

    /// `true` so many times in a thousand.
    fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1_000) < per_mille
    }
}

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Seed(pub u64);

impl Random for Seed {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % u64::from(n.max(1))) as u32
    }
}

/// Decisions from given bytes; zero when they have run out.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// Whether all bytes are used up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Random for Bytes<'_> {
    fn below(&mut self, n: u32) -> u32 {
        let take = if n <= 256 { 1 } else { 2 };
        let (bytes, rest) = self.0.split_at(take.min(self.0.len()));
        self.0 = rest;
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte))
            % n.max(1)
    }
}

/// What goes wrong, each so many times in a thousand steps.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The connection is cut; what was on its way is lost from some point on, in both directions.
    pub cut: u32,
    /// The client connects again while the broker still holds the old connection.
    pub second_connection: u32,
    /// The broker loses everything that is not committed (durable sessions only).
    pub restart: u32,
    /// The socket takes nothing for this step.
    pub slow_socket: u32,
    /// The store commits nothing in this step.
    pub slow_store: u32,
    /// An acknowledgement overtakes another.
    pub reorder: u32,
    /// The client refuses a message with an error (MQTT 5).
    pub refuse: u32,
    /// The client sends the same PUBREC again.
    pub repeat_pubrec: u32,
    /// The client acknowledges an identifier that it never got.
    pub stray_ack: u32,
    /// The client comes back with another Receive Maximum, alias maximum or packet limit.
    pub change_limits: u32,
}

impl Faults {
    /// A perfect day.
    pub const NONE: Self = Self {
        cut: 0,
        second_connection: 0,
        restart: 0,
        slow_socket: 0,
        slow_store: 0,
        reorder: 0,
        refuse: 0,
        repeat_pubrec: 0,
        stray_ack: 0,
        change_limits: 0,
    };

    /// Everything, all the time.
    pub const OFTEN: Self = Self {
        cut: 150,
        second_connection: 100,
        restart: 100,
        slow_socket: 500,
        slow_store: 700,
        reorder: 500,
        refuse: 100,
        repeat_pubrec: 300,
        stray_ack: 100,
        change_limits: 800,
    };

    /// A bad one.
    pub const ALL: Self = Self {
        cut: 20,
        second_connection: 10,
        restart: 10,
        slow_socket: 300,
        slow_store: 500,
        reorder: 200,
        refuse: 20,
        repeat_pubrec: 30,
        stray_ack: 10,
        change_limits: 300,
    };
}
