//! What to run: the workload, its size, and against whom.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use martlet_codec::{QoS, Version};

use crate::failure::Failure;
use crate::payload;
use crate::socket::Wrapping;

/// The shape of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Each publisher has a topic and a subscriber of its own.
    Pairs,
    /// One publisher, many subscribers of one topic.
    FanOut,
    /// Many publishers with a topic each, one subscriber with a wildcard.
    FanIn,
    /// Publishers with a topic each, one shared subscription with a wildcard.
    Shared,
    /// Many filters with wildcards: subscribing, delivering to topics drawn from all of them, unsubscribing.
    Wildcard,
    /// Requests to responders, each with a response topic that was never used before.
    Request,
    /// Connecting and disconnecting.
    Connect,
    /// Connecting with the identifier of a client that is there.
    Takeover,
    /// Clients that are there and do nothing.
    Idle,
    /// Retained messages, each on a topic of its own: storing, fetching, removing.
    Retained,
    /// Messages for sessions whose clients are away: queueing, draining.
    Offline,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Pairs,
        Self::FanOut,
        Self::FanIn,
        Self::Shared,
        Self::Wildcard,
        Self::Request,
        Self::Connect,
        Self::Takeover,
        Self::Idle,
        Self::Retained,
        Self::Offline,
    ];

    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::FanOut => "fan-out",
            Self::FanIn => "fan-in",
            Self::Shared => "shared",
            Self::Wildcard => "wildcard",
            Self::Request => "request",
            Self::Connect => "connect",
            Self::Takeover => "takeover",
            Self::Idle => "idle",
            Self::Retained => "retained",
            Self::Offline => "offline",
        }
    }

    /// The workload with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|workload| workload.as_str() == name)
    }
}

/// How much is in flight when nobody says otherwise: deliveries per run, and messages per publisher.
const IN_FLIGHT: u32 = 50_000;
const WINDOW_MAX: u32 = 1_000;

/// The same for requests of one client, which come in smaller numbers.
const REQUESTS_MAX: u32 = 100;

/// The longest window: packet identifiers of one publisher end at 65,535.
pub(crate) const WINDOW_LIMIT: u32 = 65_535;

/// Payloads above this are refused: a batch of them is one buffer.
const PAYLOAD_MAX: usize = 64 << 20;

/// Numbers in topics have seven digits.
const NUMBERS_MAX: u32 = 9_999_999;

/// Sequence numbers have 32 bits, with room to count beyond.
const COUNT_MAX: u32 = 1 << 31;

/// Clients of one run at most: file descriptors and ports of one machine.
const CLIENTS_MAX: u32 = 60_000;

/// Everything about a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the broker listens.
    pub address: SocketAddr,
    /// What is around the packets there.
    pub wrapping: Wrapping,
    /// The shape of the traffic.
    pub workload: Workload,
    /// The version that every client speaks.
    pub version: Version,
    /// The QoS of publications and subscriptions.
    pub qos: QoS,
    /// Publishing clients; without a number, that of the workload.
    pub publishers: Option<u32>,
    /// Subscribing clients; without a number, that of the workload.
    pub subscribers: Option<u32>,
    /// Bytes of each payload, at least 28.
    pub payload: usize,
    /// Messages that a publisher may be ahead of its receivers; `None` for a number that fits, 0 for no bound.
    pub window: Option<u32>,
    /// Messages a second of all publishers together; `None` for as many as there can be.
    pub rate: Option<f64>,
    /// Traffic before the measurement begins.
    pub warm_up: Duration,
    /// Length of the measurement, unless `count` is given.
    pub duration: Duration,
    /// Messages of each publisher, all of them measured, instead of a time.
    pub count: Option<u32>,
    /// Filters of all subscribers together (wildcard only).
    pub filters: u32,
    /// Different topics that publishers draw from, at most as many as filters (wildcard only); `None` for all.
    pub topics: Option<u32>,
    /// Whether sessions of receivers outlive their connection, so that a broker with a store stores.
    pub persistent: bool,
    /// Clients beside those of the workload, which do nothing.
    pub idle: u32,
    /// Subscriptions beside those of the workload, which match nothing.
    pub unrelated: u32,
    /// The broker's process, for CPU time and memory.
    pub pid: Option<u32>,
    /// A directory on the broker's disk, whose synced appends are measured before and after the run.
    pub disk: Option<PathBuf>,
    /// The whole run is given up after this.
    pub timeout: Duration,
    /// A run in which nothing arrives for so long, although something should, is over.
    pub stall: Duration,
    /// Login of every client.
    pub username: Option<String>,
    /// Password of every client.
    pub password: Option<Vec<u8>>,
    /// What all topics and client identifiers of the run begin with.
    pub prefix: String,
}

impl Options {
    /// A run of `workload` with its defaults.
    pub fn new(address: SocketAddr, workload: Workload) -> Self {
        Self {
            address,
            wrapping: Wrapping::default(),
            workload,
            version: Version::V311,
            qos: QoS::AtMostOnce,
            publishers: None,
            subscribers: None,
            payload: 64,
            window: None,
            rate: None,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(5),
            count: None,
            filters: 100_000,
            topics: None,
            persistent: false,
            idle: 0,
            unrelated: 0,
            pid: None,
            disk: None,
            timeout: Duration::from_mins(2),
            stall: Duration::from_secs(10),
            username: None,
            password: None,
            prefix: format!("bench/{}", std::process::id()),
        }
    }

    /// Publishers of this run.
    pub(crate) fn publishers(&self) -> u32 {
        let default = match self.workload {
            Workload::Pairs | Workload::Request => self.subscribers.unwrap_or(10),
            Workload::FanOut => 1,
            Workload::FanIn => 1_000,
            Workload::Shared => 4,
            Workload::Wildcard | Workload::Retained | Workload::Offline => 10,
            // Nobody publishes; one counts as much as none.
            Workload::Connect | Workload::Takeover | Workload::Idle => 1,
        };
        self.publishers.unwrap_or(default)
    }

    /// Subscribers of this run.
    pub(crate) fn subscribers(&self) -> u32 {
        let default = match self.workload {
            Workload::Pairs | Workload::Request => self.publishers(),
            Workload::FanOut => 1_000,
            Workload::FanIn | Workload::Retained => 1,
            Workload::Shared => 8,
            Workload::Wildcard | Workload::Offline => 100,
            Workload::Connect | Workload::Takeover | Workload::Idle => 10_000,
        };
        self.subscribers.unwrap_or(default)
    }

    /// Messages a publisher may be ahead, from how many deliveries one message makes and how many publishers share a
    /// receiver: no broker's default queue (1,000 messages for each client is the smallest known) has to overflow.
    pub(crate) fn window(&self) -> u32 {
        let limit = if self.qos == QoS::AtMostOnce {
            u32::MAX
        } else {
            WINDOW_LIMIT
        };
        match self.window {
            Some(0) => limit,
            Some(window) => window.min(limit),
            None => {
                let (fan_out, fan_in, most) = match self.workload {
                    Workload::FanOut => (self.subscribers(), 1, WINDOW_MAX),
                    Workload::FanIn => (1, self.publishers(), WINDOW_MAX),
                    Workload::Request => (1, 1, REQUESTS_MAX),
                    _ => (1, 1, WINDOW_MAX),
                };
                let by_run = IN_FLIGHT / self.publishers().saturating_mul(fan_out).max(1);
                by_run.min(most / fan_in.max(1)).clamp(1, most)
            }
        }
    }

    /// Whether this can be run at all.
    ///
    /// # Errors
    /// What is out of range, in words.
    pub fn check(&self) -> Result<(), Failure> {
        let refuse = |words: String| Err(Failure::Options(words));
        let clients = self
            .publishers()
            .saturating_add(self.subscribers())
            .saturating_add(self.idle);
        if self.publishers() == 0 || self.subscribers() == 0 {
            return refuse("there must be a publisher and a subscriber".into());
        }
        if clients > CLIENTS_MAX {
            return refuse(format!(
                "{clients} clients; at most {CLIENTS_MAX} are possible"
            ));
        }
        let paired = matches!(self.workload, Workload::Pairs | Workload::Request);
        if paired && self.publishers() != self.subscribers() {
            return refuse("there must be as many publishers as subscribers".into());
        }
        if self.workload == Workload::Wildcard
            && !(self.subscribers()..=NUMBERS_MAX).contains(&self.filters)
        {
            return refuse(format!(
                "each subscriber needs a filter; at most {NUMBERS_MAX} are possible"
            ));
        }
        if self
            .topics
            .is_some_and(|topics| topics == 0 || topics > self.filters)
        {
            return refuse("there are as many topics as filters, or fewer".into());
        }
        if self.workload == Workload::Offline
            && !self.subscribers().is_multiple_of(self.publishers())
        {
            return refuse("each publisher must have as many sessions as the others".into());
        }
        if self.unrelated > NUMBERS_MAX || self.count.is_some_and(|count| count > COUNT_MAX) {
            return refuse(format!(
                "at most {NUMBERS_MAX} subscriptions and {COUNT_MAX} messages"
            ));
        }
        if !(payload::SIZE_MIN..=PAYLOAD_MAX).contains(&self.payload) {
            return refuse(format!(
                "a payload has {} to {PAYLOAD_MAX} bytes: its header tells where a message belongs",
                payload::SIZE_MIN
            ));
        }
        if self
            .rate
            .is_some_and(|rate| !rate.is_finite() || rate <= 0.0)
        {
            return refuse("the rate must be above 0".into());
        }
        if self.count.is_none() && self.duration.is_zero() {
            return refuse("the run must last some time".into());
        }
        if self.prefix.is_empty() || self.prefix.contains(['+', '#', '$', '\0']) {
            return refuse("the prefix must be a topic without wildcards".into());
        }
        Ok(())
    }
}
