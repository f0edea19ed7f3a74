//! How much memory the process takes, and whether that is too much.
//!
//! What counts is resident memory as the kernel sees it, the figure that decides whether a process is killed.
//! Known on Linux only. Deliberately absent: an allocator that counts, and the decision what to shed.

use std::{
    fs::File,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// The mark is left only when memory falls below this share of it, in percent. Allocators give memory back in steps,
/// and a broker that refuses and admits in turn every second helps nobody.
const LEAVE_PERCENT: u64 = 95;

/// What the process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident memory, in bytes.
    pub(crate) resident: u64,
    /// The most resident memory since the process began, in bytes.
    pub(crate) maximum: u64,
    /// Threads.
    pub(crate) threads: u64,
}

/// Looks at memory when told to, and remembers for those who cannot wait.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Kept open: when descriptors run out, memory must still be watched.
    source: Option<File>,
    resident: AtomicU64,
    maximum: AtomicU64,
    threads: AtomicU64,
    high_water: AtomicU64,
    above: AtomicBool,
}

/// What a look at memory changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: as before.
    None,
    /// The mark was reached.
    Above,
    /// Memory is well below the mark again.
    Below,
}

impl Watch {
    /// `high_water` in bytes; 0 for no mark.
    pub(crate) fn new(high_water: u64) -> Self {
        let watch = Self::without_source(high_water);
        Self {
            source: File::open("/proc/self/status").ok(),
            ..watch
        }
    }

    fn without_source(high_water: u64) -> Self {
        Self {
            source: None,
            resident: AtomicU64::new(0),
            maximum: AtomicU64::new(0),
            threads: AtomicU64::new(0),
            high_water: AtomicU64::new(high_water),
            above: AtomicBool::new(false),
        }
    }

    /// Changes the mark; takes effect with the next [`Watch::poll`].
    pub(crate) fn set_high_water(&self, bytes: u64) {
        self.high_water.store(bytes, Relaxed);
    }

    /// Looks. For one caller, about once a second: reads a file that is never on a disk.
    pub(crate) fn poll(&self) -> Change {
        match self.source.as_ref().and_then(read) {
            Some(usage) => self.take_in(usage),
            None => Change::None,
        }
    }

    /// Whether the mark is reached. One relaxed load.
    pub(crate) fn is_above(&self) -> bool {
        self.above.load(Relaxed)
    }

    /// What the last look saw; `None` where memory cannot be looked at, or was not yet.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let usage = Usage {
            resident: self.resident.load(Relaxed),
            maximum: self.maximum.load(Relaxed),
            threads: self.threads.load(Relaxed),
        };
        (usage.resident > 0).then_some(usage)
    }

    fn take_in(&self, usage: Usage) -> Change {
        self.resident.store(usage.resident, Relaxed);
        // The kernel's own maximum is brought up to date in steps.
        self.maximum
            .fetch_max(usage.maximum.max(usage.resident), Relaxed);
        self.threads.store(usage.threads, Relaxed);
        let (mark, was_above) = (self.high_water.load(Relaxed), self.is_above());
        let leave = mark / 100 * LEAVE_PERCENT;
        let above = mark > 0 && usage.resident >= if was_above { leave } else { mark };
        self.above.store(above, Relaxed);
        match (was_above, above) {
            (false, true) => Change::Above,
            (true, false) => Change::Below,
            _ => Change::None,
        }
    }
}

#[cfg(unix)]
fn read(source: &File) -> Option<Usage> {
    use std::os::unix::fs::FileExt;

    // The file has about 1.5 KiB; what is wanted stands in its first half.
    let mut text = [0_u8; 4096];
    let len = source.read_at(&mut text, 0).ok()?;
    parse(&String::from_utf8_lossy(&text[..len]))
}

#[cfg(not(unix))]
fn read(_source: &File) -> Option<Usage> {
    None
}

/// Reads the lines `VmRSS`, `VmHWM` (both in KiB, whatever the page size) and `Threads`.
fn parse(status: &str) -> Option<Usage> {
    let number = |name: &str| -> Option<u64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let resident = number("VmRSS")?.checked_mul(1024)?;
    let maximum = number("VmHWM")
        .and_then(|kib| kib.checked_mul(1024))
        .unwrap_or(resident);
    Some(Usage {
        resident,
        maximum,
        threads: number("Threads").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_report_is_read() {
        fn check(status: &str, expected: Option<(u64, u64, u64)>) {
            let usage = parse(status).map(|usage| (usage.resident, usage.maximum, usage.threads));
            assert_eq!(usage, expected, "{status:?}");
        }
        check(
            "Name:\tmartlet\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB\nThreads:\t7\n",
            Some((204_800, 307_200, 7)),
        );
        check("VmRSS:\t200 kB\n", Some((204_800, 204_800, 0)));
        check("Name:\tVmRSS:\nThreads:\t7\n", None);
        check("VmRSS:\tmany kB\n", None);
        check("VmRSS:\t18446744073709551615 kB\n", None);
        check("", None);
    }

    #[test]
    fn the_mark_is_entered_at_its_value_and_left_well_below() {
        let watch = Watch::without_source(1_000);
        let see = |resident| {
            watch.take_in(Usage {
                resident,
                ..Usage::default()
            })
        };
        for (resident, change, above) in [
            (999, Change::None, false),
            (1_000, Change::Above, true),
            (2_000, Change::None, true),
            (999, Change::None, true),
            (950, Change::None, true),
            (949, Change::Below, false),
            (999, Change::None, false),
            (1_001, Change::Above, true),
        ] {
            assert_eq!(
                (see(resident), watch.is_above()),
                (change, above),
                "at {resident}"
            );
        }
        assert_eq!(
            watch.usage().map(|usage| (usage.resident, usage.maximum)),
            Some((1_001, 2_000))
        );
    }

    #[test]
    fn without_a_mark_nothing_is_too_much() {
        let watch = Watch::without_source(0);
        let huge = Usage {
            resident: u64::MAX,
            ..Usage::default()
        };
        assert_eq!(watch.take_in(huge), Change::None);
        watch.set_high_water(1);
        assert_eq!(watch.take_in(huge), Change::Above);
        watch.set_high_water(0);
        assert_eq!(watch.take_in(huge), Change::Below);
        assert!(!watch.is_above());
    }

    #[test]
    fn where_nothing_can_be_read_nothing_is_known() {
        let watch = Watch::without_source(1);
        assert_eq!(watch.poll(), Change::None);
        assert_eq!(watch.usage(), None);
        assert!(!watch.is_above());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_threads() {
        let watch = Watch::new(1);
        assert_eq!(watch.poll(), Change::Above);
        let usage = watch.usage().expect("read");
        assert!(
            usage.resident > 4_096 && usage.maximum >= usage.resident && usage.threads > 0,
            "{usage:?}"
        );
        watch.set_high_water(u64::MAX);
        assert_eq!(watch.poll(), Change::Below);
    }
}
