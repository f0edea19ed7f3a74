//! How often the log tells of one client's refused requests, and of connections that never became clients. A client that is refused goes on as it likes, and must not
//! fill a disk or hide everybody else's lines by it.
//!
//! Deliberately absent: the lines themselves, and violations that end the connection: those come once.

use martlet_storage::Timestamp;

/// Lines in a row.
const BURST: u8 = 10;
/// After that, one line in this time.
const REFILL_MILLIS: u64 = 1_000;

/// What one connection, or all that never became clients, may still log.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// Lines written that count against the burst.
    used: u8,
    held_back: u32,
    /// When `used` last went down.
    since: Timestamp,
}

impl Complaints {
    /// Whether a line may be written at `now`: then how many were held back since the last one.
    pub(crate) fn line(&mut self, now: Timestamp) -> Option<u32> {
        let passed = now.as_millis().saturating_sub(self.since.as_millis()) / REFILL_MILLIS;
        if passed > 0 {
            self.used = self
                .used
                .saturating_sub(u8::try_from(passed).unwrap_or(u8::MAX));
            self.since = now;
        }
        if self.used == BURST {
            self.held_back = self.held_back.saturating_add(1);
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    #[test]
    fn ten_lines_in_a_row_then_one_a_second_that_counts_the_rest() {
        let mut complaints = Complaints::default();
        for _ in 0..BURST {
            assert_eq!(complaints.line(at(0)), Some(0));
        }
        for _ in 0..3_000 {
            assert_eq!(complaints.line(at(999)), None);
        }
        assert_eq!(complaints.line(at(1_000)), Some(3_000));
        assert_eq!(complaints.line(at(1_001)), None);
        assert_eq!(complaints.line(at(2_500)), Some(1));
        assert_eq!(complaints.line(at(2_600)), None);
    }

    #[test]
    fn silence_gives_the_burst_back() {
        let mut complaints = Complaints::default();
        while complaints.line(at(0)).is_some() {}
        assert_eq!(complaints.line(at(3_600_000)), Some(1));
        for _ in 1..BURST {
            assert_eq!(complaints.line(at(3_600_000)), Some(0));
        }
        assert_eq!(complaints.line(at(3_600_000)), None);
    }
}
