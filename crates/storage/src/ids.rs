//! Identities and time. Deliberately absent: where they come from; clocks and counters are the broker's.

/// Milliseconds since the Unix epoch, from the clock that was handed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Saturating.
    pub const fn plus_secs(self, secs: u32) -> Self {
        Self(self.0.saturating_add(secs as u64 * 1000))
    }

    /// Saturating.
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Whole seconds from `self` until `later`, rounded up; 0 when it has passed.
    pub const fn secs_until(self, later: Self) -> u32 {
        let left = later.0.saturating_sub(self.0).div_ceil(1000);
        if left > u32::MAX as u64 {
            u32::MAX
        } else {
            left as u32
        }
    }

    /// Milliseconds since `earlier`; 0 when that lies ahead.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One incarnation of a session; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// No session: the broker itself.
    pub const NONE: Self = Self(0);

    /// The identity with this number.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Identity of a stored message; grows with time, never reused. Queues are restored in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

impl MessageId {
    /// Not stored.
    pub const NONE: Self = Self(0);

    /// The identity with this number.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Position in the stream of committed batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Before the first batch.
    pub const ZERO: Self = Self(0);

    /// The position with this number.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_left_round_up_and_end_at_zero() {
        let check = |from: u64, until: u64, expect: u32| {
            assert_eq!(
                Timestamp::from_millis(from).secs_until(Timestamp::from_millis(until)),
                expect,
                "{from} to {until}"
            );
        };
        check(0, 0, 0);
        check(0, 1, 1);
        check(0, 1_000, 1);
        check(1, 1_000, 1);
        check(0, 1_001, 2);
        check(2_000, 1_000, 0);
        check(0, u64::MAX, u32::MAX);
    }
}
