//! One line on the terminal that tells how far long work is.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Time between two updates: often enough to look alive, seldom enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(250);

/// Progress of work that is counted.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    start: Instant,
    last: Instant,
    total: Option<u64>,
    done: u64,
}

impl Progress {
    /// Shows something only if `wanted`, the standard error stream is a terminal, and it takes a moment.
    pub(crate) fn new(wanted: bool, total: Option<u64>) -> Self {
        let now = Instant::now();
        Self {
            shown: wanted && io::stderr().is_terminal(),
            start: now,
            last: now,
            total,
            done: 0,
        }
    }

    /// One more is done.
    pub(crate) fn advance(&mut self) {
        self.done += 1;
        if !self.shown {
            return;
        }
        let now = Instant::now();
        if now.duration_since(self.last) >= INTERVAL {
            self.last = now;
            self.write(&text(self.done, self.total, now.duration_since(self.start)));
        }
    }

    /// How many are done.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Removes the line.
    pub(crate) fn finish(&mut self) {
        if self.last != self.start {
            self.write("");
        }
        self.shown = false;
    }

    fn write(&self, text: &str) {
        if self.shown {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
        }
    }
}

fn text(done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let rate = (done as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    match total {
        Some(total) => {
            let left = total.saturating_sub(done).checked_div(rate).unwrap_or(0);
            format!("{done} of {total} published, {rate} a second, {left} s left")
        }
        None => format!("{done} published, {rate} a second"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_count_rate_and_rest() {
        assert_eq!(
            text(50, Some(200), Duration::from_secs(5)),
            "50 of 200 published, 10 a second, 15 s left"
        );
        assert_eq!(
            text(50, None, Duration::from_secs(5)),
            "50 published, 10 a second"
        );
        assert_eq!(
            text(0, Some(1), Duration::ZERO),
            "0 of 1 published, 0 a second, 0 s left"
        );
    }
}
