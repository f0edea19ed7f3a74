//! What a committer counts: how long the store takes, and how much shares one write. Deliberately absent: names and
//! formats of metrics.

use crate::backend::Usage;

const BUCKETS: usize = 40;

/// How often values came, by powers of two: enough to tell a millisecond from ten, in 40 numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            sum: 0,
        }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value of each bucket, and how many values were at most that; up to the last bucket with one.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let last = self.counts.iter().rposition(|count| *count > 0);
        let used = last.map_or(0, |last| last + 1);
        let mut below = 0;
        self.counts[..used]
            .iter()
            .enumerate()
            .map(move |(bucket, count)| {
                below += count;
                ((1_u64 << bucket) - 1, below)
            })
    }

    /// The largest value of the bucket in which `share` (0 to 1) of all values are reached; 0 without values.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.count() as f64 * share).ceil().max(1.0);
        self.buckets()
            .find(|(_, below)| *below as f64 >= wanted)
            .map_or(0, |(largest, _)| largest)
    }
}

/// What a committer and its store have done since they were opened; zero where they do not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitStats {
    /// Of each commit, the microseconds that writing and syncing took.
    pub commit_micros: Histogram,
    /// Of each commit, how many submitted batches it made safe.
    pub batches: Histogram,
    /// Rows written and deleted, those that make a batch whole included.
    pub records: u64,
    /// Attempts that a full or absent store refused.
    pub stalls: u64,
    /// Bytes submitted and not yet committed.
    pub backlog_bytes: u64,
    /// What the store takes.
    pub usage: Usage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_by_powers_of_two() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.count(), histogram.quantile(0.5)), (0, 0));
        for value in [0, 1, 2, 3, 4, 1000, u64::MAX] {
            histogram.record(value);
        }
        assert_eq!(histogram.count(), 7);
        assert_eq!(histogram.sum(), u64::MAX);
        let buckets: Vec<_> = histogram.buckets().take(5).collect();
        assert_eq!(buckets, [(0, 1), (1, 2), (3, 4), (7, 5), (15, 5)]);
        let check = |share: f64, expect: u64| {
            assert_eq!(histogram.quantile(share), expect, "{share}");
        };
        check(0.0, 0);
        check(0.5, 3);
        check(0.8, 1023);
        check(1.0, (1 << (BUCKETS - 1)) - 1);
    }
}
