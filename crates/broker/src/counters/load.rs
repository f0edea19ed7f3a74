//! Load averages over 1, 5 and 15 minutes, as Mosquitto has them: per minute, with exponential decay.

use std::time::Duration;

use super::{Event, Snapshot};

/// What a load average is taken of. The name is the part of a `$SYS` topic behind `load/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Load {
    /// Packets of any type received.
    MessagesReceived,
    /// Packets of any type sent.
    MessagesSent,
    /// Messages given up.
    PublishDropped,
    /// PUBLISH packets received.
    PublishReceived,
    /// PUBLISH packets sent.
    PublishSent,
    /// Bytes received.
    BytesReceived,
    /// Bytes sent.
    BytesSent,
    /// Sockets accepted.
    Sockets,
    /// CONNECTs accepted.
    Connections,
}

impl Load {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::MessagesReceived,
        Self::MessagesSent,
        Self::PublishDropped,
        Self::PublishReceived,
        Self::PublishSent,
        Self::BytesReceived,
        Self::BytesSent,
        Self::Sockets,
        Self::Connections,
    ];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MessagesReceived => "messages/received",
            Self::MessagesSent => "messages/sent",
            Self::PublishDropped => "publish/dropped",
            Self::PublishReceived => "publish/received",
            Self::PublishSent => "publish/sent",
            Self::BytesReceived => "bytes/received",
            Self::BytesSent => "bytes/sent",
            Self::Sockets => "sockets",
            Self::Connections => "connections",
        }
    }

    fn total(self, snapshot: &Snapshot) -> u64 {
        match self {
            Self::MessagesReceived => snapshot.packets_received(),
            Self::MessagesSent => snapshot.packets_sent(),
            Self::PublishDropped => snapshot.dropped(),
            Self::PublishReceived => snapshot.publish_received(),
            Self::PublishSent => snapshot.publish_sent(),
            Self::BytesReceived => snapshot.bytes_received(),
            Self::BytesSent => snapshot.bytes_sent(),
            Self::Sockets => snapshot.event(Event::SocketAccepted),
            Self::Connections => snapshot.event(Event::Connected),
        }
    }
}

/// The time that an average looks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Window {
    /// One minute.
    OneMinute,
    /// Five minutes.
    FiveMinutes,
    /// Fifteen minutes.
    FifteenMinutes,
}

impl Window {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::OneMinute, Self::FiveMinutes, Self::FifteenMinutes];

    /// The name: the last level of a `$SYS` topic.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneMinute => "1min",
            Self::FiveMinutes => "5min",
            Self::FifteenMinutes => "15min",
        }
    }

    const fn secs(self) -> f64 {
        match self {
            Self::OneMinute => 60.0,
            Self::FiveMinutes => 300.0,
            Self::FifteenMinutes => 900.0,
        }
    }
}

/// The load averages, brought up to date by whoever owns the clock.
#[derive(Clone, Debug, Default)]
pub struct Loads {
    totals: [u64; Load::ALL.len()],
    averages: [[f64; Window::ALL.len()]; Load::ALL.len()],
}

impl Loads {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// All zero, with what was counted before in `snapshot`: it did not happen now.
    pub fn starting_at(snapshot: &Snapshot) -> Self {
        Self {
            totals: Load::ALL.map(|load| load.total(snapshot)),
            ..Self::default()
        }
    }

    /// Takes in what happened in the `elapsed` time since the last call, or since the start. Any rhythm will do;
    /// a call without any time in between changes nothing and loses nothing.
    pub fn tick(&mut self, snapshot: &Snapshot, elapsed: Duration) {
        let secs = elapsed.as_secs_f64();
        if secs <= 0.0 {
            return;
        }
        for load in Load::ALL {
            let total = load.total(snapshot);
            let before = std::mem::replace(&mut self.totals[load as usize], total);
            let per_minute = total.saturating_sub(before) as f64 * 60.0 / secs;
            for window in Window::ALL {
                let average = &mut self.averages[load as usize][window as usize];
                *average = per_minute + (-secs / window.secs()).exp() * (*average - per_minute);
            }
        }
    }

    /// The average, per minute.
    pub fn per_minute(&self, load: Load, window: Window) -> f64 {
        self.averages[load as usize][window as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Counters, Local};
    use super::*;

    fn counted(bytes: usize) -> Snapshot {
        let counters = Counters::new();
        let mut local = Local::new();
        local.bytes_received(bytes);
        local.flush(&counters);
        counters.snapshot()
    }

    fn averages(loads: &Loads) -> [f64; 3] {
        Window::ALL.map(|window| loads.per_minute(Load::BytesReceived, window))
    }

    fn check(loads: &Loads, expected: [f64; 3]) {
        let averages = averages(loads);
        let close = averages
            .iter()
            .zip(expected)
            .all(|(is, wanted)| (is - wanted).abs() < 0.01);
        assert!(close, "{averages:?}, expected {expected:?}");
    }

    #[test]
    fn numbers_are_places() {
        assert!(
            Load::ALL
                .iter()
                .enumerate()
                .all(|(place, load)| *load as usize == place)
        );
        assert!(
            Window::ALL
                .iter()
                .enumerate()
                .all(|(place, window)| *window as usize == place)
        );
    }

    #[test]
    fn a_load_rises_and_decays_exponentially() {
        let mut loads = Loads::new();
        check(&loads, [0.0; 3]);
        // 100 bytes in 10 seconds are 600 per minute; each window takes over its share of that.
        loads.tick(&counted(100), Duration::from_secs(10));
        let share = |window: f64| 600.0 * (1.0 - (-10.0 / window).exp());
        check(&loads, [share(60.0), share(300.0), share(900.0)]);
        loads.tick(&counted(100), Duration::from_mins(1));
        let later = |window: f64| share(window) * (-60.0 / window).exp();
        check(&loads, [later(60.0), later(300.0), later(900.0)]);
        // After a day of nothing, nothing is left.
        loads.tick(&counted(100), Duration::from_hours(24));
        check(&loads, [0.0; 3]);
    }

    #[test]
    fn a_steady_load_is_its_rate_in_every_rhythm() {
        for step in [1, 7, 10, 60] {
            let (counters, mut loads) = (Counters::new(), Loads::new());
            for _ in 0..(10_000 / step) {
                let mut local = Local::new();
                local.bytes_received(step * 5);
                local.flush(&counters);
                loads.tick(&counters.snapshot(), Duration::from_secs(step as u64));
            }
            check(&loads, [300.0; 3]);
        }
    }

    #[test]
    fn no_time_changes_nothing_and_loses_nothing() {
        let mut loads = Loads::new();
        loads.tick(&counted(100), Duration::ZERO);
        check(&loads, [0.0; 3]);
        loads.tick(&counted(100), Duration::from_hours(24));
        let expected = 100.0 * 60.0 / 86_400.0;
        check(&loads, [expected; 3]);
    }
}
