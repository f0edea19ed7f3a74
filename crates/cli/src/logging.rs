//! The log: lines on the standard error stream, for people or as JSON, at a level that can change while running.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

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
    let ansi = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = match log.format {
        LogFormat::Human => fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(ansi)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
    LogHandle { filter: handle }
}
