//! The log: lines on the standard error stream, for people or as JSON, at a level that can change while running.

mod fields;

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Stderr, Write};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use self::fields::Fields;
use crate::config::{Log, LogFormat};

/// Changes the level of the running log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogHandle {
    /// Logs from `level` on. The level was checked with the rest of the configuration.
    pub fn set_level(&self, level: &str) {
        // Fails only when the log is gone, and then nobody reads it.
        let _ = self.filter.reload(filter(level));
    }
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Starts the log of the process. A second call changes nothing.
pub fn start(log: &Log) -> LogHandle {
    let (filter, handle) = reload::Layer::new(filter(&log.level));
    // Colours are for terminals, and https://no-color.org is a wish to honour.
    let ansi = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = match log.format {
        LogFormat::Human => fmt::layer()
            .with_writer(OneLine::stderr)
            .with_target(false)
            .with_ansi(ansi)
            .fmt_fields(Fields)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_writer(io::stderr)
            .boxed(),
    };
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
    LogHandle { filter: handle }
}

/// The standard error stream, to which every event is one line whatever clients put into their names: a line break
/// in a client id must not look like another event.
struct OneLine<W>(W);

impl OneLine<Stderr> {
    fn stderr() -> Self {
        Self(io::stderr())
    }
}

impl<W: Write> Write for OneLine<W> {
    /// `event` is a whole event with its line end, as the layer writes it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(&one_line(event))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn one_line(event: &[u8]) -> Cow<'_, [u8]> {
    let (body, end) = match event.strip_suffix(b"\n") {
        Some(body) => (body, &b"\n"[..]),
        None => (event, &b""[..]),
    };
    if !body.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(event);
    }
    let mut line = Vec::with_capacity(event.len() + 16);
    for &byte in body {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(byte),
        }
    }
    line.extend_from_slice(end);
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let check =
            |event: &str, line: &str| assert_eq!(one_line(event.as_bytes()), line.as_bytes());
        check("plain\n", "plain\n");
        check("a\nINFO b\rc\n", "a\\nINFO b\\rc\n");
        check("no end", "no end");
        check("\n", "\n");
        check("", "");
    }
}
