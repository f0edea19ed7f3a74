//! What the kernel knows about a process: CPU time, resident memory and bytes written, its threads and child processes included.
//!
//! Linux only (`/proc`); elsewhere every question is answered with `None`, and a report says nothing about CPU.

use std::collections::BTreeMap;
use std::fs;

/// Child processes are looked for to this depth and number: a broker that spawns more is beyond this tool.
const PROCESSES_MAX: usize = 64;

/// The kernel counts `/proc/<pid>/stat` in hundredths of a second, on every architecture.
const TICK_NANOS: u64 = 10_000_000;

/// CPU time used so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuTime {
    /// Nanoseconds on a processor, by thread.
    threads: BTreeMap<u32, u64>,
    /// User and system time of the processes, threads that have ended included, in nanoseconds but coarse.
    coarse: u64,
}

impl CpuTime {
    /// Of process `pid`; `None` when there is no such process.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let mut time = Self::default();
        for process in family(pid) {
            let Some(coarse) = coarse(process) else {
                continue;
            };
            time.coarse += coarse;
            for thread in threads(process) {
                let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat"));
                let nanos = text
                    .ok()
                    .and_then(|text| text.split(' ').next()?.parse().ok());
                if let Some(nanos) = nanos {
                    time.threads.insert(thread, nanos);
                }
            }
        }
        (time.coarse > 0 || !time.threads.is_empty()).then_some(time)
    }

    /// Nanoseconds between `earlier` and this.
    ///
    /// Threads that ended in between are only in the coarse figure, so the larger one counts where they differ by more
    /// than its resolution.
    pub(crate) fn since(&self, earlier: &Self) -> u64 {
        let fine: u64 = self
            .threads
            .iter()
            .map(|(thread, nanos)| {
                nanos.saturating_sub(earlier.threads.get(thread).copied().unwrap_or(0))
            })
            .sum();
        let coarse = self.coarse.saturating_sub(earlier.coarse);
        if coarse > fine + 3 * TICK_NANOS {
            coarse
        } else {
            fine
        }
    }
}

/// Resident memory of `pid` and its child processes, in bytes.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let of = |process: u32| {
        // `smaps_rollup` walks the page tables and is exact; `status` may lag behind by a batch per thread.
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))
            .or_else(|_| fs::read_to_string(format!("/proc/{process}/status")))
            .ok()?;
        let line = text
            .lines()
            .find(|line| line.starts_with("Rss:") || line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    };
    family(pid)
        .into_iter()
        .filter_map(of)
        .reduce(|sum, bytes| sum + bytes)
}

/// Bytes that `pid` and its child processes had the kernel write to disks so far, in whole pages. Only for whom that is
/// told: the owner of the process, as a rule.
pub(crate) fn written(pid: u32) -> Option<u64> {
    let of = |process: u32| {
        let text = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
        let line = text.lines().find(|line| line.starts_with("write_bytes:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    family(pid)
        .into_iter()
        .filter_map(of)
        .reduce(|sum, bytes| sum + bytes)
}

/// `pid` and its descendants.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() && found.len() < PROCESSES_MAX {
        let process = found[next];
        next += 1;
        for thread in threads(process) {
            let path = format!("/proc/{process}/task/{thread}/children");
            let text = fs::read_to_string(path).unwrap_or_default();
            found.extend(
                text.split_whitespace()
                    .filter_map(|word| word.parse::<u32>().ok()),
            );
        }
    }
    found
}

fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn coarse(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; the last one closes it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // utime and stime are fields 14 and 15 of the line; what follows the name begins with field 3.
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some((ticks(14)? + ticks(15)?) * TICK_NANOS)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn this_process_uses_time_and_memory() {
        let pid = std::process::id();
        let before = CpuTime::of(pid).expect("the process exists");
        let begin = Instant::now();
        let mut sum = 0_u64;
        while begin.elapsed() < Duration::from_millis(100) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(CpuTime::of(pid).expect("it still does").since(&before) > 0);
        assert!(resident(pid) > Some(100_000));
        assert!(written(pid).is_some());
    }

    #[test]
    fn a_process_that_does_not_exist_has_neither() {
        // Above the largest process id there can be.
        assert!(CpuTime::of(u32::MAX - 1).is_none());
        assert_eq!(resident(u32::MAX - 1), None);
        assert_eq!(written(u32::MAX - 1), None);
    }
}
