//! The settings of the `martlet` program: those of the broker, and what only a program needs.

use std::path::PathBuf;

use martlet_broker::config::Config;
use martlet_transport::ListenAddress;
use serde::{Deserialize, Serialize};

/// Everything that can be set. In a file the tables of [`Config`] stand at the top, beside those of [`Program`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// What only a program needs.
    pub program: Program,
    /// What any broker needs, embedded ones too.
    pub broker: Config,
}

/// What only a program needs: listeners, log, storage, pid file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Program {
    /// Where the process id is written; empty for nowhere (the default).
    pub pid_file: PathBuf,
    /// How long connections are given to take their last bytes at the end. Default 10 s.
    #[serde(with = "martlet_broker::config::units::duration")]
    pub shutdown_grace: std::time::Duration,
    /// Threads that serve connections; 0 (the default) for one per core. One alone works in order of arrival.
    pub worker_threads: usize,
    /// What is logged, and how.
    pub log: Log,
    /// Where messages and sessions are kept.
    pub storage: Storage,
    /// Where clients connect. Default `tcp://127.0.0.1:1883` and `ws://127.0.0.1:8083`.
    pub listeners: Vec<Listener>,
}

impl Default for Program {
    fn default() -> Self {
        let listener = |url: &str| Listener {
            url: url.to_owned(),
            ..Listener::default()
        };
        Self {
            pid_file: PathBuf::new(),
            shutdown_grace: std::time::Duration::from_secs(10),
            worker_threads: 0,
            log: Log::default(),
            storage: Storage::default(),
            listeners: vec![
                listener("tcp://127.0.0.1:1883"),
                listener("ws://127.0.0.1:8083"),
            ],
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; or several parts such as `info,martlet_broker=debug`. Default `info`.
    pub level: String,
    /// Lines for people, or one JSON object a line. Default `human`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Human,
        }
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Where messages and sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// `memory` is the only one in this build: what it holds ends with the process.
    pub backend: String,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            backend: "memory".to_owned(),
        }
    }
}

/// A place where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Its name in the log; empty (the default) makes one of scheme and port, such as `tcp-1883`.
    pub id: String,
    /// `tcp://ADDRESS:PORT` or `ws://ADDRESS:PORT[/PATH]`; port 0 takes a free one.
    pub url: String,
    /// Connections the kernel holds ready beyond those accepted. Default 1,024.
    pub backlog: u32,
    /// Whether small packets leave at once (`TCP_NODELAY`). Default true.
    pub nodelay: bool,
    /// Seconds of silence after which the kernel asks whether the client's machine is still there; 0 leaves it to MQTT. Default 0.
    pub tcp_keepalive_secs: u32,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            id: String::new(),
            url: String::new(),
            backlog: 1_024,
            nodelay: true,
            tcp_keepalive_secs: 0,
        }
    }
}

impl Listener {
    /// The id, or the one made of scheme and port.
    pub fn id_or_derived(&self) -> String {
        if !self.id.is_empty() {
            return self.id.clone();
        }
        match self.url.parse::<ListenAddress>() {
            Ok(address) => format!("{}-{}", address.scheme(), address.host_port().port),
            Err(_) => String::new(),
        }
    }

    /// What the transport is told.
    pub fn options(&self) -> martlet_transport::ListenerOptions {
        martlet_transport::ListenerOptions {
            backlog: self.backlog,
            nodelay: self.nodelay,
            keepalive_secs: (self.tcp_keepalive_secs > 0).then_some(self.tcp_keepalive_secs),
            ..martlet_transport::ListenerOptions::default()
        }
    }
}
