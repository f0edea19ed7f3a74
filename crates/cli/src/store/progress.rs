//! One line on the terminal that tells how far a store command is.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Time between two updates: often enough to look alive, seldom enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(250);

/// Progress of one command.
pub(super) struct Progress {
    shown: bool,
    written: bool,
    what: &'static str,
    start: Instant,
    last: Instant,
}

impl Progress {
    /// Shows something only if `wanted`, the standard error stream is a terminal, and it takes a moment.
    pub(super) fn new(what: &'static str, wanted: bool) -> Self {
        let now = Instant::now();
        Self {
            shown: wanted && io::stderr().is_terminal(),
            written: false,
            what,
            start: now,
            last: now,
        }
    }

    /// So many rows, or bytes, are done; of so many, where that is known.
    pub(super) fn at(&mut self, done: u64, total: Option<u64>) {
        if !self.shown || (!done.is_multiple_of(64) && total.is_none()) {
            return;
        }
        let now = Instant::now();
        if now.duration_since(self.last) >= INTERVAL {
            self.last = now;
            self.written = true;
            let text = text(self.what, done, total, now.duration_since(self.start));
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.written {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush());
        }
    }
}

fn text(what: &str, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    match total {
        Some(total) => {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
            let left = total.saturating_sub(done) as f64 / rate.max(1.0);
            format!(
                "{what}: {percent} % of {}, {} a second, {left:.0} s left",
                bytes(total),
                bytes(rate as u64)
            )
        }
        None => format!("{what}: {done} rows, {rate:.0} a second"),
    }
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_240 => format!("{count} B"),
        10_240..10_485_760 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_is_known() {
        let second = Duration::from_secs(1);
        assert_eq!(
            text("check", 50, None, second),
            "check: 50 rows, 50 a second"
        );
        assert_eq!(
            text("backup", 25 << 20, Some(100 << 20), second),
            "backup: 25 % of 100 MiB, 25 MiB a second, 3 s left"
        );
        assert_eq!(
            text("backup", 0, Some(0), second),
            "backup: 100 % of 0 B, 0 B a second, 0 s left"
        );
    }
}
