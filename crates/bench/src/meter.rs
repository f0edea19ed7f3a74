//! Readings at the edges of a measurement: clock, CPU time of broker and generator, counters.

use std::time::Instant;

use crate::process::{self, CpuTime};
use crate::shared::Counters;

/// One reading.
pub(crate) struct Reading {
    time: Instant,
    broker: Option<CpuTime>,
    own: Option<CpuTime>,
    counters: Counters,
    resident: Option<u64>,
    written: Option<u64>,
}

impl Reading {
    /// Reads everything now; `pid` is the broker's.
    pub(crate) fn take(pid: Option<u32>, counters: Counters) -> Self {
        Self {
            time: Instant::now(),
            broker: pid.and_then(CpuTime::of),
            own: CpuTime::of(std::process::id()),
            counters,
            resident: pid.and_then(process::resident),
            written: pid.and_then(process::written),
        }
    }

    /// What lies between `earlier` and this.
    pub(crate) fn since(&self, earlier: &Self) -> Span {
        let cpu = |now: &Option<CpuTime>, then: &Option<CpuTime>| {
            Some(now.as_ref()?.since(then.as_ref()?) as f64 / 1e9)
        };
        Span {
            seconds: (self.time - earlier.time).as_secs_f64(),
            broker: cpu(&self.broker, &earlier.broker),
            own: cpu(&self.own, &earlier.own),
            sent: self.counters.sent - earlier.counters.sent,
            delivered: self.counters.delivered - earlier.counters.delivered,
            acknowledged: self.counters.acknowledged - earlier.counters.acknowledged,
            resident: self.resident,
            written: self
                .written
                .zip(earlier.written)
                .map(|(now, then)| now.saturating_sub(then) as f64),
            grown: self
                .resident
                .zip(earlier.resident)
                .map(|(now, then)| now as f64 - then as f64),
        }
    }
}

/// The difference of two readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) seconds: f64,
    /// CPU seconds of the broker.
    pub(crate) broker: Option<f64>,
    /// CPU seconds of this process.
    pub(crate) own: Option<f64>,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) acknowledged: u64,
    /// Resident bytes of the broker at the end.
    pub(crate) resident: Option<u64>,
    /// Bytes that the broker wrote to disks, in whole pages.
    pub(crate) written: Option<f64>,
    /// Resident bytes of the broker that were added.
    pub(crate) grown: Option<f64>,
}
