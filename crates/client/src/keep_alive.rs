//! When to ping and when to give the server up [MQTT-3.1.2-20]. Time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// The clock of one connection.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    /// Zero for never.
    interval: Duration,
    last_sent: Instant,
    /// A PINGREQ was sent, and nothing has come since.
    pinged: Option<Instant>,
}

/// What there is to do when the timer runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing: something was sent meanwhile.
    Later,
    /// Send PINGREQ.
    Ping,
    /// The server is gone.
    GiveUp,
}

impl KeepAlive {
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            last_sent: now,
            pinged: None,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.interval.is_zero()
    }

    /// Something was written.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// Something was read.
    pub(crate) fn received(&mut self) {
        self.pinged = None;
    }

    /// Reading goes on after a pause, during which the server's answer could not be seen.
    pub(crate) fn reading_again(&mut self, now: Instant) {
        if self.pinged.is_some() {
            self.pinged = Some(now);
        }
    }

    /// When to call [`Self::act`]; at the latest, that is.
    pub(crate) fn deadline(&self, reading: bool) -> Instant {
        match self.pinged {
            Some(at) if reading => at + self.interval,
            // A quarter is left for the way to the server.
            _ => self.last_sent + self.interval * 3 / 4,
        }
    }

    pub(crate) fn act(&mut self, now: Instant, reading: bool) -> Due {
        if now < self.deadline(reading) {
            return Due::Later;
        }
        if self.pinged.is_some() && reading {
            return Due::GiveUp;
        }
        self.last_sent = now;
        self.pinged.get_or_insert(now);
        Due::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_quiet_connection_pings_and_gives_up_after_one_interval_of_silence() {
        let start = Instant::now();
        let mut clock = KeepAlive::new(secs(8), start);
        assert_eq!(clock.act(start + secs(5), true), Due::Later);
        assert_eq!(clock.act(start + secs(6), true), Due::Ping);
        assert_eq!(clock.act(start + secs(13), true), Due::Later);
        assert_eq!(clock.act(start + secs(14), true), Due::GiveUp);
    }

    #[test]
    fn an_answer_starts_anew() {
        let start = Instant::now();
        let mut clock = KeepAlive::new(secs(8), start);
        assert_eq!(clock.act(start + secs(6), true), Due::Ping);
        clock.received();
        assert_eq!(clock.act(start + secs(11), true), Due::Later);
        assert_eq!(clock.act(start + secs(12), true), Due::Ping);
    }

    #[test]
    fn sending_postpones_the_ping() {
        let start = Instant::now();
        let mut clock = KeepAlive::new(secs(8), start);
        clock.sent(start + secs(4));
        assert_eq!(clock.act(start + secs(9), true), Due::Later);
        assert_eq!(clock.act(start + secs(10), true), Due::Ping);
    }

    #[test]
    fn who_does_not_read_pings_but_does_not_blame_the_server() {
        let start = Instant::now();
        let mut clock = KeepAlive::new(secs(8), start);
        assert_eq!(clock.act(start + secs(6), false), Due::Ping);
        assert_eq!(clock.act(start + secs(100), false), Due::Ping);
        clock.reading_again(start + secs(101));
        assert_eq!(clock.act(start + secs(108), true), Due::Later);
        assert_eq!(clock.act(start + secs(109), true), Due::GiveUp);
    }
}
