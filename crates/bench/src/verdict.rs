//! Which promises a run broke: counts, and the first case of each in words.
//!
//! A run with a verdict that is not clean has no figures: what a broker did fast and wrong is not worth a number.

use std::collections::HashSet;
use std::fmt;

/// Sequence numbers remembered as missing, to tell a late message from a doubled one. Beyond it both count as doubled.
const MISSING_MAX: usize = 100_000;

/// What went wrong with deliveries, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Breach {
    /// A message never arrived.
    Lost,
    /// A message arrived twice.
    Doubled,
    /// A message arrived after a later one of the same stream.
    Reordered,
    /// A payload is not what was sent.
    Corrupted,
    /// A message arrived where, or in a form in which, nobody asked for it: topic, QoS, flags.
    Misdirected,
    /// An acknowledgement that answers nothing, or reports an error.
    Acknowledgement,
}

impl Breach {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Lost,
        Self::Doubled,
        Self::Reordered,
        Self::Corrupted,
        Self::Misdirected,
        Self::Acknowledgement,
    ];

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Reordered => "out of order",
            Self::Corrupted => "corrupted",
            Self::Misdirected => "misdirected",
            Self::Acknowledgement => "wrong acknowledgements",
        }
    }
}

/// The breaches of one run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    counts: [u64; 6],
    first: [Option<String>; 6],
    /// (receiver, stream, sequence) that were skipped and may still come.
    missing: HashSet<(u32, u32, u32)>,
}

impl Verdict {
    /// How often `breach` happened.
    pub fn count(&self, breach: Breach) -> u64 {
        self.counts[breach as usize]
    }

    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }

    /// Notes `times` breaches; the words are made for the first only.
    pub(crate) fn add(&mut self, breach: Breach, times: u64, words: impl FnOnce() -> String) {
        let index = breach as usize;
        if self.first[index].is_none() {
            self.first[index] = Some(words());
        }
        self.counts[index] += times;
    }

    /// A receiver jumped from `from` to `to` in a stream: what lies between is lost until it comes late.
    pub(crate) fn skipped(&mut self, receiver: u32, stream: u32, from: u32, to: u32) {
        self.add(Breach::Lost, u64::from(to - from), || {
            format!("receiver {receiver}, stream {stream}: {to} came where {from} was due")
        });
        for sequence in from..to {
            if self.missing.len() >= MISSING_MAX {
                break;
            }
            self.missing.insert((receiver, stream, sequence));
        }
    }

    /// A receiver got a sequence number below the one that was due. Whether it is new to it all the same.
    pub(crate) fn earlier(&mut self, receiver: u32, stream: u32, sequence: u32, due: u32) -> bool {
        let late = self.missing.remove(&(receiver, stream, sequence));
        if late {
            let lost = &mut self.counts[Breach::Lost as usize];
            *lost = lost.saturating_sub(1);
            self.add(Breach::Reordered, 1, || {
                format!(
                    "receiver {receiver}, stream {stream}: {sequence} came after {}",
                    due - 1
                )
            });
        } else {
            self.add(Breach::Doubled, 1, || {
                format!("receiver {receiver}, stream {stream}: {sequence} came twice")
            });
        }
        late
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for breach in Breach::ALL {
            let count = self.count(breach);
            if count > 0 {
                write!(f, "{separator}{count} {}", breach.as_str())?;
                if let Some(first) = &self.first[breach as usize] {
                    write!(f, " ({first})")?;
                }
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("every promise kept")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_message_is_out_of_order_and_not_lost() {
        let mut verdict = Verdict::default();
        verdict.skipped(1, 2, 5, 7);
        assert_eq!(verdict.count(Breach::Lost), 2);
        verdict.earlier(1, 2, 5, 8);
        assert_eq!(verdict.count(Breach::Lost), 1);
        assert_eq!(verdict.count(Breach::Reordered), 1);
        verdict.earlier(1, 2, 5, 8);
        assert_eq!(verdict.count(Breach::Doubled), 1);
        assert!(!verdict.is_clean());
        assert_eq!(
            verdict.to_string(),
            "1 lost (receiver 1, stream 2: 7 came where 5 was due), \
             1 doubled (receiver 1, stream 2: 5 came twice), \
             1 out of order (receiver 1, stream 2: 5 came after 7)"
        );
    }
}
